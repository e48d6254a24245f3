"""Contexts: a plugin's root, and one for each stream; what of each a module may ask for, and when.

Source: envoyproxy/envoy, source/extensions/common/wasm/context.cc; proxy-wasm-cpp-host, src/context.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scaffold.errors import HostError
from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.header_map import HeaderMap
from scaffold.hosts.emulator.stream import Body, Direction, Status, Stream
from scaffold.hosts.emulator.vm import Trap, Vm

if TYPE_CHECKING:
    from scaffold.hosts.emulator.exchange import Exchange
    from scaffold.hosts.emulator.plugin_vm import PluginVm
    from scaffold.hosts.emulator.tcp import Session

_PAUSE = 1
_KNOWN = {
    ("request", "headers"): s.REQUEST_HEADERS,
    ("request", "trailers"): s.REQUEST_TRAILERS,
    ("response", "headers"): s.RESPONSE_HEADERS,
    ("response", "trailers"): s.RESPONSE_TRAILERS,
}


class Context:
    """What a callback is about: `id` is its number in the VM; `of` is the plugin that runs there."""

    stream: Stream | None = None
    exchange: Exchange | Session | None = None

    def __init__(self, of: PluginVm, number: int) -> None:
        self.of, self.id = of, number
        self.declared: dict[bytes, bool] = {}  # properties, and whether each can be set only once
        self.vm: Vm = of.vm
        self.vm.contexts[number] = self

    def call(self, name: str, *arguments: int) -> int:
        """Call the module about this context, then do what it has left for afterwards; 0 without export."""
        result = self.enter(name, *arguments)
        self.leave()
        return result

    def enter(self, name: str, *arguments: int) -> int:
        """The same without what comes afterwards, which `leave` does."""
        vm = self.vm
        if vm.failed or not self.of.calls(name):
            return 0
        before = vm.current, vm.effective
        vm.current, vm.effective = self, None
        try:
            return vm.call(name, *arguments)
        finally:
            vm.current, vm.effective = before

    def leave(self) -> None:
        """Do what the module has left for after the callback."""
        vm = self.vm
        vm.stopped = False
        while vm.after:  # another callback, which an action leads to, goes on with the rest
            vm.after.popleft()()

    # what a module may ask for

    def map(self, kind: int) -> HeaderMap | None:
        """A header map to read, while there is one."""
        if kind in (s.GRPC_INITIAL_METADATA, s.GRPC_TRAILING_METADATA):
            return self.of.grpc.map(kind)
        return self.of.root.answer_map(kind) if kind in (s.CALL_HEADERS, s.CALL_TRAILERS) else None

    def mutable_map(self, kind: int) -> HeaderMap | None:
        """A header map to change, while there is one."""
        return None

    @property
    def logging(self) -> bool:
        """Whether `on_log` runs."""
        return False

    def body(self, kind: int) -> Body | None:
        """A body that the module may change, while there is one."""
        return None

    def known(self, side: str, what: str) -> HeaderMap | None:
        """The headers or trailers of the request or the response, as properties have them."""
        return None

    # what it may do; a root has no stream

    def resume(self, kind: int) -> int:
        """Let the request or the answer go on, once the callback has returned."""
        return s.OK

    def close(self, kind: int) -> int:
        """Cut the stream off, once the callback has returned."""
        return s.OK

    def reply(self, status: int, details: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Answer, once the callback has returned."""

    def done(self) -> int:
        """The module has finished with a context that it wanted to keep."""
        return s.NOT_FOUND


class Root(Context):
    """A plugin's root context."""

    def __init__(self, of: PluginVm, number: int) -> None:
        super().__init__(of, number)
        self.configuring = False  # its configuration can be read
        # a callout's, while it is delivered
        self.answer: tuple[HeaderMap, bytes, HeaderMap | None] | None = None

    def answer_map(self, kind: int) -> HeaderMap | None:
        """The headers or trailers of a callout's answer, while it is delivered."""
        if self.answer is None:
            return None
        headers, _, trailers = self.answer
        return headers if kind == s.CALL_HEADERS else trailers


class HttpContext(Context):
    """A plugin's context for one stream: a filter."""

    def __init__(self, of: PluginVm, number: int) -> None:
        super().__init__(of, number)
        self.created = False
        self.began = False  # the request has reached it; else what comes back passes it by
        self.deleted = False
        self.failed = False  # its VM has, and an answer says so
        self.maps: dict[int, HeaderMap] = {}
        self.bodies: dict[int, Body] = {}
        self.holds = {s.REQUEST_BODY: False, s.RESPONSE_BODY: False}
        self.ends = False  # what is seen now is the last
        self._logged: dict[int, HeaderMap] | None = None

    def create(self) -> None:
        """Tell the module of this context."""
        if not self.created:
            self.created = True
            self.call("proxy_on_context_create", self.id, self.of.root.id)

    # as a filter

    def decode_headers(self, headers: HeaderMap, end: bool) -> Status:
        """Headers of the request."""
        self._guarded(self.create)
        self.began = True
        return self._headers(s.REQUEST_HEADERS, "proxy_on_request_headers", headers, end)

    def encode_headers(self, headers: HeaderMap, end: bool) -> Status:
        """Headers of the answer."""
        if not self.began:
            return Status.CONTINUE
        return self._headers(s.RESPONSE_HEADERS, "proxy_on_response_headers", headers, end)

    def decode_data(self, data: Body, end: bool) -> Status:
        """Data of the request."""
        return self._data(s.REQUEST_BODY, "proxy_on_request_body", data, end)

    def encode_data(self, data: Body, end: bool) -> Status:
        """Data of the answer."""
        if not self.began:
            return Status.CONTINUE
        return self._data(s.RESPONSE_BODY, "proxy_on_response_body", data, end)

    def decode_trailers(self, trailers: HeaderMap) -> Status:
        """Trailers of the request."""
        return self._trailers(s.REQUEST_TRAILERS, "proxy_on_request_trailers", trailers)

    def encode_trailers(self, trailers: HeaderMap) -> Status:
        """Trailers of the answer."""
        if not self.began:
            return Status.CONTINUE
        return self._trailers(s.RESPONSE_TRAILERS, "proxy_on_response_trailers", trailers)

    def log(self, stream: Stream) -> None:
        """The stream is over: the module may log it."""
        self._guarded(self.create)
        found = {
            s.REQUEST_HEADERS: stream.decode.headers,
            s.RESPONSE_HEADERS: stream.encode.headers,
            s.RESPONSE_TRAILERS: stream.encode.trailers,
        }
        self._logged = {kind: each for kind, each in found.items() if each is not None}
        self._guarded(lambda: self.call("proxy_on_log", self.id))
        self._logged = None

    def destroy(self) -> None:
        """The stream is gone, whatever the module answers."""
        if not self.created:
            return
        self._guarded(self._done)

    def _done(self) -> None:
        if not self.vm.failed:
            self.call("proxy_on_done", self.id)
        self.delete()

    def delete(self) -> None:
        """Tell the module that the context is gone."""
        if not self.deleted:
            self.deleted = True
            self.call("proxy_on_delete", self.id)
            self.vm.contexts.pop(self.id, None)

    def _headers(self, kind: int, name: str, headers: HeaderMap, end: bool) -> Status:
        self.maps[kind], self.ends = headers, end
        arguments = (self.id, len(headers)) if self.vm.abi == "0.1.0" else (self.id, len(headers), int(end))

        def convert(answer: int) -> Status:
            if self.vm.stopped or answer > 4:
                return Status.STOP_ALL
            if answer == _PAUSE:
                return Status.STOP if self.of.plugin.allow_stop_iteration else Status.STOP_ALL
            return Status.CONTINUE if answer in (0, 2) else Status.STOP_ALL

        status = self._asked(name, arguments, convert, Status.STOP_ALL)
        if status is Status.CONTINUE:
            self.maps.pop(kind, None)
        return status

    def _data(self, kind: int, name: str, data: Body, end: bool) -> Status:
        direction = self._direction(kind)
        if self.holds[kind]:
            direction.add_data(self._place(direction), data)
            self.bodies[kind] = direction.buffered or Body()
        else:
            self.bodies[kind] = data
        self.ends = end

        def convert(answer: int) -> Status:
            if self.vm.stopped or answer > 3:
                return Status.STOP_NO_BUFFER
            if answer in (1, 2):
                return Status.STOP_AND_BUFFER
            return Status.STOP_NO_BUFFER if answer else Status.CONTINUE

        status = self._asked(
            name, (self.id, len(self.bodies[kind]), int(end)), convert, Status.STOP_NO_BUFFER
        )
        self.holds[kind] = status is Status.STOP_AND_BUFFER
        if status is Status.CONTINUE:
            self.bodies.pop(kind, None)
        return status

    def _trailers(self, kind: int, name: str, trailers: HeaderMap) -> Status:
        self.maps[kind] = trailers

        def convert(answer: int) -> Status:
            return Status.STOP if self.vm.stopped or answer else Status.CONTINUE

        status = self._asked(name, (self.id, len(trailers)), convert, Status.STOP)
        if status is Status.CONTINUE:
            self.maps.pop(kind, None)
        return status

    def _asked(
        self,
        name: str,
        arguments: tuple[int, ...],
        convert: Callable[[int], Status],
        closed: Status,
    ) -> Status:
        """What the module says; a VM that has failed closes the stream, or lets it pass."""
        if self.vm.failed:
            return self._fail(closed)
        try:
            answer = convert(self.enter(name, *arguments))
        except Trap:
            return self._fail(closed)
        self.leave()
        return answer

    def _fail(self, closed: Status) -> Status:
        # of the policies, only the older field lets the request pass in which the VM fails
        if self.failed or self.stream is None or self.of.plugin.more.get("fail_open"):
            return Status.CONTINUE
        self.failed = True
        self.stream.local_reply(503, details="wasm_fail_stream")
        return closed

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Trap:
            self.vm.after.clear()

    # what a module may ask for

    def map(self, kind: int) -> HeaderMap | None:
        """A header map to read, while there is one; `on_log` has maps of its own."""
        if self._logged is not None:
            return self._logged.get(kind)
        found = self.maps.get(kind)
        return found if found is not None else super().map(kind)

    def mutable_map(self, kind: int) -> HeaderMap | None:
        """A header map to change, while there is one; trailers are made while the last data are seen."""
        found = self.maps.get(kind)
        if found is None and kind in (s.REQUEST_TRAILERS, s.RESPONSE_TRAILERS):
            of = s.REQUEST_BODY if kind == s.REQUEST_TRAILERS else s.RESPONSE_BODY
            if self.ends and of in self.bodies:
                found = self.maps[kind] = self._direction(of).add_trailers()
        return found

    @property
    def logging(self) -> bool:
        """Whether `on_log` runs."""
        return self._logged is not None

    def body(self, kind: int) -> Body | None:
        """A body that the module may change, while there is one."""
        return self._direction(kind).buffered if self.holds.get(kind) else self.bodies.get(kind)

    def known(self, side: str, what: str) -> HeaderMap | None:
        """The headers or trailers of the request or the response, as properties have them."""
        kind = _KNOWN[side, what]
        return self._logged.get(kind) if self._logged is not None else self.maps.get(kind)

    # what it may do

    def resume(self, kind: int) -> int:
        """Let the request or the answer go on, once the callback has returned."""
        if kind == s.DOWNSTREAM:  # of a network plugin
            return s.OK
        stream = self.stream
        direction = self._direction(s.REQUEST_BODY if kind == s.REQUEST else s.RESPONSE_BODY)
        if stream:
            self.vm.after.append(lambda: direction.resume(self._place(direction)))
        for each in (s.REQUEST_HEADERS, s.REQUEST_TRAILERS):
            self.maps.pop(each, None)
        self.bodies.pop(s.REQUEST_BODY, None)
        return s.OK

    def close(self, kind: int) -> int:
        """Cut the stream off, once the callback has returned."""
        if kind in (s.REQUEST, s.RESPONSE) and (stream := self.stream):
            self.vm.after.append(stream.reset)
        return s.OK

    def reply(self, status: int, details: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Answer, once the callback has returned. Raises `HostError` where Envoy doesn't survive it."""
        if self._logged is not None:
            raise HostError(
                "Envoy itself would crash: the plugin sends a local reply in proxy_on_log",
                hint="send it in a callback of the request or the response",
            )

        def send() -> None:
            if self.stream:
                self.stream.local_reply(status, body, headers, details=details)

        self.vm.after.append(send)

    def _direction(self, kind: int) -> Direction:
        stream = self._stream
        return stream.decode if kind == s.REQUEST_BODY else stream.encode

    def _place(self, direction: Direction) -> int:
        return self._stream.place(self, direction)

    @property
    def _stream(self) -> Stream:
        if self.stream is None:
            raise RuntimeError(f"context {self.id} has no stream")
        return self.stream


@contextmanager
def readable_configuration(root: Root) -> Iterator[None]:
    """While the block runs, the module may read its configuration."""
    root.configuring = True
    try:
        yield
    finally:
        root.configuring = False
