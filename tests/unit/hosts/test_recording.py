"""What a run of the tests saw, masked, and where two runs differ."""

from __future__ import annotations

from typing import ClassVar

import pytest

from scaffold.hosts.client import Connection
from scaffold.hosts.exchange import Exchange, Headers, LogLines, Request, Response, Seen
from scaffold.hosts.recording import (
    Difference,
    Played,
    Test,
    differences,
    of_connection,
    of_exchange,
    read,
    transcript,
    write,
)

LINES = [
    "[host<-vm] proxy_on_delete return: void",  # of an earlier request
    "[host->vm] malloc(12)",  # of a start that began before
    "[host<-vm] malloc return: 1056000",
    "[host->vm] _initialize()",
    "[host<-vm] _initialize return: void",
    "[host->vm] proxy_on_context_create(7, 1)",
    "[host<-vm] proxy_on_context_create return: void",
    "[host->vm] proxy_on_tick(1)",
    "[vm->host] env.proxy_log(2, 1048, 5)",
    "[vm<-host] env.proxy_log return: 0",
    "[host<-vm] proxy_on_tick return: void",
    "[host->vm] proxy_on_request_body(7, 500, 0)",
    "[host<-vm] proxy_on_request_body return: 1",
    "[host->vm] proxy_on_request_body(7, 900, 0)",
    "[host<-vm] proxy_on_request_body return: 1",
    "[host->vm] proxy_on_request_body(7, 900, 1)",
    "[vm->host] env.proxy_get_buffer_bytes(0, 0, 900, 1048460, 1048464)",
    "[host->vm] malloc(900)",
    "[host<-vm] malloc return: 1056896",
    "[vm<-host] env.proxy_get_buffer_bytes return: 0",
    "a line of Envoy's own",
    "[vm->host] env.proxy_set_shared_data(2000, 3, 2004, 4, 17)",
    "[vm<-host] env.proxy_set_shared_data return: 0",
    "[host<-vm] proxy_on_request_body return: 0",
]


def test_a_transcript_is_a_stream_s_with_addresses_masked_and_pieces_joined():
    assert transcript(LINES) == [
        "[host->vm] proxy_on_context_create(7, 1)",
        "[host<-vm] proxy_on_context_create return: void",
        "[host->vm] proxy_on_request_body(7, *, 0)",
        "[host<-vm] proxy_on_request_body return: 1",
        "[host->vm] proxy_on_request_body(7, 900, 1)",
        "[vm->host] env.proxy_get_buffer_bytes(0, 0, 900, *, *)",
        "[host->vm] malloc …",
        "[host<-vm] malloc …",
        "[vm<-host] env.proxy_get_buffer_bytes return: 0",
        "[vm->host] env.proxy_set_shared_data(*, 3, *, 4, *)",
        "[vm<-host] env.proxy_set_shared_data return: 0",
        "[host<-vm] proxy_on_request_body return: 0",
    ]


def test_the_answer_to_a_call_of_the_stream_s_belongs_to_it():
    answer = [
        "[host->vm] proxy_on_http_call_response(1, 4, 3, 5, 0)",
        "[host<-vm] proxy_on_http_call_response return: void",
    ]
    call = [
        "[host->vm] proxy_on_request_headers(2, 5, 1)",
        "[vm->host] env.proxy_http_call(5000, 5, 5005, 90, 0, 0, 5100, 4, 500, 5104)",
        "[vm<-host] env.proxy_http_call return: 0",
        "[host<-vm] proxy_on_request_headers return: 1",
    ]
    assert transcript(answer) == []
    assert transcript([*call, *answer])[-2:] == answer


def test_answers_by_grpc_belong_to_the_stream_that_called():
    call = ["[host->vm] proxy_on_request_headers(2, 5, 1)", "[vm->host] env.proxy_grpc_call(1, 2)"]
    call.append("[host<-vm] proxy_on_request_headers return: 1")
    answer = ["[host->vm] proxy_on_grpc_close(1, 5, 14)", "[host<-vm] proxy_on_grpc_close return: void"]
    assert transcript(answer) == []
    assert transcript([*call, *answer])[-2:] == answer


def test_the_end_of_an_earlier_stream_comes_in_its_own_time():
    def called(name: str, arguments: str) -> list[str]:
        return [f"[host->vm] proxy_on_{name}({arguments})", f"[host<-vm] proxy_on_{name} return: void"]

    begun, ended = called("context_create", "3, 1"), called("delete", "3")
    assert transcript([*called("delete", "2"), *begun, *ended]) == [*begun, *ended]
    assert transcript(ended) == ended  # of a plugin without that callback no stream can be told from another


def test_a_piece_of_a_body_about_which_the_plugin_calls_nothing_may_come_with_another():
    def piece(*hostcalls: str) -> list[str]:
        return ["[host->vm] proxy_on_response_body(2, *, 0)", *hostcalls, "[host<-vm] x return: 1"]

    def raw(number: int, *hostcalls: str) -> list[str]:
        begun = f"[host->vm] proxy_on_response_body(2, {number}, 0)"
        return [begun, *hostcalls, "[host<-vm] proxy_on_response_body return: 1"]

    asks = "[vm->host] env.proxy_get_log_level(5000)"
    whole = transcript(raw(1000, asks))
    assert transcript([*raw(600), *raw(1000, asks)]) == whole
    assert transcript([*raw(600, asks), *raw(400), *raw(7)]) == whole
    assert transcript([*raw(600, asks), *raw(400, asks, asks)]) != whole
    assert len(transcript([*raw(600), *raw(400)])) == len(piece())
    assert len(whole) == len(piece(asks))


def test_a_test_that_asks_until_time_has_passed_may_ask_more_often():
    def asked(*statuses: int) -> Test:
        played = [
            Played("GET /", status, transcript=[f"[host->vm] proxy_on_request_headers({number}, 5, 1)"])
            for number, status in enumerate(statuses, start=2)
        ]
        return Test("test_it", "passed", "", played)

    assert differences([asked(429, 429, 429, 200)], [asked(429, 200)]) == []
    found = differences([asked(429, 200)], [asked(429, 429, 200, 200, 429)])
    assert [each.what for each in found] == ["number of requests"]
    assert differences([asked(429, 200)], [asked(200, 429)]) != []


def test_a_connection_s_data_may_come_in_other_pieces_and_its_ends_are_kept():
    def called(name: str, *arguments: int) -> list[str]:
        listed = ", ".join(map(str, arguments))
        return [f"[host->vm] proxy_on_{name}({listed})", f"[host<-vm] proxy_on_{name} return: 0"]

    begun = [*called("context_create", 2, 1), *called("new_connection", 2)]
    whole, ends = called("downstream_data", 2, 50, 0), called("upstream_connection_close", 2, 0)
    parts = [*called("downstream_data", 2, 20, 0), *called("downstream_data", 2, 30, 0)]
    assert transcript([*begun, *parts, *ends]) == transcript([*begun, *whole, *ends])
    assert transcript([*begun, *ends]) == [*begun, *ends]
    assert transcript(called("downstream_data", 2, 50, 1)) == called("downstream_data", 2, 50, 1)


def test_a_connection_is_recorded_with_what_was_read_and_with_the_plugin_s_metrics():
    class Opened:
        """An open socket, from which everything has been read."""

        parts: ClassVar = [b"220 ready\r\n", b""]

        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", 1

        def settimeout(self, _: float) -> None:
            pass

        def recv(self, _: int) -> bytes:
            return self.parts.pop(0)

    connection = Connection(Opened(), 1)
    connection.receive(3)
    metrics = {"tcp.connections": 1.0, "tcp.ingress.downstream_cx_total": 1.0, "cluster.upstream.a": 1.0}
    connection.sides = Seen(requests=[Request("GET", "/a")], metrics=metrics)
    connection.logs = LogLines(["it took 1.5 ms"])
    recorded = of_connection(connection, LINES)
    assert (recorded.request, recorded.body, recorded.logs) == ("TCP connection", "220", ["it took *"])
    assert recorded.metrics == {"tcp.connections": 1.0}
    assert recorded.upstream and recorded.upstream["requests"][0]["target"] == "/a"
    assert recorded.transcript == transcript(LINES)


def test_a_callback_that_traps_is_kept_as_far_as_it_went():
    assert transcript(["[host->vm] proxy_on_request_headers(2, 5, 1)", "Function: failed"]) == [
        "[host->vm] proxy_on_request_headers(2, 5, 1)"
    ]


def test_what_varies_between_runs_is_masked():
    def played(number: int) -> Played:
        ident = f"{number:032x}"
        headers = Headers(
            {"date": f"day {number}", "x-request-id": ident, "connection": "close"}
            if number
            else {"date": "", "x-request-id": ""}
        )
        body = f'{{"id": "{ident}", "at": "localhost:{number + 1000}"}}'.encode()
        seen = Seen(
            Request("GET", "/", Headers({"host": f"localhost:{number}"})), metrics={"server.x": number}
        )
        log = LogLines([f"panicked at 0x{number:x}"])
        return of_exchange(Exchange(Request("GET", "/"), Response(200, headers, body), log, _sides=seen), [])

    assert played(0) == played(77)
    assert played(0).metrics == {}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("id 0b8a7f54-5a3c-4f1e-9a0b-0123456789ab", "id *"),
        ("id 0b8a7f545a3c4f1e9a0b0123456789ab", "id *"),
        ("on Tue, 01 Dec 2026 02:13:52 GMT", "on *"),
        ("at 2026-12-01T02:13:52.123Z, then", "at *, then"),
        ("took 3.25ms", "took *"),
        ("a limit of 300ms, version 1.40", "a limit of 300ms, version 1.40"),
    ],
)
def test_ids_times_and_measured_durations_are_masked_and_settings_are_not(text, kept):
    exchange = Exchange(Request("GET", "/"), Response(200, Headers({}), text.encode()), LogLines([text]))
    played = of_exchange(exchange, [])
    assert (played.body, played.logs) == (kept.encode().decode("latin-1"), [kept])


def test_a_record_is_read_as_it_was_written(tmp_path):
    tests = [
        Test("test_it", "passed", "", [Played("GET /", 200, [["a", "b"]])]),
        Test("test_other", "skipped", "why"),
    ]
    write(tmp_path / "record.json", tests)
    assert read(tmp_path / "record.json") == tests


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (Test("test_it", "passed", "", [Played("GET /", 200)]), []),
        (
            Test("test_it", "passed", "", [Played("GET /", 404)]),
            [Difference("test_it", "GET /", "status", 200, 404)],
        ),
        (
            Test("test_it", "failed", "", [Played("GET /", 200)]),
            [Difference("test_it", "", "outcome", "passed", "failed")],
        ),
        (Test("test_it", "passed"), [Difference("test_it", "", "number of requests", 1, 0)]),
        (Test("test_it", "skipped", "why"), []),
        (
            Test("test_new", "passed"),
            [
                Difference("test_it", "", "test", "passed", "(not run)"),
                Difference("test_new", "", "test", "(not run)", "passed"),
            ],
        ),
    ],
)
def test_two_runs_are_compared_test_by_test(other, found):
    assert differences([Test("test_it", "passed", "", [Played("GET /", 200)])], [other]) == found


def test_what_comes_of_other_requests_is_not_compared():
    """The rest of the test isn't, either: it may depend on this."""

    def played(sent: str) -> Test:
        return Test(
            "test_it", "passed", "", [Played("GET /", 200), Played("GET /", len(sent), sent=[sent])] * 2
        )

    found = differences([played("GET /")], [played("GET / ")])
    assert found == [Difference("test_it", "GET /", "what the test sent", ["GET /"], ["GET / "])]


def test_transcripts_of_two_modules_need_not_agree():
    one, two = (Test("test_it", "passed", "", [Played("GET /", 200, transcript=[each])]) for each in "ab")
    assert len(differences([one], [two])) == 1
    assert differences([one], [two], transcripts=False) == []


def test_a_long_difference_is_cut():
    left, right = ([f"{side} {number}" for number in range(100)] for side in "ab")
    lines = Difference("test_it", "GET /", "transcript", left, right).lines("emulator", "envoy")
    assert lines[0] == "test_it, GET /: transcript"
    assert len(lines) == 42 and lines[-1].endswith(" lines more")
