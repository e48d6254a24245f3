"""Compile what a crate would become before anything is written, with the toolchain that a build would use.

cargo works in a copy of the repository that consists of links, apart from the changed files and the folders
above them. It has its own target folder, so that nothing is left in the user's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, foreign_files, process
from scaffold.core.events import Warned, emit, step
from scaffold.errors import MachineError, ToolFailed
from scaffold.project.cargo_toml import FILE
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain

LOCK = "Cargo.lock"


@dataclass(frozen=True)
class Job:
    """What to compile in the repository at `top`: crates, by their folders there, and with whose tests.

    `name` is the plugin's. `changes` are the files that would be written, path in the repository -> content.
    """

    name: str
    top: Path
    crates: Sequence[str]
    tests: Sequence[str]
    triple: str
    changes: Mapping[str, str]
    is_new: bool = False  # then there is no state before the changes


def check(job: Job, options: BuildOptions) -> str | None:
    """Compile the crates with the changes; returns what cargo made of Cargo.lock, or None if there is none.

    Raises `ToolFailed` if they compile only without the changes, `MachineError` if there is no toolchain.
    Warns if they don't compile without them either.
    """
    try:
        tools = find(job.triple, root=job.top / job.crates[0], rustc=options.rustc, yes=options.yes)
    except MachineError as error:
        hints = [*([error.hint] if error.hint else []), "`scaffold adopt --no-check` does without"]
        raise MachineError(error.message, hint=", or ".join(hints)) from error
    calls = _calls(job, tools)
    with files.scratch() as folder:
        with step(f"Compiling {job.name}{'' if job.is_new else ' with the changes'}"):
            changed = _copy(folder / "changed", job, job.changes)
            failed = _failing(calls, changed, tools, folder / "target", shown=True)
        lock = None if calls[0] in failed else _lock_of(changed / job.crates[0])
        if not failed:
            return lock
        before: list[_Call] = []
        if not job.is_new:
            with step(f"Compiling {job.name} without the changes"):
                as_it_is = _copy(folder / "before", job, {})
                before = _failing(failed, as_it_is, tools, folder / "target", shown=False)
    if before != failed:
        why = "doesn't compile" if job.is_new else "compiles as it is, but not with these changes"
        raise ToolFailed(
            f"{job.name} {why}: nothing was written",
            hint="change what the compiler names, and try again; or `scaffold adopt --no-check`"
            " writes the changes all the same",
        )
    rest = f"the tests of {job.name}, or of a crate that shares its proxy-wasm, don't"
    what = f"{job.name} doesn't" if calls[0] in failed else rest
    emit(Warned(f"{what} compile, and didn't before: the changes there aren't checked"))
    return lock


@dataclass(frozen=True)
class _Call:
    """A call of cargo: its arguments, and the crate's folder in the repository."""

    words: tuple[str, ...]
    crate: str


def _calls(job: Job, tools: Toolchain) -> list[_Call]:
    plugin, *others = job.crates
    build = ("build", "--target", job.triple)
    test = ("check", "--tests", "--target", tools.host_triple)
    return [
        _Call((*build, "--lib"), plugin),
        *(_Call(build, each) for each in others),
        *(_Call(test, each) for each in job.tests),
    ]


def _failing(
    calls: Sequence[_Call], top: Path, tools: Toolchain, target: Path, *, shown: bool
) -> list[_Call]:
    """The calls that fail in a copy of the repository."""
    env = {**os.environ, **tools.env, "CARGO_TARGET_DIR": str(target)}
    failing = []
    for call in calls:
        argv: list[str | Path] = [tools.cargo, *call.words]
        cwd = top / call.crate
        if shown:
            code = process.show(argv, cwd=cwd, env=env)
        else:
            code = process.run(argv, cwd=cwd, env=env, guarded=True).code
        failing += [call] if code else []
    return failing


def _copy(place: Path, job: Job, changes: Mapping[str, str]) -> Path:
    """A copy of the repository with these changes, and of all around it; returns where it is."""
    contents = {job.top / path: text for path, text in changes.items()}
    lock = next(filter(Path.is_file, (each / LOCK for each in _above(job.top / job.crates[0]))), None)
    if lock:  # cargo may write to it
        contents.setdefault(lock, foreign_files.read_text(lock))
    folders = {folder for path in contents for folder in path.parents}
    folders |= {folder for crate in job.crates for folder in _above(job.top / crate)}
    for folder in sorted(folders):
        made = _inside(place, folder)
        made.mkdir()
        for each in _entries(folder):
            if each not in folders and each not in contents:
                (made / each.name).symlink_to(each)
    for path, text in contents.items():
        _inside(place, path).write_text(text, encoding="utf-8", newline="")
        if path.exists():
            shutil.copymode(path, _inside(place, path))
    return _inside(place, job.top)


def _entries(folder: Path) -> list[Path]:
    """What a folder contains, without what cargo has built there, and what git would write to."""
    left_out = {".git", "target"} if (folder / FILE).exists() else {".git"}
    with suppress(OSError):  # the folder is new, or above the repository and closed to us
        return [each for each in folder.iterdir() if each.name not in left_out]
    return []


def _inside(place: Path, path: Path) -> Path:
    return place / path.relative_to(path.anchor)


def _above(folder: Path) -> Sequence[Path]:
    return folder, *folder.parents


def _lock_of(crate: Path) -> str | None:
    lock = next(filter(Path.is_file, (each / LOCK for each in _above(crate))), None)
    return foreign_files.read_text(lock) if lock else None
