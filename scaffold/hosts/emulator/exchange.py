"""One request and its answer: what the client sends and gets, and what the upstream gets and answers.

Source: envoyproxy/envoy, source/common/http/{conn_manager_utility,codec_client}.cc and http1/codec_impl.cc,
source/common/router/router.cc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from scaffold.errors import UsageError
from scaffold.hosts.emulator.header_map import (
    REQUEST,
    REQUEST_TRAILERS,
    RESPONSE,
    RESPONSE_TRAILERS,
    HeaderMap,
)
from scaffold.hosts.emulator.stream import Stream
from scaffold.hosts.emulator.wire import Pair
from scaffold.hosts.envoy.resources import CLUSTER
from scaffold.hosts.exchange import (
    ANSWER_PAUSED,
    NO_ANSWER,
    REQUEST_PAUSED,
    Headers,
    Request,
    Response,
)
from scaffold.hosts.upstream.http1 import Received, Reply
from scaffold.project.envoy_clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.emulator.context import HttpContext
    from scaffold.hosts.emulator.world import World

_PIECE = 1 << 20  # bytes of a body that come at once, as much as Envoy reads
_WITHOUT_STATUS = b"missing required header: :status"
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00\r\n\u0100-\U0010ffff]*")
_METHOD, _TARGET = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[!-\xff]+")
_HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"upgrade")
_BODYLESS = (b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT")
PROTOCOL_ERROR = b"upstream connect error or disconnect/reset before headers. reset reason: protocol error"
_TIMEOUT = b"60000"  # milliseconds, of every route


@lru_cache(maxsize=1)
def own_address() -> bytes:
    """The address that Envoy puts into x-forwarded-for for a client of this machine."""
    import psutil

    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family.name == "AF_INET" and not each.address.startswith("127."):
                return str(each.address).encode()
    return b"127.0.0.1"


def check(request: Request) -> None:
    """Raise `UsageError` for a request that HTTP can't carry."""
    fields = [*request.headers.iteritems(), *request.trailers.iteritems()]
    wrong = next((name for name, value in fields if not _FIELD.fullmatch(f"{name}:{value}")), None)
    if wrong is not None:
        why = f"the header {wrong!r} isn't a valid one"
    elif not _METHOD.fullmatch(request.method) or not _TARGET.fullmatch(request.target):
        why = "its method or its path isn't a valid one"
    elif any(size < 1 for size in request.pieces):
        why = "a piece of its body has at least one byte"
    else:
        return
    raise UsageError(f"{request.method} {request.target!r} can't be sent: {why}")


def _pairs(headers: Headers) -> list[Pair]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.iteritems()]


class Exchange:
    """A request on its way through the emulator."""

    peer, peer_port, local, local_port = b"127.0.0.1:40000", 40000, b"127.0.0.1:80", 80

    def __init__(self, world: World, request: Request, contexts: list[HttpContext], number: int) -> None:
        self.world, self.request, self.number = world, request, number
        self.state: dict[bytes, bytes] = {}  # what plugins have set
        self.fixed: set[bytes] = set()  # what of it can't be set again
        self.envoys_state: dict[str, bytes] = {}  # what they have set that Envoy itself looks at
        self.began = world.clock.nanoseconds()
        self.cluster = ""  # that the request goes to
        self.received = 0  # bytes of the request's body
        self.client = Client()
        self.upstream = Upstream(self)
        self.stream = Stream(contexts, self.upstream, self.client)
        self.client.stream = self.stream
        self.stream.is_head = request.method == "HEAD"
        for each in contexts:
            each.stream, each.exchange = self.stream, self

    @property
    def duration(self) -> int:
        """Nanoseconds since it began."""
        return self.world.clock.nanoseconds() - self.began

    @property
    def sent(self) -> int:
        """Bytes of the answer's body that the client has got."""
        return sum(map(len, self.client.content))

    @property
    def status(self) -> int | None:
        """The answer's status, once there is one."""
        found = self.stream.encode.headers and self.stream.encode.headers.get(b":status")
        return int(found) if found else None

    def waits_for(self) -> tuple[str, str]:
        """Why there is no answer, and what to do about it."""
        if self.stream.decode.is_stopped:
            return REQUEST_PAUSED
        return ANSWER_PAUSED if self.stream.encode.is_stopped else NO_ANSWER

    def run(self) -> None:
        """Send the request in."""
        request = self.request
        headers = self._head(_pairs(request.headers))
        body, trailers = _framed(request)
        stream = self.stream
        has_body = body or trailers is not None or _announces_body(headers)
        headers.remove(b"transfer-encoding")
        self.cluster = self.route(headers)
        stream.decode.begin(headers, not has_body)
        if stream.decode.complete:
            return
        for part in _cut(body) if body is not request.body else chain(*map(_cut, request.parts)):
            if stream.is_over:
                return
            self.received += len(part)
            stream.decode.body(part, False)
        if stream.is_over:
            return
        if trailers:
            stream.decode.finish(HeaderMap(REQUEST_TRAILERS, trailers))
        else:
            stream.decode.body(b"", True)

    def route(self, headers: HeaderMap) -> str:
        """The cluster that a request goes to."""
        named = (headers.get(CLUSTER.encode()) or b"").decode(errors="replace")
        return named if named in self.world.clusters else UPSTREAM

    def _head(self, given: list[Pair]) -> HeaderMap:
        """The headers as the first filter sees them."""
        host = next((value for name, value in given if name == b"host"), b"localhost")
        pseudo = [
            (b":authority", host),
            (b":path", self.request.target.encode("latin-1")),
            (b":method", self.request.method.encode()),
            (b":scheme", b"http"),
        ]
        headers = HeaderMap(REQUEST, pseudo)
        request = self.request
        framing = {name for name, _ in given} & {b"content-length", b"transfer-encoding"}
        if request.trailers and not framing:
            given = [*given, (b"transfer-encoding", b"chunked")]
        elif request.body and not framing:
            given = [*given, (b"content-length", str(len(request.body)).encode())]
        for name, value in given:
            if name != b"host" and name not in _HOP_BY_HOP:
                headers.add(name, value)
        headers.add(b"x-forwarded-for", own_address())
        headers.remove(b"x-forwarded-proto")
        headers.add(b"x-forwarded-proto", b"http")
        headers.remove(b"x-envoy-external-address")
        headers.add(b"x-envoy-external-address", b"127.0.0.1")
        return headers


def _announces_body(headers: HeaderMap) -> bool:
    length = headers.get(b"content-length")
    return headers.get(b"transfer-encoding") is not None or (length is not None and length != b"0")


def _framed(request: Request) -> tuple[bytes, list[Pair] | None]:
    """The bytes of a request's body and its trailers: tests may have framed it themselves."""
    trailers = _pairs(request.trailers) if request.trailers else None
    if "chunked" in request.headers.get("transfer-encoding", "") and trailers is None:
        return _unchunked(request.body), None
    return request.body, trailers


def _unchunked(body: bytes) -> bytes:
    parts, rest = [], body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            raise UsageError(f"the chunked body isn't framed: {size[:50]!r} is no size of a chunk") from None
        if not length:
            break
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)


class Client:
    """The client's end: it gathers the answer."""

    stream: Stream

    def __init__(self) -> None:
        self.head: HeaderMap | None = None
        self.content: list[bytes] = []
        self.tail: HeaderMap | None = None
        self.ended_by_headers = False

    def headers(self, headers: HeaderMap, end: bool) -> None:
        """The answer's headers, to which Envoy adds its own after the filters."""
        if not (headers.get(b":status") or b"").isdigit():
            self._replace(_WITHOUT_STATUS)
            return
        if headers.get(b"date") is None:
            headers.add(b"date", formatdate(usegmt=True).encode())
        headers.replace(b"server", b"envoy")
        for name in (b"transfer-encoding", b"connection"):
            headers.remove(name)
        if not self.stream.decode.complete:  # it doesn't wait for the rest of the request
            headers.add(b"connection", b"close")
        self.head = HeaderMap(headers.single, headers)  # a plugin may change them when they have been sent
        self.ended_by_headers = end
        self._end(end)

    def data(self, data: bytes, end: bool) -> None:
        """A part of its body."""
        if not self.stream.is_over:
            self.content.append(data)
            self._end(end)

    def trailers(self, trailers: HeaderMap) -> None:
        """Its trailers."""
        if self.stream.is_over:
            return
        self.tail = HeaderMap(trailers.single, trailers)
        self._end(True)

    def _end(self, end: bool) -> None:
        if end:
            self.stream.end()

    def _replace(self, text: bytes) -> None:
        """Envoy answers itself, since the answer has no status."""
        self.stream.details = "filter_removed_required_response_headers{missing_required_header:_:status}"
        length = str(len(text)).encode()
        made = [(b":status", b"502"), (b"content-length", length), (b"content-type", b"text/plain")]
        made += [(b"date", formatdate(usegmt=True).encode()), (b"server", b"envoy")]
        self.head = HeaderMap(RESPONSE, made)
        self.content = [text]
        self.stream.end()

    def response(self, method: str) -> Response | None:
        """The answer as a client reads it; None without one."""
        if self.head is None:
            return None
        status = int(self.head.get(b":status") or 0)
        headers = _texts(pair for pair in self.head if pair[0][:1] != b":")
        body = b"".join(self.content)
        names = {name for name, _ in headers}
        is_head, framed = method == "HEAD", "content-length" in names or status in (204, 304)
        bodyless = is_head or status in (204, 304)
        chunked = not framed and (is_head or not self.ended_by_headers)
        if chunked:
            headers.append(("transfer-encoding", "chunked"))
        elif not framed:
            headers.append(("content-length", "0"))
        found, surplus, complete = Headers(headers), 0, not self.stream.was_reset
        announced = found.get("content-length", "")
        if announced.isdecimal() and not bodyless:
            length = int(announced)
            surplus, complete = max(0, len(body) - length), complete and len(body) >= length
            body = body[:length]
        trailers = Headers(_texts(self.tail or ()) if chunked and not is_head else ())
        return Response(status, found, b"" if bodyless else body, trailers, surplus, complete)


def _texts(pairs: Iterable[Pair]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]


class Upstream:
    """The upstream's end: it gathers the request, and brings back the answer."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.head: HeaderMap | None = None
        self.content: list[bytes] = []
        self.tail: HeaderMap | None = None
        self.refused = False
        self.ended_by_headers = False

    def headers(self, headers: HeaderMap, end: bool) -> None:
        """The request's headers: the route is chosen."""
        self.head = headers
        self.ended_by_headers = end
        if headers.get(b":path") is None or headers.get(b"x-forwarded-proto") is None:
            self._refuse(404, b"", "route_not_found")
            return
        self.exchange.cluster = self.exchange.route(headers)
        if headers.get(b":method") is None:
            self._refuse(
                503,
                b"missing required header: :method",
                "filter_removed_required_request_headers{missing_required_header:_:method}",
            )
            return
        for name, value in headers:
            if set(value) & _BAD:
                text = f"invalid header value for: {name.decode(errors='replace')}".encode()
                self._refuse(503, text, "filter_added_invalid_request_header")
                return
        headers.replace(b"x-envoy-expected-rq-timeout-ms", _TIMEOUT)
        self.head = HeaderMap(headers.single, headers)  # a plugin may change them when they have been sent
        self._end(end)

    def data(self, data: bytes, end: bool) -> None:
        """A part of its body."""
        if not self.refused:
            self.content.append(data)
            self._end(end)

    def trailers(self, trailers: HeaderMap) -> None:
        """Its trailers."""
        if not self.refused:
            self.tail = HeaderMap(trailers.single, trailers)
            self._end(True)

    def _refuse(self, status: int, body: bytes, details: str) -> None:
        self.refused = True
        self.exchange.stream.local_reply(status, body, details=details)

    def _end(self, end: bool) -> None:
        if end:
            self.exchange.world.clock.after(0, self._ask)

    def _ask(self) -> None:
        exchange = self.exchange
        if self.head is None or exchange.stream.is_over:
            return
        body = b"".join(self.content)
        received = received_by(self.head, body, self.tail, ended_by_headers=self.ended_by_headers)
        if received is None:  # less than its content-length: the upstream waits for the rest
            return
        origin = exchange.world.origin_of(exchange.cluster)
        reply = origin(received, exchange.cluster)
        exchange.world.clock.after(reply.after, lambda: self._answer(reply, received.method))

    def _answer(self, reply: Reply, method: bytes) -> None:
        stream = self.exchange.stream
        if stream.is_over or stream.encode.headers is not None:
            return
        if reply.cut and not reply.body:  # it ends before its headers do
            details = "upstream_reset_before_response_started{protocol_error}"
            stream.local_reply(502, PROTOCOL_ERROR, details=details)
            return
        stream.details = "via_upstream"
        headers, parts, trailers = answer_of(reply, method)
        headers.add(b"x-envoy-upstream-service-time", b"0")
        stream.encode.begin(
            headers, (not parts and not trailers and not _announces_body(headers)) or method == b"HEAD"
        )
        if stream.encode.complete:
            return
        for part in parts:
            if stream.is_over:
                return
            stream.encode.body(part, False)
        if stream.is_over:
            return
        if reply.cut:
            stream.reset()
        elif trailers:
            stream.encode.finish(HeaderMap(RESPONSE_TRAILERS, trailers))
        else:
            stream.encode.body(b"", True)


_BAD = {0, 10, 13}


def received_by(
    headers: HeaderMap, body: bytes, trailers: HeaderMap | None, *, ended_by_headers: bool
) -> Received | None:
    """A request as an HTTP/1 server reads it; None if its end doesn't come.

    Trailers come only after chunks: behind a content-length Envoy sends none.
    """
    method = headers.get(b":method") or b""
    fields = [(b"host", headers.get(b":authority") or b"")]
    fields += [pair for pair in headers if pair[0][:1] != b":"]
    length = headers.get(b"content-length")
    chunked = length is None and not ended_by_headers
    if chunked:
        fields = [pair for pair in fields if pair[0] != b"transfer-encoding"]
        fields.append((b"transfer-encoding", b"chunked"))
    elif length is None and method not in _BODYLESS:
        fields.append((b"content-length", b"0"))
    elif length is not None and length.isdigit():
        if int(length) > len(body):
            return None
        body = body[: int(length)]
    return Received(
        method, headers.get(b":path") or b"", fields, body, trailers=list(trailers or ()) if chunked else []
    )


def answer_of(reply: Reply, method: bytes) -> tuple[HeaderMap, list[bytes], list[Pair]]:
    """An answer of the built-in upstream: headers as a filter sees them, parts of its body, trailers."""
    headers = HeaderMap(RESPONSE, [(b":status", str(reply.status).encode())])
    for name, value in _fields(reply.fields):
        headers.add(name, value)
    chunked = reply.chunked or bool(reply.trailers)
    if chunked:
        headers.add(b"transfer-encoding", b"chunked")
    elif reply.status not in (204, 304):
        headers.add(b"content-length", str(len(reply.body)).encode())
    if reply.cut or reply.close:
        headers.add(b"connection", b"close")
    body = b"" if method == b"HEAD" or reply.status in (204, 304) else reply.body
    if reply.cut and body and not chunked:  # of chunks, the end is missing
        body = body[:-1]
    return headers, _cut(body), _fields(reply.trailers)


def _cut(body: bytes) -> list[bytes]:
    return [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]


def _fields(lines: bytes) -> list[Pair]:
    found = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.strip().lower(), value.strip()))
    return found
