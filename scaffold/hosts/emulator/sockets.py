"""Two ends of a stream of bytes in this process, and what a kernel does between them."""

from __future__ import annotations

from collections.abc import Callable

_READ = 1 << 17  # bytes that one read takes at most, as Envoy's


class End:
    """One end. `woken` is called when something has come: bytes, the other's end, or a reset.

    `is_local` says that the stream is a Unix socket's: there a write fails at once when nobody reads.
    """

    def __init__(self, *, is_local: bool = False) -> None:
        self.incoming = bytearray()
        self.has_ended = False  # the other end writes no more
        self.was_reset = False
        self.is_closed = False
        self.woken: Callable[[], None] = lambda: None
        self._local = is_local
        self._other = self

    @classmethod
    def pair(cls, *, is_local: bool = False) -> tuple[End, End]:
        """Both ends of a new stream."""
        one, other = cls(is_local=is_local), cls(is_local=is_local)
        one._other, other._other = other, one
        return one, other

    @property
    def is_broken(self) -> bool:
        """Whether a read fails: after the other end's end a reset of a TCP connection isn't told any more."""
        return self.was_reset and (self._local or not self.has_ended)

    def take(self, most: int = _READ) -> bytes:
        """What has come; b"" if nothing has."""
        part = bytes(self.incoming[:most])
        del self.incoming[:most]
        return part

    def send(self, data: bytes) -> bool:
        """Write; whether that was possible."""
        if self.is_closed or self.was_reset:
            return False
        if self._other.is_closed:
            if not self._local:  # the other side says so later
                self._reset()
            return not self._local
        self._other.incoming += data
        self._other.woken()
        return True

    def finish(self) -> None:
        """Write no more."""
        if not self._other.has_ended and not self._other.is_closed:
            self._other.has_ended = True
            self._other.woken()

    def close(self) -> None:
        """Close it; what hasn't been read resets the stream."""
        if self.is_closed:
            return
        self.is_closed = True
        if not self.incoming:
            self.finish()
        elif not self._other.is_closed:
            self._other._reset()
        self.incoming.clear()

    def _reset(self) -> None:
        if not self.was_reset:
            self.was_reset = True
            self.woken()
