"""Bytes that are read while they still come, in a thread of their own: for 50 MB that saves a third."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

_WAITING = 32  # pieces, at the most


class Copied:
    """A file to write into, for one that also goes to a reader."""

    def __init__(self, file: BinaryIO, feed: Callable[[bytes], None]) -> None:
        self._file, self._feed = file, feed

    def write(self, piece: bytes, /) -> int:
        """Write a piece, and hand it on."""
        self._feed(piece)
        return self._file.write(piece)


@contextmanager
def reading(read: Callable[[BinaryIO], object]) -> Iterator[Callable[[bytes], None]]:
    """Let `read` have a stream of what the block feeds.

    What it raises is raised once the block has ended well: until then, what came may not be what was
    described.
    """
    pieces = queue.Queue[bytes](_WAITING)
    ended = threading.Event()
    trouble: list[BaseException] = []

    def work() -> None:
        try:
            read(cast(BinaryIO, io.BufferedReader(_Pieces(pieces))))
        except BaseException as error:
            trouble.append(error)
        ended.set()
        while not pieces.empty():  # whoever waits for room isn't to wait for ever
            pieces.get()

    def feed(piece: bytes) -> None:
        if piece and not ended.is_set():
            pieces.put(piece)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        yield feed
    finally:
        if not ended.is_set():
            pieces.put(b"")
        worker.join()
    if trouble:
        raise trouble[0]


class _Pieces(io.RawIOBase):
    """The pieces of a queue as one stream; an empty one ends it."""

    def __init__(self, pieces: queue.Queue[bytes]) -> None:
        self._pieces, self._rest, self._more = pieces, memoryview(b""), True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest and self._more:
            self._rest = memoryview(self._pieces.get())
            self._more = bool(self._rest)
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
