"""What every host owes a test: the contract, over the whole table of hosts."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from support.network_plugins import tap

from scaffold.errors import HostError, ModuleError, ProjectError
from scaffold.hosts import host as hosts
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.host import Host, Start
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule


@pytest.fixture(scope="module", params=hosts.HOSTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def start(name: str, request: pytest.FixtureRequest) -> Start:
    if name != "docker":
        return hosts.find(name)
    image = request.getfixturevalue("images").envoy
    return partial(hosts.find(name), settings=HostSettings(envoy_image=image))


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """An origin that isn't the built-in one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"from afar")

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def plugin(probe: WasmModule, foreign: str) -> Plugin:
    clusters = {"beta": "upstream", "out|80||b.c": "upstream", "gone": "http://127.0.0.1:1", "afar": foreign}
    clusters["users"] = "grpc://upstream"
    return Plugin("probe", "probe", probe, b'"first"', clusters)


@pytest.fixture(scope="module")
def running(start: Start, plugin: Plugin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with start(plugin, folder=tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture
def host(running: Host, plugin: Plugin) -> Iterator[Host]:
    """The one host, as it was in the beginning."""
    yield running
    assert running.origin
    running.origin.forget_answers()
    running.replace(plugin, fresh=True)


def get(host: Host, target: str, **headers: str):
    return host.play(Request("GET", target, Headers(headers)))


def test_an_exchange_shows_every_side(host):
    exchange = host.play(Request("POST", "/anything?a=1", Headers({"x-mine": "yes"}), b"body"))
    assert exchange.response.status == 200
    assert exchange.response.headers["x-configuration"] == '"first"'
    assert exchange.upstream is not None
    assert (exchange.upstream.method, exchange.upstream.target) == ("POST", "/anything?a=1")
    assert exchange.upstream.headers["x-mine"] == "yes"
    assert exchange.upstream.body == b"body"
    assert "saw /anything?a=1" in exchange.logs
    assert exchange.metrics["probe_requests"] == 1


def test_what_nobody_looked_at_yet_is_still_known_after_other_requests(host):
    exchanges = [get(host, f"/headers?{number}") for number in range(3)]
    get(host, "/local")
    assert [exchange.metrics["probe_requests"] for exchange in exchanges] == [1, 1, 1]
    assert [exchange.upstream.target for exchange in exchanges] == [
        f"/headers?{number}" for number in range(3)
    ]


def test_what_nobody_looked_at_yet_is_still_known_after_a_replacement(host, plugin):
    exchange = get(host, "/headers")
    host.replace(plugin, fresh=True)
    assert exchange.metrics["probe_requests"] == 1
    assert not [name for name in exchange.metrics if "update_success" in name]


def test_what_nobody_looked_at_yet_is_still_known_after_the_host(start, plugin, tmp_path):
    with start(plugin, folder=tmp_path) as host:
        exchange = get(host, "/headers")
    assert (exchange.upstream.path, exchange.metrics["probe_requests"]) == ("/headers", 1)


def test_logs_hold_what_on_log_wrote_after_the_answer(host):
    for _ in range(20):
        assert "on_log" in get(host, "/headers").logs


def test_an_answer_of_the_plugins_own_reaches_no_upstream(host):
    exchange = get(host, "/local")
    assert (exchange.response.status, exchange.response.body) == (418, b"short and stout")
    assert exchange.response.headers["x-local"] == "yes"
    assert exchange.upstream is None


def test_a_request_is_found_again_whose_id_the_plugin_took_away(host):
    exchange = get(host, "/strip")
    assert exchange.upstream is not None
    assert exchange.upstream.path == "/strip"
    assert "on_log" in exchange.logs


def test_the_upstream_answers_what_it_is_told(host):
    host.origin.answer(Response(503, Headers([("x-a", "1"), ("x-a", "2")]), b"busy"))
    exchange = get(host, "/headers")
    assert (exchange.response.status, exchange.response.body) == (503, b"busy")
    assert exchange.response.headers.getlist("x-a") == ["1", "2"]


def test_a_callout_reaches_the_upstream_and_its_answer_the_plugin(host):
    host.origin.answer(Response(200, Headers(), b"called"), path="/callout")
    mark = host.origin.mark()
    exchange = get(host, "/hold")
    assert exchange.upstream.headers["x-callout"] == "called"
    assert [request.path for request in host.origin.requests(since=mark)] == ["/callout", "/hold"]


@pytest.mark.parametrize(
    ("headers", "cluster"),
    [
        ({}, "upstream"),
        ({"x-cluster": "beta"}, "beta"),
        ({"x-cluster": "out|80||b.c"}, "out|80||b.c"),
        ({"x-cluster": "unheard-of"}, "upstream"),
    ],
)
def test_a_request_goes_to_the_cluster_that_it_names(host, headers, cluster):
    assert get(host, "/headers", **headers).upstream.cluster == cluster


def test_a_cluster_may_be_of_a_foreign_origin(host):
    exchange = get(host, "/headers", **{"x-cluster": "afar"})
    assert (exchange.response.text, exchange.upstream) == ("from afar", None)


def test_the_origin_answers_a_call_by_grpc_with_a_bare_message(host):
    headers = Headers({"content-type": "application/x-protobuf"})
    host.origin.answer(Response(200, headers, b"answer"), path="/a.B/C")
    asking = Headers({"x-cluster": "users", "content-type": "application/grpc", "te": "trailers"})
    exchange = host.play(Request("POST", "/a.B/C", asking, b"\0\0\0\0\5asked"))  # flag, length, message
    assert (exchange.upstream.cluster, exchange.upstream.body) == ("users", b"asked")
    assert (exchange.status, exchange.response.body) == (200, b"\0\0\0\0\6answer")


def test_a_cluster_that_leads_nowhere(host):
    exchange = get(host, "/headers", **{"x-cluster": "gone"})
    assert (exchange.status, exchange.upstream) == (503, None)


def test_bytes_that_are_no_text_pass(host):
    exchange = get(host, "/headers", **{"x-bytes": "caf\xe9"})
    assert exchange.upstream.headers["x-bytes"] == "caf\xe9"


def test_repeated_headers_stay_apart(host):
    exchange = host.play(Request("GET", "/headers", Headers([("x-r", "1"), ("x-r", "2")])))
    assert exchange.upstream.headers.getlist("x-r") == ["1", "2"]


@pytest.mark.parametrize("configuration", [b'"second"', b'{"a": 1}', b"not json", b"", b"caf\xe9"])
def test_a_configuration_reaches_the_plugin_as_it_is(host, plugin, configuration):
    host.replace(Plugin("probe", "probe", plugin.module, configuration))
    got = get(host, "/headers").response.headers["x-configuration"]
    assert got == configuration.decode(errors="replace").encode().decode("latin-1")


def test_after_a_swap_no_answer_is_stale(host, plugin):
    for number in range(30):
        host.replace(Plugin("probe", "probe", plugin.module, b"%d" % number))
        for _ in range(3):
            assert get(host, "/headers").response.headers["x-configuration"] == str(number)


@pytest.mark.parametrize(
    ("configuration", "words"),
    [(b'"refuse"', "the configuration is refused, as asked"), (b'"panic"', "asked to panic in on_configure")],
)
def test_a_refused_plugin_leaves_the_old_one_and_says_why(host, plugin, configuration, words):
    with pytest.raises(ModuleError) as refused:
        host.replace(Plugin("probe", "probe", plugin.module, configuration))
    assert words in refused.value.message
    assert refused.value.message.endswith("refused the plugin probe")
    assert get(host, "/headers").response.headers["x-configuration"] == '"first"'


def test_a_plugin_that_is_refused_from_the_start_is_explained(start, plugin, tmp_path):
    refused = Plugin("probe", "probe", plugin.module, b'"refuse"')
    starting = start(refused, folder=tmp_path)
    with pytest.raises(ModuleError, match="the configuration is refused, as asked"):
        starting.__enter__()


def test_a_panic_is_an_answer_and_words_and_a_fresh_plugin_goes_on(host, plugin):
    exchange = get(host, "/panic")
    assert exchange.response.status == 503
    assert exchange.upstream is None
    assert "asked to panic" in exchange.logs
    host.replace(plugin, fresh=True)
    assert get(host, "/headers").response.status == 200


def test_a_panicked_plugin_comes_back_by_itself(host):
    assert get(host, "/panic").response.status == 503
    deadline = time.monotonic() + 10
    while get(host, "/headers").response.status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_request_that_is_not_answered_in_time_is_an_error(host):
    with pytest.raises(HostError, match="GET /delay/5 got no whole answer"):
        host.play(Request("GET", "/delay/5"), timeout=0.2)


def test_a_host_ends_with_its_block(start, plugin, tmp_path):
    with start(plugin, folder=tmp_path) as host:
        assert get(host, "/headers").response.status == 200
    with pytest.raises(HostError):
        get(host, "/headers")


def test_a_long_folder_is_no_trouble(start, plugin, tmp_path):
    folder: Path = tmp_path / ("long" * 30)
    folder.mkdir()
    with start(plugin, folder=folder) as host:
        assert get(host, "/headers").upstream is not None


def test_a_looping_plugin_is_ended_and_named(start, plugin, tmp_path):
    with start(plugin, folder=tmp_path) as host:
        with pytest.raises(HostError):
            host.play(Request("GET", "/loop"), timeout=20)
        with pytest.raises(HostError, match="watchdog"):
            host.replace(plugin, fresh=True)


# --- chains


@pytest.fixture(scope="module")
def links(plugin: Plugin) -> list[Plugin]:
    return [Plugin(name, name, plugin.module, b'"%s"' % name.encode()) for name in ("outer", "inner")]


@pytest.fixture(scope="module")
def chained(start: Start, links: list[Plugin], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with start(*links, folder=tmp_path_factory.mktemp("chain")) as host:
        yield host


@pytest.fixture
def chain(chained: Host, links: list[Plugin]) -> Iterator[Host]:
    """The one chain, as it was in the beginning."""
    yield chained
    chained.replace(*links, fresh=True)


def who_saw(host: Host, target: str) -> list[str]:
    """The plugins that saw a request, in the order in which they did."""
    mark = host.log.size()
    assert get(host, target).status == 200
    return [line.plugin for line in host.log.since(mark) if line.text == f"saw {target}"]


def test_a_request_meets_a_chain_in_its_order_and_the_answer_the_other_way_round(chain):
    assert who_saw(chain, "/headers") == ["outer", "inner"]
    assert get(chain, "/headers").response.headers["x-configuration"] == '"outer"', "which is set last"


def test_a_link_that_answers_by_itself_keeps_the_request_from_the_next(chain):
    exchange = get(chain, "/local")
    assert (exchange.status, exchange.upstream) == (418, None)
    assert exchange.metrics["probe_requests"] == 1, "both count into one"
    assert get(chain, "/headers").metrics["probe_requests"] == 2


def test_every_link_is_replaced(chain, plugin):
    chain.replace(*(Plugin(name, name, plugin.module, b'"%s"' % name.encode()) for name in ("x", "y")))
    assert who_saw(chain, "/headers") == ["x", "y"]
    assert get(chain, "/headers").response.headers["x-configuration"] == '"x"'


@pytest.mark.parametrize("refused", [0, 1])
def test_where_one_link_is_refused_all_stay_as_they_were(chain, plugin, refused):
    names = ["x", "y"]
    made = [
        Plugin(name, name, plugin.module, b'"refuse"' if place == refused else b'"new"')
        for place, name in enumerate(names)
    ]
    with pytest.raises(ModuleError) as caught:
        chain.replace(*made)
    assert "the configuration is refused, as asked" in caught.value.message
    assert caught.value.message.endswith(f"refused the plugin {names[refused]}")
    assert who_saw(chain, "/headers") == ["outer", "inner"]
    assert get(chain, "/headers").response.headers["x-configuration"] == '"outer"'


@pytest.mark.parametrize("refused", [0, 1])
def test_a_chain_with_a_refused_link_does_not_start(start, links, refused, tmp_path):
    made = [
        replace(link, configuration=b'"refuse"') if place == refused else link
        for place, link in enumerate(links)
    ]
    with pytest.raises(ModuleError) as caught:
        start(*made, folder=tmp_path).__enter__()
    assert caught.value.message.endswith(f"refused the plugin {links[refused].name}")


def test_a_network_filter_in_a_chain_gets_the_bytes_before_http_is_made_of_them(start, links, tmp_path):
    with start(links[0], tap(tmp_path, "bytes"), links[1], folder=tmp_path) as host:
        exchange = get(host, "/headers")
        assert exchange.status == 200
        assert exchange.logs.index("bytes") < exchange.logs.index("saw /headers")
        assert who_saw(host, "/headers") == ["outer", "inner"]


def test_links_share_the_clusters_that_they_agree_on(start, plugin, tmp_path):
    one = Plugin("one", "", plugin.module, clusters={"beta": "upstream", "shared": "upstream"})
    two = Plugin("two", "", plugin.module, clusters={"gamma": "upstream", "shared": "upstream"})
    with start(one, two, folder=tmp_path) as host:
        for name in ("beta", "gamma", "shared"):
            assert get(host, "/headers", **{"x-cluster": name}).upstream.cluster == name
    other = replace(two, clusters={"shared": "http://127.0.0.1:1"})
    with pytest.raises(ProjectError) as caught:
        start(one, other, folder=tmp_path).__enter__()
    assert caught.value.message == (
        "two uses the cluster `shared` for http://127.0.0.1:1,"
        " but an earlier plugin of the chain uses it for upstream"
    )
