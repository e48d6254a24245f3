"""The contexts of a plugin in Google's tester: what a stream has, and while which callback.

Source: GoogleCloudPlatform/service-extensions, plugins/test/framework.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.context import Context
from scaffold.hosts.gcp.headers import SortedHeaders
from scaffold.project.suites.suite import (
    REQUEST_BODY,
    REQUEST_HEADERS,
    RESPONSE_BODY,
    RESPONSE_HEADERS,
)

if TYPE_CHECKING:
    from scaffold.hosts.emulator.plugin_vm import PluginVm
    from scaffold.hosts.emulator.wire import Pair

MAPS = {REQUEST_HEADERS: s.REQUEST_HEADERS, RESPONSE_HEADERS: s.RESPONSE_HEADERS}
BODIES = {REQUEST_BODY: s.REQUEST_BODY, RESPONSE_BODY: s.RESPONSE_BODY}
_PAUSE, _STOP_ALL = 1, 4  # what a callback of headers may return
CONTINUES = (0, 2)  # the same, and to end the stream
_MAY_REPLY = (REQUEST_HEADERS, RESPONSE_HEADERS, REQUEST_BODY)


@dataclass
class Result:
    """What a callback made of what it got; `status` is what it returned, of a local reply its status."""

    headers: SortedHeaders = field(default_factory=SortedHeaders)
    body: bytes = b""
    status: int = 0
    http_status: int = 0
    grpc_status: int = 0
    details: bytes = b""

    @property
    def goes_on(self) -> bool:
        """Whether the plugin lets the stream go on."""
        return self.status in CONTINUES


class StreamContext(Context):
    """A plugin's context for a stream. `properties` are all that it has."""

    def __init__(self, of: PluginVm, properties: Mapping[bytes, bytes]) -> None:
        super().__init__(of, of._next_id())
        self.properties = properties
        self.replied = False
        self._callback = ""  # the last one, also when it has returned
        self._map = -1  # of the headers that can be had now
        self._result = Result()
        self._buffer = b""

    def create(self) -> None:
        """Tell the module of it."""
        self.call("proxy_on_context_create", self.id, self.of.root.id)

    def destroy(self) -> None:
        """Tell the module that the stream is over, whatever it says."""
        self.call("proxy_on_done", self.id)
        self.call("proxy_on_delete", self.id)
        self.vm.contexts.pop(self.id, None)

    def send_headers(self, phase: str, headers: SortedHeaders) -> Result:
        """Have the module see headers; those of an answer come no more once it has replied itself."""
        if self.replied and phase == RESPONSE_HEADERS:
            return Result()
        self._result = result = Result(headers)
        self._callback, self._map = phase, MAPS[phase]
        arguments = (self.id, len(headers)) if self.vm.abi == "0.1.0" else (self.id, len(headers), 0)
        answer = self.enter(f"proxy_on_{phase}", *arguments)
        result.status = _STOP_ALL if self.vm.stopped or answer > _STOP_ALL or answer == _PAUSE else answer
        self.leave()
        self._map = -1
        return result

    def send_body(self, phase: str, chunk: bytes, end: bool) -> bytes:
        """Have the module see a chunk: what becomes of it."""
        if self.replied:
            return b""
        self._result, self._buffer, self._callback = Result(), chunk, phase
        self.call(f"proxy_on_{phase}", self.id, len(chunk), int(end))
        changed, self._buffer = self._buffer, b""
        return changed

    # what hostcalls ask for

    def headers_of(self, kind: int) -> SortedHeaders | None:
        """The headers, while their callback runs."""
        return self._result.headers if kind == self._map else None

    def buffer(self, kind: int) -> bytes | None:
        """The chunk of a body, from its callback on."""
        return self._buffer if kind == BODIES.get(self._callback) else None

    def change_buffer(self, start: int, length: int, content: bytes) -> None:
        """Put bytes in the place of some in the chunk; beyond its end they are appended."""
        self._buffer = self._buffer[:start] + content + self._buffer[start + length :]

    def local_reply(
        self, status: int, details: bytes, body: bytes, headers: list[Pair], grpc_status: int
    ) -> None:
        """Answer the client, which is possible in three callbacks."""
        if self._callback not in _MAY_REPLY:
            return
        self.replied = True
        result = self._result
        result.http_status, result.grpc_status = status, grpc_status
        result.body, result.details = body, details
        result.headers.clear()
        for name, value in headers:
            result.headers.replace(name, value)
