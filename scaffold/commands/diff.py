"""`diff`: the same tests on two hosts, or with two modules, and where what they saw differs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.commands.test import NO_TESTS, proxy_options
from scaffold.core import files, process
from scaffold.core.events import Noted, emit, step
from scaffold.core.option_fields import refuse
from scaffold.errors import (
    UNDER_PYTEST,
    HostError,
    ProjectError,
    ScaffoldError,
    TestsFailed,
    UsageError,
    choose,
    of_exit_code,
)
from scaffold.hosts import recording
from scaffold.hosts.host import EMULATOR, PLAYERS
from scaffold.hosts.options import OF_EMULATOR, RunOptions
from scaffold.hosts.recording import Difference, Test
from scaffold.project.projects import Projects, projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule

# pytest's exit codes: a test file that can't be imported, and arguments that it refuses, as in `test`
_STOPPED: dict[int, type[ScaffoldError]] = {2: TestsFailed, 4: UsageError}
_MOST = 20  # differences that are shown
_OURS = "this build"
# the option that names the version, or the image, of a host
_WHICH = {"envoy": "envoy", EMULATOR: "envoy", "docker": "envoy_image"}


@dataclass(frozen=True)
class Side:
    """One of the two: its name on screen, the host, and the module."""

    name: str
    host: str
    run: RunOptions
    module: WasmModule

    def arguments(self) -> list[str]:
        """The arguments for pytest."""
        return [f"--proxy-host={self.host}", f"--proxy-module={self.module.path}", *proxy_options(self.run)]


@dataclass(frozen=True)
class Differences:
    """Where two runs of the tests differ: `left` and `right` name the sides, `compared` counts tests.

    `skipped` are the tests that a side left out, with its reason.
    """

    left: str
    right: str
    compared: int
    skipped: Mapping[str, str]
    differences: tuple[Difference, ...]

    @property
    def exit_code(self) -> int:
        """0 if the sides agree; 1 if they differ, or nothing could be compared."""
        return int(bool(self.differences) or not self.compared)

    def summary(self) -> str:
        """Each difference, and a line that counts them."""
        lines = []
        for each in self.differences[:_MOST]:
            lines += [*each.lines(self.left, self.right), ""]
        if len(self.differences) > _MOST:
            lines += [f"… and {len(self.differences) - _MOST} more differences", ""]
        lines += [f"not compared: {name}: {reason}" for name, reason in self.skipped.items()]
        found = len(self.differences)
        tests = f"{self.compared} test{'s' * (self.compared != 1)}"
        verdict = f"{found} difference{'s' * (found != 1)}" if found else "no difference"
        if not found and not self.compared:
            return "\n".join([*lines, f"{self.left} and {self.right}: no test could be compared"])
        return "\n".join([*lines, f"{self.left} and {self.right}: {verdict} in {tests}"])


def diff(
    root: Path = Path(),
    *,
    left: str = EMULATOR,
    right: str | None = None,
    against: str | None = None,
    keyword: str | None = None,
    run: RunOptions = RunOptions(),
    build: BuildOptions = BuildOptions(),
) -> Differences:
    """Play the project's tests on two hosts, such as "emulator" and "envoy:1.36", and compare what they saw.

    With `against`, a commit, a file or an image, they are played on `left` with both modules. Raises
    `ProjectError` without tests, `UsageError` at a workspace's root, and what `bench` raises for a base that
    doesn't build.
    """
    refuse(run, "diff", supported=[name for name in OF_EMULATOR if name not in _WHICH.values()])
    projects = projects_at(root)
    projects.refuse_many("`diff`")
    if against and right:
        raise UsageError(
            "--against compares two modules on one host", hint=f"leave out `{right}`, or --against"
        )
    hosts = [_host(each, run) for each in ([left] if against else [left, right or "envoy"])]
    (module,) = cargo.build(projects, build)
    with files.scratch() as folder:
        sides = [Side(name, host, options, module) for name, host, options in hosts]
        if against:
            sides = [replace(sides[0], name=_OURS), _base(against, sides[0], projects, build)]
        found = [_play(side, projects, folder / str(place), keyword) for place, side in enumerate(sides)]
    return compared(sides[0].name, sides[1].name, *found, transcripts=not against)


def compared(
    left: str, right: str, first: Sequence[Test], second: Sequence[Test], *, transcripts: bool = True
) -> Differences:
    """Two runs of the tests, compared."""
    skipped = {
        test.name: f"{name} skips it: {test.reason}" if test.reason else f"{name} skips it"
        for name, tests in ((left, first), (right, second))
        for test in tests
        if test.outcome == "skipped"
    }
    found = recording.differences(first, second, transcripts=transcripts)
    both = {test.name for test in first} & {test.name for test in second}
    return Differences(left, right, len(both - skipped.keys()), skipped, tuple(found))


def _host(text: str, run: RunOptions) -> tuple[str, str, RunOptions]:
    """A host as users name it, such as "envoy:1.36": its name on screen, its name, and its options."""
    name, colon, which = text.partition(":")
    choose("host", name, PLAYERS)
    if colon and not which:
        raise UsageError(f"`{text}` names no version", hint=f"write `{name}`, or `{text}VERSION`")
    options = _with(run, _WHICH[name], which) if which else run
    if name != EMULATOR:
        options.check_for(name)
    return text, name, options


def _with(run: RunOptions, name: str, value: str) -> RunOptions:
    return replace(run, envoy=value) if name == "envoy" else replace(run, envoy_image=value)


def record_options(record: Path) -> list[str]:
    """The options for pytest with which it records what requests did; generated ones are the same again."""
    return [f"--proxy-record={record}", "--hypothesis-seed=0"]


def _base(against: str, ours: Side, projects: Projects, build: BuildOptions) -> Side:
    """The side of another module, which `against` names."""
    from scaffold.commands.bench import base
    from scaffold.hosts.plugin import Plugin

    plugin = Plugin(projects.first.name, "", ours.module)
    other = base.load(against, plugin, projects.root, ours.run, build)
    return replace(ours, name=base.called(against), module=other.module)


def _play(side: Side, projects: Projects, record: Path, keyword: str | None) -> list[Test]:
    """Play the tests on a side. Raises `ProjectError` without tests, another error if pytest stops early."""
    import sys

    program = [sys.executable, "-m", "pytest", "-q", "-p", "scaffold.pytest_plugin", *record_options(record)]
    chosen = ["-k", keyword] if keyword else []
    with step(f"Testing {projects.first.name} on {side.name}"):
        ran = process.run(
            [*program, "--proxy-no-budgets", *side.arguments(), *chosen], cwd=projects.root, env=os.environ
        )
        if ran.code == NO_TESTS:
            raise ProjectError("no tests ran", hint="put tests in tests/test_*.py, or choose more of them")
        if ran.code >= UNDER_PYTEST:
            words = (ran.stdout + ran.stderr).strip().splitlines()
            raise of_exit_code(ran.code - UNDER_PYTEST)("\n".join(words[-6:]))
        if ran.code not in (0, 1) or not record.exists():
            words = (ran.stdout + ran.stderr).strip().splitlines()
            raise _STOPPED.get(ran.code, HostError)(
                "\n".join([*words[-12:], f"pytest stopped before the end, on {side.name}"])
            )
        tests = recording.read(record)
        failed = [test.name for test in tests if test.outcome == "failed"]
        if failed:
            several = "1 test fails" if len(failed) == 1 else f"{len(failed)} tests fail"
            emit(Noted(f"{several} on {side.name}: {', '.join(failed[:5])}"))
    return tests
