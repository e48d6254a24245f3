"""A TCP connection through a plugin: what a test sends and gets, and what came of it on every side."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from scaffold.errors import HostError, UsageError
from scaffold.hosts.exchange import LogLines, Request

_CHUNK = 1 << 16  # bytes


class Connection:
    """A connection that is open while its block runs.

    After the block, `requests` are those that the origin received meanwhile, `logs` what the plugin
    logged, `metrics` the host's counters and gauges that changed, by how much, `details` the host's word
    for how the connection ended; `trapped` says whether the plugin crashed. `port` is that of our own end.
    """

    def __init__(self, opened: socket.socket, timeout: float) -> None:
        self._socket = opened
        self._timeout = timeout
        self._rest = b""
        self.port: int = opened.getsockname()[1]
        self.requests: list[Request] = []
        self.logs = LogLines()
        self.metrics: dict[str, float] = {}
        self.details = ""
        self.trapped = False

    def send(self, data: bytes | str) -> None:
        """Send bytes as they are. Raises `HostError` when the connection has ended."""
        try:
            self._socket.sendall(data.encode() if isinstance(data, str) else data)
        except OSError as error:
            raise HostError(f"nothing more can be sent: {error}") from error

    def finish(self) -> None:
        """Say that nothing more will be sent; answers may still come."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_WR)

    def receive(self, size: int | None = None, *, until: bytes | None = None) -> bytes:
        """The next `size` bytes, or those up to and with `until`; without either all until the end.

        Raises `HostError` when the connection ends before, or nothing comes for as long as its time-out.
        """
        if size is not None and until is not None:
            raise UsageError("receive() takes a size or `until`, not both")
        if size is not None:
            return self._take(lambda came: size if len(came) >= size else None)
        if until is not None:
            return self._take(lambda came: at + len(until) if (at := came.find(until)) >= 0 else None)
        return self._take(None)

    def _take(self, enough: Callable[[bytes], int | None] | None) -> bytes:
        """What came, up to where it is enough."""
        deadline = time.monotonic() + self._timeout
        while enough is None or (end := enough(self._rest)) is None:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(_CHUNK)
            except ConnectionResetError:
                part = b""
            except OSError as error:
                raise HostError(f"no more came in {self._timeout:g} s; until then {self._rest!r}") from error
            if not part and enough is None:
                end = len(self._rest)
                break
            if not part:
                raise HostError(f"the connection ended; until then came {self._rest!r}")
            self._rest += part
        taken, self._rest = self._rest[:end], self._rest[end:]
        return taken
