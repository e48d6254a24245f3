"""What a plugin costs before its first request, and beside requests: time to load, and memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.core.events import Progressed, emit
from scaffold.hosts.envoy.side_by_side import Listener, Side, start
from scaffold.hosts.load import Answers, Client, Sent
from scaffold.hosts.options import HostSettings
from scaffold.project.load_requests import Traffic

STARTS = 6  # of each Envoy with one worker, and half of that with several
_WORKERS = (1, 3)
_LOAD = 0.3  # seconds


@dataclass
class Starts:
    """Of some starts of one side: milliseconds to the first answer; bytes after some load, by workers."""

    ready: list[float] = field(default_factory=list)
    memory: dict[int, list[float]] = field(default_factory=lambda: {workers: [] for workers in _WORKERS})

    @property
    def per_worker(self) -> list[float]:
        """The bytes for each further worker."""
        one, many = (self.memory[workers] for workers in _WORKERS)
        more = _WORKERS[1] - _WORKERS[0]
        return [(much - little) / more for little, much in zip(one, many, strict=False)]


@dataclass(frozen=True)
class Load:
    """What is sent to an Envoy that has started."""

    traffic: Traffic
    sender: Client
    rate: int

    def send(self, side: Side, seconds: float) -> Answers:
        """Send the requests to the only listener; the first one alone if there is no time."""
        (port,) = side.ports.values()
        requests = sent(self.traffic, [port])
        return self.sender.send(
            requests if seconds else requests[:1], self.rate, seconds, lambda: side.host.check_alive(0)
        )


def sent(traffic: Traffic, ports: Sequence[int]) -> list[Sent]:
    """The requests for the client: all to one port, or each to its own."""
    return [
        Sent(ports[min(place, len(ports) - 1)], each.content, each.weight, each.has_answer_body)
        for place, each in enumerate(traffic.requests)
    ]


def measure(
    sides: Sequence[Listener], load: Load, settings: HostSettings, folder: Path, starts: int
) -> dict[str, Starts]:
    """Start an Envoy for each side in turn, with one worker and with several."""
    made = {side.name: Starts() for side in sides}
    turns = [
        (number, workers, side)
        for number in range(starts)
        for workers in (_WORKERS if number < max(2, starts // 2) else _WORKERS[:1])
        for side in sides
    ]
    for done, (number, workers, side) in enumerate(turns, 1):
        some = dataclasses.replace(settings, envoy_args=(*settings.envoy_args, "--concurrency", str(workers)))
        place = folder / f"start-{number}-{workers}-{side.name}"
        begun = time.perf_counter()
        with start([side], place, some, load.traffic) as running:
            load.send(running, 0)
            if workers == 1:
                made[side.name].ready.append(1000 * (time.perf_counter() - begun))
            load.send(running, _LOAD)
            process = running.host.process
            made[side.name].memory[workers].append((process.memory() if process else None) or 0)
        emit(Progressed("Starting Envoy with each", done, len(turns), "starts"))
    return made
