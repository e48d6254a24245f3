"""How commands are killed: at random moments, many times, and what is looked at after each.

SCAFFOLD_KILLS says how often (10; `invoke dev.faults`: 200), SCAFFOLD_SEED at which moments.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from support.places import until

KILLS = int(os.environ.get("SCAFFOLD_KILLS", "10"))
ASKED = max(4, KILLS // 2)  # SIGINT and SIGTERM, in turns
SELDOM = 1 if KILLS > 50 else 5  # after how many kills a command that takes long is run to its end

SIGNALS = pytest.mark.parametrize(
    ("numbers", "times"),
    [((signal.SIGKILL,), KILLS), ((signal.SIGINT, signal.SIGTERM), ASKED)],
    ids=["SIGKILL", "SIGINT and SIGTERM"],
)


@dataclass
class Command:
    """What is killed: how it starts, when it has done its work, and what it may leave.

    `seen` says in a word what there is after a kill, having asserted that it may be. `ready` waits until a
    command that doesn't end by itself has done its work.
    """

    start: Callable[[], subprocess.Popen[str]]
    seen: Callable[[], str]
    left: Callable[[], list[str]]
    prepare: Callable[[], object] = lambda: None
    ready: Callable[[subprocess.Popen[str]], object] = lambda child: child.wait(60)
    ends: bool = True
    said: Callable[[], str] = lambda: ""
    again_every: int = 1  # kills after which it is run to its end

    def whole(self) -> float:
        """Run it to its end, well; how many seconds it took."""
        self.prepare()
        begun = time.monotonic()
        child = self.start()
        self.ready(child)
        took = time.monotonic() - begun
        if not self.ends:
            child.terminate()
        code = child.wait(20)
        assert code == (0 if self.ends else 128 + signal.SIGTERM), f"{code}: {self.said()}"
        until(lambda: not self.left(), 3)
        return took


def kill(
    command: Command, numbers: tuple[signal.Signals, ...], times: int, chance: random.Random
) -> tuple[Counter[str], float]:
    """Kill it `times` times; what was there then, how often, and the longest until all was gone.

    The moments are spread over the time that it has taken so far: a machine may have more or less to do.
    """
    command.whole()  # what is made once only isn't typical
    lengths = [command.whole()]
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for turn in range(times):
        number = numbers[turn % len(numbers)]
        command.prepare()
        child = command.start()
        moment = chance.uniform(0, 1.05 * statistics.median(lengths))
        with suppress(subprocess.TimeoutExpired):
            child.wait(moment)
        child.send_signal(number)
        code = child.wait(20)
        died = time.monotonic()
        where = f"turn {turn}, {number.name} after {moment:.3f} s: {code}, {command.said()}"
        # Python's own start and end know nothing of our sentence
        pythons = number == signal.SIGINT and code == 1 and "/scaffold/" not in command.said()
        assert code in (0, -number, 128 + number) or pythons, where
        assert "a bug in scaffold" not in command.said(), where
        until(lambda: not command.left(), 3, lambda: f"{where}\n{command.left()}")  # noqa: B023
        slowest = max(slowest, time.monotonic() - died)
        outcomes[command.seen()] += 1
        if turn % command.again_every == command.again_every - 1 or turn == times - 1:
            lengths.append(command.whole())
            assert command.seen() == "new"
    return outcomes, slowest


def told(numbers: tuple[signal.Signals, ...], times: int, length: str, chance: random.Random) -> str:
    how = " or ".join(number.name for number in numbers)
    return f"{length}: {how} at {times} random moments (seed {chance.initial})"  # type: ignore[attr-defined]


def seen(outcomes: Counter[str], slowest: float) -> str:
    found = ", ".join(f"{what} {often}" for what, often in sorted(outcomes.items()))
    return f"{found}; the same again succeeded; gone within {slowest:.1f} s"
