"""What a benchmark found: figures of each side, their differences, and how noisy the machine was."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scaffold.commands.bench.figures import Estimate, differences
from scaffold.commands.bench.rounds import Pace, Rounds
from scaffold.commands.bench.starts import Starts
from scaffold.hosts.load import at_share

NONE, NATIVE, LUA, FLOOR, PLUGIN, BASE = "none", "native", "lua", "floor", "plugin", "base"
_TITLES = {NONE: "no filter", NATIVE: "header_mutation", LUA: "Lua", FLOOR: "the floor"}
_STEPS = 12  # bars of a histogram for each tenfold of latency
_LATE = 1.0  # ms: a client that is later than this spoils latencies
_WIDE = 0.2  # the share by which rounds of the same may differ before we say so
_MB = 1e6


@dataclass(frozen=True)
class Cost:
    """What one side costs. What is `added` is so beyond no filter, by the differences of each round.

    `cpu` and its like are in microseconds, times in milliseconds, memory in bytes. `histogram` has upper
    bounds of latencies, and how many requests were within each.
    """

    name: str
    title: str
    cpu: Estimate
    cpu_added: Estimate
    p50: float
    p50_added: Estimate
    p99: float
    p99_added: Estimate
    requests: int
    statuses: Mapping[str, int]
    failures: Mapping[str, int]
    memory_added: Estimate | None
    memory_per_worker: Estimate | None
    ready_added: Estimate | None
    module_bytes: int | None
    cpu_of_rounds: Sequence[float]
    histogram: Sequence[tuple[float, int]]


@dataclass(frozen=True)
class Machine:
    """How quiet the machine was: its load, and by what share rounds without a filter differed.

    `late` is by how many milliseconds the client itself was late, the worst hundredth aside.
    """

    cores: int
    load_before: float
    load_after: float
    spread: float
    late: float

    def summary(self) -> str:
        """A sentence or two."""
        text = (
            f"The machine has {self.cores} cores, and a load of {self.load_before:.1f} before and "
            f"{self.load_after:.1f} after. Without a filter, a round's CPU per request differed by "
            f"{self.spread:.0%}; the client was late by {self.late:.2f} ms at most, in 99 of 100 requests."
        )
        return f"{text} {self.advice}" if self.advice else text

    @property
    def advice(self) -> str:
        """What to do about a machine that is too busy; "" if it isn't."""
        busy = self.spread > _WIDE or self.late > _LATE or self.load_before > self.cores
        return "It is busy: trust differences only, or run more rounds when it is idle." if busy else ""


@dataclass(frozen=True)
class Comparison:
    """The plugin's figures minus those of what it is compared with, in the units of `Cost`."""

    base: str
    cpu: Estimate
    p50: Estimate
    p99: Estimate
    memory: Estimate
    ready: Estimate
    module_bytes: int

    def summary(self) -> str:
        """A line for each figure."""
        lines = {
            "CPU per request": signed(self.cpu, " µs"),
            "p50": signed(self.p50, " ms", 3),
            "p99": signed(self.p99, " ms", 3),
            "memory": signed(self.memory, " MB", scale=_MB),
            "time to load": signed(self.ready, " ms", 0),
            "module": f"{self.module_bytes:+,} bytes",
        }
        return "\n".join(
            [f"Compared with {self.base}", *(f"  {name:<16} {line}" for name, line in lines.items())]
        )


@dataclass(frozen=True)
class Verdict:
    """The lines of a budget: those that hold, that don't, and that the noise leaves open."""

    held: Sequence[str]
    over: Sequence[str]
    undecided: Sequence[str]

    def summary(self, plugin: str) -> str:
        """A line for each."""
        return "\n".join(
            [
                *(f"within the budget: {each}" for each in self.held),
                *(f"left open by the noise: {each}" for each in self.undecided),
                *(f"{plugin} is over its budget: {each}" for each in self.over),
            ]
        )


@dataclass(frozen=True)
class Benchmark:
    """What a plugin costs, side by side with others. `no_floor` says why there is no floor."""

    plugin: str
    envoy: str
    requests: str
    pace: Pace
    sides: Sequence[Cost]
    comparison: Comparison | None
    no_floor: str
    machine: Machine
    verdict: Verdict | None = None

    @property
    def exit_code(self) -> int:
        """1 if it is over the budget against which it was checked, 0 otherwise."""
        return int(bool(self.verdict and self.verdict.over))

    def side(self, name: str) -> Cost | None:
        """The figures of a side; None if there is none of that name."""
        return next((each for each in self.sides if each.name == name), None)

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of a table, its headings first."""
        return [_HEADINGS, *(_row(each) for each in self.sides)]

    def floor_notes(self) -> list[str]:
        """What the plugin costs beyond its floor, or why there is none."""
        if self.no_floor:
            return [f"There is no floor: {self.no_floor}."]
        floor, mine = self.side(FLOOR), self.side(PLUGIN)
        if floor is None or mine is None:
            return []
        beyond = differences(mine.cpu_of_rounds, floor.cpu_of_rounds)
        return [f"Beyond its floor, the CPU of {self.plugin} is {signed(beyond, ' µs')} per request."]

    def summary(self) -> str:
        """A table, and what it is worth."""
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join([cells[0].ljust(widths[0]), *(map(str.rjust, cells[1:], widths[1:]))]).rstrip()
            for cells in rows
        ]
        pace = f"{self.pace.rounds} rounds of {self.pace.seconds:g} s at {self.pace.rate:,} requests/s"
        head = f"{self.plugin} in Envoy {self.envoy}: {pace}, with {self.requests}"
        notes = self.floor_notes()
        judged = ["", self.verdict.summary(self.plugin)] if self.verdict else []
        odd = [(each.title, answered(each.statuses, each.failures)) for each in self.sides]
        notes += [f"{title} answered {said} requests." for title, said in odd if said]
        compared = [self.comparison.summary(), ""] if self.comparison else []
        return "\n".join([head, "", *table, "", *compared, *notes, self.machine.summary(), *judged])


_HEADINGS = ("", "CPU/request", "added", "p50", "p99", "memory", "per worker", "load", "module")


def _row(cost: Cost) -> tuple[str, ...]:
    added = "" if cost.name == NONE else signed(cost.cpu_added, " µs")
    memory, worker = (
        "" if each is None else signed(each, " MB", 1, _MB, ranged=False)
        for each in (cost.memory_added, cost.memory_per_worker)
    )
    ready = "" if cost.ready_added is None else signed(cost.ready_added, " ms", 0, ranged=False)
    module = f"{cost.module_bytes:,} B" if cost.module_bytes else ""
    latencies = (f"{cost.p50:.2f} ms", f"{cost.p99:.2f} ms")
    return (cost.title, f"{cost.cpu.median:.1f} µs", added, *latencies, memory, worker, ready, module)


def signed(value: Estimate, unit: str, digits: int = 1, scale: float = 1, *, ranged: bool = True) -> str:
    """A difference, with the range that it is in; one that may be none is only said to be that."""
    median, low, high = (each / scale for each in (value.median, value.low, value.high))
    within = f"{low:+,.{digits}f} to {high:+,.{digits}f}{unit}" if ranged else ""
    if value.is_noise:
        return f"within the noise ({within})" if ranged else "noise"
    return f"{median:+,.{digits}f}{unit}" + (f" ({within.removesuffix(unit)})" if ranged else "")


def answered(statuses: Mapping[str, int], failures: Mapping[str, int]) -> str:
    """What was answered, if that isn't one status alone."""
    said = [f"{status} to {count:,}" for status, count in sorted(statuses.items())]
    said += [f"nothing to {count:,} ({why})" for why, count in sorted(failures.items())]
    return ", ".join(said) if len(said) != 1 or failures else ""


@dataclass(frozen=True)
class Measured:
    """What was measured of one side; `starts` and the module's bytes only where there are any."""

    title: str
    rounds: Rounds
    starts: Starts | None
    module_bytes: int | None


def title_of(name: str, plugin: str, against: str) -> str:
    """What a side is called on screen."""
    return _TITLES.get(name) or (plugin if name == PLUGIN else against)


def costs(measured: Mapping[str, Measured]) -> list[Cost]:
    """The figures of each side, by its name."""
    return [_cost(name, each, measured[NONE]) for name, each in measured.items()]


def machine(measured: Mapping[str, Measured], load_before: float) -> Machine:
    """How quiet the machine was."""
    cpu = measured[NONE].rounds.cpu
    return Machine(
        os.cpu_count() or 1,
        load_before,
        os.getloadavg()[0],
        (max(cpu) - min(cpu)) / (statistics.median(cpu) or 1),
        max(each.rounds.lateness for each in measured.values()),
    )


def _cost(name: str, side: Measured, nothing: Measured) -> Cost:
    rounds, none = side.rounds, nothing.rounds
    ordered = sorted(rounds.latencies)

    def beyond(figures: Callable[[Starts], list[float]]) -> Estimate | None:
        if side.starts is None or nothing.starts is None or name == NONE:
            return None
        return differences(figures(side.starts), figures(nothing.starts))

    return Cost(
        name=name,
        title=side.title,
        cpu=Estimate.of(rounds.cpu),
        cpu_added=differences(rounds.cpu, none.cpu),
        p50=at_share(ordered, 0.5),
        p50_added=differences(rounds.p50, none.p50),
        p99=at_share(ordered, 0.99),
        p99_added=differences(rounds.p99, none.p99),
        requests=len(rounds.late),
        statuses=rounds.statuses,
        failures=rounds.failures,
        memory_added=beyond(lambda each: each.memory[1]),
        memory_per_worker=beyond(lambda each: each.per_worker),
        ready_added=beyond(lambda each: each.ready),
        module_bytes=side.module_bytes,
        cpu_of_rounds=rounds.cpu,
        histogram=histogram(ordered),
    )


def compare(base: Measured, mine: Measured) -> Comparison:
    """The plugin against what it is compared with."""
    before, now = base.rounds, mine.rounds
    assert base.starts and mine.starts  # noqa: S101 - an Envoy was started for either
    return Comparison(
        base.title,
        differences(now.cpu, before.cpu),
        differences(now.p50, before.p50),
        differences(now.p99, before.p99),
        differences(mine.starts.memory[1], base.starts.memory[1]),
        differences(mine.starts.ready, base.starts.ready),
        (mine.module_bytes or 0) - (base.module_bytes or 0),
    )


def histogram(ordered: Sequence[float]) -> list[tuple[float, int]]:
    """How many latencies are within each of the same steps of a logarithmic scale, the empty ends aside."""
    counts: dict[int, int] = {}
    for latency in ordered:
        place = math.ceil(math.log10(max(latency, 1e-3)) * _STEPS)
        counts[place] = counts.get(place, 0) + 1
    if not counts:
        return []
    return [(10 ** (place / _STEPS), counts.get(place, 0)) for place in range(min(counts), max(counts) + 1)]
