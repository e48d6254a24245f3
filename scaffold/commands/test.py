"""`test`: run a project's Rust tests with cargo, then the tests in its tests/ with pytest against a host."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.commands.measure import Measured, Measurement, check_place
from scaffold.commands.suite_report import SuiteReports
from scaffold.core import files, process
from scaffold.core.events import Noted, Quoted, emit, step
from scaffold.core.option_fields import chosen, flag, refuse
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
    nearest,
    of_exit_code,
)
from scaffold.hosts.background import deployments
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.host import EMULATOR, GCP, PLAYERS
from scaffold.hosts.measure_options import MeasureOptions
from scaffold.hosts.options import OF_EMULATOR, OF_TESTS, RunOptions
from scaffold.hosts.source import read_module
from scaffold.project import source_warnings
from scaffold.project.projects import Projects, called, projects_at
from scaffold.project.suites.text import TEXT, YAML
from scaffold.toolchain import cargo
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain
from scaffold.wasm import own_code
from scaffold.wasm.module import WasmModule

if TYPE_CHECKING:
    from scaffold.commands.diff import Differences
    from scaffold.commands.faults.plan import Plan
    from scaffold.commands.faults.report import Faults

ALL = "all"  # the host that stands for the emulator and Envoy, compared
NO_TESTS = 5  # pytest's exit code where no test ran
_KINDS = ("passed", "failed", "error", "skipped")
_CHAIN = "the chain"
_TESTS = ("test_*.py", "*_test.py")  # pytest's default patterns

# pytest's exit codes (pytest.ExitCode) -> ours; 2 is an interruption, or a test file that can't be imported
_PYTEST: dict[int, tuple[type[ScaffoldError], str, str | None]] = {
    1: (TestsFailed, "tests failed", None),
    2: (TestsFailed, "pytest stopped before the end", None),
    3: (ToolFailed, "pytest had an internal error", None),
    4: (UsageError, "pytest refuses its arguments", "run `pytest --help`"),
    NO_TESTS: (ProjectError, "no tests ran", "put tests in tests/test_*.py, or choose more of them"),
}


@dataclass(frozen=True)
class Outcome:
    """One run of the tests against a host: counts, duration, and the error if it failed."""

    host: str
    passed: int
    failed: int
    errors: int
    skipped: int
    seconds: float
    error: ScaffoldError | None


@dataclass(frozen=True)
class Report:
    """The outcomes of a plugin's tests, one for each Envoy."""

    outcomes: list[Outcome]
    plugin: str = ""
    differences: Differences | None = None
    measured: Measured | None = None
    faults: Faults | None = None

    @property
    def exit_code(self) -> int:
        """0 on success, the errors' exit code if they share one, else that of failed tests.

        If the hosts were compared and differ, or faults find something, that of failed tests, too.
        """
        more = [each.exit_code for each in (self.differences, self.faults) if each]
        return _exit_code(self.outcomes) or max(more, default=0)

    def summary(self) -> str:
        """A table with a line for each Envoy, where the hosts differ, what was measured, what came of faults.

        Of the results of a single one, which pytest has printed, nothing.
        """
        table = _table({each.host: each for each in self.outcomes}) if len(self.outcomes) > 1 else ""
        parts = [each.summary() for each in (self.differences, self.measured) if each]
        return "\n\n".join(filter(None, [*parts, table, self.faults.summary() if self.faults else ""]))


class Reports(tuple[Report, ...]):
    """The reports of a workspace's plugins."""

    @property
    def exit_code(self) -> int:
        """Like `Report.exit_code`, over all outcomes."""
        differ = any(report.differences and report.differences.exit_code for report in self)
        return _exit_code([outcome for report in self for outcome in report.outcomes]) or int(differ)

    def summary(self) -> str:
        """A table with a line for each plugin in each Envoy, where hosts differ, and what was measured."""
        found = [
            f"{report.plugin}:\n{each.summary()}"
            for report in self
            for each in (report.differences, report.measured)
            if each
        ]
        table = _table(
            {f"{report.plugin} in {each.host}": each for report in self for each in report.outcomes}
        )
        return "\n\n".join([*found, table])


@dataclass(frozen=True)
class Part:
    """A plugin or a chain to test: its modules, unless it is deployed, and arguments for pytest."""

    name: str
    root: Path
    modules: Sequence[WasmModule]
    options: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()  # the folder of its tests, unless the user names files

    @property
    def arguments(self) -> list[str]:
        """The arguments for pytest."""
        return [*(f"--proxy-module={module.path}" for module in self.modules), *self.options]


@dataclass(frozen=True)
class Job:
    """One run of pytest: the tests of a plugin or a chain against one host."""

    name: str
    root: Path
    host: str
    arguments: list[str]
    record: Path | None = None  # where it records what its requests did

    @property
    def title(self) -> str:
        """The step's title."""
        return f"Testing {self.name} in {self.host}"

    def program(self, counts: Path, *more: str) -> process.Program:
        """The call of pytest, which writes its counts to a file."""
        # a project's pytest.ini loads the pytest plugin; it is named here for a project without one
        pytest = [sys.executable, "-m", "pytest", "-p", "scaffold.pytest_plugin", f"--proxy-counts={counts}"]
        return process.Program([*pytest, *more, *self.arguments], self.root)

    def outcome(self, counts: Path, seconds: float, error: ScaffoldError | None) -> Outcome:
        """The outcome of the finished run."""
        numbers = json.loads(counts.read_text()) if counts.exists() else {}
        passed, failed, errors, skipped = (numbers.get(kind, 0) for kind in _KINDS)
        return Outcome(self.host, passed, failed, errors, skipped, seconds, error)


def test(
    root: Path = Path(),
    *,
    tests: Sequence[str] = (),
    host: str | None = None,
    fast: bool = False,
    faults: bool = False,
    run: RunOptions = RunOptions(),
    deployed: bool = False,
    module: Path | None = None,
    keyword: str | None = None,
    exitfirst: bool = False,
    junitxml: Path | None = None,
    measure: MeasureOptions = MeasureOptions(),
    build: BuildOptions = BuildOptions(),
) -> Report | Reports | SuiteReports:
    """Run `cargo test`, then the project's `tests/` with pytest against the plugin in a host.

    With `deployed` the tests run against the deployed plugin, with `module` against that file. If
    `run.envoy` names several Envoys, separated by commas, the tests run in each, the report lists failures,
    and each writes its own `junitxml`. The host "all" is the emulator and Envoy, whose exchanges are
    compared; `fast` is the emulator, which needs no Envoy; what `measure` asks for is measured there. With
    `faults` the tests' requests are then played while something goes wrong. At a workspace's root the tests
    of all its plugins and of its chain run in parallel. Raises `TestsFailed` if a test fails, `ProjectError`
    if there are no tests.

    `tests` are arguments for pytest; or suites, which are played instead, on "gcp" unless `host` says
    another.
    """
    paths = suites_among(tests, root)
    if faults:
        _check_faults(measure, paths)
        host = host or EMULATOR
    if measure.wanted and not deployed:
        host = host or EMULATOR
    host = _chosen_host(host, fast=fast, deployed=deployed, suites=bool(paths))
    if paths:
        from scaffold.commands import suites

        refuse(measure, "a suite")
        wishes = suites.Wishes(keyword, exitfirst, junitxml)
        return suites.play(root, paths, host, run, module, wishes, build)
    if "," in host:
        hint = f"`--host {ALL}` plays on the emulator and on Envoy, and compares them"
        raise UsageError("--host takes one host", hint=hint)
    choose("host", host, PLAYERS | {ALL: ""})
    check_place(measure, host, run.envoy, deployed=deployed)
    refuse(run, "test", supported=OF_TESTS)
    projects = projects_at(root)
    _check_files(tests, projects)
    run.check_for_many(len(projects))
    if projects.workspace:
        _ = projects.chain  # reports an invalid chain before anything runs
        if module:
            projects.refuse_many("--module")
    plan = _planned(projects, host, run, deployed=deployed) if faults else None
    file = read_module(module) if module else None
    if file and measure.wanted:
        own_code.require(file.file)
    hosts = _hosts(host, run, deployed)
    if deployed:
        _check_deployed(projects)
    _warn(projects, clusters=not (deployed or run.bootstrap))
    triple = projects.triples[0]
    tools = find(triple, root=projects.root, rustc=build.rustc, yes=build.yes)
    with step(f"Testing {called(projects.all)} natively"):
        _native(projects, tools, build)
    modules = [file] if file else [] if deployed else _built(projects, build, tools, measure)
    free = [] if cargo.is_release(build) else ["--proxy-no-budgets"]
    arguments = [*free, *(["-k", keyword] if keyword else []), *(["-x"] if exitfirst else []), *tests]
    with files.scratch() as folder:
        measurement = Measurement(measure, projects, modules, folder) if measure.wanted else None
        parts = _parts(projects, measurement.modules if measurement else modules, deployed=deployed)
        parts = measurement.parts(parts) if measurement else parts
        several = projects.workspace is not None
        every = jobs(parts, hosts, arguments, junitxml, by_name=several)
        every = recorded(every, folder if host == ALL else None)

        if plan:
            return _then_faults(every, plan, modules[0], folder / "scenes")

        def run_all() -> Report | Reports:
            return _in_parallel(every, some=keyword is not None) if several else _in_turn(every)

        return _measured(run_all, measurement) if measurement else run_all()


def _check_files(tests: Sequence[str], projects: Projects) -> None:
    """Raise `UsageError` for a test file that isn't there, which pytest would say only after the build."""
    roots = [Path(), projects.root, *(project.root for project in projects)]
    for each in tests:
        name = each.partition("::")[0]
        if name.endswith(".py") and not name.startswith("-") and not any(_path(name, root) for root in roots):
            found = {str(path.relative_to(root)) for root in roots[1:] for path in _test_files(root)}
            raise UsageError(f"there is no {name}", hint=nearest(name, sorted(found)))


def _test_files(root: Path) -> list[Path]:
    """The files of tests in a project's `tests/`."""
    return [path for pattern in _TESTS for path in (root / "tests").rglob(pattern)]


def _check_faults(measure: MeasureOptions, suites: Sequence[Path]) -> None:
    """Raise `UsageError` for what can't be combined with `--faults`."""
    if measure.wanted:
        raise UsageError("--faults needs the plugin as it is", hint=f"leave out {flag(chosen(measure)[0])}")
    if suites:
        raise UsageError("--faults plays the requests of pytest's tests, not of a suite", hint="leave it out")


def _planned(projects: Projects, host: str, run: RunOptions, *, deployed: bool) -> Plan:
    """The faults that are to be played after the tests."""
    from scaffold.commands.faults.plan import planned

    return planned(projects, host, run, deployed=deployed)


def _then_faults(jobs: Sequence[Job], plan: Plan, module: WasmModule, kept: Path) -> Report:
    """Run a plugin's tests, if it has any, then play its faults, unless one fails; `kept` is for scenes."""
    report = Report([], plan.project.name)
    if _test_files(plan.project.root):
        keep = f"--proxy-scenes={kept}"
        report = _in_turn([replace(job, arguments=[keep, *job.arguments]) for job in jobs])
    return report if _exit_code(report.outcomes) else replace(report, faults=plan.play(module, kept))


def _built(
    projects: Projects, build: BuildOptions, tools: Toolchain, measure: MeasureOptions
) -> list[WasmModule]:
    if measure.wanted:
        return cargo.build_to_measure(projects, build, tools)
    return cargo.build(projects, build, toolchains={projects.triples[0]: tools})


def _measured(run: Callable[[], Report | Reports], measurement: Measurement) -> Report | Reports:
    """Run the tests, and add what was measured, which is shown even if a test has failed."""
    try:
        report = run()
    except TestsFailed:
        if measurement.any_played:
            for each in filter(None, measurement.of_all()):
                emit(Quoted(each.summary()))
            measurement.write()
        raise
    measurement.write()
    if isinstance(report, Report):
        return replace(report, measured=measurement.of(report.plugin))
    return Reports(replace(each, measured=measurement.of(each.plugin)) for each in report)


def _chosen_host(host: str | None, *, fast: bool, deployed: bool, suites: bool) -> str:
    """The name of the host; without one, that of the tests, or of `suites`."""
    if fast and host not in (None, EMULATOR):
        raise UsageError(f"--fast plays on the emulator, and --host says `{host}`", hint="pass one of them")
    if suites and (deployed or host == ALL):
        where = "a deployment" if deployed else "two hosts at once"
        raise UsageError(f"a suite isn't played on {where}", hint="name one host with --host")
    if host == GCP and not suites:
        raise UsageError("the host `gcp` plays suites only", hint="name one: `scaffold test suite.textpb`")
    return EMULATOR if fast else host or (GCP if suites else "envoy")


def suites_among(words: Sequence[str], root: Path) -> list[Path]:
    """The suites among some words, relative to the current folder or to the project's.

    Raises `UsageError` if there is anything else beside them.
    """
    found = [word for word in words if word.endswith((*TEXT, *YAML)) and not word.startswith("-")]
    if found and len(found) < len(words):
        other = next(word for word in words if word not in found)
        hint = "run `scaffold test` once for suites, and once for pytest"
        raise UsageError(f"`{other}` is for pytest, which doesn't play suites", hint=hint)
    return [Path(word) if Path(word).exists() else root / word for word in found]


def recorded(jobs: Sequence[Job], folder: Path | None) -> list[Job]:
    """The same jobs; with a folder, each records there what its requests did."""
    if folder is None:
        return list(jobs)
    from scaffold.commands.diff import record_options

    records = [folder / f"{number}.json" for number in range(len(jobs))]
    return [
        replace(job, record=file, arguments=[*record_options(file), *job.arguments])
        for job, file in zip(jobs, records, strict=True)
    ]


def _compared(jobs: Sequence[Job]) -> Differences | None:
    """Where the two hosts of one plugin differ, if they recorded it."""
    records = [job.record for job in jobs if job.record and job.record.exists()]
    if len(records) != 2:
        return None
    from scaffold.commands.diff import compared
    from scaffold.hosts import recording

    first, second = map(recording.read, records)
    if not first and not second:  # the user chose tests of other plugins
        return None
    return compared(jobs[0].host, jobs[1].host, first, second)


def _warn(projects: Projects, *, clusters: bool) -> None:
    """Warn of what the sources show; pytest's process, which runs the plugins, tells nobody."""
    for project in projects:
        source_warnings.warn_of_type(project)
        if clusters:
            source_warnings.warn_of_clusters(project)


def _native(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    for project in projects:
        project.configured()  # the Rust tests may read the configuration, and would only panic
    if cargo.run_tests(projects, tools, options, compile_only=True):
        raise ToolFailed("cargo could not compile the native tests")
    if cargo.run_tests(projects, tools, options):
        raise TestsFailed("native tests failed")


def play(root: Path, arguments: Sequence[str]) -> None:
    """Run pytest for a plugin in the terminal, if it has tests. Raises its error."""
    with files.scratch() as folder:
        program = Job("", root, "", list(arguments)).program(folder / "counts.json")
        code = process.show(program.argv, cwd=root, env=os.environ)
    if code != NO_TESTS and (failure := _error(code)):
        raise failure


def _in_turn(jobs: Sequence[Job]) -> Report:
    """Run pytest for one plugin against each host. Raises the error of a single one."""
    outcomes = [_run(job) for job in jobs]
    if outcomes[0].error and len(outcomes) == 1:
        raise outcomes[0].error
    return Report(outcomes, jobs[0].name, _compared(jobs))


def _run(job: Job) -> Outcome:
    """Run pytest in the terminal; an error becomes part of the outcome."""
    error = None
    started = time.monotonic()
    with files.scratch() as folder:
        counts = folder / "counts.json"
        program = job.program(counts)
        try:
            with step(job.title):
                if failure := _error(process.show(program.argv, cwd=program.cwd, env=os.environ)):
                    raise failure
        except ScaffoldError as raised:
            error = raised
        return job.outcome(counts, time.monotonic() - started, error)


def _in_parallel(jobs: Sequence[Job], *, some: bool) -> Reports:
    """Run pytest for each job, one per core; shows each output when its run has finished.

    If the user selected `some` tests, a plugin may have none of them, but not every plugin.
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
        for result in process.run_many(programs, env=os.environ, limit=limit):
            job = jobs[result.index]
            with step(job.title):
                emit(Quoted(result.output.rstrip("\n")))
            error = _error(result.code)
            if some and error and result.code == NO_TESTS:
                without.append(error)
                error = None
            outcomes[result.index] = job.outcome(counts[result.index], result.seconds, error)
    if without and len(without) == len(jobs):
        raise without[0]
    by_plugin: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        by_plugin.setdefault(job.name, []).append(number)
    return Reports(
        Report([outcomes[each] for each in group], name, _compared([jobs[each] for each in group]))
        for name, group in by_plugin.items()
    )


def _parts(projects: Projects, modules: Sequence[WasmModule], *, deployed: bool) -> list[Part]:
    """The parts to test: a plugin; of a workspace each plugin alone, and the chain if it has tests.

    With `deployed`, only the deployed ones. Raises `ProjectError` if only the chain is deployed and has no
    tests.
    """
    if projects.workspace is None:
        return [Part(projects.first.name, projects.root, modules)]
    built = dict(zip((project.root for project in projects), modules, strict=False))
    alone = [Part(each.name, each.root, [built[each.root]] if built else []) for each in projects]
    # --rootdir: without a pytest.ini, pytest would use the folder `tests` itself
    links = [built[each.root] for each in projects.chain] if built else []
    folder = projects.root / "tests"
    whole = Part(_CHAIN, projects.root, links, (f"--rootdir={projects.root}",), (str(folder),))
    tested = bool(_test_files(projects.root))
    if not deployed:
        return [*alone, whole] if tested else alone
    running = [part for part in [*alone, whole] if _is_running(part.root)]
    if running == [whole] and not tested:
        hint = f"put tests in {folder}/test_*.py"
        raise ProjectError("the deployed chain has no tests", hint=hint)
    return [part for part in running if tested or part is not whole]


def _check_deployed(projects: Projects) -> None:
    """Raise `TargetError` unless one of the plugins, or their chain, is deployed and running."""
    if not any(_is_running(root) for root in [*(project.root for project in projects), projects.root]):
        raise TargetError(f"nothing is deployed from {projects.root}", hint="run `scaffold deploy` first")


def _is_running(root: Path) -> bool:
    record = deployments.load(root)
    return record is not None and record.alive


def _hosts(name: str, options: RunOptions, deployed: bool) -> dict[str, list[str]]:
    """The hosts to test against: name on screen -> pytest's options for it."""
    if deployed and options != RunOptions():
        raise UsageError(
            "the deployed plugin runs in its own Envoy",
            hint=f"leave out {flag(chosen(options)[0])} or --deployed",
        )
    if deployed and name == ALL:
        raise UsageError("the deployed plugin runs in its own Envoy", hint="leave out --host or --deployed")
    if deployed:
        return {"the deployment": ["--proxy-deployed"]}
    if name == ALL:
        if "," in (options.envoy or ""):
            hint = "pass one; `scaffold diff envoy:1.36 envoy:1.40` compares two"
            raise UsageError("--host all compares the emulator with one Envoy, not several", hint=hint)
        return _hosts(EMULATOR, options, deployed) | _hosts("envoy", options, deployed)
    if name == EMULATOR:
        return _emulated(options)
    options.check_for(name)
    settings = options.settings  # reports an invalid value before the build
    common = [f"--proxy-host={name}", *proxy_options(replace(options, envoy=None))]
    if name == "docker":
        from scaffold.hosts.docker import host as container

        container.check(settings)
        return {f"{options.envoy_image}": common}
    if options.envoy is None:
        return {name: common}
    hosts = {
        f"Envoy {each}": [*common, f"--proxy-envoy={binary.path}"]
        for each, binary in envoys.several(options.envoy).items()
    }
    return hosts if len(hosts) > 1 else {name: next(iter(hosts.values()))}


def _emulated(options: RunOptions) -> dict[str, list[str]]:
    """The Envoys to emulate, like `_hosts`."""
    refuse(options, "the emulator", supported=OF_EMULATOR, hint="leave it out, or pass --host envoy")
    versions = (options.envoy or "").split(",")
    common = [f"--proxy-host={EMULATOR}", *proxy_options(replace(options, envoy=None))]
    return {
        f"{EMULATOR} of Envoy {each}" if each else EMULATOR: [
            *common,
            *([f"--proxy-envoy={each}"] if each else []),
        ]
        for each in versions
    }


def proxy_options(options: RunOptions) -> Iterator[str]:
    """The options for pytest."""
    for name, value in options.record().items():
        for each in value if isinstance(value, tuple) else [value]:
            # with `=`: pytest looks for its configuration near a path that is an argument by itself
            yield flag(f"proxy_{name}") if each is True else f"{flag(f'proxy_{name}')}={each}"


def jobs(
    parts: Sequence[Part],
    hosts: Mapping[str, list[str]],
    arguments: Sequence[str],
    junitxml: Path | None,
    *,
    by_name: bool = False,
) -> list[Job]:
    """Each part against each host; reports are named after the hosts, if several, and parts (`by_name`)."""
    jobs = []
    shares = _shares(parts, arguments) if by_name else {part.root: list(arguments) for part in parts}
    for part in parts:
        for host, options in hosts.items() if part.root in shares else ():
            names = [part.name] * by_name + [host.removeprefix("Envoy ")] * (len(hosts) > 1)
            report = [f"--junitxml={_report(junitxml, names)}"] if junitxml else []
            share = shares[part.root]
            tests = () if any(_path(each, part.root) for each in share) else part.tests
            jobs.append(Job(part.name, part.root, host, [*options, *part.arguments, *report, *share, *tests]))
    return jobs


def _shares(parts: Sequence[Part], arguments: Sequence[str]) -> dict[Path, list[str]]:
    """The arguments for each part: a file or folder of tests goes only to the parts that contain it.

    Its path is relative to the current folder, or to each part's.
    """
    places = {
        each: {part.root: path for part in parts if (path := _path(each, part.root))} for each in arguments
    }
    here = {each: path for each in arguments if (path := _path(each, Path()))}
    for argument, path in here.items():
        containing = [part.root for part in parts if path.is_relative_to(part.root.resolve())]
        if containing:
            places[argument] = {max(containing, key=lambda root: len(root.parts)): path}
    some = any(places.values())
    shares = {}
    for part in parts:
        share = [each for each in arguments if not places[each] or part.root in places[each]]
        if not some or any(part.root in places[each] for each in share):
            shares[part.root] = [_absolute(each, places[each].get(part.root)) for each in share]
    return shares


def _path(argument: str, root: Path) -> Path | None:
    """The existing file or folder below `root` that an argument for pytest names, if any."""
    name = argument.partition("::")[0]
    path = (root / name).resolve()
    return path if name and not name.startswith("-") and path.exists() else None


def _absolute(argument: str, path: Path | None) -> str:
    return argument if path is None else "::".join([str(path), *argument.split("::")[1:]])


def _report(junitxml: Path, names: Sequence[str]) -> Path:
    words = [word for name in names for word in name.split()]
    return junitxml.with_stem("-".join((junitxml.stem, *words))).resolve()


def _error(code: int) -> ScaffoldError | None:
    """The error for one of pytest's exit codes."""
    if code == 0:
        return None
    if code > UNDER_PYTEST:  # the fixture failed, and printed why
        return of_exit_code(code - UNDER_PYTEST)("the tests could not start")
    if code < 0:
        return MachineError(f"signal {-code} ended pytest")
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
        error = f"  {each.error.message}" if each.error else ""
        lines.append(f"{name:<{width}}  {counts}  {each.seconds:>4.1f} s{error}")
    return "\n".join(lines)
