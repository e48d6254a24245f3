"""`record`: write a test that plays a request again, and holds what the plugin did with it."""

from __future__ import annotations

import ast
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaffold.commands.named_request import content, content_of, found, named
from scaffold.commands.record import writing
from scaffold.commands.record.replay import Facts, Stage, staged
from scaffold.commands.record.sources import Recorded, chosen, of_curl, of_live_view, read
from scaffold.core import files, process
from scaffold.core.events import Noted, Warned, emit, step
from scaffold.errors import ProjectError, TestsFailed, UsageError, choose
from scaffold.hosts.exchange import Request
from scaffold.hosts.host import EMULATOR
from scaffold.hosts.options import RunOptions
from scaffold.hosts.source import Source
from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.options import BuildOptions

HOSTS = {EMULATOR: "in this process", "envoy": "a real Envoy"}
DEFAULT = Path("tests/test_recorded.py")
_NAME = re.compile(r"test_[a-z0-9_]+")
_DEFINED = re.compile(r"^def (test_\w+)\(", re.MULTILINE)
_LIMIT = 64 << 20  # bytes of a file
_MOST = 20  # tests at once


@dataclass(frozen=True)
class Recording:
    """The tests that were written, by their names, and their file."""

    file: Path
    tests: tuple[str, ...]

    def summary(self) -> str:
        """It in a line."""
        count = len(self.tests)
        passed = f"it passes: {self.tests[0]}" if count == 1 else f"they pass: {', '.join(self.tests)}"
        return f"wrote {'a test' if count == 1 else f'{count} tests'} to {self.file}; {passed}"


def record(
    what: Sequence[str],
    root: Path = Path(),
    *,
    request: int | None = None,
    name: str | None = None,
    output: Path | None = None,
    host: str = EMULATOR,
    keep_secrets: bool = False,
    build: BuildOptions = BuildOptions(),
) -> Recording:
    """Write a test for a request, which passes as it stands: it holds what the plugin does with it now.

    `what` is the words of a curl command line; or the id of a request in the live view; or a file: a HAR, or
    an access log, "-" for standard input, of which `request` chooses one. Tests are added to `output`.
    Secrets become placeholders unless `keep_secrets`. Raises `TestsFailed`, and writes nothing, if a test
    doesn't pass a second time.
    """
    choose("host", host, HOSTS)
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"--name can't be `{name}`", hint="such as test_greets_the_client")
    projects = projects_at(root)
    projects.refuse_many("`record`")
    project = projects.first
    if project.settings.type != "http":
        raise UsageError(
            f"requests are for HTTP plugins, and {project.name} is of the type {project.settings.type}"
        )
    wanted = _wanted(what, root, request)
    if len(wanted) > _MOST:
        message = f"there are {len(wanted)} requests, and at most {_MOST} become tests at once"
        raise UsageError(message, hint="choose one with --request")
    if name and len(wanted) > 1:
        raise UsageError("--name names one test", hint="choose a request with --request")
    path = (project.root / (output or DEFAULT)).resolve()
    if not path.is_relative_to(project.root.resolve()):
        raise UsageError(f"--output can't be {output}: it isn't in the project", hint=f"such as {DEFAULT}")
    content_before = content_of(path, _LIMIT) if path.exists() else None
    if path.suffix != ".py":
        raise UsageError(f"--output can't be {output}: tests are in .py files", hint=f"such as {DEFAULT}")
    before = None if content_before is None else _decoded(content_before, path)
    is_ours = before is None or "import Proxy" in before
    (module,) = cargo.build(projects, build)
    plugin = Source(module, project).plugin(RunOptions())
    texts: dict[str, str] = {}
    with step(f"Playing {wanted[0] if len(wanted) == 1 else f'{len(wanted)} requests'} on {host}"):
        taken = _DEFINED.findall(before or "")
        with staged(plugin, host, RunOptions(port=0)) as stage:
            for each in wanted:
                test = writing.name_of(each.request, [*taken, *texts], name)
                sent, facts = _played(stage, each, keep_secrets=keep_secrets)
                texts[test] = writing.text_of(test, sent, facts, annotated=is_ours)
    written = (before or writing.HEAD) + "".join(texts.values())
    if content_before and b"\r\n" in content_before:
        written = written.replace("\n", "\r\n")
    with _written(path, content_before, written):
        _check(project.root, path, list(texts), host, module.path)
    return Recording(Path(os.path.relpath(path)), tuple(texts))


def _played(stage: Stage, recorded: Recorded, *, keep_secrets: bool) -> tuple[Request, Facts]:
    """A request as a test sends it, and what becomes of it."""
    whole = writing.bare(recorded.request)
    writing.check(whole)
    facts, shown = stage.facts(whole, recorded.status), whole
    if not keep_secrets:
        shown, secrets = writing.without_secrets(whole)
        if secrets:
            emit(Noted(f"{recorded}: a placeholder stands for the value of {', '.join(secrets)}"))
            real, facts = facts, stage.facts(shown, recorded.status)
            if real.status != facts.status:
                told = f"the answer is {real.status} with its secrets, and {facts.status} with placeholders"
                what = "which the test holds: write a value for tests, or pass --keep-secrets"
                emit(Warned(f"{recorded}: {told}, {what}"))
    quiet = writing.without_noise(shown)
    if quiet != shown and stage.facts(quiet, recorded.status) == facts:
        shown = quiet
    if recorded.lacks:
        emit(Noted(f"{recorded}: {recorded.lacks}"))
    if recorded.status and recorded.status != facts.status:
        emit(Warned(f"{recorded}: its client got {recorded.status}, and the test holds {facts.status}"))
    return shown, facts


@contextmanager
def _written(path: Path, before: bytes | None, content: str) -> Iterator[None]:
    """A file with this content; if the block fails, it is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o644 if before is None else stat.S_IMODE(path.stat().st_mode)
    files.write(path, content, mode=mode)
    try:
        yield
    except BaseException:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            files.write(path, before, mode=mode)
        raise


def _decoded(content: bytes, path: Path) -> str:
    try:
        text = content.decode().replace("\r\n", "\n")
        ast.parse(text)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} isn't text in UTF-8", hint="choose another --output") from error
    except (SyntaxError, ValueError) as error:
        raise ProjectError(f"{path} isn't valid Python: {error}", hint="mend it first") from error
    return text


def _check(root: Path, path: Path, tests: Sequence[str], host: str, module: Path) -> None:
    """Play the tests. Raises `TestsFailed` unless each passes."""
    words = ["-q", "-p", "scaffold.pytest_plugin", f"--proxy-host={host}", f"--proxy-module={module}"]
    ids = [f"{path}::{name}" for name in tests]
    with step("Playing what was written"):
        argv = [sys.executable, "-m", "pytest", *words, "--proxy-no-budgets", *ids]
        ran = process.run(argv, cwd=root, env=os.environ, guarded=True)
    if ran.code:
        said = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-12:])
        raise TestsFailed(
            f"{said}\nthe test doesn't pass a second time, so it isn't kept",
            hint="what the plugin does may depend on the time, or on earlier requests",
        )


def _wanted(what: Sequence[str], root: Path, number: int | None) -> list[Recorded]:
    """The requests that are to become tests."""
    name = named(what, command="record", question="which request is to become a test?")
    if name.kind == "file":
        path = None if name.word == "-" else Path(name.word)
        return chosen(read(path, content(name.word, _LIMIT, hint="choose less of it")), number, name.of_file)
    if number is not None:
        message = "--request chooses a request of a file, and this is one request"
        raise UsageError(message, hint="leave it out")
    if name.kind == "curl":
        return [of_curl(name.words)]
    request, _, _ = found(name.word, root)
    return [of_live_view(request)]
