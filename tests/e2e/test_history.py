"""`scaffold history` and `scaffold rollback`, with a real Envoy."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.places import get

import scaffold
from scaffold.core import events
from scaffold.core.files import digest
from scaffold.errors import ModuleError, TargetError, UsageError
from scaffold.hosts.background import deployments, history


def deploy(root, module, config, **more):
    return scaffold.deploy(root, module=module.path, run=scaffold.RunOptions(config=config, **more))


def configured(url: str) -> str:
    return get(url, "/")[1].get("x-configuration", "")


def numbers(root):
    return [(each.number, each.live) for each in scaffold.history(root)]


def test_the_module_and_its_configuration_come_back_together(root, probe, hello, tmp_path):
    config = tmp_path / "one.json"
    config.write_text('"one"')
    url = deploy(root, probe, str(config), port=0).url
    deploy(root, probe, '"two"')
    deploy(root, probe, '"two"')  # the same once more
    assert numbers(root) == [(2, True), (1, False)]
    scaffold.deploy(root, module=hello.path)
    config.unlink()  # what was deployed is what counts
    failures = []
    ended = threading.Event()

    def keep_asking():
        while not ended.is_set():
            if get(url)[0] != 200:
                failures.append(time.monotonic())

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        status = scaffold.rollback(1, root)
    finally:
        ended.set()
        asking.join()
    assert not failures
    assert (status.url, status.plugins[0].module_digest) == (url, probe.digest)
    assert configured(url) == '"one"'
    assert numbers(root)[0] == (4, True)
    assert scaffold.history(root)[0].again == 1
    assert scaffold.rollback(root=root).plugins[0].module_digest == hello.digest, "back to where it was"


def test_what_was_undeployed_comes_back(root, probe, run):
    deploy(root, probe, '"one"', port=0)
    deploy(root, probe, '"two"')
    scaffold.undeploy(root)
    assert numbers(root) == [(2, False), (1, False)]
    assert configured(scaffold.rollback(root=root).url) == '"two"'
    shown = run("scaffold", "history", "--root", root)
    assert "probe (rollback to 2, live)" in shown.stdout
    assert '"two"' not in run("scaffold", "history", "--root", root, "--json").stdout, "it may be a secret"
    with pytest.raises(TargetError, match="still deployed"):
        scaffold.clean(root, history=True)
    scaffold.undeploy(root)
    scaffold.clean(root, history=True)
    with pytest.raises(TargetError, match="nothing was deployed from"):
        scaffold.rollback(root=root)
    assert scaffold.history(root) == []


def test_one_that_envoy_refuses_changes_nothing(root, probe):
    deploy(root, probe, '"one"', port=0)
    url = deploy(root, probe, '"two"').url
    path = history.folder(root) / "1.json"
    made = json.loads(path.read_text())
    made["plugins"][0]["configuration"] = '"refuse"'
    path.write_text(json.dumps(made))
    with pytest.raises(ModuleError, match="the previous version keeps serving"):
        scaffold.rollback(root=root)
    assert configured(url) == '"two"'
    assert numbers(root) == [(2, True), (1, False)]
    path.write_text("{")
    assert numbers(root) == [(2, True)], "a damaged entry counts as none"
    with pytest.raises(UsageError, match="nothing that worked was deployed before"):
        scaffold.rollback(root=root)


def test_a_module_that_somebody_changed_is_not_deployed(root, probe, hello):
    deploy(root, probe, '"one"', port=0)
    scaffold.undeploy(root)
    (kept,) = (history.folder(root) / "modules").glob(f"{probe.digest.removeprefix('sha256:')}.wasm")
    kept.write_bytes(hello.content)
    with pytest.raises(ModuleError, match="the module of deploy 1 is gone, or was changed"):
        scaffold.rollback(root=root)


def test_the_oldest_are_forgotten_with_their_modules(root, probe, hello, monkeypatch):
    monkeypatch.setattr(history, "MOST", 2)
    scaffold.deploy(root, module=hello.path, run=scaffold.RunOptions(port=0))
    for config in ('"1"', '"2"'):
        deploy(root, probe, config)
    assert numbers(root) == [(3, True), (2, False)]
    assert len(list((history.folder(root) / "modules").iterdir())) == 1
    with pytest.raises(UsageError, match="deploy 1 isn't in the history, which has 2 to 3"):
        scaffold.rollback(1, root)


def test_two_rollbacks_at_once_take_turns(root, probe):
    deploy(root, probe, '"one"', port=0)
    url = deploy(root, probe, '"two"').url
    words = [sys.executable, "-m", "scaffold", "rollback", "1", "--root", str(root)]
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(each.wait(60), each.communicate()[1].count("error")) for each in both] == [(0, 0)] * 2
    assert configured(url) == '"one"'
    record = deployments.load(root)
    assert record and record.alive


def test_a_project_that_was_moved_has_no_history(root, probe, tmp_path):
    deploy(root, probe, '"one"', port=0)
    with pytest.raises(TargetError, match="nothing was deployed from"):
        scaffold.rollback(root=tmp_path / "elsewhere")


def test_status_says_which_configuration_is_live_and_reset_forgets_it(root, probe, run):
    config = root / "one.json"
    config.write_text('"one"')
    more = {"log_level": "debug", "env": ("TOKEN=secret",), "envoy_args": "--concurrency 2"}
    deploy(root, probe, str(config), port=0, **more)
    (status,) = scaffold.status(root)
    assert status.config == f"--config {config}, digest {digest(config.read_bytes())[:19]}"
    shown = run("scaffold", "status", "--root", root).stdout
    assert re.search(r"log level +debug", shown)
    assert re.search(r"env +TOKEN\n", shown)
    assert "  arguments --concurrency 2\n" in shown
    assert "secret" not in shown
    words = ["scaffold", "deploy", "envoy", probe.path, "--root", root]
    again = run(*words)
    assert f"--config {config} of an earlier deploy is kept; --reset forgets earlier options" in again.stderr
    assert scaffold.status(root)[0].config.startswith(f"--config {config}, of an earlier deploy, digest ")
    assert run(*words, "--reset", "--port", "0").returncode == 0
    (status,) = scaffold.status(root)
    assert (status.config, status.log_level, status.env) == ("", "info", [])


def test_status_says_what_the_last_deploy_complained_about(root, probe):
    run = scaffold.RunOptions(port=0)
    with pytest.raises(TargetError):
        scaffold.deploy(root, module=probe.path, run=run, probe="/panic")
    (status,) = scaffold.status(root)
    assert "a request got 503" in status.said
    scaffold.deploy(root, module=probe.path)
    assert scaffold.status(root)[0].said == ""


def test_one_that_did_not_work_is_passed_over(root, probe):
    url = deploy(root, probe, '"one"', port=0).url
    with pytest.raises(TargetError):
        scaffold.deploy(root, module=probe.path, run=scaffold.RunOptions(config='"two"'), probe="/panic")
    deploy(root, probe, '"three"')
    assert [bool(each.said) for each in scaffold.history(root)] == [False, True, False]
    scaffold.rollback(root=root)
    assert configured(url) == '"one"'


def test_no_stray_file_and_no_damaged_entry_keeps_anyone_from_deploying(root, probe):
    url = deploy(root, probe, '"one"', port=0).url
    for home in (history.folder(root).parent, deployments.logs(deployments.folder(root)).parent):
        (home / ".DS_Store").write_text("x")
    path = history.folder(root) / "1.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps(made | {"plugins": [{"surprise": 1}]}))
    deploy(root, probe, '"two"', log_level="debug")  # restarts
    assert configured(url) == '"two"'
    assert [each.live for each in scaffold.history(root)] == [True]


def test_a_history_that_cannot_be_written_is_a_warning(root, probe):
    home = history.folder(root)
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("not a folder")
    warnings = []
    try:
        with events.listening(lambda event: warnings.append(getattr(event, "text", ""))):
            assert configured(deploy(root, probe, '"one"', port=0).url) == '"one"'
    finally:
        home.unlink()
    assert any(text.startswith("this deploy isn't in the history: ") for text in warnings)


def test_a_configuration_given_as_text_is_never_shown(root, probe, run):
    deploy(root, probe, '"s3cr3t"', port=0)
    shown = [
        run("scaffold", *words, "--root", root) for words in (["status"], ["status", "--json"], ["history"])
    ]
    again = run("scaffold", "deploy", "envoy", probe.path, "--root", root)
    assert "--config (given as text) of an earlier deploy is kept" in again.stderr
    assert not [ran for ran in [*shown, again] if "s3cr3t" in ran.stdout + ran.stderr]


def test_who_interrupts_a_restart_is_told_how_the_version_before_comes_back(root, probe, run):
    url = deploy(root, probe, '"one"', port=0).url
    words = ["deploy", "envoy", probe.path, "--root", root, "--config", '"two"', "--log-level", "debug"]
    argv = [sys.executable, "-m", "scaffold", *map(str, words)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stderr:
            if line.startswith("Starting Envoy"):
                child.send_signal(signal.SIGINT)
                break
        said = child.stderr.read()
    assert child.returncode == 130
    assert "was ended for the new version: `scaffold rollback 1` starts it again" in said
    assert scaffold.status(root) == []
    assert run("scaffold", "rollback", "1", "--root", root).returncode == 0
    assert configured(url) == '"one"'
