"""The time that a host's plugins live in: real, or moved on by tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from scaffold.errors import UsageError

_POLL = 0.01  # seconds
_LONGEST = 10 * 365 * 86400


class Clock(Protocol):
    """A host's time."""

    def now(self) -> float:
        """The time, in seconds from an arbitrary moment."""
        ...

    def advance(self, seconds: float) -> None:
        """Let that much time pass: whatever becomes due meanwhile happens. Raises `UsageError`."""
        ...

    def run(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until `done`, or for that long; whether it is done."""
        ...

    def catch_up(self) -> None:
        """Let everything happen that is due."""
        ...


class RealClock:
    """The real time: to advance it is to wait."""

    def now(self) -> float:
        """The time, in seconds from an arbitrary moment."""
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        """Wait that long."""
        check(seconds)
        time.sleep(seconds)

    def run(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done`, or for that long; whether it is done."""
        deadline = time.monotonic() + seconds
        while not (is_done := done()) and time.monotonic() < deadline:
            time.sleep(_POLL)
        return is_done

    def catch_up(self) -> None:
        """Nothing: a host that runs by itself is never late."""


def check(seconds: float) -> None:
    """Raise `UsageError` for a time that can't pass."""
    if not 0 <= seconds <= _LONGEST:
        raise UsageError(
            f"time can't pass by {seconds:g} seconds: it only goes forward, and by at most ten years"
        )
