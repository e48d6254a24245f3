"""gRPC calls and streams of a plugin in one VM: their tokens, what is sent, what the plugin is told.

Source: envoyproxy/envoy, source/extensions/common/wasm/context.cc, source/common/grpc/async_client_impl.cc.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from scaffold.errors import HostError
from scaffold.hosts.emulator import grpc_answer, protobuf
from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.grpc_answer import PREFIX, UNAVAILABLE, UNKNOWN, Answer
from scaffold.hosts.emulator.header_map import RESPONSE_TRAILERS, HeaderMap
from scaffold.hosts.emulator.stream import Body
from scaffold.hosts.emulator.vm import Stop
from scaffold.hosts.emulator.wire import Pair
from scaffold.hosts.unsupported import Unsupported

if TYPE_CHECKING:
    from scaffold.hosts.emulator.clock import Timer
    from scaffold.hosts.emulator.plugin_vm import PluginVm
    from scaffold.hosts.emulator.world import World

_CALL, _STREAM = 1, 2  # the low two bits of a token
_KIND = 3
_INTERNAL = 13
_NO_STATUS = 0xFFFFFFFF  # for one that gRPC doesn't have
_LAST_STATUS = 16
_NO_CLUSTER = b"Cluster not available"
_ENVOY_GRPC, _GOOGLE_GRPC, _TIMEOUT = 1, 2, 3  # fields of envoy.config.core.v3.GrpcService
_CLUSTER, _AUTHORITY = 1, 2  # of its EnvoyGrpc


class Service(NamedTuple):
    """Where a call goes, and the host that it names there."""

    cluster: str
    authority: bytes


def service_of(content: bytes, world: World) -> Service | None:
    """The service that a plugin names: a cluster, or a `GrpcService` as protobuf; None if it is neither.

    Raises `HostError` for one that Envoy doesn't survive, `Unsupported` for what the emulator doesn't have.
    """
    try:
        fields = protobuf.fields(content)
        target = [number for number, value in fields if number < _TIMEOUT and isinstance(value, bytes)]
        inner = protobuf.merged(fields, _ENVOY_GRPC) or []
        cluster, authority = protobuf.text(inner, _CLUSTER), protobuf.text(inner, _AUTHORITY)
    except protobuf.Malformed:
        name = content.decode(errors="replace")
        return Service(name, content) if world.has_cluster(name) else None
    if not target:
        raise HostError(
            "Envoy itself would crash: the plugin calls a gRPC service without a target",
            hint="name the cluster in a GrpcService message: a name alone may happen to be another message",
        )
    if target[-1] == _GOOGLE_GRPC:
        raise Unsupported("gRPC services by google_grpc")
    if any(number > _TIMEOUT for number, _ in fields) or any(number > _AUTHORITY for number, _ in inner):
        raise Unsupported("gRPC services with more than a cluster and an authority")
    return Service(cluster, authority.encode() or cluster.encode())


class Grpc:
    """The calls and streams of a plugin in a VM; the maps and the message of the callback that runs."""

    def __init__(self, of: PluginVm) -> None:
        self.of, self.world = of, of.world
        self.initial: HeaderMap | None = None
        self.trailing: HeaderMap | None = None
        self.message: Body | None = None
        self._open: dict[int, _Exchange] = {}
        self._counts = {_CALL: 0, _STREAM: 0}
        self._kept = 0  # bytes that wait to be sent

    def map(self, kind: int) -> HeaderMap | None:
        """The metadata that a callback is about."""
        return self.initial if kind == s.GRPC_INITIAL_METADATA else self.trailing

    # what the plugin asks for

    def call(
        self,
        service: Service,
        names: tuple[bytes, bytes],
        metadata: list[Pair],
        message: bytes,
        milliseconds: int,
    ) -> tuple[int, int]:
        """Call a method, `names` of service and method; the status, and the call's token."""
        begun = self._begin(_CALL, service, names, metadata, milliseconds)
        if begun is None:
            return s.INTERNAL_FAILURE, 0
        begun.send(grpc_answer.framed(message), end=True)
        return s.OK, begun.token

    def stream(self, service: Service, names: tuple[bytes, bytes], metadata: list[Pair]) -> tuple[int, int]:
        """Open a stream to a method."""
        begun = self._begin(_STREAM, service, names, metadata, None)
        return (s.INTERNAL_FAILURE, 0) if begun is None else (s.OK, begun.token)

    def send(self, token: int, message: bytes, *, end: bool) -> int:
        """Send a message on a stream; with `end` the last."""
        if token & _KIND != _STREAM:
            return s.BAD_ARGUMENT
        found = self._open.get(token)
        if found is None:
            return s.NOT_FOUND
        found.send(grpc_answer.framed(message), end=end)
        return s.OK

    def close(self, token: int) -> int:
        """Say that no more messages follow; a call is cancelled."""
        if token & _KIND != _STREAM:
            return self.cancel(token)
        found = self._open.get(token)
        if found is None:
            return s.NOT_FOUND
        found.send(b"", end=True)
        found.closed = True
        if found.closed_by_remote:
            del self._open[token]
        return s.OK

    def cancel(self, token: int) -> int:
        """End a call or a stream: the plugin hears no more of it."""
        if token & _KIND not in (_CALL, _STREAM):
            return s.BAD_ARGUMENT
        found = self._open.pop(token, None)
        if found is None:
            return s.NOT_FOUND
        found.abandon()
        return s.OK

    def keep(self, size: int) -> None:
        """Count bytes that wait; end the callback if they are too many."""
        self._kept += size
        if size > 0 and self._kept > self.of.vm.limits.kept:
            raise Stop(f"more than {self.of.vm.limits.kept:,} bytes wait to be sent by gRPC")

    def stop(self) -> None:
        """End them all."""
        for each in self._open.values():
            each.abandon()
        self._open.clear()

    def _begin(
        self,
        kind: int,
        service: Service,
        names: tuple[bytes, bytes],
        metadata: list[Pair],
        milliseconds: int | None,
    ) -> _Exchange | None:
        """A new call or stream; None without such a cluster, of which the plugin hears after its callback."""
        self._counts[kind] += 1
        token = 4 * self._counts[kind] + kind
        if not self.world.has_cluster(service.cluster):
            self.of.vm.after.append(lambda: self.told_close(token, UNAVAILABLE, _NO_CLUSTER))
            return None
        head = grpc_answer.head(service.authority, *names, metadata, milliseconds)
        made = self._open[token] = _Exchange(self, token, service.cluster, head, milliseconds or 0)
        return made

    # what the plugin is told

    def told_initial(self, token: int, metadata: HeaderMap) -> None:
        """The metadata that come before messages."""
        self.initial = metadata
        self.of.tell("proxy_on_grpc_receive_initial_metadata", token, len(metadata))
        self.initial = None

    def told_message(self, token: int, message: bytes) -> None:
        """A message, which is the end of a call."""
        self.message = Body(message)

        def forget() -> None:
            self.message = None
            self._end_call(token)

        self.of.vm.after.append(forget)
        self.of.tell("proxy_on_grpc_receive", token, len(message))

    def told_trailing(self, token: int, metadata: HeaderMap) -> None:
        """The metadata that come after messages."""
        self.trailing = metadata
        self.of.tell("proxy_on_grpc_receive_trailing_metadata", token, len(metadata))
        self.trailing = None

    def told_close(self, token: int, status: int, message: bytes) -> None:
        """It is over."""
        if self.of.calls("proxy_on_grpc_close"):
            self.of.last_status = status, message

        def forget() -> None:
            self.of.last_status = self.of.last_status[0], b""
            self._end_call(token)
            if token in self._open and self._open[token].closed:
                del self._open[token]

        self.of.vm.after.append(forget)
        self.of.tell("proxy_on_grpc_close", token, status)

    def _end_call(self, token: int) -> None:
        if token & _KIND == _CALL:
            self._open.pop(token, None)


@dataclass
class _Exchange:
    """A call or a stream. It goes off as a whole: over HTTP/1 no answer comes before the request's end."""

    grpc: Grpc
    token: int
    cluster: str
    head: HeaderMap
    milliseconds: int  # until it times out; 0 is never
    parts: list[bytes] = field(default_factory=list)  # of what is sent
    ended: bool = False  # the plugin's side, by its last message
    closed: bool = False  # by `proxy_grpc_close`
    closed_by_remote: bool = False
    over: bool = False
    timer: Timer | None = None
    response: bytes | None = None  # of a call

    @property
    def is_call(self) -> bool:
        return self.token & _KIND == _CALL

    def send(self, data: bytes, *, end: bool) -> None:
        if self.ended or self.over:
            return
        self.parts.append(data)
        self.grpc.keep(len(data))
        self.ended = end
        if end:
            self.timer = self.grpc.world.clock.after(0, self._ask)

    def abandon(self) -> None:
        self.over = True
        self._taken()
        if self.timer:
            self.timer.cancel()

    def _taken(self) -> bytes:
        """What was sent, which is kept no longer."""
        body = b"".join(self.parts)
        self.parts.clear()
        self.grpc.keep(-len(body))
        return body

    def _ask(self) -> None:
        world = self.grpc.world
        answer = grpc_answer.ask(world, self.cluster, self.head, self._taken(), self.milliseconds)
        if answer.after < float("inf"):
            self.timer = world.clock.after(answer.after, lambda: self._receive(answer))

    def _receive(self, answer: Answer) -> None:
        headers = answer.headers
        http = int(headers.get(b":status") or 0)
        if answer.ends_with_headers and (http == 200 or _status(headers) is not None):
            self._initial(HeaderMap(headers.single))
            self._finish(HeaderMap(RESPONSE_TRAILERS, headers), answer.details)
        elif http != 200:
            self._initial(HeaderMap(headers.single))
            self._fail(grpc_answer.status_of(http), answer.details)
        else:
            self._initial(headers)
            self._messages(answer)

    def _messages(self, answer: Answer) -> None:
        rest = b""
        for data in answer.data:
            messages, rest, valid = _unframed(rest + data)
            for each in messages if valid else ():
                if each is None:
                    valid = False
                    break
                self._message(each)
            if not valid:
                self._fail(_INTERNAL, answer.details)
                return
        if answer.trailers is not None:
            self._finish(answer.trailers, answer.details)
        else:
            self._fail(_INTERNAL if answer.reset else UNKNOWN, answer.details)

    def _initial(self, metadata: HeaderMap) -> None:
        if not self.is_call and not self.over:
            self.grpc.told_initial(self.token, metadata)

    def _message(self, message: bytes) -> None:
        if self.is_call:
            self.response = message
        elif not self.over:
            self.grpc.told_message(self.token, message)

    def _finish(self, trailers: HeaderMap, details: str) -> None:
        """It ends with trailers."""
        self._trailing(trailers)
        status = _status(trailers)
        message = trailers.get(b"grpc-message") or b""
        self._close(UNKNOWN if status is None else status, message, details)

    def _fail(self, status: int, details: str) -> None:
        self._trailing(HeaderMap(RESPONSE_TRAILERS))
        self._close(status, b"", details)

    def _trailing(self, metadata: HeaderMap) -> None:
        if not self.is_call and not self.over:
            self.grpc.told_trailing(self.token, metadata)

    def _close(self, status: int, message: bytes, details: str) -> None:
        if self.over:
            return
        self.over = self.closed_by_remote = True
        if details:
            message = b"%s{%s}" % (message, details.encode()) if message else details.encode()
        if not self.is_call or status:
            self.grpc.told_close(self.token, status, message)
        elif self.response is None:
            self.grpc.told_close(self.token, _INTERNAL, b"")
        else:
            self.grpc.told_message(self.token, self.response)


def _status(headers: HeaderMap) -> int | None:
    """The gRPC status in headers or trailers; None without one."""
    found = headers.get(b"grpc-status")
    if not found:
        return None
    known = found.isdigit() and int(found) <= _LAST_STATUS
    return int(found) if known else _NO_STATUS


def _unframed(data: bytes) -> tuple[list[bytes | None], bytes, bool]:
    """The messages in some data, None for a compressed one; what is left; whether the frames are valid."""
    messages: list[bytes | None] = []
    while data:
        if data[0] > 1:
            return messages, data, False
        if len(data) < PREFIX:
            break
        compressed, size = struct.unpack_from(">BI", data)
        if len(data) < PREFIX + size:
            break
        message = data[PREFIX : PREFIX + size]
        messages.append(None if compressed and message else message)
        data = data[PREFIX + size :]
    return messages, data, True
