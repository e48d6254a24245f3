"""The requests that arrived: the last ones, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from scaffold.hosts.upstream.http1 import Received

MOST_REQUESTS = 1000
MOST_BYTES = 64 * 1024 * 1024
_OBJECTS = 160  # bytes that CPython takes for a header's tuple and the heads of its two strings


class Record:
    """Remembers requests until there are too many, or they take too much memory; the oldest go first.

    `count` is how many came so far: a request's own number, from 1, is what it was when it came.
    """

    def __init__(self) -> None:
        self.count = 0
        self._size = 0
        self._kept: deque[tuple[int, int, Received]] = deque()

    def add(self, received: Received) -> None:
        """Remember a request."""
        self.count += 1
        size = len(received.body) + len(received.target) + _OBJECTS
        for name, value in received.headers:
            size += len(name) + len(value) + _OBJECTS
        self._size += size
        self._kept.append((self.count, size, received))
        while len(self._kept) > MOST_REQUESTS or self._size > MOST_BYTES:
            self._size -= self._kept.popleft()[1]

    def newest_first(self, since: int) -> Iterator[Received]:
        """The remembered requests that came after number `since`."""
        for number, _, received in reversed(self._kept):
            if number <= since:
                return
            yield received
