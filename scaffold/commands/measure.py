"""What `test` says about the tests themselves: what they reach of the plugin, and which changes they notice.

The plugin is built as its source has it, without optimisation, and its module gets counters and mutants.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import files
from scaffold.core.events import Noted, emit, step
from scaffold.core.option_fields import flag
from scaffold.errors import MachineError, UsageError
from scaffold.hosts.host import EMULATOR
from scaffold.hosts.measure_options import MeasureOptions
from scaffold.project.cargo_toml import table
from scaffold.project.projects import Projects, called
from scaffold.wasm.coverage import Coverage
from scaffold.wasm.instrument import Instrumented, instrument
from scaffold.wasm.module import WasmModule
from scaffold.wasm.own_code import Sources

if TYPE_CHECKING:
    from scaffold.commands.test import Part

PLAN = "plan.json"


@dataclass(frozen=True)
class Survivor:
    """A change that no test noticed: what it was, and where. A line may have the same several `times`."""

    what: str
    function: str
    file: str
    line: int
    times: int


@dataclass(frozen=True)
class Mutants:
    """What became of the changes to a plugin: how many are `known`, are `reached` by tests, were `tried`.

    `unsteady` tests were left out, since they don't pass a second time without a change.
    """

    known: int
    reached: int
    tried: int
    noticed: int
    seconds: float
    survivors: list[Survivor]
    unsteady: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """How many were noticed, and a line for each that wasn't."""
        if not self.reached:
            return f"the tests reach nothing that could be changed (of {self.known} changes known)"
        which = f"all {self.reached}" if self.tried == self.reached else f"{self.tried} of {self.reached}"
        head = (
            f"tried {which} changes to the plugin that the tests reach, in {self.seconds:.1f} s"
            f" ({self.known - self.reached} more aren't reached): {self.noticed} noticed,"
            f" {self.tried - self.noticed} not"
        )
        more = ["--mutants-for gives it more time"] if self.tried < self.reached else []
        more += [f"left out, as it doesn't pass a second time, alone: {each}" for each in self.unsteady]
        width = max((len(f"{each.file}:{each.line}") for each in self.survivors), default=0)
        return "\n".join([head, *more, *(_line(each, width) for each in self.survivors)])


@dataclass(frozen=True)
class Measured:
    """What was measured of one plugin's tests; None for what wasn't asked for."""

    coverage: Coverage | None = None
    mutants: Mutants | None = None

    def summary(self) -> str:
        """Both as text."""
        return "\n\n".join(each.summary() for each in (self.coverage, self.mutants) if each)


def check_place(measure: MeasureOptions, host: str, envoy: str | None, *, deployed: bool) -> None:
    """Raise `UsageError` if something is to be measured on any other host than the emulator of one Envoy."""
    measure.check()
    if not measure.wanted:
        return
    name = flag("mutants" if measure.mutants else "coverage" if measure.coverage else "lcov")
    if deployed:
        raise UsageError(f"{name} needs the emulator", hint="leave out --deployed")
    if host != EMULATOR:
        raise UsageError(f"{name} needs the emulator, and --host says `{host}`", hint="leave out --host")
    if "," in (envoy or ""):
        raise UsageError(f"{name} needs one Envoy to emulate, not several", hint="pass one to --envoy")


class Measurement:
    """Instrumented modules of plugins, and what their tests make of them. `folder` is for its files."""

    def __init__(
        self, options: MeasureOptions, projects: Projects, modules: Sequence[WasmModule], folder: Path
    ) -> None:
        self._options, self._projects, self._folder = options, projects, folder
        sources = Sources(projects.top.resolve(), _crates(projects))
        self._made: dict[str, Instrumented] = {}  # by the project's name
        self.modules: list[WasmModule] = []
        with step(f"Instrumenting {called(projects.all)}"):
            for project, module in zip(projects, modules, strict=True):
                made = instrument(module.file, sources, with_changes=options.mutants)
                path = folder / f"{project.name}.wasm"
                path.write_bytes(made.content)
                self._made[project.name] = made
                self.modules.append(WasmModule.read(path))
        self._digests = {
            project.name: module.digest for project, module in zip(projects, self.modules, strict=True)
        }

    def parts(self, parts: Sequence[Part]) -> list[Part]:
        """The parts to test, each with what pytest must know."""
        return [self._part(each) for each in parts]

    def _part(self, part: Part) -> Part:
        options = [f"--proxy-counters={self._folder}", "--proxy-no-budgets"]
        if self._options.mutants and part.name in self._made:
            from scaffold.hosts.mutation import Plan

            made, place = self._made[part.name], self._place(part.name)
            place.mkdir()
            modules = {self._digests[part.name]: (len(made.mutants), len(made.points))}
            Plan(modules, self._options.mutants_for).write(place / PLAN)
            options.append(f"--proxy-mutants={place / PLAN}")
        return replace(part, options=(*part.options, *options))

    def _place(self, name: str) -> Path:
        return self._folder / f"{name}.mutants"

    def of(self, name: str) -> Measured | None:
        """What was measured of a plugin; None for the chain, whose modules are the plugins'."""
        if name not in self._made:
            return None
        counts = self._counts()
        coverage = Coverage.of([self._counted(name, counts)]) if self._options.covers else None
        return Measured(coverage, self._mutants(name))

    @property
    def any_played(self) -> bool:
        """Whether any test has played a plugin."""
        return bool(self._counts())

    def of_all(self) -> list[Measured | None]:
        """The same of each plugin."""
        return [self.of(name) for name in self._made]

    def write(self) -> None:
        """Write the lcov file, if there is to be one. Raises `MachineError` if that can't be."""
        if self._options.lcov:
            counts = self._counts()
            content = Coverage.of(self._counted(name, counts) for name in self._made).lcov()
            try:
                files.write(self._options.lcov, content)
            except OSError as error:
                raise MachineError(f"cannot write {self._options.lcov}: {error.strerror}") from error
            emit(Noted(f"wrote {self._options.lcov}"))

    def _counted(self, name: str, counts: Mapping[str, Sequence[int]]) -> tuple[Instrumented, Sequence[int]]:
        return self._made[name], counts.get(self._digests[name], ())

    def _counts(self) -> dict[str, list[int]]:
        """What all processes have counted, by the module's digest."""
        found: dict[str, list[int]] = {}
        for path in self._folder.glob("*.json"):
            for digest, counts in json.loads(path.read_text()).items():
                before = found.get(digest, [0] * len(counts))
                found[digest] = [a + b for a, b in zip(before, counts, strict=True)]
        return found

    def _mutants(self, name: str) -> Mutants | None:
        from scaffold.hosts.mutation import RESULTS, Results

        results = Results.read(self._place(name) / RESULTS)
        if results is None:
            return None
        made = self._made[name].mutants
        survived = [made[number - 1] for _, number in results.survived]
        times = Counter((each.step.file, each.step.line, each.what, each.function.name) for each in survived)
        survivors = [
            Survivor(what, function, file, line, count)
            for (file, line, what, function), count in sorted(times.items())
        ]
        tried = results.noticed + len(results.survived)
        numbers = len(made), results.reached, tried, results.noticed
        return Mutants(*numbers, results.seconds, survivors, results.unsteady)


def _line(survivor: Survivor, width: int) -> str:
    times = f" ({survivor.times} times)" if survivor.times > 1 else ""
    return f"  {f'{survivor.file}:{survivor.line}':<{width}}  {survivor.what}{times}, in {survivor.function}"


def _crates(projects: Projects) -> dict[str, Path]:
    """The folders of the workspace's members, or of the single crate, by "name-version"."""
    workspace = projects.first.workspace
    found = {f"{each.name}-{each.version}": each.root.resolve() for each in projects}
    if workspace:
        for folder, manifest in workspace.manifests.items():
            package = workspace.describe(table(manifest, "package"))
            found.setdefault(f"{package.get('name', folder)}-{package.get('version', '')}", folder.resolve())
    return found
