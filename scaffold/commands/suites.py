"""`test` of suites: which plugin each is for, its cases on a host, its benchmarks, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.commands.suite_report import CaseReport, SuiteReport, SuiteReports, write_junit
from scaffold.core.events import Quoted, emit, step
from scaffold.core.option_fields import chosen, flag, refuse
from scaffold.errors import ProjectError, UsageError, choose
from scaffold.hosts.gcp import benchmark, tester
from scaffold.hosts.gcp.outcome import Played
from scaffold.hosts.host import EMULATOR, GCP
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.source import read_module
from scaffold.project.cargo_toml import FILE, locate
from scaffold.project.projects import projects_at
from scaffold.project.suites import suite as suites
from scaffold.project.suites.suite import Case, Suite
from scaffold.project.suites.text import YAML
from scaffold.toolchain import cargo
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule

# the options of a run of tests that a suite has on a host
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    GCP: ("config",),
    EMULATOR: ("config", "envoy"),
    "envoy": ("config", "envoy"),
    "docker": ("config", "envoy_image", "docker_args"),
}


@dataclass(frozen=True)
class Wishes:
    """Which cases are played, and what becomes of the report: as of the options of the same names."""

    keyword: str | None = None
    exitfirst: bool = False
    junitxml: Path | None = None


def play(
    root: Path,
    paths: Sequence[Path],
    host: str,
    run: RunOptions,
    module: Path | None,
    wishes: Wishes,
    build: BuildOptions,
) -> SuiteReports:
    """Play suites on a host. Raises `ProjectError` for one that can't be played, before any is."""
    choose("host", host, _OPTIONS)
    refuse(run, f"a suite on {host}", supported=_OPTIONS[host])
    _check(host, run)
    overridden = ("wasm_path",) * bool(module) + ("config_path",) * (run.config is not None)
    read = [suites.read(path, suites.folder_of(path), overridden=overridden) for path in paths]
    some = [_selected(suite, wishes.keyword) for suite in read]
    if not any(suite.cases for suite in some):
        raise ProjectError("no tests ran", hint="choose more of them")
    plugins = _plugins(root, some, run, module, build)
    reports = []
    for suite, plugin in zip(some, plugins, strict=True):
        if suite.cases:
            reports.append(_played(suite, plugin, host, run, exitfirst=wishes.exitfirst))
        if wishes.exitfirst and reports and reports[-1].exit_code:
            break
    if wishes.junitxml:
        write_junit(wishes.junitxml, reports)
    return SuiteReports(reports)


def _check(host: str, run: RunOptions) -> None:
    """Raise what would keep a host from starting, before anything is built."""
    if host == GCP:
        return
    from scaffold.hosts.gcp import real_proxy

    if "," in (run.envoy or ""):
        raise UsageError("a suite is played on one Envoy, not several", hint="pass one of them")
    real_proxy.check(host, replace(run, port=0).settings)


def _selected(suite: Suite, keyword: str | None) -> Suite:
    """A suite with the cases that a keyword means, as in pytest."""
    if keyword is None:
        return suite
    from _pytest.mark.expression import Expression

    try:
        expression = Expression.compile(keyword)
    except SyntaxError as error:
        raise UsageError(f"-k `{keyword}` can't be understood: {error}") from error

    def means(case: Case) -> bool:
        def has(word: str, /, **_: object) -> bool:
            return word.lower() in case.name.lower()

        return expression.evaluate(has)

    return replace(suite, cases=tuple(filter(means, suite.cases)))


def _plugins(
    root: Path, some: Sequence[Suite], run: RunOptions, module: Path | None, build: BuildOptions
) -> list[Plugin]:
    """The plugin of each suite: of --module, of the suite's wasm_path, or the project's, which is built."""
    file = read_module(module) if module else None
    modules = [file or (read_module(suite.wasm) if suite.wasm else None) for suite in some]
    if all(modules) and (unused := next((name for name in chosen(build) if name != "yes"), None)):
        raise UsageError(
            f"{flag(unused)} is for a build, and the plugin is built already", hint="leave it out"
        )
    own: dict[Path, Plugin] = {}
    return [
        _plugin(each, suite.configuration, run)
        if each
        else _built(_crate(root, suite), suite, run, build, own)
        for each, suite in zip(modules, some, strict=True)
    ]


def _plugin(module: WasmModule, configuration: bytes | None, run: RunOptions) -> Plugin:
    return Plugin(module.path.stem, "", module, run.configuration or configuration or b"")


def _crate(root: Path, suite: Suite) -> Path:
    """The folder of the crate that a suite is for: its own, or the one at `root`.

    Raises `ProjectError` if there is none.
    """
    project, own = locate(root), suites.folder_of(suite.path)
    inside = own.resolve().is_relative_to(project.resolve())
    for place in (own, project) if inside else (project, own):
        if (place / FILE).exists():
            return place
    written = "env: {wasm_path: …}" if suite.path.suffix in YAML else "env { wasm_path: … }"
    hint = f"pass `--module FILE`, or write `{written}`"
    raise ProjectError(f"{suite.path} doesn't say which plugin it is for", hint=hint)


def _built(
    crate: Path, suite: Suite, run: RunOptions, build: BuildOptions, own: dict[Path, Plugin]
) -> Plugin:
    """The plugin of a crate; those in `own` are built already. A suite's configuration goes before it."""
    projects = projects_at(crate)
    projects.refuse_many("a suite")
    project = projects.first
    if crate not in own:
        (module,) = cargo.build(projects, build)
        own[crate] = Plugin(project.name, "", module, clusters=project.settings.clusters)
    given = suite.configuration if run.config is None else run.configuration
    plugin = own[crate]
    return Plugin(plugin.name, "", plugin.module, project.configured(given), plugin.clusters)


def _played(suite: Suite, plugin: Plugin, host: str, run: RunOptions, *, exitfirst: bool) -> SuiteReport:
    cases: list[CaseReport] = []
    with step(f"Playing {suite.path} on {host}"), _player(suite, plugin, host, run) as play:
        for case in suite.cases:
            begun = time.monotonic()
            played = play(case)
            _keep_log(suite, played)
            seconds = time.monotonic() - begun
            cases.append(
                CaseReport(case.name, played.outcome, tuple(played.failures), played.skipped, seconds)
            )
            if exitfirst and played.failures:
                break
        measured = benchmark.benchmarks(plugin, suite) if host == GCP else []
    return SuiteReport(str(suite.path), host, tuple(cases), tuple(measured))


@contextmanager
def _player(suite: Suite, plugin: Plugin, host: str, run: RunOptions) -> Iterator[Callable[[Case], Played]]:
    """What plays a suite's cases on a host."""
    if host == GCP:
        yield tester.GcpTester(plugin, suite).play
        return
    from scaffold.hosts.gcp import real_proxy

    with real_proxy.playing(host, plugin, suite, replace(run, port=0).settings) as play:
        yield play


def _keep_log(suite: Suite, played: Played) -> None:
    """Show what the plugin logged, or append it to a file, as `log_path` says."""
    if suite.shows_log and played.logs:
        emit(Quoted("\n".join([f"{played.case}:", *(f"  {line}" for line in played.logs)])))
    elif suite.log_file:
        lines = [f"--- Starting test: {played.case} ---", *played.logs]
        with suite.log_file.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in [*lines, f"--- Finished test: {played.case} ---"])
