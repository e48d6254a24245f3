"""Rounds of load on each side in turn, in one Envoy: what each request costs, and how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scaffold.core.events import Progressed, emit
from scaffold.errors import HostError
from scaffold.hosts.envoy.running import EnvoyHost
from scaffold.hosts.load import Answers, Client, Sent, at_share

_WARM_UP = 0.2  # seconds on each side, which aren't counted


@dataclass(frozen=True)
class Pace:
    """How long and how fast requests are sent: so many a second, in so many rounds of so many seconds."""

    rounds: int = 12
    seconds: float = 1.0
    rate: int = 1000


@dataclass
class Rounds:
    """What came of one side's rounds: CPU in microseconds for each request, latencies in milliseconds."""

    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, cpu_seconds: float, answers: Answers) -> None:
        """Take in one round."""
        self.cpu.append(1e6 * cpu_seconds / answers.sent)
        self.p50.append(answers.quantile(0.5))
        self.p99.append(answers.quantile(0.99))
        self.latencies += answers.latencies
        self.late += answers.late
        self.statuses.update(answers.statuses)
        self.failures.update(answers.failures)

    @property
    def lateness(self) -> float:
        """By how much the client itself was late at worst, the worst of a hundred aside."""
        return at_share(sorted(self.late), 0.99)


def in_turn(
    host: EnvoyHost, sides: Mapping[str, Sequence[Sent]], pace: Pace, sender: Client
) -> dict[str, Rounds]:
    """Send each side's requests in turn, round by round, each round in another order.

    Raises `HostError`, which names round and side, when Envoy ends.
    """
    made = {name: Rounds() for name in sides}
    for number, name in _turns(list(sides), pace.rounds):
        seconds = pace.seconds if number else min(_WARM_UP, pace.seconds)
        before = _cpu(host)
        try:
            answers = sender.send(sides[name], pace.rate, seconds, lambda: host.check_alive(0))
            host.check_alive(0)
        except HostError as error:
            place = f"round {number} of {pace.rounds}" if number else "the warm-up"
            raise HostError(f"{error.message}\nThis was in {place}, at `{name}`", hint=error.hint) from error
        if number:
            made[name].add(_cpu(host) - before, answers)
            done = sum(len(each.cpu) for each in made.values())
            emit(Progressed("Measuring", done, pace.rounds * len(sides), "rounds"))
    return made


def _turns(names: list[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Round 0, the warm-up, and the others: what comes first in one comes last in the next."""
    for number in range(rounds + 1):
        yield from ((number, name) for name in (reversed(names) if number % 2 else names))


def _cpu(host: EnvoyHost) -> float:
    return (host.process.cpu_seconds() if host.process else None) or 0.0
