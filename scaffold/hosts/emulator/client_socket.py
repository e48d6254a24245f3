"""The client's end of a connection through the emulator, with the methods of a socket that waits."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from scaffold.hosts.emulator.tcp import Session

_ROOM = 4 << 20  # bytes that a kernel takes while nobody reads them
_PATIENCE = 10.0  # seconds for what happens at once


class ClientSocket:
    """What a client has of a `Session`: the bytes go in and out while others hold the emulator's clock."""

    def __init__(self, session: Session, timeout: float) -> None:
        self._session, self._end = session, session.client_end
        self._clock = session.world.clock
        self._timeout = timeout
        self._readers = 0  # files that were made of it, which keep it open
        self._is_closed = False

    def getsockname(self) -> tuple[str, int]:
        """Our address and port."""
        return "127.0.0.1", self._session.client_port

    def settimeout(self, seconds: float) -> None:
        """How long to wait."""
        self._timeout = seconds

    def setsockopt(self, *_: int) -> None:
        """What is sent apart arrives apart anyway."""

    def sendall(self, data: bytes) -> None:
        """Send bytes. Raises `OSError` when the connection has ended, or nobody takes them in time."""
        end, taken = self._end, self._session.down.end
        with self._clock.lock:
            self._clock.catch_up()
            if self._is_closed or not end.send(bytes(data)):
                number = errno.EPIPE if end.has_ended or self._is_closed else errno.ECONNRESET
                raise OSError(number, os.strerror(number))
            self.settle()
            if not self._clock.run(lambda: len(taken.incoming) <= _ROOM, self._timeout):
                raise TimeoutError("timed out")

    def recv(self, most: int) -> bytes:
        """Bytes that have come, once some have; b"" at the end. Raises `OSError`."""
        end = self._end
        with self._clock.lock:
            self._clock.run(lambda: bool(end.incoming) or end.was_reset or end.has_ended, self._timeout)
            if end.incoming:
                return end.take(most)
            if end.is_broken:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            if end.has_ended:
                return b""
            raise TimeoutError("timed out")

    def shutdown(self, _: int) -> None:
        """Send no more."""
        with self._clock.lock:
            self._clock.catch_up()
            self._end.finish()
            self.settle()

    def makefile(self, _mode: str, buffering: int = -1) -> io.RawIOBase:
        """A file to read from it."""
        self._readers += 1
        return _File(self)

    def close(self) -> None:
        """End the connection, once no file reads from it."""
        self._is_closed = True
        if not self._readers:
            with self._clock.lock:
                self._clock.catch_up()
                self._end.close()
                self.settle()

    def released(self) -> None:
        """A file reads no more."""
        self._readers -= 1
        if self._is_closed:
            self.close()

    def settle(self) -> None:
        """Let everything happen that comes at once."""
        self._clock.run(lambda: not self._session.is_busy, _PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _File(io.RawIOBase):
    def __init__(self, of: ClientSocket) -> None:
        self._of = of

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._of.recv(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._of.released()
        super().close()
