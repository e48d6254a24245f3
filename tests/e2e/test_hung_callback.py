"""A plugin that doesn't return while Envoy starts it: named, and nothing is lost by it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.looping_modules import looping
from support.ports import free_port

import scaffold
from scaffold.errors import HostError, ModuleError
from scaffold.hosts.background import deployments
from scaffold.hosts.envoy import resources
from scaffold.hosts.envoy.admin import Admin

EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
ECHO = {"name": "echo", "typed_config": {"@type": f"{EXTENSIONS}.network.echo.v3.Echo"}}
CALLBACKS = ("proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick")


def module(folder: Path, callback: str = "") -> str:
    path = folder / f"{callback or 'good'}.wasm"
    path.write_bytes(looping(callback))
    return str(path)


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.status == 200


def uptime(root: Path) -> int:
    """The seconds for which Envoy has run."""
    return int(json.loads(scaffold.admin("/server_info", root))["uptime_current_epoch"].removesuffix("s"))


def deploy(root: Path, target: str, path: str, **options) -> deployments.Status:
    return scaffold.deploy(root, target=target, module=path, run=scaffold.RunOptions(**{"port": 0} | options))


@pytest.mark.faults(
    "R11", injected="an endless loop in each callback, first deploy", seen="exit code 6 names the callback"
)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_a_first_deploy_is_refused(callback, root, tmp_path):
    name = callback.removeprefix("proxy_")
    with pytest.raises(ModuleError, match=f"^the plugin {callback} doesn't return from {name}\n"):
        deploy(root, "envoy", module(tmp_path, callback))
    assert scaffold.status(root) == []


@pytest.mark.faults(
    "R11", injected="an endless loop in each callback, over a good plugin", seen="that one serves on"
)
def test_over_a_good_one_the_good_one_serves_on(root, tmp_path):
    good = deploy(root, "envoy", module(tmp_path))
    for callback in CALLBACKS:
        name = callback.removeprefix("proxy_")
        with pytest.raises(
            ModuleError, match=f"doesn't return from {name}; Envoy was restarted with the previous version"
        ):
            deploy(root, "envoy", module(tmp_path, callback))
        (status,) = scaffold.status(root)
        assert (status.url, status.running, status.answers) == (good.url, True, True)
        assert status.plugins == good.plugins
        assert answers(good.url)
    assert answers(deploy(root, "envoy", module(tmp_path)).url), "and the next deploy is as any"


def test_an_envoy_that_its_watchdog_ends_first_is_no_other_case(root, tmp_path):
    """On a busy machine that happens before we look whether a callback hangs."""
    good = deploy(root, "envoy", module(tmp_path))
    supervisor = psutil.Process(deployments.load(root).pid)
    (envoy,) = (each for each in supervisor.children(recursive=True) if "envoy" in each.name())

    def end_once_it_hangs() -> None:
        with suppress(HostError):
            while Admin(good.admin_address, timeout=0.2).live():
                time.sleep(0.01)
        envoy.send_signal(signal.SIGABRT)

    thread = threading.Thread(target=end_once_it_hangs, daemon=True)
    thread.start()
    with pytest.raises(
        ModuleError, match="doesn't return from on_configure; Envoy was restarted with the pre"
    ):
        deploy(root, "envoy", module(tmp_path, "proxy_on_configure"))
    thread.join(10)
    assert answers(good.url)


def test_in_a_container_too(root, tmp_path, images, docker):
    """At the port that users have there, which is never any free one."""
    options = {"envoy_image": images.envoy, "port": free_port()}
    with pytest.raises(ModuleError, match="doesn't return from on_vm_start\n"):
        deploy(root, "docker", module(tmp_path, "proxy_on_vm_start"), **options)
    good = deploy(root, "docker", module(tmp_path), **options)
    with pytest.raises(ModuleError, match="doesn't return from on_configure; Envoy was restarted with"):
        deploy(root, "docker", module(tmp_path, "proxy_on_configure"), **options)
    (status,) = scaffold.status(root)
    assert (status.answers, status.plugins) == (True, good.plugins)
    assert answers(good.url)
    scaffold.undeploy(root)


def test_run_ends_with_the_reason(root, tmp_path):
    argv = [sys.executable, "-m", "scaffold", "run", module(tmp_path, "proxy_on_configure"), "--port", "0"]
    ran = subprocess.run(argv, cwd=root, text=True, capture_output=True, timeout=60)
    assert ran.returncode == 6
    assert "error: the plugin proxy_on_configure doesn't return from on_configure\n" in ran.stderr


def test_an_envoy_that_loops_later_is_replaced_as_a_whole(root, tmp_path):
    """A deploy doesn't wait for an Envoy that ends again and again to take a filter."""
    deploy(root, "envoy", module(tmp_path))
    folder = deployments.folder(root) / "envoy"
    (named,) = folder.glob("modules/*.wasm")
    named.write_bytes(looping("proxy_on_configure"))  # as if its data had changed
    scaffold.admin("/quitquitquit", root, post=True)
    (status,) = scaffold.status(root)
    assert (status.running, status.answers) == (True, False)
    assert "  Envoy doesn't answer now" in status.summary()  # and why, once it has ended
    (tmp_path / "other").mkdir()
    assert answers(deploy(root, "envoy", module(tmp_path / "other")).url)


def test_with_a_bootstrap_the_previous_one_serves_on_too(root, tmp_path):
    """Its sockets are those of the Envoy that serves, which a trial must not take."""
    pipe, admin = tmp_path / "listener.sock", tmp_path / "admin.sock"
    own = resources.listener(host="127.0.0.1", port=free_port(), filters=[], answer="mine")
    other = {"address": {"pipe": {"path": str(pipe)}}, "filter_chains": [{"filters": [ECHO]}]}
    bootstrap = resources.bootstrap(listeners=[own, other], clusters=[])
    bootstrap["admin"] = resources.admin(str(admin), 0o600)
    path = tmp_path / "envoy.yaml"
    path.write_text(json.dumps(bootstrap))
    good = deploy(root, "envoy", module(tmp_path), bootstrap=path, port=None, id="p")
    refusal = "doesn't return from on_configure; Envoy was restarted with the previous version"
    with pytest.raises(ModuleError, match=refusal):
        deploy(root, "envoy", module(tmp_path, "proxy_on_configure"), bootstrap=path, port=None, id="p")
    (status,) = scaffold.status(root)
    assert (status.answers, status.admin_address) == (True, str(admin))
    assert answers(good.url)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(pipe))


def test_a_late_tick_that_ends_envoy_again_and_again_brings_the_previous_one_back(root, tmp_path):
    good = deploy(root, "envoy", module(tmp_path))
    path = tmp_path / "late.wasm"
    path.write_bytes(looping("proxy_on_tick", period=1500))
    late = deploy(root, "envoy", str(path))
    assert (late.plugins[0].name, late.reverted) == ("late", False)
    deadline = time.monotonic() + 60
    while not (status := scaffold.status(root)[0]).reverted or not status.answers or uptime(root) < 4:
        assert time.monotonic() < deadline, "the late one never lets Envoy run for so long"
        time.sleep(0.2)
    assert (status.answers, answers(good.url)) == (True, True)
    assert "the previous version runs instead: this one ended Envoy again and again" in status.summary()
    again = deploy(root, "envoy", module(tmp_path))
    assert (again.reverted, scaffold.status(root)[0].reverted) == (False, False)


def test_ctrl_c_while_a_callback_hangs_brings_the_previous_one_back(root, tmp_path):
    good = deploy(root, "envoy", module(tmp_path))
    argv = [sys.executable, "-m", "scaffold", "deploy", "envoy", module(tmp_path, "proxy_on_configure")]
    with subprocess.Popen(argv, cwd=root, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        for line in child.stderr:
            if "looking whether one of its callbacks hangs" in line:
                break
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    deadline = time.monotonic() + 20
    while not (status := scaffold.status(root)[0]).answers:
        assert time.monotonic() < deadline, "Envoy stays stuck"
        time.sleep(0.2)
    assert (status.plugins, answers(good.url)) == (good.plugins, True)
