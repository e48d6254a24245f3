"""`bench --soak`: whether Envoy's memory stays flat under many requests, and many swaps of the plugin."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scaffold.commands.bench.figures import Estimate, slope
from scaffold.commands.bench.report import answered
from scaffold.commands.bench.starts import Load, sent
from scaffold.core import files
from scaffold.core.events import Progressed, emit, step
from scaffold.hosts.envoy.side_by_side import Listener, Side, start
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule

REQUESTS, SWAPS = 20_000, 60  # unless others are asked for
_BATCHES = 100  # of requests: after each, memory is looked at
_BURST, _BURST_SECONDS = 10_000, 0.05  # requests a second: as many connections as there may be later
_AFTER_SWAP = 0.02  # seconds of requests, so that the new plugin serves some
_PARTS = 5  # in each of which a leak grows
_PAGE = 65_536  # bytes by which a plugin's memory grows
# bytes: Envoy itself keeps up to 0.1 MB for each of the first dozens of swaps, and then less and less
_OF_A_SWAP = 4 * _PAGE
_CUSTOM = b"\0\x05\x04swap"  # a custom section: with it the module is another one
_MB = 1e6


@dataclass(frozen=True)
class Growth:
    """Envoy's memory in bytes from the middle to the end, and its growth for each request or swap."""

    what: str
    count: int
    middle: int
    end: int
    each: Estimate
    leaks: bool

    def summary(self) -> str:
        """A line."""
        half = self.count // 2
        held = f"{self.middle / _MB:.1f} MB after {half:,}, {self.end / _MB:.1f} MB after {self.count:,}"
        if not self.leaks:
            return f"flat: {held}"
        median, low, high = (f"{each:,.0f}" for each in (self.each.median, self.each.low, self.each.high))
        return f"grows by {median} bytes each ({low} to {high}): {held}"


@dataclass(frozen=True)
class Soaked:
    """What a soak found."""

    plugin: str
    envoy: str
    growth: Sequence[Growth]
    statuses: Mapping[str, int]
    failures: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        """1 if memory grows, 0 otherwise."""
        return int(any(each.leaks for each in self.growth))

    def summary(self) -> str:
        """A line for the requests, and one for the swaps."""
        lines = [f"  {each.what:<9} {each.summary()}" for each in self.growth]
        said = answered(self.statuses, self.failures)
        odd = [f"{self.plugin} answered {said} requests."] if said else []
        return "\n".join([f"{self.plugin} in Envoy {self.envoy}: memory", *lines, *odd])


def soak(plugin: Plugin, settings: HostSettings, folder: Path, load: Load, wanted: tuple[int, int]) -> Soaked:
    """Send so many requests, then swap the plugin so many times as a deploy does; `wanted` is both."""
    requests, swaps = wanted
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()

    def send(seconds: float) -> None:
        answers = load.send(side, seconds)
        statuses.update(answers.statuses)
        failures.update(answers.failures)

    with start([Listener("plugin", plugin)], folder / "soak", settings, load.traffic) as side:
        asked = sent(load.traffic, list(side.ports.values()))
        load.sender.send(asked, _BURST, _BURST_SECONDS, lambda: side.host.check_alive(0))
        with step(f"Sending {requests:,} requests to {plugin.name}"):
            batch = max(1, requests // _BATCHES)
            seconds = batch / load.rate
            held = _watched(side, requests // batch, "requests", lambda _: send(seconds), batch)
        growth = [grown("requests", held, batch, _PAGE)]
        pair = (plugin, _other(plugin, folder))
        with step(f"Swapping {plugin.name} {swaps:,} times"):

            def swap(number: int) -> None:
                side.host.replace(pair[(number + 1) % 2])
                send(_AFTER_SWAP)

            held = _watched(side, swaps, "swaps", swap, 1)
        growth.append(grown("swaps", held, 1, _OF_A_SWAP * (swaps // 2 // _PARTS)))
        return Soaked(plugin.name, str(side.host.version), growth, statuses, failures)


def _watched(side: Side, times: int, unit: str, work: Callable[[int], object], each: int) -> list[int]:
    """What Envoy's memory is after each time that the work is done."""
    held = []
    for number in range(times):
        work(number)
        held.append((side.host.process.memory() if side.host.process else None) or 0)
        emit(Progressed(f"Memory {held[-1] / _MB:.1f} MB", (number + 1) * each, times * each, unit))
    return held


def grown(what: str, held: Sequence[int], batch: int, least: float) -> Growth:
    """Judge the second half of what memory was, each time after `batch` more requests or swaps.

    Memory also grows in single steps, as caches and connections do, and then it stays. Only what grows in
    each part by `least` bytes, and has a slope that the noise can't explain, leaks.
    """
    half = held[len(held) // 2 :]
    size = len(half) // _PARTS
    levels = [statistics.median(half[at * size : (at + 1) * size]) for at in range(_PARTS)]
    each = slope([batch * place for place in range(len(half))], half)
    steps = [later - earlier for earlier, later in pairwise(levels)]
    leaks = each.low > 0 and min(steps) >= least
    return Growth(what, len(held) * batch, half[0], half[-1], each, leaks)


def _other(plugin: Plugin, folder: Path) -> Plugin:
    """The same plugin in a module that differs: of the same one Envoy would make no new VM."""
    path = folder / "other.wasm"
    files.write(path, plugin.module.content + _CUSTOM)
    return dataclasses.replace(plugin, module=WasmModule.read(path))
