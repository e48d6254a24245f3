"""`bench`: measure what the plugin costs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold.commands.bench import base, judging, page, report, starts
from scaffold.commands.bench import soak as soaking
from scaffold.commands.bench.floors import floors
from scaffold.commands.bench.report import (
    BASE,
    FLOOR,
    LUA,
    NATIVE,
    NONE,
    PLUGIN,
    Benchmark,
    Measured,
    title_of,
)
from scaffold.commands.bench.rounds import Pace, Rounds, in_turn
from scaffold.commands.bench.soak import Soaked
from scaffold.commands.bench.starts import Load, sent
from scaffold.core import files
from scaffold.core.events import Noted, emit, step
from scaffold.core.option_fields import flag, refuse
from scaffold.core.times import duration as seconds_of
from scaffold.errors import UsageError
from scaffold.hosts import source as plugins
from scaffold.hosts.envoy import side_by_side
from scaffold.hosts.envoy.side_by_side import Listener, start
from scaffold.hosts.load import client
from scaffold.hosts.options import OF_BENCH, HostSettings, RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project.load_requests import Traffic, traffic
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.floor import NoFloor

_SECONDS = (0.05, 600.0)  # that a round may take
_LEVEL = "warning"  # of Envoy's log, as in production: `--log-level info` has the lines' cost too


def bench(
    root: Path = Path(),
    *,
    module: str | None = None,
    against: str | None = None,
    rounds: int | None = None,
    duration: str | None = None,
    rate: int | None = None,
    html: Path | None = None,
    check: bool = False,
    soak: bool = False,
    requests: int | None = None,
    swaps: int | None = None,
    run: RunOptions = RunOptions(),
    build: BuildOptions = BuildOptions(),
) -> Benchmark | Soaked:
    """Measure what the plugin costs: in one Envoy, in turn with no filter, a native one, Lua and its floor.

    `module` names a file or an image to measure instead of building; `against` a commit, a file or an image
    to compare with. There are so many `rounds`, each of a `duration` such as `1s`, at `rate` requests a
    second. `html` is a file for a page with the figures drawn. With `check`, the result's exit code is 1 if
    the plugin is over the budget in its Cargo.toml. With `soak`, so many `requests` are sent and
    so many `swaps` of the plugin made instead, to see whether Envoy's memory grows. Raises `HostError` if
    Envoy ends meanwhile, and like `deploy` for a plugin that can't be built or loaded.
    """
    of_rounds = {"rounds": rounds, "duration": duration, "against": against, "html": html}
    _check_mode(soak, of_rounds | {"check": check or None}, {"requests": requests, "swaps": swaps})
    pace = _pace(rounds, duration, rate)
    if html:
        _check_page(html)
    choice, settings = _chosen(module, root, run)
    budget = judging.budget_of(choice.project) if check else None
    project = choice.project
    asked = traffic(choice.root if project else None, project.settings.probe if project else None)
    plugin = choice.load(build)[0].plugin(run)
    _require_http(plugin.name, plugin.type)
    other = base.load(against, plugin, choice.root, run, build) if against else None
    if other:
        _require_http(f"the plugin of {against}", other.type)
    with files.scratch() as folder, client() as sender:
        load = Load(asked, sender, pace.rate)
        if soak:
            times = requests or soaking.REQUESTS, swaps or soaking.SWAPS
            return soaking.soak(plugin, settings, folder, load, times)
        found = _Bench(plugin, other, base.called(against or ""), settings, folder, load).run(pace)
    if budget:
        found = dataclasses.replace(found, verdict=judging.judge(budget, found, plugin.module.file))
    if html:
        files.write_out(page.page(found), html)
        emit(Noted(f"{html} has the figures drawn"))
    return found


def _chosen(module: str | None, root: Path, run: RunOptions) -> tuple[plugins.Choice, HostSettings]:
    """What to measure, and Envoy's settings. Raises for what can't be measured, before anything is built."""
    refuse(run, "bench", supported=OF_BENCH)
    run.check_for("envoy")
    choice = plugins.choose(module, root, run)
    choice.require_one()
    if choice.project:
        _require_http(choice.project.name, choice.project.settings.type)
    return choice, dataclasses.replace(run, port=0, log_level=run.log_level or _LEVEL).settings


@dataclass(frozen=True)
class _Bench:
    """What is measured, and with what."""

    plugin: Plugin
    base: Plugin | None
    against: str
    settings: HostSettings
    folder: Path
    load: Load

    def run(self, pace: Pace) -> Benchmark:
        """Measure everything."""
        load_before = os.getloadavg()[0]
        floor, no_floor = self._floor()
        sides = self._sides(floor)
        version, rounds = self._rounds(sides, pace)
        alone = [side[0] for side in sides.values() if len(side) == 1]
        with step("Measuring the time to load, and memory"):
            count = min(starts.STARTS, pace.rounds)
            started = starts.measure(alone, self.load, self.settings, self.folder, count)
        measured = {
            name: Measured(
                title_of(name, self.plugin.name, self.against),
                rounds[name],
                started.get(side[0].name),
                side[0].plugin.module.size if side[0].plugin else None,
            )
            for name, side in sides.items()
        }
        return Benchmark(
            self.plugin.name,
            version,
            _called(self.load.traffic),
            pace,
            report.costs(measured),
            report.compare(measured[BASE], measured[PLUGIN]) if self.base else None,
            no_floor,
            report.machine(measured, load_before),
        )

    def _floor(self) -> tuple[list[Plugin], str]:
        """The floor's plugins, one for each request; or why there are none."""
        try:
            with step(f"Reading what {self.plugin.name} asks of Envoy"):
                return floors(self.plugin, self.load, self.settings, self.folder), ""
        except NoFloor as why:
            return [], str(why)

    def _sides(self, floor: Sequence[Plugin]) -> dict[str, list[Listener]]:
        """The listeners of each side: one, or one for each request."""
        names = {each.name for each in floor}
        some = floor[:1] if len(names) == 1 else floor
        sides = {
            NONE: [Listener(NONE)],
            NATIVE: [Listener(NATIVE, native=side_by_side.NATIVE)],
            LUA: [Listener(LUA, native=side_by_side.LUA)],
            FLOOR: [Listener(each.name, each) for each in some],
            PLUGIN: [Listener(PLUGIN, self.plugin)],
            BASE: [Listener(BASE, self.base)] if self.base else [],
        }
        return {name: side for name, side in sides.items() if side}

    def _rounds(self, sides: Mapping[str, Sequence[Listener]], pace: Pace) -> tuple[str, dict[str, Rounds]]:
        """Envoy's version, and what came of the rounds."""
        traffic = self.load.traffic
        every = {each.name: each for side in sides.values() for each in side}
        with (
            step(f"Measuring {self.plugin.name} with {_called(traffic)}"),
            start([*every.values()], self.folder / "rounds", self.settings, traffic) as running,
        ):
            requests = {
                name: sent(traffic, [running.ports[each.name] for each in side])
                for name, side in sides.items()
            }
            version = str(running.host.version)
            return version, in_turn(running.host, requests, pace, self.load.sender)


def _called(traffic: Traffic) -> str:
    count = len(traffic.requests)
    return traffic.source if count == 1 else f"{count} requests of {traffic.source}"


def _check_mode(soak: bool, of_rounds: Mapping[str, object], of_soak: Mapping[str, object]) -> None:
    """Raise `UsageError` for an option of the other mode."""
    for name, value in (of_rounds if soak else of_soak).items():
        if value is not None:
            place = "with" if soak else "without"
            hint = f"leave it out, or {'leave out' if soak else 'pass'} --soak"
            raise UsageError(f"{flag(name)} isn't supported {place} --soak", hint=hint)


def _check_page(path: Path) -> None:
    """Raise `UsageError` now, not after minutes, if no file can be written there."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"--html can't be `{path}`", hint="name a file in a folder that you can write to")


def _pace(rounds: int | None, duration: str | None, rate: int | None) -> Pace:
    standard = Pace()
    seconds = standard.seconds if duration is None else seconds_of(duration, "--duration")
    pace = Pace(rounds or standard.rounds, seconds, rate or standard.rate)
    if not _SECONDS[0] <= seconds <= _SECONDS[1]:
        raise UsageError(
            f"--duration can't be `{duration}`", hint=f"pass {_SECONDS[0]:g}s to {_SECONDS[1]:g}s"
        )
    if pace.rate * seconds < 1:
        raise UsageError("in such a round there is no request", hint="raise --rate, or --duration")
    return pace


def _require_http(name: str, kind: str) -> None:
    if kind != "http":
        what = {"network": "a network plugin", "service": "a service"}[kind]
        raise UsageError(
            f"`bench` measures HTTP plugins, and {name} is {what}",
            hint='its `type` in Cargo.toml says so; `type = "http"` is the default',
        )
