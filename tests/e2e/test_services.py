"""Plugins of the type `service`: no request passes them; they run beside the listener, and end with Envoy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from support.crates import PLUGINS
from support.envoy_filters import plugin_filter
from support.places import logged, until
from support.ports import free_port

import scaffold
from scaffold.core.events import Noted, listening
from scaffold.errors import ModuleError, TargetError, UsageError
from scaffold.hosts import host as hosts
from scaffold.hosts.envoy import resources
from scaffold.hosts.exchange import Request
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

TESTS = """
import pytest
from scaffold.errors import ModuleError

def test_it_ticks(proxy):
    assert "tick 1 {}" in proxy.wait_for_log("tick")
    proxy.wait_for_log("the upstream answered 200")
    assert proxy.metrics["service_ticks"] >= 2
    assert proxy.upstream.requests[0].headers["host"] == "service"
    proxy.wait_for_log("got a message")

def test_it_begins_anew(proxy):
    assert "tick 1 " in proxy.wait_for_log("tick")
    proxy.configure("hello")
    assert proxy.wait_for_log("tick") == "tick 1 hello"

def test_it_refuses(proxy):
    with pytest.raises(ModuleError, match="refused, as asked"):
        proxy.configure('"refuse"')

def test_it_begins_with_the_first_configuration(proxy):
    assert proxy.wait_for_log("tick") == "tick 1 {}"
"""


@pytest.fixture
def crate_of_service(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PLUGINS / "service", tmp_path / "service"))


def deploy(root: Path, service, config: str = "{}", **options):
    run = scaffold.RunOptions(port=0, config=config, **options)
    return scaffold.deploy(root, module=str(service.path), run=run)


def test_a_deployed_service_ticks_and_is_replaced_with_its_envoy(crate_of_service, service):
    try:
        first = deploy(crate_of_service, service)
        assert f"service: beside the listener at {first.url}, deployed " in first.summary()
        logged(crate_of_service, "the upstream answered 200")
        heard: list[str] = []
        with listening(lambda event: heard.append(event.text) if isinstance(event, Noted) else None):
            second = deploy(crate_of_service, service, '"again"')
        assert second.url == first.url
        assert heard[0].startswith("a service starts with its Envoy; Envoy restarts")
        logged(crate_of_service, 'tick 1 "again"')
        with pytest.raises(ModuleError, match="Envoy refused the plugin service; the previous version keeps"):
            deploy(crate_of_service, service, '"refuse"')
        assert scaffold.status(crate_of_service)[0].answers
    finally:
        scaffold.undeploy(crate_of_service)


def test_a_service_that_crashes_or_hangs_is_named(crate_of_service, service):
    try:
        with pytest.raises(TargetError, match=r"(?s)^service is deployed, but crashed.*asked to panic"):
            deploy(crate_of_service, service, '"panic"')
        with pytest.raises(ModuleError, match="the plugin service doesn't return from on_tick"):
            deploy(crate_of_service, service, '"loop"')
        with pytest.raises(UsageError, match="none passes a service"):
            scaffold.deploy(crate_of_service, module=str(service.path), probe="/")
    finally:
        scaffold.undeploy(crate_of_service)


def test_a_service_that_is_declared_a_filter_is_recognised(root, service):
    with pytest.raises(TargetError) as deployed:
        scaffold.deploy(root, module=str(service.path), run=scaffold.RunOptions(port=0))
    assert 'set `type = "service"` in Cargo.toml' in deployed.value.hint


@pytest.mark.parametrize("host", ["envoy", "emulator"])
def test_a_projects_tests_ask_its_log_and_its_metrics(crate_of_service, service, run, host):
    (crate_of_service / "tests").mkdir()
    (crate_of_service / "tests/test_service.py").write_text(TESTS)
    words = ("scaffold", "test", "--root", crate_of_service, "--module", service.path, "--config", "{}")
    ran = run(*words, "--host", host, "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout)["outcomes"][0]["passed"] == 4


def test_a_bootstrap_has_the_service_as_an_extension(crate_of_service, service):
    options = scaffold.RunOptions(config="[1]")
    made = yaml.safe_load(scaffold.bootstrap(crate_of_service, options, module=str(service.path)))
    (extension,) = made["bootstrap_extensions"]
    assert extension["typed_config"]["@type"] == resources.TYPES["service"]
    assert extension["typed_config"]["singleton"] is True
    assert extension["typed_config"]["config"]["configuration"]["value"] == "[1]"
    with pytest.raises(ModuleError, match="refused, as asked"):
        scaffold.bootstrap(crate_of_service, scaffold.RunOptions(config='"refuse"'), module=str(service.path))


@pytest.mark.parametrize("host", ["envoy", "docker"])
def test_a_service_runs_beside_the_filters_of_a_chain(hello, service, host, tmp_path, request):
    image = request.getfixturevalue("images").proxy if host == "docker" else None
    chain = [
        Plugin("service", "service", service, b"beside", type="service"),
        Plugin("hello_world", "hello_world", hello),
    ]
    settings = HostSettings(envoy_image=image)
    with hosts.find(host)(*chain, folder=tmp_path, settings=settings) as running:
        exchange = running.play(Request("GET", "/headers"))
        assert exchange.upstream.headers["x-hello"].startswith("Hello world from ")
        until(lambda: any("tick 1 beside" in line.text for line in running.log.since(0)))


def test_the_service_of_a_bootstrap_is_replaced_where_it_is(crate_of_service, service, tmp_path):
    own = plugin_filter("/old/service.wasm", b"mine", kind="service")
    listener = resources.listener(host="127.0.0.1", port=free_port(), filters=[], answer="ok")
    bootstrap = resources.bootstrap(listeners=[listener], clusters=[])
    bootstrap["bootstrap_extensions"] = {"name": "mine", "typed_config": own}
    file = tmp_path / "envoy.yaml"
    file.write_text(json.dumps(bootstrap))
    run = scaffold.RunOptions(bootstrap=file)
    try:
        scaffold.deploy(crate_of_service, module=str(service.path), run=run)
        logged(crate_of_service, "tick 1 mine")
        made = yaml.safe_load(scaffold.bootstrap(crate_of_service, run, module=str(service.path)))
        assert len(made["bootstrap_extensions"]) == 1
    finally:
        scaffold.undeploy(crate_of_service)
