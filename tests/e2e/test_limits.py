"""What docs/limits.md says that a plugin can't do, tried by a plugin in a real Envoy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crates import PLUGINS
from support.places import until

import scaffold
from scaffold.errors import HostError
from scaffold.hosts import host as hosts
from scaffold.hosts.envoy.resources import EXTENSIONS, router
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.host import Host
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

MIB = 2**20  # Envoy's buffer for a body


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Plugin:
    root = shutil.copytree(PLUGINS / "limits", tmp_path_factory.mktemp("plugins") / "limits")
    return Plugin("limits", "", scaffold.build(Path(root), scaffold.BuildOptions(yes=True)))


@pytest.fixture(scope="module")
def shared(plugin: Plugin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts.find("envoy")(plugin, folder=tmp_path_factory.mktemp("shared")) as host:
        yield host


@pytest.fixture
def host(plugin: Plugin, tmp_path: Path) -> Iterator[Host]:
    """An Envoy of the test's own: its plugin panics."""
    with hosts.find("envoy")(plugin, folder=tmp_path) as host:
        yield host


def get(path: str, **headers: str) -> Request:
    return Request("GET", path, Headers({name.replace("_", "-"): value for name, value in headers.items()}))


def test_the_system_is_out_of_reach(shared):
    tried = dict(line.split(": ", 1) for line in shared.play(get("/system")).response.text.splitlines())
    assert tried.pop("variables") == tried.pop("arguments") == "0"
    assert tried.pop("tell the time") == "worked"
    assert len(tried) == 6
    assert not [what for what, outcome in tried.items() if outcome == "worked"]


@pytest.mark.parametrize(("path", "why"), [("/sleep", "panicked at"), ("/catch", "caught?")])
def test_it_neither_sleeps_nor_survives_a_panic(host, path, why):
    exchange = host.play(get(path))
    assert (exchange.status, exchange.trapped) == (503, True)
    assert why in exchange.logs


def test_it_calls_clusters_and_no_urls(shared):
    assert shared.play(get("/call")).response.text == "call: BadArgument"


def test_headers_that_envoy_sets_after_it(shared):
    exchange = shared.play(get("/own"))
    assert exchange.response.headers["server"] == "envoy"
    assert exchange.response.headers["date"]
    assert "x-mine" not in exchange.response.headers.get("connection", "")
    assert exchange.upstream.headers["x-envoy-expected-rq-timeout-ms"] == "60000"


def test_names_of_headers_are_lower_case(shared):
    names = shared.play(get("/names", X_Mixed_Case="1")).response.text.split()
    assert names[:4] == [":authority", ":path", ":method", ":scheme"]
    assert "x-mixed-case" in names


def test_more_than_1024_headers_at_once_are_none(shared):
    exchange = shared.play(get("/many"))
    assert (exchange.status, "missing_required_header" in exchange.details) == (502, True)


def test_the_length_of_a_changed_body_is_the_old_one(shared):
    response = shared.play(get("/longer")).response
    assert 0 < int(response.headers["content-length"]) < 10_000
    assert response.body == b"x" * int(response.headers["content-length"])


@pytest.mark.parametrize("path", ["/late", "/log"])
def test_headers_are_there_while_they_pass(host, path):
    exchange = host.play(get(path))
    assert exchange.trapped
    assert "unexpected status: 2" in exchange.logs


def test_a_response_that_has_begun_is_cut_off(shared):
    with pytest.raises(HostError, match="no whole answer"):
        shared.play(get("/late-answer"))


def test_a_body_is_held_up_to_a_mebibyte(shared):
    held, more = (shared.play(Request("POST", "/hold-request", body=bytes(size))) for size in (MIB, MIB + 1))
    assert (len(held.upstream.body), held.status) == (MIB, 404)
    assert (more.upstream, more.status) == (None, 413)
    assert shared.play(get("/bytes/100000")).status == 200
    with pytest.raises(HostError, match="no whole answer"):
        shared.play(get(f"/bytes/{MIB + 1}"))


def test_what_an_earlier_filter_answers_never_reaches_it(plugin, tmp_path):
    refuses = {
        "@type": f"{EXTENSIONS}.filters.http.fault.v3.HTTPFault",
        "abort": {"http_status": 403, "percentage": {"numerator": 100}},
        "headers": [{"name": "x-refused", "present_match": True}],
    }
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "refuses", "typed_config": refuses}, router()],
    }
    listener = {
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    bootstrap = tmp_path / "envoy.json"
    bootstrap.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    settings = HostSettings(bootstrap=str(bootstrap))
    with hosts.find("envoy")(plugin, folder=tmp_path, settings=settings) as host:
        assert list(host.play(get("/")).logs) == [
            "request headers of /",
            "response headers of /",
            "on_log of /",
        ]
        refused = host.play(get("/", x_refused="1"))
    assert (refused.status, list(refused.logs)) == (403, ["on_log of "])


def test_each_worker_has_a_vm_of_its_own(plugin, tmp_path):
    """Beside those of the workers: one of the main thread, and one that Envoy tries the configuration in."""
    settings = HostSettings(envoy_args=("--concurrency", "3"))
    with hosts.find("envoy")(plugin, folder=tmp_path, settings=settings) as host:
        seen: list[str] = []

        def complete() -> bool:
            seen[:] = [line.text for line in host.log.since(0) if line.text == "configured"]
            return len(seen) >= 3 + 2

        until(complete, why=lambda: f"{seen}")
    assert len(seen) == 3 + 2
