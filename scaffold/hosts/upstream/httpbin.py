"""The built-in answers, which are httpbin's."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl

from scaffold.hosts.upstream.http1 import Received, Reply
from scaffold.hosts.upstream.websocket import Echo

LONGEST_DELAY = 60.0  # seconds
MOST_BYTES = 10 * 1024 * 1024
MOST_LINES = 100

_JSON = b"content-type: application/json\r\n"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: what a header's name is made of
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


class Impossible(ValueError):
    """A request that can't be answered; the message is a sentence for the client."""


def answer(received: Received) -> Reply:
    """The built-in answer to a request: 404 for an unknown path, 400 for an invalid request.

    A WebSocket is accepted at any path.
    """
    asks = received.offers and received.method == b"GET"
    if asks and (echo := Echo.accepting(received.target, received.headers)):
        return Reply(101, websocket=echo)
    path = path_of(received)
    first, slash, rest = path.removeprefix("/").partition("/")
    route = _ROUTES.get(f"/{first}")
    fits = route and {"": not slash, "/N": slash}.get(route.rest, True)
    if not route or not fits:
        paths = [each + route.rest for each, route in _ROUTES.items()]
        return json_reply({"error": f"no such path: {path}", "paths": paths}, status=404)
    try:
        return route.answer(received, rest)
    except Impossible as error:
        return json_reply({"error": str(error)}, status=400)


def path_of(received: Received) -> str:
    """The path of a request, as it was sent, without the query."""
    target = received.target
    if b"://" in target and not target.startswith(b"/"):  # an absolute URL, as proxies get it
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"?")[0].decode("latin-1")


def reply(
    status: int, headers: Iterable[tuple[str, str]], body: bytes, trailers: Iterable[tuple[str, str]] = ()
) -> Reply:
    """An answer with any status, headers, body and trailers. Raises `Impossible` when HTTP can't carry it.

    `content-length` is always the body's; with `transfer-encoding: chunked`, each line of the body is a
    chunk; `connection: close` closes the connection.
    """
    if status not in range(200, 600):
        raise Impossible(f"{status} isn't the status of an answer, which is from 200 to 599")
    lines, framing = [], set()
    for name, value in headers:
        line = _line(name, value)
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            framing.add((name.lower(), value.lower()))
        else:
            lines.append(line)
    return Reply(
        status,
        "".join(lines).encode("latin-1"),
        body,
        chunked=("transfer-encoding", "chunked") in framing,
        close=("connection", "close") in framing,
        trailers="".join(_line(*each) for each in trailers).encode("latin-1"),
    )


def _line(name: str, value: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise Impossible(f"{name!r} isn't a valid header name")
    if _UNSENDABLE.search(value):
        raise Impossible(f"the header {name} can't carry {value!r}")
    return f"{name}: {value}\r\n"


def seconds(value: str | float) -> float:
    """A delay in seconds. Raises `Impossible` when it isn't a number, or is too long."""
    try:
        delay = float(value)
    except ValueError:
        delay = math.nan
    if not 0 <= delay <= LONGEST_DELAY:
        raise Impossible(f"{value!r} isn't a number of seconds from 0 to {LONGEST_DELAY:g}")
    return delay


def json_reply(value: Any, status: int = 200) -> Reply:
    """An answer in JSON, sorted and indented like httpbin's. Raises `ValueError` for NaN and infinities."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    return Reply(status, _JSON, f"{text}\n".encode())


def _root(received: Received, rest: str) -> Reply:
    rows = (
        f"<li><code>{html.escape(path + route.rest)}</code>: {html.escape(route.about)}</li>"
        for path, route in _ROUTES.items()
    )
    page = (
        "<!doctype html>\n<title>scaffold upstream</title>\n<h1>scaffold upstream</h1>\n"
        "<p>The built-in upstream, to try plugins with. It answers:</p>\n"
        "<ul>\n" + "\n".join(rows) + "\n</ul>\n"
    )
    return Reply(200, b"content-type: text/html; charset=utf-8\r\n", page.encode())


def _headers_route(received: Received, rest: str) -> Reply:
    return json_reply({"headers": _headers(received)})


def _headers(received: Received) -> dict[str, str]:
    return _joined(received.headers)


def _joined(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1").title(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _anything(received: Received, rest: str) -> Reply:
    headers = _headers(received)
    target = received.target.decode("latin-1")
    body, is_form = received.body, headers.get("Content-Type", "").startswith(_FORM)
    shown = {
        "args": _grouped(target.partition("?")[2]),
        "data": "" if is_form else _text(body),
        "form": _grouped(body.decode(errors="replace")) if is_form else {},
        "headers": headers,
        "json": None,
        "method": received.method.decode("latin-1"),
        "url": _url(target, headers),
    }
    if received.trailers:
        shown["trailers"] = _joined(received.trailers)
    try:
        return json_reply(shown | {"json": json.loads(body)}) if body else json_reply(shown)
    except (ValueError, RecursionError):  # it isn't JSON, or can't be shown as JSON
        return json_reply(shown)


_FORM = "application/x-www-form-urlencoded"


def _grouped(query: str) -> dict[str, str | list[str]]:
    parameters = parse_qs(query, keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in parameters.items()}


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return f"data:application/octet-stream;base64,{base64.b64encode(body).decode()}"


def _url(target: str, headers: dict[str, str]) -> str:
    if not target.startswith("/"):
        return target
    return f"{headers.get('X-Forwarded-Proto', 'http')}://{headers.get('Host', '')}{target}"


def _status(received: Received, rest: str) -> Reply:
    return reply(_whole(rest, 599), [], b"")


def _delay(received: Received, rest: str) -> Reply:
    return _anything(received, rest)._replace(after=seconds(rest))


def _bytes(received: Received, rest: str) -> Reply:
    size = _whole(rest, MOST_BYTES)
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    return Reply(200, b"content-type: application/octet-stream\r\n", body)


def _stream(received: Received, rest: str) -> Reply:
    shown = {"url": _url(received.target.decode("latin-1"), _headers(received))}
    lines = (json.dumps({"id": number} | shown) + "\n" for number in range(_whole(rest, MOST_LINES)))
    return Reply(200, _JSON, "".join(lines).encode(), chunked=True)


def _response_headers(received: Received, rest: str) -> Reply:
    query = received.target.decode("latin-1").partition("?")[2]
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    made = reply(200, pairs, json_reply(_grouped(query)).body)
    named = any(name.lower() == "content-type" for name, _ in pairs)
    return made if named else made._replace(fields=_JSON + made.fields)


def _whole(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
        raise Impossible(f"{text!r} isn't a whole number from 0 to {most}")
    return int(text)


class _Route(NamedTuple):
    answer: Callable[[Received, str], Reply]
    about: str
    rest: str = ""  # what follows the path: nothing, "/N", or "[/...]", which may


_ROUTES = {
    "/": _Route(_root, "this page"),
    "/headers": _Route(_headers_route, "the headers of the request, as JSON"),
    "/anything": _Route(_anything, "the whole request, as JSON", "[/...]"),
    "/status": _Route(_status, "an empty answer with this status", "/N"),
    "/delay": _Route(_delay, f"like /anything, after this many seconds (at most {LONGEST_DELAY:g})", "/N"),
    "/bytes": _Route(_bytes, "this many bytes, always the same", "/N"),
    "/stream": _Route(_stream, f"this many lines (at most {MOST_LINES}), a chunk each", "/N"),
    "/response-headers": _Route(_response_headers, "an answer with the headers given as ?NAME=VALUE"),
}
