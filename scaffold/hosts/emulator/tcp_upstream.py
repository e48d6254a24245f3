"""The built-in upstream at the other end of a TCP connection: the same that Envoy has, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from scaffold.hosts.upstream.http1 import BODY_LIMIT, Connection, Later
from scaffold.project.envoy_clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.emulator.sockets import End
    from scaffold.hosts.upstream.handler import Recorder


class Upstream(asyncio.Transport):
    """The upstream's end of a connection, as asyncio's transports have it."""

    def __init__(
        self, recorder: Recorder, end: End, soon: Callable[[Callable[[], None]], None], later: Later
    ) -> None:
        super().__init__()
        self._end, self._soon = end, soon
        self._paused = self._closing = self._told_end = False
        handle = partial(recorder.receive, cluster=UPSTREAM)
        self._protocol = Connection(handle, set(), BODY_LIMIT, later)
        self._protocol.connection_made(self)
        end.woken = self._wake

    def _wake(self) -> None:
        self._soon(self._on_readable)

    def _on_readable(self) -> None:
        if self._closing or self._paused:
            return
        if data := self._end.take():
            self._protocol.data_received(data)
            self._wake()
        elif self._end.was_reset:
            self.abort()
        elif self._end.has_ended and not self._told_end:
            self._told_end = True
            self._protocol.eof_received()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if not self._closing and not self._end.send(bytes(data)):
            self.abort()

    def write_eof(self) -> None:
        """Send no more."""
        if not self._closing:
            self._end.finish()

    def close(self) -> None:
        """End the connection."""
        if not self._closing:
            self._closing = True
            self._end.close()
            self._protocol.connection_lost(None)

    abort = close

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._closing

    def pause_reading(self) -> None:
        """Leave what comes where it is."""
        self._paused = True

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._wake()
