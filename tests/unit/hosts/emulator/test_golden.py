"""Transcripts of Envoy 1.40, with one worker, HTTP/1, and every callback exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wat_plugins import Wat, get, pairs, post, running

from scaffold.hosts.exchange import Headers, Request, Response

NAMES = (
    *("context_create", "request_headers", "request_body", "request_trailers", "response_headers"),
    *("response_body", "response_trailers", "log", "done", "delete", "http_call_response"),
)
END = ["log(2)", "done(2)", "delete(2)"]
CALL = pairs((b":method", b"GET"), (b":path", b"/anything/call"), (b":authority", b"a"))
PAUSE = " (i32.const 1) $result"


def played(
    folder: Path, wat: Wat, request: Request, answer: Response | None = None, **bodies: str
) -> list[str]:
    """The callbacks while a request is played; `bodies` are what callbacks do."""
    callbacks = {f"proxy_on_{name}": bodies.get(name, "") for name in NAMES}
    with running(wat.module(callbacks, "(global $id (mut i32) (i32.const 0))"), folder) as run:
        if answer:
            run.host.origin.answer(answer, path=request.path)
        run.host.play(request)
        return run.callbacks()


def reply(wat: Wat, body: bytes) -> str:
    return wat.call("proxy_send_local_response", 403, b"", body, b"", 0xFFFFFFFF)


ANSWER = ["response_headers(2, 4, 0)", "response_body(2, 7, 0)", "response_body(2, 0, 1)"]


def test_a_get(tmp_path: Path) -> None:
    found = played(tmp_path, Wat(), get("/bytes/7"))
    assert found == ["context_create(2, 1)", "request_headers(2, 8, 1)", *ANSWER, *END]


def test_a_post(tmp_path: Path) -> None:
    found = played(tmp_path, Wat(), post(target="/bytes/7"))
    body = ["request_headers(2, 9, 0)", "request_body(2, 5, 0)", "request_body(2, 0, 1)"]
    assert found == ["context_create(2, 1)", *body, *ANSWER, *END]


@pytest.mark.parametrize("target", ["/status/204", "/status/404"])
def test_an_answer_without_a_body(tmp_path: Path, target: str) -> None:
    found = played(tmp_path, Wat(), get(target))[2:]
    assert [each[:20] for each in found[:-3]] == ["response_headers(2, "]
    assert found[0].endswith(", 1)")


def test_trailers_both_ways(tmp_path: Path) -> None:
    tail = Headers({"x-tail": "1"})
    request = Request("POST", "/anything", Headers({"host": "a"}), b"hello", trailers=tail)
    found = played(tmp_path, Wat(), request, Response(200, Headers(), b"body", tail))[1:]
    assert [each.partition("(")[0] for each in found[:-3]] == [
        *("request_headers", "request_body", "request_trailers"),
        *("response_headers", "response_body", "response_trailers"),
    ]


def test_a_call_that_resumes_the_request(tmp_path: Path) -> None:
    wat = Wat()
    call = wat.call("proxy_http_call", b"upstream", CALL, b"", b"", 1000, 1024)
    resume = "(drop (call $proxy_set_effective_context (global.get $id)))"
    found = played(
        tmp_path,
        wat,
        post(target="/bytes/7"),
        request_headers=f"(global.set $id (local.get 0)) {call}{PAUSE}",
        http_call_response=f"{resume} {wat.call('proxy_continue_stream', 0)}"
        f" {wat.call('proxy_set_effective_context', 1)}",
    )
    assert found[1] == "request_headers(2, 9, 0)"
    assert found[2].startswith("http_call_response(1, 4, ")
    assert found[3:] == ["request_body(2, 5, 1)", *ANSWER, *END]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"LOCAL", ["response_headers(2, 3, 0)", "response_body(2, 5, 1)"]),
        (b"", ["response_headers(2, 1, 1)"]),
    ],
)
def test_a_local_reply_to_the_request(tmp_path: Path, body: bytes, answer: list[str]) -> None:
    wat = Wat()
    found = played(tmp_path, wat, post(), request_headers=reply(wat, body))
    assert found == ["context_create(2, 1)", "request_headers(2, 9, 0)", *answer, *END]


def test_a_local_reply_instead_of_the_answer(tmp_path: Path) -> None:
    wat = Wat()
    found = played(tmp_path, wat, get("/bytes/7"), response_headers=reply(wat, b"LOCAL"))
    assert found == ["context_create(2, 1)", "request_headers(2, 8, 1)", ANSWER[0], *END]


def test_a_trap(tmp_path: Path) -> None:
    found = played(tmp_path, Wat(), get(), request_headers="(unreachable)")
    assert found == ["context_create(2, 1)", "request_headers(2, 8, 1)"]


def test_the_end(tmp_path: Path) -> None:
    callbacks = {"proxy_on_done": "(i32.const 1) $result", "proxy_on_delete": ""}
    with running(Wat().module(callbacks), tmp_path) as run:
        assert run.callbacks() == []
    assert run.callbacks() == ["done(1)", "delete(1)"] * 2  # on the main thread, and on the worker


def test_the_start(tmp_path: Path) -> None:
    callbacks = {"_initialize": "", "main": ""}
    callbacks |= {f"proxy_on_{name}": "(i32.const 1) $result" for name in ("vm_start", "configure")}
    module = Wat().module(callbacks | {"proxy_on_context_create": ""})
    with running(module, tmp_path, configuration=b"four") as run:
        run.mark = 0
        each = ["_initialize()", "main(0, 0)", "context_create(1, 0)", "vm_start(1, 0)", "configure(1, 4)"]
        assert run.callbacks() == [*each[:2], *each * 3]
