"""What `test --faults` adds to `test`: what it can't be combined with, and the faults after the tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.commands.faults.play import Known, Round, chosen, faults, sample
from scaffold.commands.faults.report import Case, Faults
from scaffold.core import files
from scaffold.core.events import Noted, emit, step
from scaffold.core.option_fields import refuse
from scaffold.errors import UsageError
from scaffold.hosts.faults.emulated import Emulated
from scaffold.hosts.faults.real import Real, can
from scaffold.hosts.faults.scenes import read
from scaffold.hosts.host import EMULATOR
from scaffold.hosts.options import OF_EMULATOR, RunOptions
from scaffold.hosts.plugin import SERVICE, Plugin
from scaffold.hosts.source import Source
from scaffold.project.crate import Project
from scaffold.project.projects import Projects
from scaffold.wasm.module import WasmModule

ENVOY = "envoy"


@dataclass(frozen=True)
class Plan:
    """The faults that are to be played after the tests, on the emulator, on Envoy, or on "all"."""

    project: Project
    host: str
    run: RunOptions
    policies: Sequence[str]

    def play(self, module: WasmModule, kept: Path) -> Faults:
        """Play them with the scenes in that file.

        What the plugin does while nothing is wrong is seen on the emulator, where that costs little.
        """
        plugin = Source(module, self.project).plugin(self.run)
        with files.scratch() as folder, step(f"Playing faults of {plugin.name}"):
            scenes = read(kept)
            if not scenes:
                emit(Noted("no test sends a request, so a plain GET is played"))
            emulated = Emulated(self.run)
            picked = chosen(plugin, scenes, emulated)
            every, left_out = faults(plugin, picked)
            cases: list[Case] = []
            if self.host != ENVOY:
                cases += Round(EMULATOR, emulated, plugin, self.policies, folder).play(picked, every)
            if self.host != EMULATOR:
                possible = [fault for fault in every if can(fault)]
                told = "what it needs can't be timed there"
                left_out |= {f"{each.name} on Envoy": told for each in every if each not in possible}
                with Real(self.run) as envoy:
                    some = [_seen_by(envoy, plugin, each) for each in sample(picked, possible)]
                    more = Round(ENVOY, envoy, plugin, self.policies, folder, sampled=True)
                    cases += more.play(some, possible)
        requests = tuple(str(each.scene) for each in picked)
        return Faults(requests, tuple(cases), left_out, tuple(_differences(cases)))


def _seen_by(envoy: Real, plugin: Plugin, known: Known) -> Known:
    """A scene with what Envoy's client sees while nothing is wrong."""
    found = envoy.seen(plugin, known.scene)
    seen, again = found.during, found.after or found.during
    return replace(known, healthy=replace(known.healthy, seen=seen, again=again))


def planned(projects: Projects, host: str, run: RunOptions, *, deployed: bool) -> Plan:
    """The plan, with the project's failure policies. Raises what keeps it from being played."""
    projects.refuse_many("--faults")
    if deployed:
        raise UsageError("--faults starts hosts of its own", hint="leave out --deployed")
    if host == "docker":
        raise UsageError(
            "--faults plays on the emulator and on Envoy", hint="leave out --host, or pass `--host all`"
        )
    if "," in (run.envoy or ""):
        raise UsageError("--faults plays on one Envoy, not several", hint="pass one to --envoy")
    refuse(run, "--faults", supported=OF_EMULATOR)
    kind = projects.first.settings.type
    if kind == SERVICE:
        what = f"--faults shows what a client sees, and {projects.first.name} is a service, which has none"
        raise UsageError(what, hint="leave out --faults")
    return Plan(projects.first, host, run, projects.first.settings.failure_policies)


def _differences(cases: Sequence[Case]) -> Iterator[str]:
    """Where the hosts differ in the same case."""
    found = {(case.fault, case.policy, case.scene): case for case in cases if case.host == EMULATOR}
    for case in cases:
        other = found.get((case.fault, case.policy, case.scene))
        if case.host == EMULATOR or other is None:
            continue
        for name in ("healthy", "during", "after"):
            here, there = getattr(other, name), getattr(case, name)
            if here and there and here != there:
                what = f"{case.policy}, {case.fault}, {case.request}, {name}"
                yield f"the hosts differ: {what}: {here} on the emulator, {there} on Envoy"
