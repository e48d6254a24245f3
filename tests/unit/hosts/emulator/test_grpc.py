"""gRPC calls and streams as Envoy 1.40 plays them: values observed on a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from support.grpc import frame, service
from support.wat_plugins import Run, Wat, get, pairs, running

from scaffold.errors import HostError
from scaffold.hosts.emulator.vm import Limits
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.unsupported import Unsupported

CLUSTERS = {
    "svc": "grpc://upstream",  # through the bridge: the upstream gets the bare message
    "raw": "upstream",  # which gets gRPC's own frames
    "dead": "grpc://127.0.0.1:1",
}
BARE, FRAMED = {"content-type": "application/x-protobuf"}, {"content-type": "application/grpc"}
CALLBACKS = [
    f"proxy_on_grpc_{name}" for name in ("receive_initial_metadata", "receive", "receive_trailing_metadata")
]
CALLBACKS.append("proxy_on_grpc_close")
OUT = 1028
LOG = f"(drop (call $proxy_log (i32.const 2) (i32.load (i32.const {OUT})) (i32.load (i32.const {OUT + 4}))))"
CALL, STREAM = 5, 6  # the first tokens
VIA = "via_upstream"


def call(wat: Wat, cluster: str = "svc", timeout: int = 1000, metadata: bytes = b"") -> str:
    return wat.call("proxy_grpc_call", service(cluster), b"a.B", b"C", metadata, b"hi", timeout, 1024)


def stream(wat: Wat, cluster: str = "svc", metadata: bytes = b"") -> str:
    return wat.call("proxy_grpc_stream", service(cluster), b"a.B", b"C", metadata, 1024)


def send(wat: Wat, message: bytes = b"one", *, end: int = 1, token: int = STREAM) -> str:
    return wat.call("proxy_grpc_send", token, message, end)


def module(wat: Wat, text: str, callbacks: Mapping[str, str] = {}) -> bytes:
    """A plugin that does that in on_request_headers, and logs each status and message."""
    logs = wat.call("proxy_get_status", 1024, OUT, OUT + 4) + LOG
    logs += wat.call("proxy_get_buffer_bytes", 5, 0, 100, OUT, OUT + 4) + LOG
    return wat.module(
        dict.fromkeys(CALLBACKS, logs) | dict(callbacks) | {"proxy_on_request_headers": text}, ""
    )


def play(
    folder: Path,
    text: str,
    wat: Wat,
    answer: Response | None = None,
    callbacks: Mapping[str, str] = {},
    **options: float,
) -> tuple[list[str], list[str], Run]:
    """The callbacks about gRPC, what was logged, and the run."""
    with running(module(wat, text, callbacks), folder, clusters=CLUSTERS) as run:
        if answer:
            run.host.origin.answer(answer, path="/a.B/C", **options)  # type: ignore[arg-type]
        run.host.play(get())
        run.host.clock.advance(2)
        told = [each.removeprefix("grpc_") for each in run.callbacks() if each.startswith("grpc")]
        logged = [each.text for each in run.host.log.since(run.mark) if each.of_plugin and each.text]
        return told, logged, run


def asked(run: Run) -> Request:
    """The call as the service got it."""
    return next(each for each in run.host.origin.requests() if each.method == "POST")


BAD_TYPE = "envoy reverse bridge: upstream responded with {}, status code {}{{via_upstream}}"


@pytest.mark.parametrize(
    ("answer", "told", "logged"),
    [
        (Response(200, Headers(BARE), b"MSG"), "receive(1, 5, 3)", "MSG"),
        (Response(200, Headers(BARE)), "receive(1, 5, 0)", None),
        (Response(503, Headers(BARE)), "close(1, 5, 14)", VIA),
        (
            Response(404, Headers({"content-type": "a/b"}), b"no"),
            "close(1, 5, 2)",
            BAD_TYPE.format("unsupported content-type a/b", 404),
        ),
        (
            Response(200, Headers(), b"no"),
            "close(1, 5, 2)",
            BAD_TYPE.format("no content-type header", 200),
        ),
    ],
)
def test_a_call_through_the_bridge(tmp_path: Path, answer: Response, told: str, logged: str | None) -> None:
    wat = Wat()
    found, lines, run = play(tmp_path, call(wat), wat, answer)
    assert (found, lines) == ([told], [logged] if logged else [])
    received = asked(run)
    assert (received.method, received.path, received.body) == ("POST", "/a.B/C", b"hi")
    assert received.headers["grpc-timeout"] == "1000m"


TRAILERS = {"grpc-status": "0", "x-end": "1"}
REFUSAL = {"grpc-status": "5", "grpc-message": "a%20b"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "trailers", "told", "logged"),
    [
        (200, {}, frame(b"MSG"), TRAILERS, "receive(1, 5, 3)", "MSG"),
        (200, {}, frame(b"MSG") + frame(b"TWO"), TRAILERS, "receive(1, 5, 3)", "TWO"),
        (200, {}, frame(b"MSG"), {}, "close(1, 5, 2)", VIA),  # no grpc-status
        (200, {}, frame(b"MSG"), {"x-end": "1"}, "close(1, 5, 2)", VIA),
        (200, {}, frame(b"MSG"), REFUSAL, "close(1, 5, 5)", "a%20b{via_upstream}"),
        (200, {}, frame(b"MSG"), {"grpc-status": "99"}, "close(1, 5, 4294967295)", VIA),
        (200, {"grpc-status": "7", "grpc-message": "hm"}, b"", {}, "close(1, 5, 7)", "hm{via_upstream}"),
        (503, {"grpc-status": "7"}, b"", {}, "close(1, 5, 7)", VIA),  # trailers only
        (200, {"grpc-status": "0"}, b"", {}, "close(1, 5, 13)", None),  # no message
        (404, {}, b"no", {}, "close(1, 5, 12)", VIA),
        (200, {}, b"\x05abcdefgh", TRAILERS, "close(1, 5, 13)", VIA),  # no frame
        (200, {}, b"\x01\0\0\0\x03MSG", TRAILERS, "close(1, 5, 13)", VIA),  # compressed
        (200, {}, frame(b"MSG")[:6], TRAILERS, "close(1, 5, 13)", None),  # half a frame
    ],
)  # fmt: skip
def test_a_call_to_a_server_of_grpc(
    tmp_path: Path,
    status: int,
    headers: dict[str, str],
    body: bytes,
    trailers: dict[str, str],
    told: str,
    logged: str | None,
) -> None:
    wat = Wat()
    answer = Response(status, Headers(FRAMED | headers), body, Headers(trailers))
    found, lines, run = play(tmp_path, call(wat, "raw"), wat, answer)
    assert (found, lines) == ([told], [logged] if logged else [])
    assert asked(run).body == frame(b"hi")


@pytest.mark.parametrize(
    ("cluster", "status", "why"),
    [
        ("svc", 13, "upstream_reset_after_response_started{remote_reset}"),
        ("raw", 13, "upstream_reset_after_response_started{protocol_error}"),
    ],
)
def test_an_answer_that_is_cut_off(tmp_path: Path, cluster: str, status: int, why: str) -> None:
    wat = Wat()
    answer = Response(200, Headers(BARE if cluster == "svc" else FRAMED), frame(b"MSG"))
    found, lines, _ = play(tmp_path, call(wat, cluster), wat, answer, cut=True)
    assert (found, lines) == ([f"close(1, 5, {status})"], [why])


@pytest.mark.parametrize("cluster", ["svc", "raw"])
def test_a_call_that_times_out(tmp_path: Path, cluster: str) -> None:
    wat = Wat()
    found, lines, _ = play(tmp_path, call(wat, cluster, 50), wat, Response(200), after=60)
    assert (found, lines) == (["close(1, 5, 14)"], ["upstream request timeout{response_timeout}"])


def test_an_unknown_cluster_fails_at_once_and_again_after_the_callback(tmp_path: Path) -> None:
    wat = Wat()
    found, lines, run = play(tmp_path, call(wat, "nobody") + stream(wat, "nobody"), wat)
    assert run.statuses("proxy_grpc_call") == run.statuses("proxy_grpc_stream") == [10]
    assert (found, lines) == (["close(1, 5, 14)", "close(1, 6, 14)"], ["Cluster not available"] * 2)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"svc", 0),  # a cluster's name, as the SDK passes it
        (b"nobody", 4),
        (b"\xff\xff", 4),
        (b"\x0a\x03\x0a\x01\xff", 4),  # a name that isn't UTF-8
        (b"\x0a\x00", 10),  # an empty name
        (service("nobody") + service("svc"), 0),  # the parts of a message count as one
        (service("svc") + b"\x1a\x02\x08\x05", 0),  # a timeout, which Envoy doesn't look at
    ],
)
def test_what_names_a_service(tmp_path: Path, target: bytes, status: int) -> None:
    wat = Wat()
    text = wat.call("proxy_grpc_call", target, b"a.B", b"C", b"", b"", 0, 1024)
    _, _, run = play(tmp_path, text, wat)
    assert run.statuses("proxy_grpc_call") == [status]


@pytest.mark.parametrize("target", [b"", b"auth-grpc"])  # the second happens to be a message
def test_a_service_without_a_target_would_end_envoy(tmp_path: Path, target: bytes) -> None:
    wat = Wat()
    text = wat.call("proxy_grpc_stream", target, b"a.B", b"C", b"", 1024)
    with pytest.raises(HostError, match="Envoy itself would crash"):
        play(tmp_path, text, wat)


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (b"\x12\x00", "google_grpc"),
        (service("svc") + b"\x2a\x00", "more than a cluster and an authority"),
        (b"\x0a\x07\x0a\x03svc\x20\x05", "more than a cluster and an authority"),
    ],
)
def test_what_the_emulator_does_not_know_of_a_service(tmp_path: Path, target: bytes, what: str) -> None:
    wat = Wat()
    with pytest.raises(Unsupported, match=what):
        play(tmp_path, wat.call("proxy_grpc_stream", target, b"a.B", b"C", b"", 1024), wat)


@pytest.mark.parametrize(
    ("cluster", "metadata", "path", "headers"),
    [
        ("svc", ((b"x-a", b"1"), (b"k-bin", b"ab")), "/a.B/C", {"host": "svc", "x-a": "1", "k-bin": "YWI="}),
        ("svc", (), "/a.B/C", {"accept": "application/x-protobuf", "content-type": "application/x-protobuf"}),
        ("raw", ((b":path", b"/zz"), (b"te", b"x")), "/a.B/C,/zz", {"te": "trailers,x"}),
        ("raw", (), "/a.B/C", {"content-type": "application/grpc", "x-envoy-internal": "true"}),
    ],
)
def test_metadata_that_are_sent(
    tmp_path: Path,
    cluster: str,
    metadata: tuple[tuple[bytes, bytes], ...],
    path: str,
    headers: dict[str, str],
) -> None:
    wat = Wat()
    _, _, run = play(tmp_path, call(wat, cluster, metadata=pairs(*metadata)), wat)
    received = asked(run)
    assert received.path == path
    assert headers.items() <= dict(received.headers.items()).items()


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0m"), (99_999_999, "99999999m"), (100_000_000, "100000S"), (0xFFFFFFFF, "4294967S")],
)
def test_the_timeout_that_the_service_is_told(tmp_path: Path, milliseconds: int, text: str) -> None:
    wat = Wat()
    answer = Response(200, Headers(BARE), b"MSG")
    found, _, run = play(tmp_path, call(wat, timeout=milliseconds), wat, answer)
    assert found == ["receive(1, 5, 3)"]
    assert asked(run).headers["grpc-timeout"] == text


WHOLE = [
    *("receive_initial_metadata(1, 6, 5)", "receive(1, 6, 3)", "receive(1, 6, 3)"),
    *("receive_trailing_metadata(1, 6, 2)", "close(1, 6, 0)"),
]
TWO = Response(200, Headers(FRAMED | {"x-a": "v"}), frame(b"MSG") + frame(b"TWO"), Headers(TRAILERS))


def test_a_stream(tmp_path: Path) -> None:
    wat = Wat()
    text = stream(wat, "raw") + send(wat, b"one", end=0) + send(wat, b"two") + send(wat, b"too late")
    found, lines, run = play(tmp_path, text, wat, TWO)
    assert (found, lines) == (WHOLE, ["MSG", "TWO", VIA])
    assert asked(run).body == frame(b"one") + frame(b"two")


def test_a_stream_through_the_bridge_which_takes_off_one_prefix(tmp_path: Path) -> None:
    wat = Wat()
    text = stream(wat) + send(wat, b"one", end=0) + send(wat, b"two", end=0)
    text += wat.call("proxy_grpc_close", STREAM)
    found, lines, run = play(tmp_path, text, wat, Response(200, Headers(BARE), b"MSG"))
    expected = ["receive_initial_metadata(1, 6, 6)", "receive(1, 6, 3)", "receive_trailing_metadata(1, 6, 1)"]
    assert (found, lines) == ([*expected, "close(1, 6, 0)"], ["MSG", VIA])
    assert asked(run).body == b"one" + frame(b"two")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", []),  # nothing is sent, nothing comes
        (
            "close",
            [
                *("receive_initial_metadata(1, 6, 0)", "receive_trailing_metadata(1, 6, 7)"),
                "close(1, 6, 2)",
            ],
        ),
    ],
)
def test_a_stream_without_messages(tmp_path: Path, text: str, told: list[str]) -> None:
    wat = Wat()
    more = wat.call("proxy_grpc_close", STREAM) if text else ""
    found, _, _ = play(tmp_path, stream(wat) + more, wat)
    assert found == told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response(404, Headers(), b"no"), ("0", "0", "12")),
        (Response(200, Headers(FRAMED | {"grpc-status": "7"})), ("0", "5", "7")),
        (Response(200, Headers(FRAMED), frame(b"MSG") + b"\x07"), ("4", "0", "13")),
    ],
)
def test_a_stream_that_fails(tmp_path: Path, answer: Response, told: tuple[str, str, str]) -> None:
    wat = Wat()
    found, _, _ = play(tmp_path, stream(wat, "raw") + send(wat), wat, answer)
    names = ("receive_initial_metadata", "receive_trailing_metadata", "close")
    assert found == [f"{name}(1, 6, {value})" for name, value in zip(names, told, strict=True)]


@pytest.mark.parametrize("place", range(4))
def test_a_stream_that_is_cancelled_in_a_callback_is_over(tmp_path: Path, place: int) -> None:
    wat = Wat()
    cancels = {CALLBACKS[place]: wat.call("proxy_grpc_cancel", STREAM)}
    found, _, run = play(tmp_path, stream(wat, "raw") + send(wat), wat, TWO, cancels)
    assert found == WHOLE[: (1, 2, 4, 5)[place]]
    assert run.statuses("proxy_grpc_cancel") == [0]


def test_cancelling_before_the_answer(tmp_path: Path) -> None:
    wat = Wat()
    text = call(wat) + send(wat, token=CALL) + "".join(wat.call("proxy_grpc_cancel", CALL) for _ in range(2))
    text += stream(wat) + send(wat) + wat.call("proxy_grpc_cancel", STREAM) + send(wat)
    text += wat.call("proxy_grpc_close", STREAM)
    found, _, run = play(tmp_path, text, wat, TWO)
    assert found == []
    assert run.statuses("proxy_grpc_send") == [2, 0, 1]
    assert run.statuses("proxy_grpc_cancel") == [0, 1, 0]
    assert run.statuses("proxy_grpc_close") == [1]
    assert all(each.cluster == "upstream" for each in run.host.origin.requests())


@pytest.mark.parametrize(("token", "ends", "sends"), [(0, 2, 2), (4, 2, 2), (7, 2, 2), (5, 1, 2), (10, 1, 1)])
def test_tokens_of_nothing(tmp_path: Path, token: int, ends: int, sends: int) -> None:
    wat = Wat()
    text = wat.call("proxy_grpc_close", token) + wat.call("proxy_grpc_cancel", token) + send(wat, token=token)
    _, _, run = play(tmp_path, text, wat)
    assert run.statuses("proxy_grpc_close") == run.statuses("proxy_grpc_cancel") == [ends]
    assert run.statuses("proxy_grpc_send") == [sends]


@pytest.mark.parametrize(
    ("in_callback", "closes"), [(True, [0, 1, 1]), (False, [0, 1])], ids=["in callback", "later"]
)
def test_a_stream_is_kept_until_both_sides_have_closed_it(
    tmp_path: Path, in_callback: bool, closes: list[int]
) -> None:
    wat = Wat()
    close = wat.call("proxy_grpc_close", STREAM)
    stop = wat.call("proxy_set_tick_period_milliseconds", 0)
    callbacks = {"proxy_on_tick": close + close + stop}
    if in_callback:
        callbacks["proxy_on_grpc_close"] = close
    text = stream(wat, "raw") + send(wat) + wat.call("proxy_set_tick_period_milliseconds", 500)
    _, _, run = play(tmp_path, text, wat, TWO, callbacks)
    assert run.statuses("proxy_grpc_close") == closes


def test_a_message_may_be_changed_and_metadata_may_not(tmp_path: Path) -> None:
    wat = Wat()
    body = wat.call("proxy_set_buffer_bytes", 5, 0, 1, b"XX") + wat.call(
        "proxy_set_buffer_bytes", 5, 1, 1, b""
    )
    body += wat.call("proxy_get_buffer_bytes", 5, 0, 100, OUT, OUT + 4) + LOG
    head = wat.call("proxy_add_header_map_value", 4, b"x", b"y")
    head += wat.call("proxy_get_header_map_value", 4, b"X-A", OUT, OUT + 4) + LOG
    callbacks = {CALLBACKS[1]: body, CALLBACKS[0]: head}
    _, lines, run = play(tmp_path, stream(wat, "raw") + send(wat), wat, TWO, callbacks)
    assert lines == ["v", "XXSG", "XXWO", VIA]
    assert run.statuses("proxy_set_buffer_bytes") == [0, 2] * 2
    assert run.statuses("proxy_add_header_map_value") == [2]


def test_metadata_and_messages_are_there_in_their_own_callbacks_only(tmp_path: Path) -> None:
    wat = Wat()
    asks = "".join(wat.call("proxy_get_header_map_value", kind, b"x-a", OUT, OUT + 4) for kind in (4, 5))
    asks += wat.call("proxy_get_buffer_status", 5, OUT, OUT + 4)
    _, _, run = play(tmp_path, stream(wat, "raw") + send(wat), wat, TWO, dict.fromkeys(CALLBACKS, asks))
    assert run.statuses("proxy_get_header_map_value") == [0, 2, 2, 2, 2, 2, 2, 1, 2, 2]
    assert run.statuses("proxy_get_buffer_status") == [0] * 5


def test_a_call_by_http_that_breaks_off_has_a_status(tmp_path: Path) -> None:
    wat = Wat()
    head = pairs((b":method", b"GET"), (b":path", b"/a.B/C"), (b":authority", b"a"))
    text = wat.call("proxy_http_call", b"raw", head, b"", b"", 1000, 1024)
    asks = wat.call("proxy_get_status", 1024, OUT, OUT + 4) + LOG
    answered = {"proxy_on_http_call_response": asks}
    _, lines, run = play(tmp_path, text, wat, Response(200, Headers(), b"abcdef"), answered, cut=True)
    assert (lines, run.host._worker[0].last_status) == (["reset"], (11, b""))


def test_a_cluster_for_grpc_is_not_called_by_http(tmp_path: Path) -> None:
    wat = Wat()
    head = pairs((b":method", b"GET"), (b":path", b"/"), (b":authority", b"a"))
    with pytest.raises(Unsupported, match="requests by HTTP to the cluster svc, which is for gRPC"):
        play(tmp_path, wat.call("proxy_http_call", b"svc", head, b"", b"", 1000, 1024), wat)


def test_messages_that_wait_are_bounded(tmp_path: Path) -> None:
    wat = Wat()
    open_, full = stream(wat), send(wat, b"x" * 900, end=0)
    module = wat.module({"proxy_on_request_headers": open_ + full, "proxy_on_request_body": full})
    with running(module, tmp_path, clusters=CLUSTERS, limits=Limits(kept=1000)) as run:
        exchange = run.host.play(Request("POST", "/anything", Headers({"host": "a"}), b"hello"))
        assert (exchange.response.status, run.callbacks()[-1]) == (503, "request_body(2, 5, 0)")
        assert "more than 1,000 bytes wait to be sent by gRPC" in exchange.logs


def test_what_is_cancelled_waits_no_longer(tmp_path: Path) -> None:
    wat = Wat()
    token = "(i32.load (i32.const 1024))"
    place, size = wat.text(b"x" * 900)
    text = stream(wat) + (
        f"(drop (call $proxy_grpc_send {token} (i32.const {place}) (i32.const {size}) (i32.const 0)))"
        f"(drop (call $proxy_grpc_cancel {token}))"
    )
    module = wat.module({"proxy_on_request_headers": text})
    with running(module, tmp_path, clusters=CLUSTERS, limits=Limits(kept=1000)) as run:
        assert [run.host.play(get()).response.status for _ in range(3)] == [200] * 3
        assert run.statuses("proxy_grpc_send") == run.statuses("proxy_grpc_cancel") == [0] * 3


@pytest.mark.parametrize("name", ["proxy_grpc_call", "proxy_grpc_stream", "proxy_grpc_send"])
def test_memory_outside(tmp_path: Path, name: str) -> None:
    wat = Wat()
    far = 2**31 - 1
    arguments = {
        "proxy_grpc_call": (service("svc"), b"a", b"b", b"", far, 1, 0, 1024),
        "proxy_grpc_stream": (service("svc"), b"a", far, 1, b"", 1024),
        "proxy_grpc_send": (STREAM, far, 1, 0),
    }
    _, _, run = play(tmp_path, wat.call(name, *arguments[name]), wat)
    assert run.statuses(name) == [6]
