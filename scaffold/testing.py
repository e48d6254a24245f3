"""A project's tests: the native ones by cargo, those against a host by pytest."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from scaffold import cargo, process, toolchain
from scaffold.errors import (
    MachineError,
    ProjectError,
    TestsFailed,
    ToolFailed,
    UsageError,
    choose,
    of_exit_code,
)
from scaffold.events import step
from scaffold.hosts import HOSTS
from scaffold.project import Project
from scaffold.wasm import WasmModule

OURS = 100  # what the plugin adds to an exit code of ours, to tell it from pytest's

# pytest's exit codes (pytest.ExitCode) as ours; 2 is an interruption, or a test file that can't be read
_PYTEST = {
    1: TestsFailed("tests failed"),
    2: TestsFailed("pytest stopped before the end"),
    3: ToolFailed("pytest failed inside"),
    4: UsageError("pytest can't make sense of that", hint="`pytest --help` lists what it takes"),
    5: ProjectError("no tests ran", hint="put them in tests/test_*.py, or widen -k"),
}


def test(
    pytest_args: Sequence[str] = (),
    *,
    root: Path = Path(),
    host: str = "envoy",
    envoy: str | None = None,
    deployed: bool = False,
    module: Path | None = None,
    keyword: str | None = None,
    exitfirst: bool = False,
    junitxml: Path | None = None,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> None:
    """Run `cargo test`, then the project's `tests/` by pytest, each against the plugin in a host.

    With `deployed` they play against what is deployed; with `module` against that file. Raises
    `TestsFailed` when a test fails, `ProjectError` when there is none.
    """
    choose("host", host, HOSTS)
    project = Project.load(root)
    tools = toolchain.find(project.settings.triple, root=project.root, rustc=rustc, yes=yes)
    with step(f"Testing {project.name} natively"):
        _native(project, tools)
    # with `=`, since pytest takes a path that stands alone for a place to look for its configuration
    options = [f"--proxy-host={host}"]
    options += [f"--proxy-envoy={envoy}"] if envoy else []
    if deployed:
        options += ["--proxy-deployed"]
    else:
        built = (
            WasmModule.read(module) if module else cargo.build(root, profile=profile, rustc=rustc, yes=yes)
        )
        options += [f"--proxy-module={built.path}"]
    options += ["-k", keyword] if keyword else []
    options += ["-x"] if exitfirst else []
    options += [f"--junitxml={junitxml.resolve()}"] if junitxml else []
    where = "the deployment" if deployed else host
    with step(f"Testing {project.name} in {where}"):
        _pytest(project, [*options, *pytest_args])


def _native(project: Project, tools: toolchain.Toolchain) -> None:
    if cargo.run_tests(project, tools, compile_only=True):
        raise ToolFailed("cargo could not compile the native tests")
    if cargo.run_tests(project, tools):
        raise TestsFailed("native tests failed")


def _pytest(project: Project, argv: list[str]) -> None:
    # the project's own configuration loads the plugin; said here too for one that has none yet
    words = [sys.executable, "-m", "pytest", "-p", "scaffold.pytest_plugin", *argv]
    code = process.show(words, cwd=project.root, env=os.environ)
    if code == 0:
        return
    if code > OURS:  # the fixture could not begin, and said why
        raise of_exit_code(code - OURS)("the tests could not begin")
    if code < 0:
        raise MachineError(f"pytest was ended by signal {-code}")
    raise _PYTEST.get(code) or ToolFailed(f"pytest failed (exit code {code})")
