"""`deploy docker`: an Envoy of an image in a container, its swaps, its faults; nothing is left behind."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from docker.errors import NotFound
from support.commands import error
from support.containers import Between, broken_off
from support.origins import at_a_port

import scaffold
from scaffold.core import events, process
from scaffold.errors import (
    HostError,
    MachineError,
    ModuleError,
    ProjectError,
    RegistryError,
    TargetError,
    UsageError,
)
from scaffold.hosts.background import deployments
from scaffold.hosts.docker import daemon

SCAFFOLD = (sys.executable, "-m", "scaffold")
BOOTSTRAP = r"""
static_resources:
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3\
            .HttpConnectionManager"
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: / }}
                direct_response: {{ status: 200, body: {{ inline_string: "{answer}" }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""


@pytest.fixture
def root(tmp_path: Path, docker: Any) -> Iterator[Path]:
    """A folder to deploy from; what is deployed ends with the test."""
    root = tmp_path / "project"
    root.mkdir()
    yield root
    scaffold.undeploy(root)
    assert containers(docker, root) == []
    assert not deployments.folder(root).exists()


def containers(docker: Any, root: Path) -> list[str]:
    """The ids of a project's containers, running or not."""
    label = f"{daemon.DEPLOYMENT}={deployments.folder(root).name}"
    return [each["Id"] for each in docker.api.containers(all=True, filters={"label": label})]


def get(url: str, path: str = "/headers") -> tuple[int, dict[str, str], str]:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        return get(url)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is short enough for a socket's in it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("layout", ["envoy", "proxy", "hidden", "elsewhere", "closed"])
def test_an_envoy_is_found_in_an_image_and_deployed(layout, root, probe, images, docker):
    image = getattr(images, layout)
    deployed = scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=image, config='"one"'),
    )
    assert get(deployed.url)[1]["x-configuration"] == '"one"'
    (status,) = scaffold.status(root)
    assert (status.running, status.envoy_image, status.url) == (True, image, deployed.url)
    assert f" in {image}; ask it with `scaffold admin`" in status.summary()
    (name,) = containers(docker, root)
    container = docker.containers.get(name)
    published = [each["HostIp"] for at in container.ports.values() for each in at]
    assert published == ["127.0.0.1"], "and the admin interface at no port"
    mounts = container.attrs["Mounts"]
    assert {mount["Type"] for mount in mounts} == {"bind"}
    assert [Path(mount["Source"]).name for mount in mounts if mount["RW"]] == ["writable"]
    assert container.attrs["Config"]["User"] == ("1337:1337" if layout == "proxy" else "101:101")
    assert "NoNewPrivs:\t1" in Path(f"/proc/{container.attrs['State']['Pid']}/status").read_text()
    assert [ended.root for ended in scaffold.undeploy(root)] == [str(root)]
    assert scaffold.status(root) == []
    assert not answers(deployed.url)


def test_a_swap_under_an_open_load_loses_nothing(root, probe, hello, images, docker):
    """Requests are sent when their time has come, whether the last was answered or not."""
    deployed = scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
    )
    (before,) = containers(docker, root)
    seen: list[int] = []
    stop = threading.Event()

    def client(number: int) -> None:
        due = time.monotonic() + number / 200
        while not stop.is_set():
            time.sleep(max(0, due - time.monotonic()))
            due += 8 / 200
            try:
                seen.append(get(deployed.url, "/status/200")[0])
            except (OSError, http.client.HTTPException):
                seen.append(0)

    clients = [threading.Thread(target=client, args=[number]) for number in range(8)]
    for thread in clients:
        thread.start()
    try:
        for number in range(4):
            scaffold.deploy(root, target="docker", module=str(hello.path))
            with pytest.raises(ModuleError, match="refused, as asked"):
                scaffold.deploy(
                    root, target="docker", module=str(probe.path), run=scaffold.RunOptions(config='"refuse"')
                )
            assert scaffold.status(root)[0].plugins[0].module_digest == hello.digest
            scaffold.deploy(
                root, target="docker", module=str(probe.path), run=scaffold.RunOptions(config=str(number))
            )
            assert get(deployed.url)[1]["x-configuration"] == str(number)
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert containers(docker, root) == [before], "it was swapped, not started again"
    assert len(seen) > 100
    assert set(seen) == {200}


def test_logs_hold_what_the_plugin_wrote(root, probe, images, run):
    deployed = scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
    )
    get(deployed.url, "/first")
    until(lambda: "saw /first" in run("scaffold", "logs", "--root", root).stdout)


def test_undeploy_removes_its_own_container_only(root, probe, images, docker, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for place in (root, other):
        scaffold.deploy(
            place,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
        )
    try:
        scaffold.undeploy(root)
        assert containers(docker, root) == []
        (status,) = scaffold.status(other)
        assert answers(status.url)
    finally:
        scaffold.undeploy(other)


def test_a_foreign_upstream_is_reached_as_from_here(root, probe, images, tmp_path):
    """Its `localhost` is this machine's, not the container's."""
    with at_a_port(tmp_path) as (origin, port):
        url = f"http://localhost:{port}"
        deployed = scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, upstream=url, envoy_image=images.envoy),
            probe="/status/204",
        )
        assert origin.requests()[-1].path == "/status/204"
        body = "x" * 300_000
        with closing(http.client.HTTPConnection(deployed.url.removeprefix("http://"), timeout=10)) as client:
            client.request("POST", "/anything", body)
            assert client.getresponse().status == 200
        assert origin.requests()[-1].text == body
    assert get(deployed.url)[0] == 503, "it has ended"


def test_a_bootstrap_of_ones_own_and_its_ports(root, probe, images, tmp_path):
    bootstrap, port = tmp_path / "envoy.yaml", free_port()
    bootstrap.write_text(BOOTSTRAP.format(port=port, answer="mine"))
    options = {"target": "docker", "module": str(probe.path), "probe": "/"}
    deployed = scaffold.deploy(
        root, **options, run=scaffold.RunOptions(bootstrap=bootstrap, envoy_image=images.proxy)
    )
    assert deployed.url == f"http://localhost:{port}"
    assert get(deployed.url)[2] == "mine"
    bootstrap.write_text(BOOTSTRAP.format(port=port, answer="another"))
    assert scaffold.deploy(root, **options).url == deployed.url
    assert get(deployed.url)[2] == "another"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("static_resources: {listeners: []}", "has no HTTP connection manager in a static listener"),
        (
            BOOTSTRAP.format(port=0, answer="") + "admin: {address: {pipe: {path: /tmp/admin}}}",
            "has an admin interface that can't be reached in a container",
        ),
        (BOOTSTRAP.format(port=0, answer="") + "overload_manager: {nonsense: 1}", "nonsense"),
    ],
    ids=["no manager", "no port", "refused"],
)
def test_a_bootstrap_that_cannot_be(text, words, root, probe, images, tmp_path):
    (tmp_path / "envoy.yaml").write_text(text)
    with pytest.raises(ProjectError, match=words):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(bootstrap=tmp_path / "envoy.yaml", envoy_image=images.envoy),
        )
    assert scaffold.status(root) == []


# --- faults


def test_a_refused_first_module_leaves_nothing(root, probe, images, docker):
    with pytest.raises(ModuleError, match="refused, as asked"):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, config='"refuse"', envoy_image=images.envoy),
        )
    assert containers(docker, root) == []
    assert scaffold.status(root) == []


def test_a_container_that_was_ended_is_started_again_and_the_log_says_so(root, probe, images, docker, run):
    deployed = scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy, config='"it"'),
    )
    (container,) = containers(docker, root)
    docker.api.kill(container)
    until(lambda: containers(docker, root) not in ([], [container]) and answers(deployed.url))
    assert get(deployed.url)[1]["x-configuration"] == '"it"'
    said = run("scaffold", "logs", "--root", root).stdout
    assert "Envoy ended by signal 9" in said
    assert "Envoy runs again" in said


def test_a_port_that_is_taken_is_said_by_whom(root, probe, images):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port} is taken by {psutil.Process().name()} "):
            scaffold.deploy(
                root,
                target="docker",
                module=str(probe.path),
                run=scaffold.RunOptions(port=port, envoy_image=images.envoy),
            )


def test_an_envoy_that_ends_at_once_leaves_its_last_words(root, probe, images):
    with pytest.raises(HostError, match="Envoy ended with exit code 7\nthe plague has come"):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image=images.ends),
        )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "there is no Envoy in {}, neither on its PATH nor in "),
        ("none", "`envoy` in {}, for linux/{}, isn't an Envoy that runs here\n  I only look like one"),
        ("without_v8", "Envoy 1.38.3 in {} was built without V8, so it doesn't support wasm"),
    ],
)
def test_an_image_that_cannot_run_a_plugin(name, words, root, probe, images, docker):
    image = getattr(images, name)
    with pytest.raises(MachineError) as refused:
        scaffold.deploy(
            root, target="docker", module=str(probe.path), run=scaffold.RunOptions(port=0, envoy_image=image)
        )
    assert refused.value.message.startswith(words.format(image, docker.version()["Arch"]))
    assert refused.value.hint == "--envoy-image takes another, such as envoyproxy/envoy or istio/proxyv2"


def test_an_envoy_that_does_not_say_its_version(root, probe, images, docker, monkeypatch):
    monkeypatch.setattr(daemon, "RUN_SECONDS", 1)
    message = f"`envoy --version` in {images.endless} didn't end within 1 s"
    with pytest.raises(MachineError, match=message):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image=images.endless),
        )
    assert docker.api.containers(all=True, filters={"ancestor": images.endless}) == []


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (
            "runc",
            'unable to start container process: exec: "envoy": executable file not found in $PATH: unknown',
        ),
        ("runc", 'exec: "/usr/bin/envoy": stat /usr/bin/envoy: no such file or directory: unknown'),
        (
            "podman",
            'runc: exec: "/usr/bin/envoy": stat /usr/bin/envoy: no such file or directory: '
            "OCI runtime attempted to invoke a command that was not found",
        ),
        ("runc", 'exec: "/usr/bin/envoy": permission denied: unknown'),
        ("podman", 'runc: exec: "/usr/bin/envoy": permission denied: OCI permission denied'),
        ("crun", "crun: executable file `envoy` not found in $PATH: No such file or directory"),
    ],
)
def test_a_program_that_an_image_does_not_have_is_known_by_each_runtimes_words(runtime, said):
    assert isinstance(daemon.refused("image", said, "unix:///docker.sock"), daemon.NoProgram)


def test_an_image_that_is_not_to_be_had(root, probe, docker, run):
    said = {
        "127.0.0.1:9/a:1": (7, "cannot pull the image 127.0.0.1:9/a:1: its registry can't be reached: "),
        "Envoy": (2, "`Envoy` isn't a valid image name"),
        "": (2, "--envoy-image is missing: "),
    }
    for image, (code, message) in said.items():
        words = ["deploy", "docker", probe.path, "--root", root, "--port=0", f"--envoy-image={image}"]
        ran = run(*SCAFFOLD, *words)
        assert ran.returncode == code
        assert f"error: {message}" in ran.stderr
        assert "\nhint: " in ran.stderr


def test_an_image_comes_from_a_registry_or_is_said_not_to_be_there(root, probe, docker, images):
    from support.registries import registry

    with registry() as served:
        name = f"{served.name}/plain:1"
        docker.images.get(images.none).tag(name)
        docker.images.push(name)
        docker.images.remove(name)
        with pytest.raises(MachineError, match="I only look like one"):
            scaffold.deploy(
                root,
                target="docker",
                module=str(probe.path),
                run=scaffold.RunOptions(port=0, envoy_image=name),
            )
        docker.images.remove(name)
        with pytest.raises(RegistryError, match=r"there is no image .*/absent:1, neither here nor"):
            scaffold.deploy(
                root,
                target="docker",
                module=str(probe.path),
                run=scaffold.RunOptions(port=0, envoy_image=f"{served.name}/absent:1"),
            )


@pytest.mark.parametrize(
    ("last", "message"),
    [(b"", "Connection broken"), (b'6\r\n{"a" ]\r\n0\r\n\r\n', "Expecting ':'")],
    ids=["gone", "no JSON"],
)
def test_a_daemon_that_breaks_off_while_it_pulls(last, message, short, root, probe, monkeypatch):
    place, seen = short / "docker.sock", []
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
    with broken_off(place, last), events.listening(seen.append), pytest.raises(MachineError, match=message):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image="some:1"),
        )
    assert [event for event in seen if isinstance(event, events.Progressed)] == [
        events.Progressed("Pulling some:1", 100, 200, "B"),
        events.Progressed("Pulling some:1", 1100, 1200, "B"),
    ]


def test_a_daemon_of_another_machine_is_said_to_be_one(run, hello, tmp_path):
    words = ["deploy", "docker", hello.path, "--root", tmp_path, "--port=0", "--envoy-image=any"]
    ran = run(*SCAFFOLD, *words, DOCKER_HOST="ssh://somebody@far")
    hint = "use a daemon on this machine, which can read the same files"
    assert (ran.returncode, ran.stderr) == (
        4,
        error("Docker's daemon at ssh://somebody@far is on another machine", hint),
    )


def refused_by(place: Path, run: Any, root: Path, module: Path, *before: str) -> tuple[int, str]:
    words = ["deploy", "docker", module, "--root", root, "--port=0", "--envoy-image=any"]
    ran = run(*before, *SCAFFOLD, *words, DOCKER_HOST=f"unix://{place}")
    return ran.returncode, ran.stderr


def test_no_daemon_no_right_and_a_daemon_that_is_down_are_told_apart(run, hello, tmp_path):
    folder = Path(subprocess.run(["mktemp", "-d"], text=True, capture_output=True).stdout.strip())
    place = folder / "docker.sock"
    try:
        hint = "install Docker and start it, or name its socket: DOCKER_HOST=unix:///path"
        missing = error(f"Docker isn't running, or isn't installed: nothing is at unix://{place}", hint)
        assert refused_by(place, run, tmp_path, hello.path) == (4, missing)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place))
            listening.listen()
            place.chmod(0)
            # root may all, unless it gave that up; then even so only what is its own
            words = () if os.getuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
            hint = '`sudo usermod -aG docker "$USER"`, then log in again'
            denied = error(f"you aren't allowed to use Docker's daemon at unix://{place}", hint)
            assert refused_by(place, run, tmp_path, hello.path, *words) == (4, denied)
            place.chmod(0o600)
        hint = "unset DOCKER_HOST, or start what it names"
        down = error(f"Docker's daemon isn't running at unix://{place}", hint)
        assert refused_by(place, run, tmp_path, hello.path) == (4, down)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"currentContext": "gone"}, "Docker's current context doesn't exist"),
        ([], "cannot read Docker's configuration"),
        (
            {"currentContext": "mine"},
            "Docker isn't running, or isn't installed: nothing is at unix:///nowhere/docker.sock",
        ),
    ],
)
def test_the_daemon_is_that_of_dockers_context(content, message, probe, tmp_path, run):
    (tmp_path / "config.json").write_text(json.dumps(content))
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"docker": {"Host": "unix:///nowhere/docker.sock", "SkipTLSVerify": False}}
    meta.write_text(json.dumps({"Name": "mine", "Metadata": {}, "Endpoints": endpoint}))
    words = [*SCAFFOLD, "deploy", "docker", probe.path, "--root", tmp_path, "--envoy-image=any", "--port=0"]
    ran = run("env", "-u", "DOCKER_HOST", *words, DOCKER_CONFIG=str(tmp_path))
    assert ran.returncode == 4
    assert f"error: {message}" in ran.stderr
    assert "\nhint: " in ran.stderr


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("--privileged", UsageError, "no option of `docker run` for --docker-args named `--privileged`"),
        ("--network=host", UsageError, "no port can be published on the network `host`"),
        ("--user", UsageError, "--user needs a value"),
        ("--network=container:x", UsageError, "no port can be published on the network `container:x`"),
        ("--cpus many", UsageError, "'many' isn't a number of CPUs"),
        ("--cpus inf", UsageError, "'inf' isn't a number of CPUs"),
        ("'", UsageError, "cannot read --docker-args"),
        ("--memory many", HostError, "The specified value for memory"),
        ("--network nowhere", HostError, "network nowhere not found"),
    ],
)
def test_docker_args_that_cannot_be(words, kind, message, root, probe, images):
    with pytest.raises(kind, match=message):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image=images.envoy, docker_args=words),
        )
    assert scaffold.status(root) == []


def test_docker_args_reach_the_container(root, probe, images, docker, tmp_path, monkeypatch):
    monkeypatch.setenv("GIVEN_HERE", "x=y")
    given = (
        "-e A=b -eC=d -e GIVEN_HERE -e=NOT_GIVEN --label c=d --user 4711 --memory 500m --cpus 1.5 "
        f"--add-host x:10.0.0.1 -v {tmp_path}:/mnt:ro"
    )
    deployed = scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy, docker_args=given),
    )
    assert answers(deployed.url)
    (name,) = containers(docker, root)
    made = docker.containers.get(name).attrs
    assert {"A=b", "C=d", "GIVEN_HERE=x=y"} <= set(made["Config"]["Env"])
    assert "NOT_GIVEN" not in str(made["Config"]["Env"])
    assert (made["Config"]["Labels"]["c"], made["Config"]["User"]) == ("d", "4711")
    assert (made["HostConfig"]["Memory"], made["HostConfig"]["NanoCpus"]) == (500 << 20, 1_500_000_000)
    assert made["HostConfig"]["ExtraHosts"] == ["x:10.0.0.1"]
    assert "/mnt" in [mount["Destination"] for mount in made["Mounts"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deploy", "docker", "--envoy=1.36"], "--envoy isn't supported for `docker`"),
        (["deploy", "envoy", "--envoy-image=x"], "--envoy-image isn't supported for `envoy`"),
        (["test", "--docker-args=--env A=b"], "--docker-args isn't supported for `envoy`"),
    ],
)
def test_an_option_of_another_host(words, message, crate, run):
    ran = run(*SCAFFOLD, *words, "--root", crate)
    other = "envoy" if "docker" in words else "docker"
    assert (ran.returncode, ran.stderr) == (2, error(message, f"leave it out, or choose `{other}`"))


# --- kills


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("again", ["deploy", "another target", "undeploy", "undeploy elsewhere"])
def test_a_container_whose_supervisor_was_killed_is_found_again(
    again, root, probe, images, docker, monkeypatch
):
    port = free_port()
    scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=port, envoy_image=images.envoy),
    )
    (left,) = containers(docker, root)
    deployment = deployments.load(root)
    assert deployment
    kill(deployment.pid)
    until(lambda: not deployment.alive)
    assert not scaffold.status(root)[0].running
    if again.startswith("undeploy"):
        with monkeypatch.context() as patch:
            if again == "undeploy elsewhere":
                patch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
            scaffold.undeploy(root)
    elif again == "deploy":
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=port, envoy_image=images.envoy),
        )
    else:
        scaffold.deploy(root, module=str(probe.path), run=scaffold.RunOptions(port=port))
        assert containers(docker, root) == []
    assert left not in containers(docker, root)


def test_a_container_that_no_record_names_is_undeployed(root, probe, images, docker):
    """Deploy and its supervisor were killed together, before it was recorded."""
    scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
    )
    kill(*deployments.supervisors())
    (deployments.folder(root) / deployments.RECORD).unlink()
    assert containers(docker, root)
    scaffold.undeploy(root)
    assert containers(docker, root) == []


def test_a_container_whose_daemon_is_gone_is_said_to_be_left(
    root, probe, images, docker, run, short, monkeypatch
):
    place, seen = short / "docker.sock", []
    between = Between(daemon.Daemon().place, place)
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{place}")
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
        )
    left = containers(docker, root)
    between.end()
    gone = f"Docker isn't running, or isn't installed: nothing is at unix://{place}"
    until(lambda: gone in run("scaffold", "logs", "--root", root).stdout)
    with events.listening(seen.append):
        scaffold.undeploy(root)
    (said,) = [event.text for event in seen if isinstance(event, events.Warned)]
    assert said.startswith("a container may be left, see `docker ps --filter label=")
    assert said.endswith(gone)
    assert containers(docker, root) == left
    docker.api.remove_container(*left, force=True)


def test_only_what_this_user_left_here_is_swept(images, docker):
    """Other users' processes, and other containers', may be hidden from us, as if they had ended."""
    user, *_ = daemon._owner().rpartition(f"/{os.getuid()}/")
    owners = {uid: f"{user}/{uid}/{2**22}/1.00" for uid in (os.getuid(), os.getuid() + 1)}
    owners[-1] = f"{platform.node()}/pid:[1]/{os.getuid()}/{2**22}/1.00"  # in another container
    made = {
        uid: docker.containers.create(
            images.none, "envoy", labels={daemon.DEPLOYMENT: "", daemon.OWNER: owner}
        ).id
        for uid, owner in owners.items()
    }
    try:
        daemon.Daemon().sweep("")
        there = [each["Id"] for each in docker.api.containers(all=True)]
        assert [uid for uid in made if made[uid] in there] == [os.getuid() + 1, -1]
    finally:
        for each in made.values():
            with suppress(NotFound):
                docker.api.remove_container(each)


@pytest.mark.parametrize("moment", [0.5, 0.6, 0.8, 1.1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_deploy_that_dies_half_way_leaves_nothing_running(root, probe, images, docker, moment, number):
    scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
    )
    scaffold.undeploy(root)  # the image is known now
    argv = [*SCAFFOLD, "deploy", "docker", str(probe.path), "--root", str(root), "--port=0"]
    dying = subprocess.Popen([*argv, "--envoy-image", images.envoy], stderr=subprocess.DEVNULL)
    time.sleep(moment)
    dying.send_signal(number)
    dying.wait(30)
    deployment = deployments.load(root)
    if not (deployment and deployment.alive):
        until(lambda: deployments.folder(root) not in deployments.supervisors().values())
        assert containers(docker, root) == []
    assert scaffold.deploy(
        root,
        target="docker",
        module=str(probe.path),
        run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
    ).running
    assert len(containers(docker, root)) == 1


# --- the project's tests


def test_a_projects_tests_pass_in_a_container_and_against_a_deployment(crate, images, docker, run):
    ran = run("scaffold", "test", "--host", "docker", "--envoy-image", images.proxy, "--root", crate)
    assert ran.returncode == 0, ran.stderr
    assert "5 passed" in ran.stderr
    assert f"Testing hello_world in {images.proxy}" in ran.stderr
    words = ["deploy", "docker", "--envoy-image", images.envoy, "--port=0", "--root", crate, "--json"]
    try:
        assert json.loads(run("scaffold", *words).stdout)["envoy_image"] == images.envoy
        ran = run("scaffold", "test", "--deployed", "--root", crate)
        assert ran.returncode == 0, ran.stderr
        assert "5 passed" in ran.stderr
    finally:
        scaffold.undeploy(crate)


def test_what_a_killed_test_run_left_is_swept_by_the_next(crate, images, docker, run):
    ours = {"label": f"{daemon.DEPLOYMENT}=", "ancestor": images.envoy}  # which is this process's own
    (crate_tests := crate / "tests" / "test_waits.py").write_text(
        "import time\n\n\ndef test_it(proxy):\n    print('waits', flush=True)\n    time.sleep(60)\n"
    )
    try:
        words = ["pytest", "-s", "--proxy-host=docker", f"--proxy-envoy-image={images.envoy}", crate_tests]
        with subprocess.Popen(words, cwd=crate, stdout=subprocess.PIPE, text=True) as dying:
            assert dying.stdout
            while "waits" not in dying.stdout.readline():
                assert dying.poll() is None
            (left,) = docker.api.containers(filters=ours)
            dying.kill()
        until(lambda: process.start_time(dying.pid) is None)
    finally:
        crate_tests.unlink()
    ran = run("scaffold", "test", "--host", "docker", "--envoy-image", images.envoy, "--root", crate)
    assert ran.returncode == 0, ran.stderr
    assert left["Id"] not in [each["Id"] for each in docker.api.containers(all=True)]


def test_a_panicking_filter_is_deployed_but_said_not_to_answer(root, probe, images):
    with pytest.raises(TargetError, match="asked to panic"):
        scaffold.deploy(
            root,
            target="docker",
            module=str(probe.path),
            run=scaffold.RunOptions(port=0, envoy_image=images.envoy),
            probe="/panic",
        )
    assert scaffold.status(root)[0].running
