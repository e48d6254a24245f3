"""Build again after a save: rustc's own command, where nothing but a crate's sources has changed.

cargo first looks at every dependency, which takes a good third of a small crate's build. The command is the
one that cargo gave to rustc last, so the module is byte for byte what cargo would make.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.core import process
from scaffold.core.events import Noted, Quoted, emit
from scaffold.errors import ToolFailed
from scaffold.project.projects import Projects

MESSAGES = "json-diagnostic-rendered-ansi"  # how cargo is asked for messages that we show ourselves
_ASKED = ("Cargo.toml", "Cargo.lock", "rust-toolchain", "rust-toolchain.toml")
_CONFIGS = (".cargo/config", ".cargo/config.toml")
_FOR_CARGO = (".rs", ".toml", ".lock")  # files of these names may change what cargo tells rustc
_JOBS = ("CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS")  # of a cargo that has ended


@dataclass(frozen=True)
class _Command:
    """What cargo told rustc to do for a crate, and what it depends on beyond the crate's sources."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    module: Path
    stamps: Mapping[Path, object]

    @property
    def made(self) -> Path:
        """Where rustc writes the module, of which cargo makes a link."""
        return self.module.parent / "deps" / self.module.name

    def sources(self) -> set[Path]:
        """The files that rustc read last, as its own list has them."""
        try:
            text = self.made.with_suffix(".d").read_text(errors="replace")
        except OSError:
            return set()
        names = re.findall(r"^((?:[^\\\n]|\\.)+):$", text, re.MULTILINE)
        return {(self.folder / re.sub(r"\\(.)", r"\1", name)).resolve() for name in names}


class Rebuild:
    """The builds of one session; `folder` is a private one of its own.

    `saved` is what has been saved since the last build that succeeded.
    """

    def __init__(self, folder: Path) -> None:
        self.saved: set[Path] = set()
        self._folder = folder
        self._known: dict[Path, _Command] = {}

    def env(self) -> dict[str, str]:
        """What to add to cargo's environment: our wrapper writes down what it is told to run."""
        return {"SCAFFOLD_RECORD": str(self._folder), "CARGO_TERM_PROGRESS_WHEN": "never"}

    def forget(self, projects: Projects) -> None:
        """Before a call of cargo: what it told rustc earlier no longer counts."""
        for project in projects:
            self._known.pop(project.root, None)
        for path in self._folder.iterdir():
            path.unlink()

    def learn(self, projects: Projects, paths: Mapping[Path, Path]) -> None:
        """After a call of cargo that succeeded: what it told rustc."""
        for project in projects:
            words = _take(self._folder / f"{project.name}.words")
            env = dict(each.split("=", 1) for each in _take(self._folder / f"{project.name}.env"))
            # what a build script reads, cargo alone knows
            if words and env and project.root in paths and "OUT_DIR" not in env:
                folder, *rest = words
                env = {name: value for name, value in env.items() if name not in _JOBS}
                stamps = {path: _stamp(path) for path in _beyond(Path(folder), project.root, rest)}
                command = _Command(tuple(rest), env, Path(folder), paths[project.root], stamps)
                self._known[project.root] = command

    def build(self, projects: Projects) -> dict[Path, Path] | None:
        """Have rustc compile the crates whose sources were saved; None if that is for cargo.

        Each crate's module by the crate's folder. Raises `ToolFailed` when rustc fails.
        """
        due = self._due(projects)
        if due is None:
            return None
        with _cargos_lock(due) as is_free:
            if not is_free:
                return None
            for command in due:
                _run(command)
        return {project.root: self._known[project.root].module for project in projects}

    def _due(self, projects: Projects) -> list[_Command] | None:
        """The commands whose crates' sources were saved; None if there are none, or that isn't all."""
        commands = {project.root: self._known.get(project.root) for project in projects}
        due: dict[Path, _Command] = {}
        for path in {each.resolve() for each in self.saved}:
            owners = {
                root: command
                for root, command in commands.items()
                if command and (path in command.sources() or path.is_relative_to(root.resolve() / "src"))
            }
            if not owners and path.suffix in _FOR_CARGO:
                return None
            due |= owners
        for command in commands.values():
            if command is None or any(_stamp(path) != stamp for path, stamp in command.stamps.items()):
                return None
        return list(due.values()) or None


class Messages:
    """The compiler's messages in one build: the first error is shown, and how many more there are."""

    def __init__(self) -> None:
        self._errors = 0
        self._warnings: list[str] = []

    def add(self, message: Mapping[str, Any]) -> None:
        """Take in a message as rustc writes it, and show it if it is the first error."""
        text = message.get("rendered")
        if not isinstance(text, str):
            return
        if str(message.get("level")).startswith("error"):
            if not self._errors:
                emit(Quoted(text.rstrip()))
            if message.get("spans") or not self._errors:  # the last one only counts them
                self._errors += 1
        elif message.get("spans"):
            self._warnings.append(text)

    def end(self) -> None:
        """Say how many more errors there are; without any, show the warnings."""
        for text in self._warnings if not self._errors else ():
            emit(Quoted(text.rstrip()))
        if self._errors > 1:
            more = self._errors - 1
            emit(Noted(f"and {more} more error{'s' * (more > 1)}"))


def _run(command: _Command) -> None:
    ran = process.run(command.words, cwd=command.folder, env=command.env, guarded=True)
    messages = Messages()
    other = []
    for line in ran.stderr.splitlines():
        try:
            messages.add(json.loads(line))
        except (ValueError, AttributeError):
            other.append(line)
    messages.end()
    if ran.code:
        if other:
            emit(Quoted("\n".join(other)))
        raise ToolFailed(f"rustc failed (exit code {ran.code})")
    if not command.module.exists() or not command.module.samefile(command.made):
        link = command.module.with_name(f".{command.module.name}.{os.getpid()}")
        link.hardlink_to(command.made)
        link.replace(command.module)


def _take(path: Path) -> list[str]:
    """The words in a file that the wrapper has written, which may hold secrets of the environment."""
    try:
        words = path.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
        path.unlink()
    except FileNotFoundError:
        return []
    return words


def _beyond(folder: Path, root: Path, words: Iterable[str]) -> Iterator[Path]:
    """The files besides a crate's sources that decide what cargo tells rustc, and what rustc makes of it."""
    for place in {root, folder}:
        yield from (place / name for name in _ASKED)
    for above in (root, *root.parents):
        yield from (above / name for name in _CONFIGS)
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    yield from (home / Path(name).name for name in _CONFIGS)
    for word in words:
        path = Path(word.rpartition("=")[2])
        if path.is_absolute() and not path.is_dir():  # the compiler, its wrapper, and the libraries
            yield path


def _stamp(path: Path) -> object:
    """What tells a file from a later one at its path."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@contextmanager
def _cargos_lock(commands: Iterable[_Command]) -> Iterator[bool]:
    """Hold cargo's lock on the folder of the modules; False if a cargo that runs has it."""
    (folder,) = {command.module.parent for command in commands}
    try:
        file = (folder / ".cargo-lock").open("r+b")
    except OSError:
        yield False
        return
    with file:
        is_free = False
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = True
        yield is_free
