"""The fixture `proxy` in a host of a few lines: what one test may leave to the next, and what not."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from scaffold.core.files import digest
from scaffold.errors import HostError, UsageError
from scaffold.hosts.clock import RealClock
from scaffold.hosts.envoy.log import Log
from scaffold.hosts.exchange import Exchange, Response
from scaffold.hosts.plugin import Plugin
from scaffold.project.config_validation import Schema
from scaffold.pytest_plugin import Proxy
from scaffold.wasm.module import WasmModule

SCHEMA = {"type": "object", "properties": {"limit": {"type": "integer"}}}


def plugin(name: str = "gate", configuration: bytes = b"{}") -> Plugin:
    module = WasmModule(Path(f"{name}.wasm"), 8, digest(b""), "0.2.1", {})
    return Plugin(name, "", module, configuration)


@dataclass
class Host:
    """Answers with its plugins' configurations; a request for /crash crashes them until they are replaced."""

    plugins: tuple[Plugin, ...]
    crashed: bool = False
    ended: bool = False
    origin: None = None
    alive: bool = True
    url: str = "http://localhost:1"
    log: Log = field(default_factory=lambda: Log(Path("none")))
    fresh: list[bool] = field(default_factory=list)
    tests: int = 0
    clock = RealClock()

    def play(self, request, *, timeout):
        if request.target == "/lost":
            self.crashed = True
            raise HostError("no whole answer")
        if request.target == "/end":
            self.ended = True
        self.crashed = self.crashed or request.target == "/crash"
        status = 503 if self.crashed else 200
        body = b"\n".join(each.configuration for each in self.plugins)
        return Exchange(request, Response(status, body=body), trapped=request.target == "/crash")

    def replace(self, *plugins, fresh=False):
        if self.ended:
            raise HostError("Envoy ended")
        self.plugins, self.crashed = plugins, False
        self.fresh.append(fresh)

    def end_test(self):
        self.tests += 1


class Hosts(list[Host]):
    """The hosts that were started, one after the other."""

    @contextmanager
    def start(self, plugins):
        self.append(host := Host(tuple(plugins)))
        yield host
        host.alive = False


@pytest.fixture
def hosts():
    return Hosts()


@pytest.fixture
def proxy(hosts):
    made = Proxy(hosts.start, [plugin()], [Schema("config.schema.json", SCHEMA)])
    made.begin()
    yield made
    made.close()
    assert not any(host.alive for host in hosts)


@pytest.fixture
def chain(hosts):
    plugins = plugin("first", b"1"), plugin("second", b"2")
    made = Proxy(hosts.start, plugins, [None, None])
    made.begin()
    return made


def test_a_configuration_is_the_tests_own(proxy, hosts):
    proxy.configure({"limit": 5})
    assert proxy.get("/").response.body == b'{"limit": 5}'
    proxy.begin()
    assert proxy.get("/").response.body == b"{}"
    assert hosts[0].fresh == [True, True], "what the plugin had in memory would stay"


def test_a_plugin_that_nobody_changed_is_left_alone(proxy, hosts):
    proxy.get("/")
    proxy.begin()
    assert (len(hosts), hosts[0].fresh) == (1, [])


@pytest.mark.parametrize("target", ["/crash", "/lost"])
def test_a_plugin_that_crashed_does_not_fail_the_next_test(proxy, target):
    if target == "/lost":
        with pytest.raises(HostError):
            proxy.get(target)
    else:
        assert proxy.get(target).trapped
    assert proxy.get("/").status == 503
    proxy.begin()
    assert proxy.get("/").status == 200


def test_a_host_that_ended_is_started_again(proxy, hosts):
    proxy.configure({"limit": 5})
    proxy.get("/end")
    proxy.begin()
    assert [host.alive for host in hosts] == [False, True]
    assert proxy.get("/").response.body == b"{}"


def test_a_configuration_must_match_its_schema_unless_the_plugin_is_to_decide(proxy):
    with pytest.raises(UsageError, match="limit") as caught:
        proxy.configure({"limit": "5"})
    assert caught.value.hint == "`check=False` lets the plugin decide"
    assert proxy.get("/").response.body == b"{}"
    proxy.configure({"limit": "5"}, check=False)
    assert json.loads(proxy.get("/").response.body) == {"limit": "5"}


@pytest.mark.parametrize(
    ("configuration", "sent"), [("text", b"text"), (b"\xff", b"\xff"), ([1], b"[1]"), (None, b"null")]
)
def test_text_and_bytes_reach_the_plugin_as_they_are(chain, configuration, sent):
    chain.configure(configuration, plugin="first")
    assert chain.get("/").response.body == sent + b"\n2"


def test_of_a_chain_one_plugin_is_configured_by_name(chain):
    chain.configure("new", plugin="second")
    assert chain.get("/").response.body == b"1\nnew"
    with pytest.raises(UsageError, match="which plugin of the chain") as caught:
        chain.configure("new")
    assert caught.value.hint == 'pass plugin="NAME"'
    with pytest.raises(UsageError, match="no plugin named `secnod`"):
        chain.configure("new", plugin="secnod")


def test_a_service_gets_a_host_of_its_own_in_each_test(hosts):
    """What it keeps in memory between two requests would be another test's."""
    service = replace(plugin("timer"), type="service")
    made = Proxy(hosts.start, [service], [None])
    for _ in range(2):
        made.begin()
        made.end()
    made.configure("new")
    assert [host.alive for host in hosts] == [False, False, True]
    assert [host.plugins[0].configuration for host in hosts] == [b"{}", b"{}", b"new"]
    made.close()


def test_a_line_of_the_log_is_waited_for_and_earlier_tests_lines_do_not_count(proxy, hosts, tmp_path):
    path = tmp_path / "envoy.log"
    hosts[0].log = Log(path)

    def log(text):
        with path.open("a") as file:
            file.write(
                json.dumps({"level": "info", "logger": "wasm", "message": f"wasm log gate: {text}"}) + "\n"
            )

    log("ready, earlier")
    proxy.begin()
    with pytest.raises(HostError, match=r"hasn't logged 'ready' within 0\.05 s"):
        proxy.wait_for_log("ready", timeout=0.05)
    log("ready now")
    assert proxy.wait_for_log("ready") == "ready now"
    assert list(proxy.logs) == ["ready now"]
