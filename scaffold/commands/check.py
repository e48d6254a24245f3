"""`check`: what the generated CI's first job does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scaffold.core.events import Noted, emit, step
from scaffold.errors import ModuleError, ProjectError, ScaffoldError, TestsFailed, ToolFailed
from scaffold.project.projects import Projects, called, projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain
from scaffold.wasm.check import fatal_problem

_LOCK = "Cargo.lock"


@dataclass(frozen=True)
class Checked:
    """The parts of a check, all of which passed."""

    parts: tuple[str, ...]

    def summary(self) -> str:
        """One line."""
        return f"{', '.join(self.parts)}: all passed"


def check(root: Path = Path(), options: BuildOptions = BuildOptions()) -> Checked:
    """Check format, lints, native tests, configuration and module of each plugin, and play its tests.

    They are played on the emulator, which holds the budgets of requests.

    Every part is tried. Raises the error of the first that failed: `ProjectError` for the format or the
    configuration, `ToolFailed` for lints or code that doesn't compile, `TestsFailed`, `ModuleError` for
    a module that Envoy doesn't load, or `BudgetExceeded` for one that is larger than the budget allows.
    """
    projects = projects_at(root)
    if not (projects.top / _LOCK).exists():
        hint = "`scaffold build` writes it; commit it, so that everyone builds with the same crates"
        raise ProjectError(f"no {_LOCK} in {projects.top}", hint=hint)
    triple = projects.triples[0]
    tools = find(triple, root=projects.root, rustc=options.rustc, yes=options.yes)
    cargo.require_subcommands(tools, projects, ("fmt", "clippy"))
    parts: dict[str, Callable[[Projects, Toolchain, BuildOptions], None]] = {
        "format": _check_format,
        "lints": _check_lints,
        "native tests": _check_tests,
        "configuration": _check_configuration,
        "module": _check_module,
        "tests on the emulator": _check_emulated,
    }
    failed: dict[str, ScaffoldError] = {}
    for name, part in parts.items():
        if part is _check_emulated and {"configuration", "module"} & failed.keys():
            continue  # it would only say the same again
        try:
            with step(f"Checking {called(projects.all)}: {name}"):
                part(projects, tools, options)
        except ScaffoldError as error:
            failed[name] = error
    if failed:
        first, *others = failed.values()
        for name, each in failed.items() if others else ():
            emit(Noted(f"{name}: {each.message}"))
        raise type(first)(f"{', '.join(failed)} failed", hint=first.hint) if others else first
    return Checked(tuple(parts))


def _check_format(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    if cargo.check_format(projects, tools):
        raise ProjectError("the code isn't formatted as rustfmt does it", hint="run `cargo fmt`")


def _check_lints(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    if cargo.check_lints(projects, tools, options):
        raise ToolFailed("clippy found something, or the code doesn't compile")


def _check_tests(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    if cargo.run_tests(projects, tools, options, locked=True):
        raise TestsFailed("native tests failed")


def _check_configuration(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    for project in projects:
        project.configured()


def _check_module(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    modules = cargo.build(projects, options, toolchains={projects.triples[0]: tools}, locked=True)
    for module in modules:
        if problem := fatal_problem(module.file):
            raise ModuleError(f"Envoy doesn't load {module.path.name}: {problem.message}", hint=problem.hint)
    cargo.hold_budgets(zip(projects, modules, strict=True), options)


def _check_emulated(projects: Projects, tools: Toolchain, options: BuildOptions) -> None:
    from scaffold.commands.test import play

    modules = cargo.build(projects, options, toolchains={projects.triples[0]: tools}, locked=True)
    for project, module in zip(projects, modules, strict=True):
        play(project.root, ["--proxy-host=emulator", f"--proxy-module={module.path}"])
