"""The emulator's clock, and its timers: it runs by itself; tests and waits move it forward."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scaffold.hosts.clock import check

if TYPE_CHECKING:
    from scaffold.hosts.emulator.vm import Bill

_POLL = 0.02  # seconds after which a wait looks whether it is done


class Timer:
    """Something that is to happen at a time, unless it is cancelled; `payer` is whose cost it is."""

    __slots__ = ("action", "payer")

    def __init__(self, action: Callable[[], None] | None, payer: Bill | None) -> None:
        self.action, self.payer = action, payer

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None


class VirtualClock:
    """The time, in seconds from an arbitrary moment, and the timers that wait for theirs."""

    def __init__(self) -> None:
        self._ahead = 0.0  # how far the tests have moved it
        self.hurries = False  # no wait lasts, whoever else there is
        self.payer: Bill | None = None  # whose cost it is what happens now, and what comes of that
        self._watches: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        # whoever lets things happen, or calls a module, holds it; a wait gives it up meanwhile
        self.lock = threading.RLock()
        self._waiting = threading.Condition(self.lock)

    def now(self) -> float:
        """The time."""
        return time.monotonic() + self._ahead

    def nanoseconds(self) -> int:
        """The time since 1970."""
        return time.time_ns() + round(self._ahead * 1e9)

    @contextmanager
    def paid_by(self, payer: Bill) -> Iterator[None]:
        """While the block runs, what happens is that one's cost, and so is what comes of it."""
        before, self.payer = self.payer, payer
        try:
            yield
        finally:
            self.payer = before

    def after(self, seconds: float, action: Callable[[], None], *, apart: bool = False) -> Timer:
        """Have something happen after a time; with 0, once what happens now is over.

        If it is `apart`, it is nobody's cost.
        """
        timer = Timer(action, None if apart else self.payer)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock forward; whatever becomes due happens in its order. Raises `UsageError`."""
        check(seconds)
        with self.lock:
            until = self.now() + seconds
            while self._timers and self._timers[0][0] <= until:
                due = self._timers[0][0]
                self._ahead += max(0.0, due - self.now())
                self._next()
            self._ahead += max(0.0, until - self.now())

    def run(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let things happen, each when it is due, until `done`, or for that long; whether it is done."""
        until = self.now() + seconds
        with self.lock:
            while not done():
                now = self.now()
                due = self._timers[0][0] if self._timers else math.inf
                if due > until or now >= until:
                    self._sleep(until - now)
                    if self.now() >= until:
                        self.catch_up()
                        return done()
                elif due > now:
                    self._sleep(due - now)
                else:
                    self._next()
        return True

    def _sleep(self, seconds: float) -> None:
        """Wait; where no other thread could do anything meanwhile, the clock is moved instead."""
        if self.hurries or threading.active_count() == 1:
            self._ahead += max(0.0, seconds)
            return
        payer = self.payer  # others may let things happen meanwhile
        self._waiting.wait(min(_POLL, max(0.0, seconds)))
        self.payer = payer

    @contextmanager
    def watching(self, watch: Callable[[], None]) -> Iterator[None]:
        """While the block runs, whoever wants to know what has happened lets `watch` look, too."""
        self._watches.append(watch)
        try:
            yield
        finally:
            self._watches.remove(watch)

    def catch_up(self) -> None:
        """Let everything happen that is due."""
        with self.lock:
            for watch in list(self._watches):
                watch()
            now = self.now()
            while self._timers and self._timers[0][0] <= now:
                self._next()

    def _next(self) -> None:
        timer = heapq.heappop(self._timers)[2]
        before, self.payer = self.payer, timer.payer
        try:
            if timer.action:
                timer.action()
        finally:
            self.payer = before
