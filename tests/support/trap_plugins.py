"""A plugin that falls into a known trap of `explain`, chosen by the letter after the path's first slash."""

from __future__ import annotations

from dataclasses import dataclass

from support.wat_plugins import OUT, SIZE, Wat, pairs

HEADERS, ANSWER, REQUEST_BODY, BODY, CALLED = (
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_request_body",
    "proxy_on_response_body",
    "proxy_on_http_call_response",
)
_GLOBALS = (
    "(global $case (mut i32) (i32.const 0)) (global $context (mut i32) (i32.const 0))"
    " (func $spin (local $left i64) (local.set $left (i64.const 1500000000))"
    " (loop $again (br_if $again (i64.ne (local.tee $left (i64.sub (local.get $left) (i64.const 1)))"
    " (i64.const 0)))))"
)


@dataclass(frozen=True)
class Case:
    """A trap: where it is provoked, and how; `only_envoy` says that the emulator doesn't fall into it."""

    letter: str
    method: str = "GET"
    body: bytes = b""
    only_envoy: bool = False
    timeout: float = 5.0


CASES = {
    "never-resumed": Case("a", timeout=0.3),
    "callout-refused": Case("b"),
    "headers-outside-phase": Case("c"),
    "empty-outside-phase": Case("d"),
    "stale-content-length": Case("e"),
    "middle-of-body": Case("f"),
    "second-answer": Case("g"),
    "resumed-after-answer": Case("h"),
    "sent-twice": Case("i"),
    "cas-mismatch": Case("j"),
    "property-missing": Case("k"),
    "metric-refused": Case("l"),
    "metric-unknown": Case("m"),
    "foreign-function-unknown": Case("n"),
    "map-emptied": Case("o"),
    "headers-refused": Case("p"),
    "set-by-envoy": Case("q"),
    "dead-context": Case("r"),
    "wrong-stream": Case("s"),
    "buffer-outside-callback": Case("t"),
    "answer-too-late": Case("u"),
    "callout-timeout": Case("v", only_envoy=True),
    "callout-unreachable": Case("w", only_envoy=True),
    "answer-from-root": Case("x", only_envoy=True, timeout=0.5),
    "body-too-large": Case("y", "POST", bytes(1_200_000)),
    "body-outside-phase": Case("z"),
    "not-routed": Case("A", only_envoy=True),
    "slow-callback": Case("B", only_envoy=True),
}
SLOW, DEAD = b"slow", b"dead"  # clusters: one that never answers, and one that nothing listens for


def when(letter: str, code: str, result: str = "(i32.const 0)") -> str:
    """Code for one case, after which the callback returns."""
    return f"(if (i32.eq (global.get $case) (i32.const {ord(letter)})) (then {code} (return {result})))"


def plugin() -> bytes:
    """The module."""
    wat = Wat()
    call = wat.call
    pause = "(i32.const 1)"
    asked = pairs((b":method", b"GET"), (b":path", b"/"), (b":authority", b"x"))

    def callout(cluster: bytes, milliseconds: int) -> str:
        return call("proxy_http_call", cluster, asked, b"", b"", milliseconds, OUT)

    def local(status: int) -> str:
        return call("proxy_send_local_response", status, b"", b"mine", b"", -1)

    counter = "(drop (call $proxy_increment_metric (i32.load (i32.const 1024)) (i64.const 0)))"
    choose = (
        call("proxy_get_header_map_value", 0, b":path", OUT, SIZE)
        + "(global.set $case (i32.load8_u offset=1 (i32.load (i32.const 1024))))"
        + "(global.set $context (local.get 0))"
    )
    own = "(drop (call $proxy_set_effective_context (global.get $context)))"
    headers = [
        when("a", "", pause),
        when("b", callout(b"nowhere", 500)),
        when("g", local(418) + local(419)),
        when("h", local(418) + call("proxy_continue_stream", 0), pause),
        when("i", call("proxy_continue_stream", 0)),
        when(
            "j",
            call("proxy_set_shared_data", b"k", b"v", 0) + call("proxy_set_shared_data", b"k", b"w", 99999),
        ),
        when("k", call("proxy_get_property", b"route_name", OUT, SIZE)),
        when("l", call("proxy_define_metric", 0, b"trap", OUT) + counter),
        when("m", call("proxy_record_metric", 4000, 1)),
        when("n", call("proxy_call_foreign_function", b"nope", b"", OUT, SIZE)),
        when("o", call("proxy_set_header_map_pairs", 0, b"\5\0\0\0")),
        when("p", call("proxy_remove_header_map_value", 0, b":method")),
        when("r", call("proxy_set_effective_context", 9999)),
        when("s", call("proxy_continue_stream", 3)),
        when("t", call("proxy_get_buffer_bytes", 7, 0, 10, OUT, SIZE)),
        when("v", callout(SLOW, 50), pause),
        when("w", callout(DEAD, 2000), pause),
        when("x", callout(DEAD, 2000), pause),
        when(
            "A",
            call(
                "proxy_set_header_map_pairs",
                0,
                pairs((b":method", b"GET"), (b":path", b"/"), (b":authority", b"x"), (b":scheme", b"http")),
            ),
        ),
        when("B", "(call $spin)"),
    ]
    answers = [
        when("c", call("proxy_get_header_map_value", 0, b":path", OUT, SIZE)),
        when("d", call("proxy_get_header_map_pairs", 0, OUT, SIZE)),
        when("q", call("proxy_replace_header_map_value", 2, b"server", b"mine")),
        when("z", call("proxy_set_buffer_bytes", 0, 0, 1, b"x")),
    ]
    bodies = [
        when("e", call("proxy_set_buffer_bytes", 1, 0, 0, b"more")),
        when("f", call("proxy_set_buffer_bytes", 1, 3, 2, b"x")),
        when("u", local(500)),
    ]
    called = [when("x", local(500), ""), own, call("proxy_continue_stream", 0)]
    callbacks = {
        HEADERS: choose + "".join(headers),
        REQUEST_BODY: when("y", "", pause),
        ANSWER: "".join(answers),
        BODY: "(if (i32.eqz (local.get 1)) (then (return (i32.const 0))))" + "".join(bodies),
        CALLED: "".join(called),
        "proxy_on_log": "",
        "proxy_on_done": "(i32.const 1) $result",
        "proxy_on_delete": "",
        "proxy_on_context_create": "",
        "proxy_on_vm_start": "(i32.const 1) $result",
        "proxy_on_configure": "(i32.const 1) $result",
    }
    return wat.module(callbacks, _GLOBALS)


def crashing(words: bytes) -> bytes:
    """A plugin that crashes in each request; before, it logs `words`, if any."""
    wat = Wat()
    said = wat.call("proxy_log", 5, words) if words else ""
    return wat.module({HEADERS: f"{said} (unreachable)", "proxy_on_context_create": ""})
