"""What Envoy 1.40 does where a simple host would do something else: values observed on real Envoys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.wat_plugins import Wat, get, pairs, post, running

from scaffold.errors import HostError
from scaffold.hosts.exchange import Headers, Request, Response

REQUEST, RESPONSE = 0, 2  # header maps
BODY, ANSWER_BODY, CALL_BODY, VM_CONFIG, CONFIG = 0, 1, 4, 6, 7  # buffers
GET_VALUE, GET_PAIRS, GET_SIZE = (f"proxy_get_header_map_{what}" for what in ("value", "pairs", "size"))
CALL_HEADERS = pairs((b":method", b"GET"), (b":path", b"/anything/call"), (b":authority", b"authz"))
RESUME = "(drop (call $proxy_set_effective_context (global.get $id))) "


def reply(wat: Wat, status: int = 403, body: bytes = b"LOCAL", headers: bytes = b"") -> str:
    return wat.call("proxy_send_local_response", status, b"why", body, headers, 0xFFFFFFFF)


def call(wat: Wat, timeout: int = 1000, headers: bytes = CALL_HEADERS, cluster: bytes = b"upstream") -> str:
    return wat.call("proxy_http_call", cluster, headers, b"", b"", timeout, 1024)


def test_01_request_headers_are_gone_after_their_callback(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call(GET_VALUE, REQUEST, b":path", 1024, 1028) + wat.call(GET_PAIRS, REQUEST, 1024, 1028)
    changes = wat.call("proxy_remove_header_map_value", REQUEST, b"x") + wat.call(GET_SIZE, REQUEST, 1024)
    module = wat.module({"proxy_on_request_body": asks + changes, "proxy_on_response_headers": asks})
    with running(module, tmp_path) as run:
        run.host.play(post())
        assert run.statuses(GET_VALUE) == [2, 2, 2]
        assert run.statuses(GET_PAIRS) == [0, 0, 0]
        assert run.statuses("proxy_remove_header_map_value") == run.statuses(GET_SIZE) == [2, 2]
        assert run.given() == b""


def test_02_a_local_reply_goes_through_the_callbacks_of_its_own_plugin(tmp_path: Path) -> None:
    wat = Wat()
    names = ("request_body", "response_headers", "response_body", "log", "done", "delete")
    callbacks = {f"proxy_on_{name}": "" for name in names} | {"proxy_on_request_headers": reply(wat)}
    with running(wat.module(callbacks), tmp_path) as run:
        assert run.host.play(post()).response.status == 403
        expected = "request_headers(2, 9, 0) response_headers(2, 3, 0) response_body(2, 5, 1)"
        assert run.callbacks() == [*expected.replace(") ", ")|").split("|"), "log(2)", "done(2)", "delete(2)"]


def test_03_a_local_reply_overrides_what_the_callback_returns(tmp_path: Path) -> None:
    wat = Wat()
    after = reply(wat) + reply(wat, 500) + wat.call("proxy_log", 2, b"still here")
    with running(wat.module({"proxy_on_request_headers": after}), tmp_path) as run:
        exchange = run.host.play(get())
        assert (exchange.response.status, exchange.details, exchange.upstream) == (403, "why", None)
        assert run.statuses("proxy_send_local_response") == [0, 0]
        assert exchange.logs == ("still here",)


def test_trailers_that_are_added_reach_the_upstream_only_after_chunks(tmp_path: Path) -> None:
    wat = Wat()
    adds = wat.call("proxy_add_header_map_value", 1, b"x-end", b"1")
    with running(wat.module({"proxy_on_request_body": adds}), tmp_path) as run:
        chunked = Request(
            "POST", "/anything", Headers({"transfer-encoding": "chunked"}), b"2\r\nhi\r\n0\r\n\r\n"
        )
        sent = [run.host.play(each).upstream for each in (post(), chunked)]
        assert [each and dict(each.trailers) for each in sent] == [{}, {"x-end": "1"}]


def test_the_details_of_a_local_reply_are_known_even_if_they_are_empty(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_property", b"response\0code_details", 1024, 1028)
    answers = wat.call("proxy_send_local_response", 403, b"", b"LOCAL", b"", 0xFFFFFFFF)
    callbacks = {"proxy_on_request_headers": asks + answers, "proxy_on_response_headers": asks}
    with running(wat.module(callbacks), tmp_path) as run:
        assert run.host.play(get()).details == ""
        assert run.statuses("proxy_get_property") == [1, 0]


def test_03_on_log_sees_the_headers_of_a_local_reply_instead_of_the_answer(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call(GET_VALUE, RESPONSE, b"content-type", 1024, 1028)
    module = wat.module({"proxy_on_response_headers": reply(wat), "proxy_on_log": asks})
    with running(module, tmp_path) as run:
        run.host.play(get())  # whose answer is JSON
        assert run.given() == b"text/plain"


@pytest.mark.parametrize(
    ("headers", "trailers", "sizes"),
    [({}, {}, ["8, 0"]), ({"transfer-encoding": "chunked"}, {}, ["9, 0"]), ({}, {"x": "1"}, ["9, 0"])],
)
def test_an_answer_that_is_cut_off_lacks_its_last_byte(
    tmp_path: Path, headers: dict[str, str], trailers: dict[str, str], sizes: list[str]
) -> None:
    with running(Wat().module({"proxy_on_response_body": ""}), tmp_path) as run:
        answer = Response(200, Headers(headers), b"123456789", Headers(trailers))
        run.host.origin.answer(answer, path="/headers", cut=True)
        with pytest.raises(HostError):
            run.host.play(get())
        assert run.callbacks() == [f"response_body(2, {each})" for each in sizes]


def test_03_a_local_reply_to_a_local_reply_is_sent(tmp_path: Path) -> None:
    wat = Wat()
    replies = {"proxy_on_request_headers": reply(wat), "proxy_on_response_headers": reply(wat, 500, b"two")}
    with running(wat.module(replies), tmp_path) as run:
        response = run.host.play(get()).response
    assert (response.status, response.body) == (500, b"two")


def test_04_paused_headers_hold_back_the_body_which_comes_at_once(tmp_path: Path) -> None:
    wat = Wat()
    resume = RESUME + wat.call("proxy_continue_stream", 0)
    module = wat.module(
        {
            "proxy_on_request_headers": f"(global.set $id (local.get 0)) {call(wat)} (i32.const 1) $result",
            "proxy_on_http_call_response": resume + wat.call("proxy_set_effective_context", 1),
            "proxy_on_request_body": "",
        },
        "(global $id (mut i32) (i32.const 0))",
    )
    with running(module, tmp_path) as run:
        assert run.host.play(post()).response.status == 200
        got = [each.partition("(")[0] for each in run.callbacks()]
        assert got == ["request_headers", "http_call_response", "request_body"]
        assert run.callbacks()[-1] == "request_body(2, 5, 1)"


def test_05_an_ordinary_body_ends_with_an_empty_callback_and_no_body_has_none(tmp_path: Path) -> None:
    bodies = {"proxy_on_request_body": "", "proxy_on_response_body": ""}
    with running(Wat().module(bodies), tmp_path) as run:
        run.host.play(post(target="/status/204"))
        assert run.callbacks() == ["request_body(2, 5, 0)", "request_body(2, 0, 1)"]
        run.mark = run.host.log.size()
        run.host.play(get("/bytes/7"))
        assert run.callbacks() == ["response_body(3, 7, 0)", "response_body(3, 0, 1)"]


@pytest.mark.parametrize(
    ("answer", "sizes"),
    [
        ("(i32.eqz (local.get 2)) $result", ["65536, 0", "100000, 0", "100000, 1"]),
        ("", ["65536, 0", "34464, 0", "0, 1"]),
    ],
)
def test_06_a_paused_body_accumulates(tmp_path: Path, answer: str, sizes: list[str]) -> None:
    with running(Wat().module({"proxy_on_request_body": answer}), tmp_path) as run:
        exchange = run.host.play(replace(post(b"x" * 100_000), pieces=(65_536,)))
        assert run.callbacks() == [f"request_body(2, {each})" for each in sizes]
        assert exchange.upstream is not None
        assert len(exchange.upstream.body) == 100_000


def test_07_log_comes_before_done_before_delete(tmp_path: Path) -> None:
    callbacks = {f"proxy_on_{name}": "" for name in ("log", "delete")}
    done = {"proxy_on_done": "(i32.const 1) $result"}
    with running(Wat().module(callbacks | done), tmp_path) as run:
        run.host.play(get())
        assert run.callbacks() == ["log(2)", "done(2)", "delete(2)"]


def test_08_a_call_that_times_out_is_answered_with_504(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call(GET_VALUE, 6, b":status", 1024, 1028)
    module = wat.module(
        {"proxy_on_request_headers": call(wat, timeout=10), "proxy_on_http_call_response": asks}
    )
    with running(module, tmp_path) as run:
        run.host.origin.answer(Response(200), path="/anything/call", after=60)
        run.host.play(get())
        run.host.clock.advance(1)
        assert run.callbacks()[-1] == "http_call_response(1, 4, 3, 24, 0)"
        assert run.given() == b"504"


def test_09_answers_to_calls_come_to_the_root_even_after_the_stream(tmp_path: Path) -> None:
    wat = Wat()
    dead = wat.call("proxy_set_effective_context", 2)
    module = wat.module({"proxy_on_request_headers": call(wat), "proxy_on_http_call_response": dead})
    with running(module, tmp_path) as run:
        run.host.origin.answer(Response(200), path="/anything/call", after=0.5)
        run.host.play(get())
        run.host.play(get())
        run.host.clock.advance(1)
        found = [each for each in run.callbacks() if each.startswith("http_call")]
        assert [each[:-6].split(", ")[:2] for each in found] == [
            ["http_call_response(1", "4"],
            ["http_call_response(1", "8"],
        ]
        assert run.statuses("proxy_set_effective_context") == [2, 2]


def test_10_a_repeated_header_has_its_first_value_and_as_a_property_all(tmp_path: Path) -> None:
    wat = Wat()
    first = wat.call(GET_VALUE, REQUEST, b"X-A", 1024, 1028)
    joined = wat.call("proxy_get_property", b"request\0headers\0x-a", 1024, 1028)
    request = Request("GET", "/headers", Headers([("x-a", "1"), ("x-a", "2")]))
    for asks, value in ((first, b"1"), (joined, b"1,2")):
        with running(wat.module({"proxy_on_request_headers": asks}), tmp_path) as run:
            run.host.play(request)
            assert run.given() == value


def test_11_some_headers_have_one_entry_and_others_several(tmp_path: Path) -> None:
    wat = Wat()
    add, replace = "proxy_add_header_map_value", "proxy_replace_header_map_value"
    changes = (
        wat.call(add, REQUEST, b"Accept", b"b")
        + wat.call(add, REQUEST, b"X-New", b"1")
        + wat.call(add, REQUEST, b"x-new", b"2")
        + wat.call(replace, REQUEST, b"x-moved", b"last")
        + wat.call(replace, REQUEST, b"host", b"other")
    )
    with running(wat.module({"proxy_on_request_headers": changes}), tmp_path) as run:
        headers = {"x-moved": "1", "accept": "a"}
        upstream = run.host.play(get(**headers)).upstream
    assert upstream is not None
    found = list(upstream.headers.iteritems())
    assert found[0] == ("host", "other")
    assert upstream.headers.getlist("accept") == ["a,b"]
    assert upstream.headers.getlist("x-new") == ["1", "2"]
    names = [name for name, _ in found]
    assert names.index("x-moved") > names.index("x-new")


@pytest.mark.parametrize(
    ("start", "length", "status", "body"),
    [
        (0, 0, 0, b"NEWhello"),
        (0, 2, 0, b"NEWllo"),
        (0, 2**31 - 1, 0, b"NEW"),
        (1, 1, 2, b"hello"),
        (4, 0, 2, b"hello"),
        (5, 0, 0, b"helloNEW"),
        (99, 3, 0, b"helloNEW"),
    ],
)
def test_12_a_body_is_changed_at_its_ends_only(
    tmp_path: Path, start: int, length: int, status: int, body: bytes
) -> None:
    wat = Wat()
    unframed = wat.call("proxy_remove_header_map_value", REQUEST, b"content-length")
    change = wat.call("proxy_set_buffer_bytes", BODY, start, length, b"NEW")
    first = f"(if (i32.eqz (local.get 2)) (then {change}))"
    module = wat.module({"proxy_on_request_headers": unframed, "proxy_on_request_body": first})
    with running(module, tmp_path) as run:
        upstream = run.host.play(post()).upstream
        assert run.statuses("proxy_set_buffer_bytes") == [status]
    assert upstream is not None
    assert upstream.body == body


@pytest.mark.parametrize(
    ("kind", "status"), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 0), (6, 0), (7, 1), (8, 0), (9, 2)]
)
def test_13_a_buffer_that_is_nowhere_is_empty_and_a_configuration_is_there_to_configure(
    tmp_path: Path, kind: int, status: int
) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_buffer_bytes", kind, 0, 100, 1024, 1028)
    module = wat.module({"proxy_on_log": asks, "proxy_on_configure": asks + "(i32.const 1) $result"})
    with running(module, tmp_path, configuration=b"mine") as run:
        assert run.given() == (b"mine" if kind == CONFIG else b"")
        run.host.play(get())
        assert run.statuses("proxy_get_buffer_bytes") == [status]


def test_14_a_content_length_stays_when_the_body_changes(tmp_path: Path) -> None:
    wat = Wat()
    change = wat.call("proxy_set_buffer_bytes", ANSWER_BODY, 0, 0, b"more ")
    first = f"(if (i32.eqz (local.get 2)) (then {change}))"
    with running(wat.module({"proxy_on_response_body": first}), tmp_path) as run:
        run.host.origin.answer(Response(200, Headers(), b"hello"))
        response = run.host.play(get()).response
    assert (response.headers["content-length"], response.body, response.surplus) == ("5", b"more ", 5)


def test_15_a_trap_ends_the_vm_without_another_callback(tmp_path: Path) -> None:
    wat = Wat()
    odd = "(if (i32.eq (local.get 0) (i32.const 2)) (then (unreachable)))"
    callbacks = {f"proxy_on_{name}": "" for name in ("response_headers", "log", "delete")}
    with running(wat.module(callbacks | {"proxy_on_request_headers": odd}), tmp_path) as run:
        crashed = run.host.play(get())
        assert (crashed.response.status, crashed.response.body) == (503, b"")
        assert (crashed.details, crashed.trapped) == ("wasm_fail_stream", True)
        assert run.callbacks() == ["request_headers(2, 8, 1)"]
        assert run.host.play(get()).response.status == 503  # the new VM comes only after a while
        run.host.clock.advance(1)
        assert run.host.play(get()).response.status == 503  # in the new one, context 2 traps again


def test_17_three_vms_start_and_share_data_alone(tmp_path: Path) -> None:
    wat = Wat()
    counts = "(global.set $count (i32.add (global.get $count) (i32.const 1)))"
    sets = wat.call("proxy_set_shared_data", b"key", b"1", 0)
    start = f"{counts} (i32.store (i32.const 1024) (global.get $count)) {sets} (i32.const 1) $result"
    module = wat.module({"proxy_on_vm_start": start}, "(global $count (mut i32) (i32.const 0))")
    with running(module, tmp_path) as run:
        run.mark = 0
        assert run.callbacks() == ["vm_start(1, 0)"] * 3
        assert run.memory() == 1


def test_18_shared_data_has_one_count_of_versions(tmp_path: Path) -> None:
    wat = Wat()
    name = "proxy_set_shared_data"
    changes = [(b"a", 77), (b"a", 77), (b"b", 0), (b"a", 1), (b"b", 1), (b"b", 2), (b"b", 0)]
    body = "".join(wat.call(name, key, b"value", number) for key, number in changes)
    with running(wat.module({"proxy_on_request_headers": body}), tmp_path) as run:
        run.host.play(get())
        assert run.statuses(name) == [0, 8, 0, 0, 8, 0, 0]


@pytest.mark.parametrize(
    "broken",
    [
        b"\x01",
        pairs((b"x-a", b"1"))[:-1],
        pairs((b"x-a", b"1")) + b"\0",
        pairs(*[(b"x", b"1")] * 1025),
        b"\xff" * 8,
    ],
)
def test_19_a_malformed_map_is_an_empty_one(tmp_path: Path, broken: bytes) -> None:
    wat = Wat()
    with running(wat.module({"proxy_on_request_headers": reply(wat, headers=broken)}), tmp_path) as run:
        response = run.host.play(get()).response
    assert (response.status, "x-a" in response.headers) == (403, False)


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ([(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")], 404, b""),  # no x-forwarded-proto
        ([(b":path", b"/"), (b"x-forwarded-proto", b"http")], 503, b"missing required header: :method"),
        ([(b":method", b"GET"), (b"x-forwarded-proto", b"http")], 404, b""),
        (
            [
                (b":method", b"GET"),
                (b":path", b"/"),
                (b"x-forwarded-proto", b"http"),
                (b"x-bad", b"a\nb"),
            ],
            503,
            b"invalid header value for: x-bad",
        ),
    ],
)
def test_19_headers_are_checked_after_the_filters(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], status: int, body: bytes
) -> None:
    wat = Wat()
    change = wat.call("proxy_set_header_map_pairs", REQUEST, pairs(*headers))
    with running(wat.module({"proxy_on_request_headers": change}), tmp_path) as run:
        response = run.host.play(get()).response
        assert run.statuses("proxy_set_header_map_pairs") == [0]
    assert (response.status, response.body) == (status, body)


def test_20_counters_add_and_histograms_cannot_be_read(tmp_path: Path) -> None:
    wat = Wat()
    define, add, record = (f"proxy_{what}_metric" for what in ("define", "increment", "record"))
    body = "".join(
        [
            *(wat.call(define, kind, b"name", 1024) for kind in (0, 1, 2, 3)),
            *(wat.call(add, *each) for each in ((4, 2), (4, 0), (5, 3), (6, 1), (8, 1), (7, 1))),
            *(wat.call(record, *each) for each in ((4, 5), (6, 1), (10, 1))),
            *(wat.call("proxy_get_metric", number, 2048) for number in (6, 8, 4)),
        ]
    )
    with running(wat.module({"proxy_on_request_headers": body}), tmp_path) as run:
        run.host.play(get())
        assert run.statuses(define) == [0, 0, 0, 2]
        assert run.statuses(add) == [0, 2, 0, 2, 1, 2]
        assert run.statuses(record) == [0, 0, 1]
        assert run.statuses("proxy_get_metric") == [2, 1, 0]
        assert run.memory(8, 2048) == 7


def test_20_a_property_of_several_parts_cannot_be_read_back(tmp_path: Path) -> None:
    wat = Wat()
    body = wat.call("proxy_set_property", b"mine", b"1") + wat.call("proxy_set_property", b"a\0b", b"2")
    names = (b"mine", b"a\0b", b"node\0id", b"cluster_name", b"request", b"")
    body += "".join(wat.call("proxy_get_property", name, 1024, 1028) for name in names)
    with running(wat.module({"proxy_on_request_headers": body}), tmp_path) as run:
        run.host.play(get())
        assert run.statuses("proxy_get_property") == [0, 1, 1, 1, 3, 3]


# and further


def test_a_paused_body_beyond_the_buffer_is_answered_with_413(tmp_path: Path) -> None:
    with running(Wat().module({"proxy_on_request_body": "(i32.const 1) $result"}), tmp_path) as run:
        response = run.host.play(post(b"x" * (2 << 20))).response
    assert (response.status, response.body) == (413, b"Payload Too Large")


def test_a_local_reply_after_the_headers_cuts_the_answer_off(tmp_path: Path) -> None:
    wat = Wat()
    with (
        running(wat.module({"proxy_on_response_body": reply(wat)}), tmp_path) as run,
        pytest.raises(HostError, match="got no whole answer"),
    ):
        run.host.play(get(), timeout=0.1)


def test_the_path_is_gone_after_the_headers_and_the_protocol_stays(tmp_path: Path) -> None:
    wat = Wat()
    names = (b"request\0path", b"request\0protocol", b"request\0size")
    asks = "".join(wat.call("proxy_get_property", name, 1024, 1028) for name in names)
    with running(wat.module({"proxy_on_response_headers": asks}), tmp_path) as run:
        run.host.play(get())
        assert run.statuses("proxy_get_property") == [1, 0, 0]


def test_a_message_is_announced_later_and_to_the_last_who_registered(tmp_path: Path) -> None:
    wat = Wat()
    sends = wat.call("proxy_register_shared_queue", b"q", 1024) + wat.call(
        "proxy_enqueue_shared_queue", 1, b"m"
    )
    module = wat.module({"proxy_on_request_headers": sends, "proxy_on_queue_ready": ""})
    with running(module, tmp_path) as run:
        run.host.play(get())
        assert run.callbacks() == ["request_headers(2, 8, 1)", "queue_ready(1, 1)"]


def test_statuses_of_continue_and_close(tmp_path: Path) -> None:
    wat = Wat()
    body = "".join(wat.call("proxy_continue_stream", kind) for kind in (2, 3, 4))
    with running(wat.module({"proxy_on_log": body}), tmp_path) as run:
        run.host.play(get())
        assert run.statuses("proxy_continue_stream") == [0, 12, 2]


@pytest.mark.parametrize(("abi", "status"), [("0.1.0", 0), ("0.2.0", 1), ("0.2.1", 1)])
def test_a_header_that_is_missing(tmp_path: Path, abi: str, status: int) -> None:
    wat = Wat(abi)
    with running(
        wat.module({"proxy_on_request_headers": wat.call(GET_VALUE, REQUEST, b"no", 1024, 1028)}), tmp_path
    ) as run:
        run.host.play(get())
        assert run.statuses(GET_VALUE) == [status]


@pytest.mark.parametrize(
    ("headers", "cluster", "status"),
    [
        (CALL_HEADERS, b"nowhere", 2),
        (pairs((b":method", b"GET"), (b":path", b"/")), b"upstream", 2),
        (pairs((b":method", b"GET"), (b":path", b"/"), (b"host", b"a")), b"upstream", 0),
    ],
)
def test_what_a_call_to_another_service_needs(
    tmp_path: Path, headers: bytes, cluster: bytes, status: int
) -> None:
    wat = Wat()
    module = wat.module({"proxy_on_request_headers": call(wat, headers=headers, cluster=cluster)})
    with running(module, tmp_path) as run:
        run.host.play(get())
        assert run.statuses("proxy_http_call") == [status]
