"""`deploy`, `status`, `logs`, `undeploy`: the background, its swaps, its faults."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support import wasm_asm
from support.deployments import processes
from support.origins import at_a_port

import scaffold
from scaffold.core.events import listening
from scaffold.errors import HostError, ModuleError, TargetError, UsageError
from scaffold.hosts.background import deployments


def get(url: str, path: str = "/headers") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    got = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return got


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


@contextmanager
def noted() -> Iterator[list[str]]:
    texts: list[str] = []
    with listening(lambda event: texts.append(getattr(event, "text", ""))):
        yield texts


def test_a_deployment_answers_and_is_ended(root, probe):
    deployed = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, config='"one"'))
    assert deployed.running
    assert get(deployed.url)[1]["x-configuration"] == '"one"'
    (status,) = scaffold.status(root)
    assert (status.url, status.plugins[0].module_digest, status.upstream) == (
        deployed.url,
        probe.digest,
        "built in",
    )
    assert [ended.root for ended in scaffold.undeploy(root)] == [str(root)]
    assert scaffold.status(root) == []
    with pytest.raises(OSError):
        get(deployed.url)


def test_undeploy_without_a_deployment_is_no_error(root):
    assert scaffold.undeploy(root) == []


def test_a_deployment_survives_the_module_it_came_from(root, probe, tmp_path):
    module = tmp_path / "gone.wasm"
    module.write_bytes(probe.path.read_bytes())
    deployed = scaffold.deploy(module=module, root=root, run=scaffold.RunOptions(port=0))
    module.unlink()
    assert get(deployed.url)[0] == 200
    assert scaffold.status(root)[0].plugins[0].module_digest == probe.digest


def test_deploy_again_swaps_under_load_and_nothing_is_lost(root, probe, hello, tmp_path):
    """Good modules, a refused one and a refused configuration, under eight clients."""
    deployed = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    before = deployments.load(root)
    assert before
    stop = threading.Event()
    seen: list[int] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", before.port, timeout=10)
        while not stop.is_set():
            try:
                connection.request("GET", "/status/200")
                answer = connection.getresponse()
                answer.read()
                seen.append(answer.status)
            except (OSError, http.client.HTTPException):
                seen.append(0)
                connection.close()

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    try:
        for number in range(4):
            scaffold.deploy(module=hello.path, root=root, run=scaffold.RunOptions(port=0))
            with pytest.raises(ModuleError):
                scaffold.deploy(
                    module=probe.path, root=root, run=scaffold.RunOptions(port=0, config='"refuse"')
                )
            assert scaffold.status(root)[0].plugins[0].module_digest == hello.digest
            scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, config=str(number)))
            assert get(deployed.url)[1]["x-configuration"] == str(number)
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    after = deployments.load(root)
    assert after
    assert (after.pid, after.port) == (before.pid, before.port)
    assert len(seen) > 500
    assert set(seen) == {200}


def test_a_refused_module_leaves_the_old_one_and_says_why(root, probe):
    deployed = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, config='"old"'))
    with pytest.raises(ModuleError, match="asked to panic in on_configure"):
        scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, config='"panic"'))
    assert get(deployed.url)[1]["x-configuration"] == '"old"'


def test_a_refused_first_module_leaves_nothing(root, probe):
    with pytest.raises(ModuleError, match="refused, as asked"):
        scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, config='"refuse"'))
    assert scaffold.status(root) == []
    until(lambda: not processes(root))


def test_another_port_restarts_and_says_so(root, probe):
    first = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with noted() as texts:
        second = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=port))
    assert second.url == f"http://localhost:{port}"
    assert any("connections drop" in text for text in texts)
    assert get(second.url)[0] == 200
    with pytest.raises(OSError):
        get(first.url)


def test_what_is_not_said_stays_as_deployed(root, probe, tmp_path):
    configuration = tmp_path / "mine.json"
    configuration.write_text('"from the file"')
    with at_a_port(tmp_path) as (_, port):
        url = f"http://localhost:{port}"
        first = scaffold.deploy(
            module=probe.path,
            root=root,
            run=scaffold.RunOptions(port=0, upstream=url, config=str(configuration), id="mine"),
        )
        pid = deployments.load(root).pid
        configuration.write_text('"from the file, changed"')
        again = scaffold.deploy(module=probe.path, root=root)
        assert (again.url, again.upstream, again.name) == (first.url, url, "mine")
        assert deployments.load(root).pid == pid, "nothing changed that needs a restart"
        assert get(again.url)[1]["x-configuration"] == '"from the file, changed"'


def test_a_port_that_is_taken_is_said_before_the_old_deployment_ends(root, probe):
    first = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HostError, match="is taken by"):
            scaffold.deploy(
                module=probe.path, root=root, run=scaffold.RunOptions(port=taken.getsockname()[1])
            )
    with pytest.raises(HostError, match="is where the plugin itself answers"):
        scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(upstream=first.url))
    assert get(first.url)[0] == 200
    assert scaffold.status(root)[0].running


def test_every_request_reaches_an_upstream_by_the_name_localhost(root, probe, tmp_path):
    with at_a_port(tmp_path) as (_, port):
        url = f"http://localhost:{port}"
        deployed = scaffold.deploy(
            module=probe.path, root=root, run=scaffold.RunOptions(port=0, upstream=url)
        )
        assert {get(deployed.url)[0] for _ in range(20)} == {200}


def test_another_port_with_a_refused_module_leaves_the_old_one(root, probe):
    first = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, log_level="info"))
    with pytest.raises(ModuleError, match="the previous version keeps serving"):
        scaffold.deploy(
            module=probe.path,
            root=root,
            run=scaffold.RunOptions(port=0, log_level="debug", config='"refuse"'),
        )
    assert get(first.url)[0] == 200
    assert scaffold.status(root)[0].running


def test_a_port_that_another_project_has_is_refused_by_its_name(root, probe, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    deployed = scaffold.deploy(module=probe.path, root=other, run=scaffold.RunOptions(port=0))
    try:
        port = int(deployed.url.rpartition(":")[2])
        with pytest.raises(HostError, match=f"port {port} is taken by the deployment of .*other"):
            scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=port))
        assert {status.root for status in scaffold.status(everything=True)} >= {str(other)}
    finally:
        scaffold.undeploy(other)


def test_a_filter_that_panics_is_deployed_but_said_not_to_answer(root, probe):
    with pytest.raises(TargetError, match="asked to panic"):
        scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0), probe="/panic")
    assert scaffold.status(root)[0].running


def test_a_filter_that_answers_by_itself_works(root, probe):
    assert scaffold.deploy(
        module=probe.path, root=root, run=scaffold.RunOptions(port=0), probe="/local"
    ).running


def test_traffic_goes_to_a_foreign_upstream(root, probe, tmp_path):
    with at_a_port(tmp_path) as (origin, port):
        url = f"http://127.0.0.1:{port}"
        with noted() as texts:
            deployed = scaffold.deploy(
                module=probe.path, root=root, run=scaffold.RunOptions(port=0, upstream=url)
            )
        assert any("not verified" in text for text in texts)
        assert origin.mark() == 0, "a foreign upstream isn't asked unless we are told to"
        assert deployed.upstream == url
        assert get(deployed.url)[0] == 200
        scaffold.deploy(
            module=probe.path, root=root, run=scaffold.RunOptions(port=0, upstream=url), probe="/status/204"
        )
        assert origin.requests()[-1].path == "/status/204"


@pytest.mark.parametrize(
    "url", ["localhost:80", "ftp://localhost", "http://", "http://h:99999", "http://h/p"]
)
def test_what_is_no_upstream_is_refused(root, probe, url):
    with pytest.raises(UsageError, match="isn't a valid upstream URL"):
        scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, upstream=url))


def test_an_upstream_that_is_down_is_said_before_anything_starts(root, probe):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(HostError, match="nothing answers at the upstream"):
            scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0, upstream=url))
    assert scaffold.status(root) == []


def test_logs_hold_what_the_plugin_wrote_and_follow_goes_on(root, probe, run):
    deployed = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    get(deployed.url, "/first")
    until(lambda: "saw /first" in run("scaffold", "logs", "--root", root).stdout)
    argv = ["scaffold", "logs", "-f", "--root", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout and following.stderr
        get(deployed.url, "/second")
        while "saw /second" not in following.stdout.readline():
            pass
        scaffold.undeploy(root)
        assert following.wait(10) == TargetError.exit_code
        assert "the deployment has ended" in following.stderr.read()


def test_who_follows_an_empty_log_is_told_why_it_may_be_empty(root, tmp_path):
    (tmp_path / "silent.wasm").write_bytes(wasm_asm.plugin())
    scaffold.deploy(root, module=str(tmp_path / "silent.wasm"), run=scaffold.RunOptions(port=0))
    argv = ["scaffold", "logs", "-f", "--root", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stderr
        assert following.stderr.readline().startswith("the plugin has logged nothing yet")
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0


def test_logs_without_a_deployment_are_an_error(root):
    with pytest.raises(TargetError, match="nothing is deployed"):
        scaffold.logs(root)


@pytest.mark.faults("R10", injected="SIGKILL of a deployment's supervisor", seen="Envoy gone within 3 s")
def test_envoy_dies_with_its_supervisor_and_deploy_begins_anew(root, probe):
    scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    deployment = deployments.load(root)
    assert deployment
    os.kill(deployment.pid, signal.SIGKILL)
    until(lambda: not processes(root), 3)
    assert not scaffold.status(root)[0].running
    assert scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0)).running


@pytest.mark.faults(
    "R16", injected="Envoy is killed after a refused module", seen="runs again with the last accepted one"
)
def test_an_envoy_that_was_killed_is_started_again_and_the_log_says_so(root, probe, hello, run):
    deployed = scaffold.deploy(module=hello.path, root=root, run=scaffold.RunOptions(port=0))
    scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(config='"second"'))
    with pytest.raises(ModuleError):
        scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(config='"refuse"'))
    (envoy,) = [process for process in psutil.process_iter() if is_envoy_of(root, process)]
    envoy.kill()
    until(lambda: answers(deployed.url))
    assert get(deployed.url)[1]["x-configuration"] == '"second"', "what Envoy accepted last"
    said = run("scaffold", "logs", "--root", root).stdout
    assert "Envoy ended by signal 9" in said
    assert "Envoy runs again" in said
    scaffold.deploy(module=hello.path, root=root)
    assert scaffold.status(root)[0].plugins[0].module_digest == hello.digest


@pytest.mark.faults(
    "R11", injected="a deployment meets `loop {}`", seen="one life of Envoy, `logs` names the watchdog"
)
def test_a_looping_filter_costs_one_life_of_envoy(root, probe, run):
    deployed = scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    with pytest.raises(OSError):
        get(deployed.url, "/loop")
    until(lambda: answers(deployed.url))
    assert "watchdog" in run("scaffold", "logs", "--root", root).stdout


def answers(url: str) -> bool:
    try:
        return get(url)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def is_envoy_of(root: Path, process: psutil.Process) -> bool:
    try:
        return str(deployments.folder(root)) in " ".join(process.cmdline()) and process.name() == "envoy"
    except psutil.Error:
        return False


@pytest.mark.parametrize("moment", [0.05, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_deploy_that_dies_half_way_leaves_nothing_running(root, probe, moment, number):
    argv = ["scaffold", "deploy", "envoy", str(probe.path), "--root", str(root), "--port", "0", "--json"]
    dying = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    dying.send_signal(number)
    out, _ = dying.communicate(timeout=20)
    deployment = deployments.load(root)
    if not (deployment and deployment.alive):
        until(lambda: not processes(root), 5)
        assert not out or dying.returncode == 0
    assert scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0)).running


def test_two_deploys_at_once_end_in_one_deployment(root, probe, hello):
    argv = [sys.executable, "-m", "scaffold", "deploy", "envoy"]
    both = [
        subprocess.Popen(
            [*argv, str(module.path), "--root", str(root), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for module in (probe, hello)
    ]
    answers = [json.loads(each.communicate(timeout=60)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert answers[0]["url"] == answers[1]["url"]
    assert len([line for line in processes(root) if "supervisor" in line]) == 1


def test_a_record_that_is_broken_is_left_alone_and_said(root, probe):
    folder = deployments.folder(root)
    folder.mkdir(parents=True)
    (folder / deployments.RECORD).write_text("{")
    with noted() as texts:
        assert scaffold.status(root) == []
    assert any("is damaged" in text for text in texts)
    assert scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0)).running


@pytest.mark.faults("R19", injected="a pid that belongs to a stranger now", seen="never ended")
def test_a_pid_that_belongs_to_another_process_now_is_never_ended(root, probe):
    scaffold.deploy(module=probe.path, root=root, run=scaffold.RunOptions(port=0))
    deployment = deployments.load(root)
    assert deployment
    os.kill(deployment.pid, signal.SIGKILL)
    until(lambda: not processes(root), 3)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record = deployments.folder(root) / deployments.RECORD
        record.write_text(record.read_text().replace(f'"pid": {deployment.pid}', f'"pid": {stranger.pid}'))
        scaffold.undeploy(root)
        assert stranger.poll() is None
        stranger.kill()
