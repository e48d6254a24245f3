"""`test`: a project's native tests by cargo, then those against a host by pytest."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.events import Noted, Quoted, emit, step
from scaffold.core.options import refuse
from scaffold.errors import (
    UNDER_PYTEST,
    MachineError,
    ProjectError,
    ScaffoldError,
    TargetError,
    TestsFailed,
    ToolFailed,
    UsageError,
    choose,
    of_exit_code,
)
from scaffold.hosts.background import record as deployments
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.host import HOSTS
from scaffold.hosts.options import RunOptions
from scaffold.project.plugins import Projects, called, projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain
from scaffold.wasm.module import WasmModule

OPTIONS = ("envoy", "envoy_image", "docker_args")
_NO_TESTS = 5  # pytest's exit code where no test ran
_KINDS = ("passed", "failed", "error", "skipped")
_CHAIN = "the chain"
_TESTS = ("test_*.py", "*_test.py")  # as pytest finds them

# pytest's exit codes (pytest.ExitCode) as ours; 2 is an interruption, or a test file that can't be read
_PYTEST: dict[int, tuple[type[ScaffoldError], str, str | None]] = {
    1: (TestsFailed, "tests failed", None),
    2: (TestsFailed, "pytest stopped before the end", None),
    3: (ToolFailed, "pytest failed inside", None),
    4: (UsageError, "pytest can't make sense of that", "`pytest --help` lists what it takes"),
    _NO_TESTS: (ProjectError, "no tests ran", "put them in tests/test_*.py, or widen -k"),
}


@dataclass(frozen=True)
class Outcome:
    """One run of the tests: against which host, how many ended how, how long it took, and its error."""

    host: str
    passed: int
    failed: int
    errors: int
    skipped: int
    seconds: float
    error: ScaffoldError | None


@dataclass(frozen=True)
class Report:
    """The outcomes of a plugin's tests, one for each Envoy that was named."""

    outcomes: list[Outcome]
    plugin: str = ""

    @property
    def exit_code(self) -> int:
        """0 when all is well, that of the errors where they are of one kind, else that of failed tests."""
        return _exit_code(self.outcomes)

    def summary(self) -> str:
        """A table with a line for each Envoy; nothing for a single one, which pytest has reported."""
        return _table({each.host: each for each in self.outcomes}) if len(self.outcomes) > 1 else ""


class Reports(tuple[Report, ...]):
    """The reports of a workspace's plugins."""

    @property
    def exit_code(self) -> int:
        """As of one report, over all outcomes."""
        return _exit_code([outcome for report in self for outcome in report.outcomes])

    def summary(self) -> str:
        """A table with a line for each plugin in each Envoy."""
        return _table(
            {f"{report.plugin} in {each.host}": each for report in self for each in report.outcomes}
        )


@dataclass(frozen=True)
class Part:
    """A plugin or a chain whose tests run: its modules, if they are known, and more words for pytest."""

    name: str
    root: Path
    modules: Sequence[WasmModule]
    options: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()  # where they are, unless the user says so

    @property
    def words(self) -> list[str]:
        """The words for pytest."""
        return [*(f"--proxy-module={module.path}" for module in self.modules), *self.options]


@dataclass(frozen=True)
class Job:
    """One run of pytest with these `words`: the tests of a plugin, or of a chain, against one host."""

    name: str
    root: Path
    host: str
    words: list[str]

    @property
    def title(self) -> str:
        """The step's title."""
        return f"Testing {self.name} in {self.host}"

    def program(self, counts: Path, *more: str) -> process.Program:
        """pytest, which leaves the counts in a file."""
        # the project's own configuration loads the plugin; named here too for a project that has none yet
        begin = [sys.executable, "-m", "pytest", "-p", "scaffold.pytest_plugin", f"--proxy-counts={counts}"]
        return process.Program([*begin, *more, *self.words], self.root)

    def outcome(self, counts: Path, seconds: float, error: ScaffoldError | None) -> Outcome:
        """The outcome, once pytest has ended."""
        read = json.loads(counts.read_text()) if counts.exists() else {}
        passed, failed, errors, skipped = (read.get(kind, 0) for kind in _KINDS)
        return Outcome(self.host, passed, failed, errors, skipped, seconds, error)


def test(
    root: Path = Path(),
    *,
    pytest_args: Sequence[str] = (),
    host: str = "envoy",
    run: RunOptions = RunOptions(),
    deployed: bool = False,
    module: Path | None = None,
    keyword: str | None = None,
    exitfirst: bool = False,
    junitxml: Path | None = None,
    build: BuildOptions = BuildOptions(),
) -> Report | Reports:
    """Run `cargo test`, then the project's `tests/` by pytest, against the plugin in a host.

    With `deployed` they run against what is deployed; with `module` against that file. Where `run.envoy`
    names several Envoys, with commas, they run in each, the report says what failed, and `junitxml` is
    a file for each. At a workspace's root the tests of all its plugins run side by side, and those of its
    chain. Raises `TestsFailed` when a test fails, `ProjectError` when there is none.
    """
    choose("host", host, HOSTS)
    refuse(run, "test", supported=OPTIONS)
    projects = projects_at(root)
    if projects.workspace:
        _ = projects.chain  # an impossible one is reported before anything runs
        if module:
            projects.refuse_many("--module")
    file = WasmModule.read(module) if module else None
    hosts = _hosts(host, run, deployed)
    if deployed:
        _check_deployed(projects)
    triple = projects.triples[0]
    tools = find(triple, root=projects.root, rustc=build.rustc, yes=build.yes)
    with step(f"Testing {called(projects.all)} natively"):
        _native(projects, tools, build)
    words = [*(["-k", keyword] if keyword else []), *(["-x"] if exitfirst else []), *pytest_args]
    modules = [file] if file else [] if deployed else cargo.build(projects, build, toolchains={triple: tools})
    if projects.workspace is None:
        parts = [Part(projects.first.name, projects.root, modules)]
        outcomes = [_run(job) for job in jobs(parts, hosts, words, junitxml)]
        if outcomes[0].error and len(outcomes) == 1:
            raise outcomes[0].error
        return Report(outcomes, projects.first.name)
    parts = _parts(projects, modules, deployed=deployed)
    return _side_by_side(jobs(parts, hosts, words, junitxml, by_name=True), some=keyword is not None)


def _native(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    for project in projects:
        project.configured()  # the plugin's own tests may read its configuration, and would only panic
    if cargo.run_tests(projects, tools, options, compile_only=True):
        raise ToolFailed("cargo could not compile the native tests")
    if cargo.run_tests(projects, tools, options):
        raise TestsFailed("native tests failed")


def _run(job: Job) -> Outcome:
    """Run pytest once, in the terminal; an error is part of the outcome."""
    error = None
    begun = time.monotonic()
    with files.scratch() as folder:
        counts = folder / "counts.json"
        program = job.program(counts)
        try:
            with step(job.title):
                if failure := _error(process.show(program.argv, cwd=program.cwd, env=os.environ)):
                    raise failure
        except ScaffoldError as raised:
            error = raised
        return job.outcome(counts, time.monotonic() - begun, error)


def _side_by_side(jobs: Sequence[Job], *, some: bool) -> Reports:
    """Run pytest for each job, as many at once as there are cores; each output is shown when it has ended.

    Where only `some` tests were asked for, a plugin may have none of them, but not every plugin.
    """
    limit = min(process.cores(), len(jobs))
    if len(jobs) > 1:
        emit(Noted(f"{len(jobs)} runs of pytest, {limit} at once"))
    outcomes: dict[int, Outcome] = {}
    without: list[ScaffoldError] = []
    with files.scratch() as folder:
        counts = [folder / f"{number}.json" for number in range(len(jobs))]
        coloured = os.isatty(process.standard_error()) and not os.environ.get("NO_COLOR")
        colour = ["--color=yes"] if coloured else []
        programs = [job.program(file, *colour) for job, file in zip(jobs, counts, strict=True)]
        for ended in process.run_many(programs, env=os.environ, limit=limit):
            job = jobs[ended.index]
            with step(job.title):
                emit(Quoted(ended.output.rstrip("\n")))
            error = _error(ended.code)
            if some and error and ended.code == _NO_TESTS:
                without.append(error)
                error = None
            outcomes[ended.index] = job.outcome(counts[ended.index], ended.seconds, error)
    if without and len(without) == len(jobs):
        raise without[0]
    by_plugin: dict[str, list[Outcome]] = {}
    for number, job in enumerate(jobs):
        by_plugin.setdefault(job.name, []).append(outcomes[number])
    return Reports(Report(made, name) for name, made in by_plugin.items())


def _parts(projects: Projects, modules: Sequence[WasmModule], *, deployed: bool) -> list[Part]:
    """What is tested of a workspace: each plugin alone, and its chain where there are tests of it.

    With `deployed`, those of them that are. Raises `ProjectError` when only the chain is, and has no tests.
    """
    built = dict(zip((project.root for project in projects), modules, strict=False))
    alone = [Part(each.name, each.root, [built[each.root]] if built else []) for each in projects]
    # without a pytest.ini there, pytest would take `tests` itself for the project's folder
    links = [built[each.root] for each in projects.chain] if built else []
    folder = projects.root / "tests"
    whole = Part(_CHAIN, projects.root, links, (f"--rootdir={projects.root}",), (str(folder),))
    tested = any(any(folder.rglob(pattern)) for pattern in _TESTS)
    if not deployed:
        return [*alone, whole] if tested else alone
    running = [part for part in [*alone, whole] if (now := deployments.load(part.root)) and now.alive]
    if running == [whole] and not tested:
        hint = f"put them in {folder}/test_*.py"
        raise ProjectError("the chain is deployed, and there are no tests of it", hint=hint)
    return [part for part in running if tested or part is not whole]


def _check_deployed(projects: Projects) -> None:
    """Raise `TargetError` unless one of the plugins, or their chain, is deployed and alive."""
    for place in [*(project.root for project in projects), projects.root]:
        if (now := deployments.load(place)) and now.alive:
            return
    raise TargetError(f"nothing is deployed from {projects.root}", hint="run `scaffold deploy` first")


def _hosts(name: str, options: RunOptions, deployed: bool) -> dict[str, list[str]]:
    """What the tests run against, by its name on screen, and pytest's options for it."""
    if deployed and options != RunOptions():
        raise UsageError("a deployment has its Envoy already", hint="give --deployed or --envoy")
    if deployed:
        return {"the deployment": ["--proxy-deployed"]}
    options.check_for(name)
    # with `=`, since pytest takes a path that stands alone for a place to look for its configuration
    on = f"--proxy-host={name}"
    if name == "docker":
        from scaffold.hosts.docker import host as container

        container.check(options.settings)
        words = f"--proxy-docker-args={options.docker_args or ''}"
        return {f"{options.envoy_image}": [on, f"--proxy-envoy-image={options.envoy_image}", words]}
    if options.envoy is None:
        return {name: [on]}
    several = envoys.several(options.envoy)
    hosts = {f"Envoy {each}": [on, f"--proxy-envoy={binary.path}"] for each, binary in several.items()}
    return hosts if len(hosts) > 1 else {name: next(iter(hosts.values()))}


def jobs(
    parts: Sequence[Part],
    hosts: Mapping[str, list[str]],
    words: Sequence[str],
    junitxml: Path | None,
    *,
    by_name: bool = False,
) -> list[Job]:
    """Each part against each host; reports are named after hosts, if several, and parts, if `by_name`."""
    jobs = []
    shares = _shares(parts, words) if by_name else {part.root: list(words) for part in parts}
    for part in parts:
        for host, options in hosts.items() if part.root in shares else ():
            names = [part.name] * by_name + [host.removeprefix("Envoy ")] * (len(hosts) > 1)
            report = [f"--junitxml={_report(junitxml, names)}"] if junitxml else []
            own = shares[part.root]
            tests = () if any(_path(word, part.root) for word in own) else part.tests
            jobs.append(Job(part.name, part.root, host, [*options, *part.words, *report, *own, *tests]))
    return jobs


def _shares(parts: Sequence[Part], words: Sequence[str]) -> dict[Path, list[str]]:
    """The words for each part: a file or folder of tests goes only to the parts in which it lies.

    It is named from the current folder, or as in each of them.
    """
    places = {word: {part.root: path for part in parts if (path := _path(word, part.root))} for word in words}
    here = {word: path for word in words if (path := _path(word, Path()))}
    for word, path in here.items():
        inner = [part.root for part in parts if path.is_relative_to(part.root.resolve())]
        if inner:
            places[word] = {max(inner, key=lambda root: len(root.parts)): path}
    some = any(places.values())
    shares = {}
    for part in parts:
        own = [word for word in words if not places[word] or part.root in places[word]]
        if not some or any(part.root in places[word] for word in own):
            shares[part.root] = [_absolute(word, places[word].get(part.root)) for word in own]
    return shares


def _path(word: str, root: Path) -> Path | None:
    """The file or folder that a word for pytest names, from `root`; None where it is something else."""
    name = word.partition("::")[0]
    path = (root / name).resolve()
    return path if name and not name.startswith("-") and path.exists() else None


def _absolute(word: str, path: Path | None) -> str:
    return word if path is None else "::".join([str(path), *word.split("::")[1:]])


def _report(junitxml: Path, names: Sequence[str]) -> Path:
    words = [word for name in names for word in name.split()]
    return junitxml.with_stem("-".join((junitxml.stem, *words))).resolve()


def _error(code: int) -> ScaffoldError | None:
    """The error that an exit code of pytest's stands for."""
    if code == 0:
        return None
    if code > UNDER_PYTEST:  # the fixture could not begin, and said why
        return of_exit_code(code - UNDER_PYTEST)("the tests could not begin")
    if code < 0:
        return MachineError(f"pytest was ended by signal {-code}")
    kind, message, hint = _PYTEST.get(code, (ToolFailed, f"pytest failed (exit code {code})", None))
    return kind(message, hint=hint)


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    codes = {each.error.exit_code for each in outcomes if each.error}
    return codes.pop() if len(codes) == 1 else TestsFailed.exit_code if codes else 0


def _table(outcomes: Mapping[str, Outcome]) -> str:
    width = max(map(len, outcomes))
    lines = [f"{'':<{width}}  passed  failed  errors  skipped    time"]
    for name, each in outcomes.items():
        counts = f"{each.passed:>6}  {each.failed:>6}  {each.errors:>6}  {each.skipped:>7}"
        why = f"  {each.error.message}" if each.error else ""
        lines.append(f"{name:<{width}}  {counts}  {each.seconds:>4.1f} s{why}")
    return "\n".join(lines)
