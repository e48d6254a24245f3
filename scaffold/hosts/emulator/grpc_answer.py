"""What a gRPC call becomes on its way to a cluster, and what comes back.

A cluster speaks HTTP/1 with the built-in upstream, which then gets gRPC's own frames; or, as `grpc://upstream`,
leads through another listener of ours, whose filter hands on the bare message.
Source: envoyproxy/envoy, source/common/grpc/common.cc, source/common/http/async_client_impl.cc and
source/extensions/filters/http/grpc_http1_reverse_bridge/filter.cc.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from scaffold.hosts.emulator.exchange import PROTOCOL_ERROR, answer_of, received_by
from scaffold.hosts.emulator.header_map import REQUEST, RESPONSE, RESPONSE_TRAILERS, HeaderMap
from scaffold.hosts.emulator.wire import Pair
from scaffold.hosts.envoy.resources import MESSAGE
from scaffold.hosts.unsupported import Unsupported
from scaffold.hosts.upstream.http1 import Received, Reply

if TYPE_CHECKING:
    from scaffold.hosts.emulator.world import World

GRPC = b"application/grpc"
PREFIX = 5  # bytes before a message: whether it is compressed, and its size
UNKNOWN, UNAVAILABLE = 2, 14
_BRIDGED = MESSAGE.encode()
_HOP = 0.001  # seconds that it takes through the other listener: a direct answer comes first
_BRIDGE_TIMEOUT = 60  # seconds, of the route behind the bridge
_MOST_MILLISECONDS = 99_999_999  # that grpc-timeout can say
_STATUSES = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}  # HTTP's -> gRPC's
_TIMED_OUT = b"upstream request timeout", "response_timeout"
_REFUSED = (
    b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
    "upstream_reset_before_response_started"
    "{remote_connection_failure|delayed_connect_error:_Connection_refused}",
)
_BROKEN = PROTOCOL_ERROR, "upstream_reset_before_response_started{protocol_error}"


@dataclass(frozen=True)
class Answer:
    """What comes back, `after` some seconds: `data` in its pieces; without trailers, data end it, or a reset.

    `details` are Envoy's response code details.
    """

    headers: HeaderMap
    data: tuple[bytes, ...] = ()
    trailers: HeaderMap | None = None
    reset: bool = False
    details: str = "via_upstream"
    after: float = 0.0

    @property
    def ends_with_headers(self) -> bool:
        """Whether there are headers alone."""
        return not self.data and self.trailers is None and not self.reset


def status_of(http: int) -> int:
    """gRPC's status for one of HTTP's."""
    return _STATUSES.get(http, UNKNOWN)


def framed(message: bytes) -> bytes:
    """A message as it is sent."""
    return struct.pack(">BI", 0, len(message)) + message


def head(
    authority: bytes, service: bytes, method: bytes, metadata: Iterable[Pair], milliseconds: int | None
) -> HeaderMap:
    """The headers of a call; `milliseconds` are its timeout, and a stream has none."""
    made = HeaderMap(
        REQUEST,
        [(b":authority", authority), (b":path", b"/%s/%s" % (service, method)), (b":method", b"POST")],
    )
    made.add(b"te", b"trailers")
    if milliseconds is not None:
        seconds = milliseconds > _MOST_MILLISECONDS
        made.add(b"grpc-timeout", b"%dS" % (milliseconds // 1000) if seconds else b"%dm" % milliseconds)
    made.add(b"content-type", GRPC)
    for name, value in metadata:
        made.add(name, value)
    in_text = [(name, base64.b64encode(value) if name.endswith(b"-bin") else value) for name, value in made]
    return HeaderMap(REQUEST, in_text)


def ask(world: World, cluster: str, sent: HeaderMap, body: bytes, milliseconds: int) -> Answer:
    """Send a complete call to a cluster. Raises `Unsupported` for another program."""
    found = (_through_bridge if world.bridged(cluster) else _directly)(
        world, cluster, sent, body, milliseconds
    )
    if milliseconds and found.after > milliseconds / 1000:
        return replace(_own(*_TIMED_OUT), after=milliseconds / 1000)
    return found


def _directly(world: World, cluster: str, sent: HeaderMap, body: bytes, milliseconds: int) -> Answer:
    origin = world.origin_of(cluster, grpc=True)
    if not world.reaches_upstream(cluster):
        return _own(*_REFUSED)
    sent.add(b"x-envoy-internal", b"true")
    if milliseconds:
        sent.add(b"x-envoy-expected-rq-timeout-ms", str(milliseconds).encode())
    reply = origin(_received(sent, body), cluster)
    if reply.cut and not reply.body:
        return replace(_own(*_BROKEN), after=reply.after)
    headers, parts, trailers = answer_of(reply, b"POST")
    headers.add(b"x-envoy-upstream-service-time", b"0")
    answer = Answer(headers, tuple(parts), None, reply.cut, after=reply.after)
    if reply.cut:
        return replace(answer, details="upstream_reset_after_response_started{protocol_error}")
    if trailers:
        return replace(answer, trailers=HeaderMap(RESPONSE_TRAILERS, trailers))
    has_end = not parts and headers.get(b"transfer-encoding") is not None
    return replace(answer, data=(b"",)) if has_end else answer


def _received(sent: HeaderMap, body: bytes) -> Received:
    received = received_by(sent, body, None, ended_by_headers=False)
    if received is None:
        raise Unsupported("a gRPC call with a content-length of its own")
    return received


def _through_bridge(world: World, cluster: str, sent: HeaderMap, body: bytes, _milliseconds: int) -> Answer:
    if sent.get(b"content-type") != GRPC:
        raise Unsupported("a gRPC call with another content-type")
    if len(body) < PREFIX:  # the filter answers itself, and takes its own answer for the upstream's
        return replace(_own_of_bridge(GRPC, 200), after=_HOP)
    passed = HeaderMap(
        REQUEST, [(name, _BRIDGED if name == b"content-type" else value) for name, value in sent]
    )
    passed.add(b"x-forwarded-proto", b"http")
    passed.replace(b"accept", _BRIDGED)
    passed.add(b"x-envoy-expected-rq-timeout-ms", b"%d" % (_BRIDGE_TIMEOUT * 1000))
    reply = world.origin_of(cluster, grpc=True)(_received(passed, body[PREFIX:]), cluster)
    if reply.after > _BRIDGE_TIMEOUT:
        return replace(_own_of_bridge(GRPC, 200), after=_BRIDGE_TIMEOUT)
    return replace(_bridged(reply), after=reply.after + _HOP)


def _bridged(reply: Reply) -> Answer:
    """The upstream's answer as the filter makes gRPC of it."""
    if reply.cut and not reply.body:
        return _own_of_bridge(GRPC, 200)
    headers, parts, trailers = answer_of(reply, b"POST")
    kind = headers.get(b"content-type")
    if kind != _BRIDGED:
        return _own_of_bridge(kind, reply.status)
    length = headers.get(b"content-length")
    made = HeaderMap(RESPONSE)
    for name, value in headers:
        if name not in (b"transfer-encoding", b"connection"):
            made.add(name, _translated(name, value))
    if length is None and reply.status in (204, 304):
        made.add(b"content-length", b"%d" % PREFIX)
    _finish(made)
    if reply.cut:
        return Answer(made, reset=True, details="upstream_reset_after_response_started{remote_reset}")
    status = 0 if reply.status == 200 else status_of(reply.status)
    tail = HeaderMap(RESPONSE_TRAILERS, [pair for pair in trailers if pair[0] != b"grpc-status"])
    tail.add(b"grpc-status", b"%d" % status)
    return Answer(made, (framed(b"".join(parts)),), tail)


def _translated(name: bytes, value: bytes) -> bytes:
    if name == b":status":
        return b"200"
    if name == b"content-type":
        return GRPC
    return b"%d" % (int(value) + PREFIX) if name == b"content-length" else value


def _finish(headers: HeaderMap) -> None:
    """Add what the listener behind the bridge adds to an answer of its upstream."""
    headers.add(b"x-envoy-upstream-service-time", b"0")
    if headers.get(b"date") is None:
        headers.add(b"date", formatdate(usegmt=True).encode())
    headers.replace(b"server", b"envoy")


def _own_of_bridge(kind: bytes | None, status: int) -> Answer:
    """What the filter answers instead of an answer that isn't a bare message."""
    what = b"unsupported content-type %s" % kind if kind else b"no content-type header"
    text = b"envoy reverse bridge: upstream responded with %s, status code %d" % (what, status)
    headers = _own(text, "", UNKNOWN).headers
    headers.add(b"date", formatdate(usegmt=True).encode())
    headers.add(b"server", b"envoy")
    headers.add(b"x-envoy-upstream-service-time", b"0")
    return Answer(headers)


def _own(text: bytes, details: str, status: int = UNAVAILABLE) -> Answer:
    """What Envoy answers itself."""
    made = [(b":status", b"200"), (b"content-type", GRPC), (b"grpc-status", b"%d" % status)]
    escaped = b"".join(bytes([each]) if _plain(each) else b"%%%02X" % each for each in text)
    return Answer(HeaderMap(RESPONSE, [*made, (b"grpc-message", escaped)]), details=details)


def _plain(byte: int) -> bool:
    return ord(" ") <= byte < ord("~") and byte != ord("%")
