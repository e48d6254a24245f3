"""What the properties about sizes are in each callback: values observed on Envoy 1.40."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wat_plugins import Wat, get, post, running

from scaffold.hosts.exchange import Headers, Request, Response

OUT = 1028
LOG = f"(drop (call $proxy_log (i32.const 2) (i32.load (i32.const {OUT})) (i32.load (i32.const {OUT + 4}))))"
NAMES = ("request_headers", "request_body", "response_headers", "response_body", "log", "done")
CHUNKED = Request(
    "POST", "/bytes/7", Headers({"host": "a", "transfer-encoding": "chunked"}), b"5\r\nhello\r\n0\r\n\r\n"
)


def sizes(folder: Path, path: bytes, request: Request, before: str = "", wat: Wat | None = None) -> list[int]:
    """The property in each callback that comes, in their order."""
    wat = wat or Wat()
    asks = wat.call("proxy_get_property", path, OUT, OUT + 4) + LOG
    module = wat.module(
        {f"proxy_on_{name}": asks for name in NAMES} | {"proxy_on_request_headers": before + asks}
    )
    with running(module, folder) as run:
        run.host.play(request)
        lines = [each.text for each in run.host.log.since(run.mark) if each.of_plugin]
    return [int.from_bytes(each.encode("latin-1"), "little") for each in lines]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (get("/bytes/7"), [0, 0, 0, 0, 0, 0]),
        # content-length says it while the headers are there; then what has come
        (post(b"hello", "/bytes/7"), [5, 5, 5, 5, 5, 5, 5, 5]),
        (CHUNKED, [0, 5, 5, 5, 5, 5, 5, 5]),
    ],
)
def test_of_the_request(tmp_path: Path, request_: Request, expected: list[int]) -> None:
    assert sizes(tmp_path, b"request\0size", request_) == expected


def test_of_the_request_as_the_plugin_changes_content_length(tmp_path: Path) -> None:
    wat = Wat()
    change = wat.call("proxy_replace_header_map_value", 0, b"content-length", b"1")
    with_one = sizes(tmp_path, b"request\0size", post(b"hello", "/bytes/7"), change, wat)
    assert with_one == [1, 5, 5, 5, 5, 5, 1, 5]  # on_log has the headers again


def test_of_the_response(tmp_path: Path) -> None:
    assert sizes(tmp_path, b"response\0size", get("/bytes/7")) == [0, 0, 0, 7, 7, 7]


@pytest.mark.parametrize(
    ("side", "callback", "body", "headers"),
    [
        ("request", "request_headers", 0, True),
        ("request", "request_body", 5, False),
        ("response", "response_headers", 0, True),
        ("response", "response_body", 7, False),
    ],
)
def test_totals_add_the_headers_where_they_are_there(
    tmp_path: Path, side: str, callback: str, body: int, headers: bool
) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_property", f"{side}\0total_size".encode(), OUT, OUT + 4)
    size = wat.call("proxy_get_header_map_size", 0 if side == "request" else 2, OUT + 8)
    module = wat.module({f"proxy_on_{side}_headers": size, f"proxy_on_{callback}": size * headers + asks})
    with running(module, tmp_path) as run:
        run.host.play(post(b"hello", "/bytes/7"))
        found = run.memory(8, run.memory(place=OUT))
        assert found == body + run.memory(place=OUT + 8) * headers


def test_of_a_local_reply(tmp_path: Path) -> None:
    wat = Wat()
    reply = wat.call("proxy_send_local_response", 403, b"", b"LOCAL", b"", 0xFFFFFFFF)
    assert sizes(tmp_path, b"response\0size", get(), reply, wat) == [0, 0, 0, 5, 5]


def test_trailers_count_where_they_are_there(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_property", b"response\0total_size", OUT, OUT + 4) + LOG
    module = wat.module({"proxy_on_response_trailers": asks})
    with running(module, tmp_path) as run:
        answer = Response(200, Headers({}), b"body", Headers({"x-tail": "1"}))
        run.host.origin.answer(answer, path="/headers")
        run.host.play(get())
        (line,) = [each.text for each in run.host.log.since(run.mark) if each.of_plugin]
    assert int.from_bytes(line.encode("latin-1"), "little") == len("body") + len("x-tail1")
