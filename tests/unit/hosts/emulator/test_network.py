"""Network plugins in the emulator: what Envoy 1.40 was seen to do with a connection, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from support.wat_plugins import Run, Wat, get, post, running

from scaffold.errors import HostError, UsageError
from scaffold.hosts.emulator.host import EmulatorHost
from scaffold.hosts.exchange import Incomplete
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.unsupported import Unsupported
from scaffold.wasm.module import WasmModule

GET = b"GET /status/204 HTTP/1.1\r\nhost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
UNTIL_THE_END = "(i32.eqz (local.get 2)) $result"  # pauses until no more comes
PAUSE = "(i32.const 1) $result"
EVERY = (
    "context_create new_connection downstream_data upstream_data downstream_connection_close"
    " upstream_connection_close done log delete"
).split()
END = ["done(2)", "log(2)", "delete(2)"]
Connect = Callable[..., AbstractContextManager[Run]]


@pytest.fixture
def play(tmp_path) -> Connect:
    def started(wat: Wat | None = None, **callbacks: str) -> AbstractContextManager[Run]:
        texts = {f"proxy_on_{name}": callbacks.get(name, "") for name in EVERY}
        more = {name: text for name, text in callbacks.items() if name not in EVERY}
        return running((wat or Wat()).module(texts | more), tmp_path, type="network")

    return started


@pytest.fixture(autouse=True)
def _forget_what_was_unsupported() -> Iterator[None]:
    yield
    Unsupported.raised.clear()


def seen(run: Run) -> list[str]:
    return [each for each in run.callbacks() if not each.startswith("context_create")]


# --- the order of the ends


def test_a_client_that_leaves_ends_the_upstream_first(play):
    with play() as run:
        with run.host.connect() as connection:
            connection.send(GET)
            assert connection.receive(len(ANSWER)) == ANSWER
        assert run.callbacks() == [
            "context_create(2, 1)", "new_connection(2)", "downstream_data(2, 37, 0)",
            "upstream_data(2, 27, 0)", "downstream_data(2, 0, 1)", "upstream_data(2, 0, 1)",
            "upstream_connection_close(2, 0)", "downstream_connection_close(2, 1)", *END,
        ]  # fmt: skip
        assert [each.target for each in connection.requests] == ["/status/204"]
        assert (connection.details, connection.trapped) == ("", False)


def test_an_upstream_that_ends_first_is_told_before_the_client_s_end(play):
    with play() as run:
        with run.host.connect() as connection:
            connection.send(b"\x16 junk\r\n\r\n")
            assert connection.receive().startswith(b"HTTP/1.1 400 ")
        assert seen(run) == [
            "new_connection(2)", "downstream_data(2, 10, 0)", "upstream_data(2, 132, 0)",
            "upstream_data(2, 0, 1)", "upstream_connection_close(2, 0)", "downstream_data(2, 0, 1)",
            "downstream_connection_close(2, 2)", *END,
        ]  # fmt: skip


def test_a_client_that_leaves_with_an_answer_unread_resets_it(play):
    with play() as run:
        with run.host.connect() as connection:
            connection.send(GET)
        assert seen(run)[-5:] == ["upstream_data(2, 27, 0)", "downstream_connection_close(2, 2)", *END]


def test_what_is_sent_to_an_upstream_that_has_gone_closes_the_connection(play):
    with play() as run:
        with run.host.connect() as connection:
            connection.send(b"x\r\n\r\n")
            connection.receive()
            run.host.clock.advance(1.2)
            connection.send(b"y")
            assert connection.receive() == b""
            with pytest.raises(HostError, match="Broken pipe"):
                for _ in range(2):
                    connection.send(b"z")
        assert seen(run)[-5:] == ["downstream_data(2, 1, 0)", "downstream_connection_close(2, 1)", *END]


def test_a_late_answer_still_passes_after_the_client_has_left(play):
    with play() as run:
        run.host.origin._ask("PUT", "/answer", b'{"path": null, "status": 204, "headers": [], '
                             b'"trailers": [], "body": "", "after": 0.05}')  # fmt: skip
        with run.host.connect() as connection:
            connection.send(GET)
        assert seen(run)[1:6] == [
            "downstream_data(2, 37, 0)", "downstream_data(2, 0, 1)", "upstream_data(2, 27, 0)",
            "upstream_data(2, 0, 1)", "upstream_connection_close(2, 0)",
        ]  # fmt: skip


# --- what is held back


def test_what_the_client_sent_and_was_held_back_comes_again_with_what_follows(play):
    with play(downstream_data=UNTIL_THE_END) as run:
        with run.host.connect() as connection:
            connection.send(GET[:10])
            connection.send(GET[10:])
            connection.finish()
            assert connection.receive() == ANSWER
        assert seen(run)[1:4] == [
            "downstream_data(2, 10, 0)", "downstream_data(2, 37, 0)", "downstream_data(2, 37, 1)",
        ]  # fmt: skip


def test_what_the_upstream_sent_and_was_held_back_comes_again_too(play):
    with play(upstream_data=UNTIL_THE_END) as run:
        with run.host.connect(timeout=0.01) as connection:
            connection.send(GET)
            connection.send(GET)
            with pytest.raises(HostError, match=r"nothing more arrived within 0.01 s, after b''"):
                connection.receive(1)
            connection.finish()
            run.host.clock.advance(0.1)
            assert connection.receive() == 2 * ANSWER
        assert [each for each in seen(run) if each.startswith("upstream_data")] == [
            "upstream_data(2, 27, 0)", "upstream_data(2, 54, 0)", "upstream_data(2, 54, 1)",
        ]  # fmt: skip


def test_a_connection_whose_end_is_held_back_never_ends(play):
    with play(downstream_data=PAUSE) as run:
        with run.host.connect() as connection:
            connection.send(GET)
        assert seen(run) == ["new_connection(2)", "downstream_data(2, 37, 0)", "downstream_data(2, 37, 1)"]
        assert connection.requests == []


def test_the_end_that_an_upstream_s_filter_holds_back_closes_the_connection_nevertheless(play):
    with play(upstream_data=PAUSE) as run:
        with run.host.connect() as connection:
            connection.send(GET)
            connection.finish()
            assert connection.receive() == b""
        assert seen(run)[-6:] == [
            "upstream_data(2, 27, 1)", "upstream_connection_close(2, 0)",
            "downstream_connection_close(2, 1)", *END,
        ]  # fmt: skip


def test_a_new_connection_that_is_held_back_waits_for_good(play):
    with play(new_connection=PAUSE) as run:
        with run.host.connect(timeout=0.01) as connection:
            connection.send(GET)
            with pytest.raises(HostError, match="nothing more arrived"):
                connection.receive(1)
        assert seen(run) == ["new_connection(2)"]


@pytest.mark.parametrize("answer", [0, 1])
def test_a_callback_may_let_go_on_what_it_holds_back(play, answer):
    wat = Wat()
    goes_on = wat.call("proxy_continue_stream", 2) + f"(i32.const {answer}) $result"
    with play(wat, new_connection=goes_on, downstream_data=goes_on) as run:
        with run.host.connect() as connection:
            connection.send(GET[:10])
            connection.send(GET[10:])
            assert connection.receive(len(ANSWER)) == ANSWER
        assert seen(run)[1:3] == ["downstream_data(2, 10, 0)", "downstream_data(2, 27, 0)"]
        assert len(connection.requests) == 1


def test_only_the_client_s_data_can_be_let_go_on(play):
    wat = Wat()
    calls = "".join(wat.call("proxy_continue_stream", kind) for kind in range(5))
    with play(wat, new_connection=calls) as run:
        with run.host.connect():
            pass
        assert run.statuses("proxy_continue_stream") == [0, 0, 0, 12, 2]


def test_a_client_that_sends_more_than_anyone_takes_has_to_wait(play):
    with play(downstream_data=PAUSE) as run:
        timed_out = pytest.raises(HostError, match="cannot send: timed out")
        with run.host.connect(timeout=0.01) as connection, timed_out:
            for _ in range(100):
                connection.send(bytes(1 << 18))
        sizes = [int(each.split(", ")[1]) for each in seen(run) if each.startswith("downstream_data")]
        assert max(sizes) < 2 << 20


def test_a_large_answer_passes_in_parts(play):
    with play() as run:
        exchange = run.host.play(get("/bytes/3000000"))
        assert len(exchange.response.body) == 3_000_000
        assert sum(each.startswith("upstream_data") for each in seen(run)) > 2


# --- closing


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize(
    ("callback", "last"),
    [
        ("new_connection", "new_connection(2)"),
        ("downstream_data", "downstream_data(2, 37, 0)"),
        ("upstream_data", "upstream_data(2, 27, 0)"),
    ],
)
def test_a_callback_may_close_the_connection_for_either_side(play, kind, callback, last):
    wat = Wat()
    with play(wat, **{callback: wat.call("proxy_close_stream", kind)}) as run:
        with run.host.connect() as connection:
            connection.send(GET)
            assert connection.receive() == b""
        assert seen(run)[-5:] == [last, "downstream_connection_close(2, 1)", *END]


def test_closing_at_the_upstream_s_end_tells_of_that_end_last(play):
    wat = Wat()
    with play(wat, upstream_data=wat.call("proxy_close_stream", 2)) as run:
        with run.host.connect() as connection:
            connection.finish()
            assert connection.receive() == b""
        assert seen(run)[-6:] == [
            "upstream_data(2, 0, 1)", "downstream_connection_close(2, 1)", *END,
            "upstream_connection_close(2, 0)",
        ]  # fmt: skip


def test_what_waits_to_be_sent_is_sent_before_the_connection_is_closed(play):
    wat = Wat()
    with play(wat, upstream_connection_close=wat.call("proxy_close_stream", 2)) as run:
        with run.host.connect() as connection:
            connection.send(GET)
            connection.send(GET)
            connection.finish()
            assert connection.receive() == 2 * ANSWER
        assert seen(run)[-4:] == ["downstream_connection_close(2, 1)", *END]


# --- buffers and properties


def test_data_of_either_side_can_be_read_and_changed(play):
    wat = Wat()
    sent, got = GET.replace(b"204", b"201"), b"HTTP/1.1 201"
    with play(
        wat,
        downstream_data="(if (local.get 1) (then "
        + wat.call("proxy_get_buffer_bytes", 2, 4, 7, 1024, 1028)
        + wat.call("proxy_set_buffer_bytes", 2, 0, 1000, sent)
        + wat.call("proxy_get_buffer_status", 2, 1032, 1036)
        + "))",
        upstream_data=wat.call("proxy_set_buffer_bytes", 3, 1 << 20, 0, b"more")
        + wat.call("proxy_set_buffer_bytes", 3, 1, 1, b"no")
        + wat.call("proxy_get_buffer_bytes", 2, 0, 9, 1024, 1028),
    ) as run:
        with run.host.connect() as connection:
            connection.send(GET)
            assert connection.receive(until=b"more").startswith(got)
            assert run.memory() == 0, "the client's data can't be read any more"
        assert run.memory(place=1032) == len(sent)
        assert [each.target for each in connection.requests] == ["/status/201"]
        assert run.statuses("proxy_set_buffer_bytes")[:3] == [0, 0, 2]


def test_what_is_held_back_can_be_read_in_other_callbacks(play):
    wat = Wat()
    with (
        play(
            wat,
            upstream_data=PAUSE,
            downstream_data=wat.call("proxy_get_buffer_bytes", 3, 0, 12, 1024, 1028),
        ) as run,
        run.host.connect() as connection,
    ):
        connection.send(GET)
        run.host.clock.advance(0)
        connection.send(GET)
        assert run.given() == b"HTTP/1.1 204"


PROPERTIES = {  # status and value at the beginning, and once data have come
    b"source\0address": ((0, b"127.0.0.1:"), (0, b"127.0.0.1:")),
    b"connection\0mtls": ((0, b"\0"), (0, b"\0")),
    b"connection\0requested_server_name": ((0, b""), (0, b"")),
    b"connection\0tls_version": ((1, b""), (1, b"")),
    b"connection": ((3, b""), (3, b"")),
    b"request\0path": ((1, b""), (1, b"")),
    b"request\0size": ((0, bytes(8)), (0, b"%")),
    b"request\0headers": ((0, bytes(4)), (0, bytes(4))),
    b"response\0code": ((1, b""), (1, b"")),
    b"response\0total_size": ((0, bytes(8)), (0, bytes(8))),
    b"upstream\0address": ((1, b""), (0, b"/")),
    b"upstream\0port": ((1, b""), (1, b"")),
    b"upstream\0request_attempt_count": ((0, bytes(8)), (0, b"\1")),
    b"upstream_filter_state": ((1, b""), (3, b"")),
    b"xds\0cluster_name": ((1, b""), (0, b"upstream")),
    b"xds\0node\0id": ((0, b"scaffold"), (0, b"scaffold")),
    b"xds\0route_name": ((1, b""), (1, b"")),
    b"xds": ((3, b""), (3, b"")),
    b"metadata": ((0, b""), (0, b"")),
    b"mine": ((1, b""), (1, b"")),
}


@pytest.mark.parametrize("path", PROPERTIES)
def test_properties_of_a_connection(play, path):
    wat = Wat()
    ask = wat.call("proxy_get_property", path, 1024, 1028)
    with play(wat, new_connection=ask, downstream_data=ask) as run:
        for number, expected in enumerate(PROPERTIES[path]):
            mark = len(run.statuses("proxy_get_property"))
            with run.host.connect() as connection:
                if number:
                    connection.send(GET)
                status = run.statuses("proxy_get_property")[mark:][-1]
                given = run.given() if status == 0 else b""
                assert (status, given[: len(expected[1]) or None]) == expected


def test_the_node_is_known_without_a_connection_and_otherwise_refused_by_name(play):
    wat = Wat()
    root = wat.call("proxy_set_effective_context", 1)
    asks = [
        wat.call("proxy_get_property", path, 1024, 1028)
        for path in (b"xds\0node\0cluster", b"xds", b"xds\0x")
    ]
    with play(wat, new_connection=root + "".join(asks)) as run:
        with run.host.connect():
            pass
        assert run.given() == b"scaffold"
        assert run.statuses("proxy_get_property") == [0, 3, 1]
    wat = Wat()
    ask = wat.call("proxy_get_property", b"xds\0node", 1024, 1028)
    unsupported = pytest.raises(Unsupported, match=r"the property xds\.node")
    with play(wat, new_connection=ask) as run, unsupported:
        run.host.connect().__enter__()


def test_a_property_of_its_own_lives_as_long_as_the_connection(play):
    wat = Wat()
    with play(
        wat,
        downstream_data=wat.call("proxy_set_property", b"mine", b"1"),
        new_connection=wat.call("proxy_get_property", b"mine", 1024, 1028),
        log=wat.call("proxy_get_property", b"mine", 1024, 1028),
    ) as run:
        for _ in range(2):
            with run.host.connect() as connection:
                connection.send(GET)
        assert run.statuses("proxy_get_property") == [1, 0, 1, 0]


def test_header_maps_and_local_replies_are_none_of_a_connection_s(play):
    wat = Wat()
    with play(
        wat,
        downstream_data=wat.call("proxy_get_header_map_value", 0, b"host", 1024, 1028)
        + wat.call("proxy_get_header_map_pairs", 0, 1024, 1028)
        + wat.call("proxy_send_local_response", 403, b"", b"no", b"", -1)
        + wat.call("proxy_close_stream", 0)
        + wat.call("proxy_done"),
    ) as run:
        with run.host.connect() as connection:
            connection.send(GET)
            assert connection.receive(len(ANSWER)) == ANSWER
        assert run.statuses("proxy_get_header_map_value")[0] == 2
        assert run.statuses("proxy_get_header_map_pairs")[0] == 0
        assert run.statuses("proxy_done")[0] == 1


# --- traps

TRAPS = {
    "new_connection": ["new_connection(2)"],
    "downstream_data": ["new_connection(2)", "downstream_data(2, 37, 0)"],
    "upstream_data": ["new_connection(2)", "downstream_data(2, 37, 0)", "upstream_data(2, 27, 0)"],
}


@pytest.mark.parametrize("callback", TRAPS)
def test_a_trap_closes_the_connection_without_another_callback(play, callback):
    with play(**{callback: "(unreachable)"}) as run:
        with run.host.connect() as connection:
            connection.send(GET)
            assert connection.receive() == b""
        assert seen(run) == TRAPS[callback]
        assert connection.trapped


def test_a_trap_closes_the_other_connections_when_something_comes(play):
    trap = "(if (i32.eq (local.get 1) (i32.const 1)) (then (unreachable)))"
    with play(downstream_data=trap) as run:
        with run.host.connect() as one, run.host.connect() as other:
            one.send(b"x")
            other.send(b"xx")
            assert (one.receive(), other.receive()) == (b"", b"")
        assert seen(run) == ["new_connection(2)", "new_connection(3)", "downstream_data(2, 1, 0)"]
        run.host.clock.advance(0.2)
        with run.host.connect() as later:
            later.send(GET)
            assert later.receive(len(ANSWER)) == ANSWER


def test_a_trap_at_the_end_leaves_out_what_would_follow(play):
    with play(downstream_connection_close="(unreachable)") as run:
        with run.host.connect():
            pass
        assert seen(run)[-1] == "downstream_connection_close(2, 1)"


# --- requests over it, and what isn't supported


def test_a_request_passes_as_bytes_with_what_it_costs(play):
    with play() as run:
        exchange = run.host.play(post())
        assert exchange.response.json()["data"] == "hello"
        assert exchange.upstream and exchange.upstream.body == b"hello"
        assert exchange.cost.crossings > 5
        assert [each for each in seen(run) if each.startswith("downstream_data")][-1].endswith(", 0, 1)")


@pytest.mark.parametrize(
    ("callbacks", "why"),
    [
        ({"downstream_data": "(unreachable)"}, "the plugin crashed"),
        ({"downstream_data": PAUSE}, "the plugin paused the request"),
        ({"upstream_data": PAUSE}, "the upstream hasn't answered"),
    ],
)
def test_why_a_request_gets_no_answer(play, callbacks, why):
    with play(**callbacks) as run, pytest.raises(HostError, match=why):
        run.host.play(get(), timeout=0.05)


def test_an_answer_that_is_cut_off_shows_what_came(play):
    with play() as run:
        run.host.origin._ask("PUT", "/answer", b'{"path": null, "status": 200, "headers": [], '
                             b'"trailers": [], "body": "aGVsbG8=", "cut": true}')  # fmt: skip
        with pytest.raises(Incomplete, match="4 of the 5 bytes") as raised:
            run.host.play(get())
        assert raised.value.exchange.response.body == b"hell"


def test_a_request_that_http_can_not_carry_is_refused(play):
    with play() as run, pytest.raises(UsageError, match="isn't a valid one"):
        run.host.play(get(**{"a b": "c"}))


def test_a_connection_outlives_a_swap_with_the_plugin_it_had(play):
    with play() as run:
        with run.host.connect() as connection:
            connection.send(GET)
            assert connection.receive(len(ANSWER)) == ANSWER
            run.host.replace(run.host._worker[0].plugin)
            connection.send(GET)
            assert connection.receive(len(ANSWER)) == ANSWER
        assert seen(run)[-5:] == ["downstream_connection_close(2, 1)", *END, "done(1)"]


# --- chains


@pytest.fixture
def chain(tmp_path):
    """Two plugins, of which the second has other callbacks."""

    @contextmanager
    def started(first: dict[str, str], second: dict[str, str], wat: Wat) -> Iterator[EmulatorHost]:
        plugins = []
        for name, texts in (("one", first), ("two", second)):
            logs = {each: wat.call("proxy_log", 2, f"{name} {each}".encode()) for each in EVERY}
            callbacks = {f"proxy_on_{each}": logs[each] + texts.get(each, "") for each in EVERY[1:]}
            path = tmp_path / f"{name}.wasm"
            path.write_bytes(wat.module(callbacks))
            plugins.append(Plugin(name, "", WasmModule.read(path), type="network"))
        host = EmulatorHost(plugins, RunOptions(port=0).settings)
        try:
            yield host
        finally:
            host.close()

    return started


def test_data_meet_the_plugins_of_a_chain_in_order_and_answers_in_reverse(chain):
    with chain({}, {}, Wat()) as host:
        with host.connect() as connection:
            connection.send(GET)
            connection.receive(len(ANSWER))
        logs = list(connection.logs)
    assert logs[:4] == [
        "one new_connection",
        "two new_connection",
        "one downstream_data",
        "two downstream_data",
    ]
    assert logs[4:6] == ["two upstream_data", "one upstream_data"]
    assert logs[-8:] == [
        f"{name} {each}"
        for name in ("one", "two")
        for each in ("downstream_connection_close", "done", "log", "delete")
    ]


def test_what_a_plugin_lets_go_on_meets_only_those_behind_it(chain):
    wat = Wat()
    first = {"downstream_data": wat.call("proxy_continue_stream", 2) + PAUSE}
    with chain(first, {}, wat) as host:
        with host.connect() as connection:
            connection.send(GET)
            assert connection.receive(len(ANSWER)) == ANSWER
        assert list(connection.logs)[2:5] == [
            "one downstream_data",
            "two downstream_data",
            "two upstream_data",
        ]


def test_a_connection_that_the_first_closes_is_unknown_to_the_second(chain):
    wat = Wat()
    with chain({"new_connection": wat.call("proxy_close_stream", 2)}, {}, wat) as host:
        with host.connect() as connection:
            assert connection.receive() == b""
        assert {each.split()[0] for each in connection.logs} == {"one"}


def test_network_plugins_before_http_plugins_are_refused_by_name(tmp_path):
    path = tmp_path / "a.wasm"
    path.write_bytes(Wat().module({}))
    plugins = [Plugin(kind, "", WasmModule.read(path), type=kind) for kind in ("network", "http")]
    with pytest.raises(Unsupported, match="network plugins before HTTP plugins in one chain"):
        EmulatorHost(plugins, RunOptions(port=0).settings)


# --- failure policies


@pytest.mark.parametrize(
    ("fields", "same", "next_one"),
    [
        ({"failure_policy": "FAIL_CLOSED"}, b"", b""),
        ({"failure_policy": "FAIL_OPEN"}, b"", ANSWER),
        ({"failure_policy": "FAIL_RELOAD"}, b"", b""),
        ({"fail_open": True}, ANSWER, ANSWER),
    ],
)
def test_what_becomes_of_connections_when_a_plugin_crashes(tmp_path, fields, same, next_one):
    module = Wat().module({"proxy_on_downstream_data": "(unreachable)"})
    found = []
    with running(module, tmp_path, type="network", more=fields) as run:
        for _ in range(2):
            with run.host.connect() as connection:
                connection.send(GET)
                connection.finish()
                run.host.clock.advance(0.05)
                found.append(connection.receive())
    assert found == [same, next_one]


def test_a_gauge_that_was_only_ever_decreased_is_not_shown(play):
    wat = Wat()
    gauge = wat.call("proxy_define_metric", 1, b"open", 1024)
    change = wat.call("proxy_increment_metric", 5, 2**64 - 1)
    more = wat.call("proxy_increment_metric", 5, 3)
    with play(wat, new_connection=gauge + change, downstream_data=f"(if (local.get 1) (then {more}))") as run:
        with run.host.connect():
            pass
        assert "open" not in run.host.metrics
        with run.host.connect() as connection:
            connection.send(GET)
        assert run.host.metrics["open"] == 1
