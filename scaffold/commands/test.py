"""A project's tests: the native ones by cargo, those against a host by pytest."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold.commands import test_jobs as plays
from scaffold.commands.test_jobs import Job, Play
from scaffold.core import files, process
from scaffold.core.events import Noted, Quoted, emit, step
from scaffold.errors import (
    MachineError,
    ProjectError,
    ScaffoldError,
    TestsFailed,
    ToolFailed,
    UsageError,
    choose,
    of_exit_code,
)
from scaffold.hosts.host import HOSTS
from scaffold.hosts.options import Options
from scaffold.project.model import Project
from scaffold.project.plugins import called, chain_of, plugins_at
from scaffold.project.workspace import top
from scaffold.toolchain import cargo
from scaffold.toolchain.find import find
from scaffold.toolchain.rustc import Toolchain
from scaffold.wasm.module import WasmModule

_NONE = 5  # pytest's exit code where no test ran
OURS = 100  # what the plugin adds to an exit code of ours, to tell it from pytest's

# pytest's exit codes (pytest.ExitCode) as ours; 2 is an interruption, or a test file that can't be read
_PYTEST: dict[int, tuple[type[ScaffoldError], str, str | None]] = {
    1: (TestsFailed, "tests failed", None),
    2: (TestsFailed, "pytest stopped before the end", None),
    3: (ToolFailed, "pytest failed inside", None),
    4: (UsageError, "pytest can't make sense of that", "`pytest --help` lists what it takes"),
    _NONE: (ProjectError, "no tests ran", "put them in tests/test_*.py, or widen -k"),
}


@dataclass(frozen=True)
class Report:
    """What came of a plugin's tests, once for each Envoy that was named."""

    plays: list[Play]
    plugin: str = ""

    @property
    def exit_code(self) -> int:
        """0 when all is well, that of the errors where they are of one kind, else that of failed tests."""
        return _exit_code(self.plays)

    def summary(self) -> str:
        """A table with a line for each Envoy; nothing for a single one, of which pytest has said all."""
        return _table({play.host: play for play in self.plays}) if len(self.plays) > 1 else ""


class Reports(tuple[Report, ...]):
    """What came of the tests of a workspace's plugins."""

    @property
    def exit_code(self) -> int:
        """As of one report, of all that was played."""
        return _exit_code([play for report in self for play in report.plays])

    def summary(self) -> str:
        """A table with a line for each plugin in each Envoy."""
        return _table({f"{each.plugin} in {play.host}": play for each in self for play in each.plays})


def _exit_code(plays: Sequence[Play]) -> int:
    codes = {play.error.exit_code for play in plays if play.error}
    return codes.pop() if len(codes) == 1 else TestsFailed.exit_code if codes else 0


def _table(plays: Mapping[str, Play]) -> str:
    width = max(map(len, plays))
    lines = [f"{'':<{width}}  passed  failed  errors  skipped    time"]
    for name, play in plays.items():
        counts = f"{play.passed:>6}  {play.failed:>6}  {play.errors:>6}  {play.skipped:>7}"
        why = f"  {play.error.message}" if play.error else ""
        lines.append(f"{name:<{width}}  {counts}  {play.seconds:>4.1f} s{why}")
    return "\n".join(lines)


def test(
    root: Path = Path(),
    *,
    pytest_args: Sequence[str] = (),
    host: str = "envoy",
    envoy: str | None = None,
    envoy_image: str | None = None,
    docker_args: str | None = None,
    deployed: bool = False,
    module: Path | None = None,
    keyword: str | None = None,
    exitfirst: bool = False,
    junitxml: Path | None = None,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> Report | Reports:
    """Run `cargo test`, then the project's `tests/` by pytest, each against the plugin in a host.

    With `deployed` they play against what is deployed; with `module` against that file. Raises
    `TestsFailed` when a test fails, `ProjectError` when there is none. Where `envoy` names several, with
    commas, they are played in each, the report says what was wrong, and `junitxml` is a file for each.
    At a workspace's root those of all its plugins are, side by side, and those of its chain.
    """
    choose("host", host, HOSTS)
    several = plugins_at(root)
    chain = chain_of(several) if several else []
    if several and module:
        what = "--module is for a single plugin, but this is a workspace"
        raise UsageError(what, hint="choose a plugin with --root")
    projects = several or [Project.load(root)]
    place = top(projects[0].root) if several else projects[0].root
    given = WasmModule.read(module) if module else None
    options = Options(envoy=envoy, envoy_image=envoy_image, docker_args=docker_args)
    where = plays.places(host, options, deployed)
    if deployed:
        plays.check_deployed(place, projects)
    triple = projects[0].settings.triple
    tools = find(triple, root=place, rustc=rustc, yes=yes)
    with step(f"Testing {called(projects)} natively"):
        _native(projects, place, tools)
    words = [*(["-k", keyword] if keyword else []), *(["-x"] if exitfirst else [])]
    modules = [given] if given else []
    if not (deployed or given):
        modules = cargo.build_all(
            projects, place, profile=profile, rustc=rustc, yes=yes, toolchains={triple: tools}
        )
    if several:
        played = plays.parts(projects, chain, place, modules, deployed=deployed)
    else:
        played = [plays.Part(projects[0].name, projects[0].root, modules)]
    jobs = plays.jobs(played, where, [*words, *pytest_args], junitxml, by_name=bool(several))
    if several:
        return _side_by_side(jobs, some=keyword is not None)
    made = [_play(job) for job in jobs]
    if made[0].error and len(made) == 1:
        raise made[0].error
    return Report(made, projects[0].name)


def _play(job: Job) -> Play:
    """Run pytest once, in the terminal; what is wrong then is in the play."""
    error = None
    begun = time.monotonic()
    with files.scratch() as folder:
        counts = folder / "counts.json"
        program = job.program(counts)
        try:
            with step(job.title):
                if wrong := _meaning(process.show(program.argv, cwd=program.cwd, env=os.environ)):
                    raise wrong
        except ScaffoldError as raised:
            error = raised
        return job.play(counts, time.monotonic() - begun, error)


def _side_by_side(jobs: Sequence[Job], *, some: bool) -> Reports:
    """Run pytest for each, as many at once as there are cores; what one says is shown when it has ended.

    Where `some` tests were asked for, a plugin may have none of them, but not every plugin.
    """
    limit = min(process.cores(), len(jobs))
    if len(jobs) > 1:
        emit(Noted(f"{len(jobs)} runs of pytest, {limit} at once"))
    made: dict[int, Play] = {}
    nothing: list[ScaffoldError] = []
    with files.scratch() as folder:
        counts = [folder / f"{number}.json" for number in range(len(jobs))]
        coloured = os.isatty(process.standard_error()) and not os.environ.get("NO_COLOR")
        colour = ["--color=yes"] if coloured else []
        programs = [job.program(file, *colour) for job, file in zip(jobs, counts, strict=True)]
        for ended in process.run_many(programs, env=os.environ, limit=limit):
            job = jobs[ended.index]
            with step(job.title):
                emit(Quoted(ended.output.rstrip("\n")))
            wrong = _meaning(ended.code)
            if some and wrong and ended.code == _NONE:
                nothing.append(wrong)
                wrong = None
            made[ended.index] = job.play(counts[ended.index], ended.seconds, wrong)
    if nothing and len(nothing) == len(jobs):
        raise nothing[0]
    of: dict[str, list[Play]] = {}
    for number, job in enumerate(jobs):
        of.setdefault(job.name, []).append(made[number])
    return Reports(Report(played, name) for name, played in of.items())


def _native(projects: Sequence[Project], place: Path, tools: Toolchain) -> None:
    for project in projects:
        project.configured()  # the filter's own tests may read its configuration: their words are a panic's
    if cargo.run_tests(projects, place, tools, compile_only=True):
        raise ToolFailed("cargo could not compile the native tests")
    if cargo.run_tests(projects, place, tools):
        raise TestsFailed("native tests failed")


def _meaning(code: int) -> ScaffoldError | None:
    """What is wrong where pytest ended with that exit code."""
    if code == 0:
        return None
    if code > OURS:  # the fixture could not begin, and said why
        return of_exit_code(code - OURS)("the tests could not begin")
    if code < 0:
        return MachineError(f"pytest was ended by signal {-code}")
    kind, message, hint = _PYTEST.get(code, (ToolFailed, f"pytest failed (exit code {code})", None))
    return kind(message, hint=hint)
