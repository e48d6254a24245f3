"""A project's tests: the native ones by cargo, those against a host by pytest."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold import cargo, files, process, toolchain
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
from scaffold.events import step
from scaffold.hosts import HOSTS, envoys
from scaffold.options import Options
from scaffold.project import Project
from scaffold.wasm import WasmModule

OURS = 100  # what the plugin adds to an exit code of ours, to tell it from pytest's

# pytest's exit codes (pytest.ExitCode) as ours; 2 is an interruption, or a test file that can't be read
_PYTEST: dict[int, tuple[type[ScaffoldError], str, str | None]] = {
    1: (TestsFailed, "tests failed", None),
    2: (TestsFailed, "pytest stopped before the end", None),
    3: (ToolFailed, "pytest failed inside", None),
    4: (UsageError, "pytest can't make sense of that", "`pytest --help` lists what it takes"),
    5: (ProjectError, "no tests ran", "put them in tests/test_*.py, or widen -k"),
}


@dataclass(frozen=True)
class Play:
    """The tests played once: against what, how many ended how, in how many seconds, and what was wrong."""

    host: str
    passed: int
    failed: int
    errors: int
    skipped: int
    seconds: float
    error: ScaffoldError | None


@dataclass(frozen=True)
class Report:
    """What came of the tests, once for each Envoy that was named."""

    plays: list[Play]

    @property
    def exit_code(self) -> int:
        """0 when all is well, that of the errors where they are of one kind, else that of failed tests."""
        codes = {play.error.exit_code for play in self.plays if play.error}
        return codes.pop() if len(codes) == 1 else TestsFailed.exit_code if codes else 0

    def summary(self) -> str:
        """A table with a line for each Envoy; nothing for a single one, of which pytest has said all."""
        if len(self.plays) == 1:
            return ""
        width = max(len(play.host) for play in self.plays)
        lines = [f"{'':<{width}}  passed  failed  errors  skipped    time"]
        for play in self.plays:
            counts = f"{play.passed:>6}  {play.failed:>6}  {play.errors:>6}  {play.skipped:>7}"
            why = f"  {play.error.message}" if play.error else ""
            lines.append(f"{play.host:<{width}}  {counts}  {play.seconds:>4.1f} s{why}")
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
) -> Report:
    """Run `cargo test`, then the project's `tests/` by pytest, each against the plugin in a host.

    With `deployed` they play against what is deployed; with `module` against that file. Raises
    `TestsFailed` when a test fails, `ProjectError` when there is none. Where `envoy` names several, with
    commas, they are played in each, the report says what was wrong, and `junitxml` is a file for each.
    """
    choose("host", host, HOSTS)
    project = Project.load(root)
    given = WasmModule.read(module) if module else None
    options = Options(envoy=envoy, envoy_image=envoy_image, docker_args=docker_args)
    places = _places(host, options, deployed)
    tools = toolchain.find(project.settings.triple, root=project.root, rustc=rustc, yes=yes)
    with step(f"Testing {project.name} natively"):
        _native(project, tools)
    words = ["-k", keyword] if keyword else []
    words += ["-x"] if exitfirst else []
    if not deployed:
        built = given or cargo.build(root, profile=profile, rustc=rustc, yes=yes)
        words += [f"--proxy-module={built.path}"]
    plays = []
    for name, chosen in places.items():
        report = _report_file(junitxml, name if len(places) > 1 else None)
        plays.append(_play(project, name, [*chosen, *words, *report, *pytest_args]))
        if plays[0].error and len(places) == 1:
            raise plays[0].error
    return Report(plays)


def _places(host: str, options: Options, deployed: bool) -> dict[str, list[str]]:
    """What the tests are played against, by its name on screen, and pytest's options for it."""
    if deployed and options != Options():
        raise UsageError("a deployment has its Envoy already", hint="give --deployed or --envoy")
    if deployed:
        return {"the deployment": ["--proxy-deployed"]}
    options.check_for(host)
    # with `=`, since pytest takes a path that stands alone for a place to look for its configuration
    on = f"--proxy-host={host}"
    if host == "docker":
        from scaffold.hosts import container

        container.check(options.settings())
        given = f"--proxy-docker-args={options.docker_args or ''}"
        return {f"{options.envoy_image}": [on, f"--proxy-envoy-image={options.envoy_image}", given]}
    if options.envoy is None:
        return {host: [on]}
    found = envoys.several(options.envoy)
    places = {f"Envoy {name}": [on, f"--proxy-envoy={binary.path}"] for name, binary in found.items()}
    return places if len(places) > 1 else {host: next(iter(places.values()))}


def _report_file(junitxml: Path | None, name: str | None) -> list[str]:
    if junitxml is None:
        return []
    path = junitxml.with_stem(f"{junitxml.stem}-{name.split()[-1]}") if name else junitxml
    return [f"--junitxml={path.resolve()}"]


def _play(project: Project, name: str, argv: list[str]) -> Play:
    """Run pytest once; what is wrong then is in the play."""
    error = None
    begun = time.monotonic()
    with files.scratch() as folder:
        file = folder / "counts.json"
        try:
            with step(f"Testing {project.name} in {name}"):
                _pytest(project, [f"--proxy-counts={file}", *argv])
        except ScaffoldError as raised:
            error = raised
        counts = json.loads(file.read_text()) if file.exists() else {}
    kinds = ("passed", "failed", "error", "skipped")
    passed, failed, errors, skipped = (counts.get(kind, 0) for kind in kinds)
    return Play(name, passed, failed, errors, skipped, time.monotonic() - begun, error)


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
    kind, message, hint = _PYTEST.get(code, (ToolFailed, f"pytest failed (exit code {code})", None))
    raise kind(message, hint=hint)
