"""Watch a program that downloads something: what it prints, and that it stays within its limits.

Neither git nor pip sets a server a limit: it may send as much as it wants, for as long as it wants.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scaffold.core import process
from scaffold.core.text import human

_PAUSE = 0.05  # seconds between two looks
_BLOCK = 2**16


@dataclass(frozen=True)
class Limits:
    """What a program may take: bytes of files in its folder, bytes of memory, seconds."""

    disk: int
    memory: int
    seconds: float


class Exceeded(Exception):
    """A program took more than it may; `limit` is the name of the field in `Limits`."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


def output(child: process.Child, pipe: IO[bytes] | None, folder: Path, limits: Limits) -> Iterator[bytes]:
    """What a program prints to a pipe, in pieces, until it ends. It writes its files below `folder`.

    Raises `Exceeded` when it takes more than its limits.
    """
    assert pipe  # noqa: S101 - for the type checker
    deadline = time.monotonic() + limits.seconds
    while True:
        ended = child.poll() is not None
        block = _block(child, pipe, 0 if ended else _PAUSE)
        if block:
            yield block
        elif ended:
            return
        if _size(folder) > limits.disk:
            raise Exceeded("disk", f"more than {human(limits.disk)} arrived")
        if _memory(child.pid) > limits.memory:
            raise Exceeded("memory", f"it needs more than {human(limits.memory)} of memory")
        if time.monotonic() > deadline:
            raise Exceeded("seconds", f"it takes longer than {limits.seconds:g} s")


def _block(child: process.Child, pipe: IO[bytes], seconds: float) -> bytes:
    """What is printed within so many seconds, or a part of it; nothing if nothing is."""
    if not process.readable(pipe, seconds=seconds):
        return b""
    block = os.read(pipe.fileno(), _BLOCK)
    if not block:  # closed, so that there is nothing more to wait for but the end
        with suppress(process.TimeoutExpired):
            child.wait(seconds)
    return block


def _size(folder: Path) -> int:
    """The size of the files in a folder, which may come and go."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(parent, name).lstat().st_size
    return size


def _memory(pid: int) -> int:
    """The memory of a process and those below it, in bytes."""
    import psutil

    size = 0
    with suppress(psutil.Error):
        top = psutil.Process(pid)
        for each in (top, *top.children(recursive=True)):
            with suppress(psutil.Error):
                size += each.memory_info().rss
    return size
