"""Which files of a project are saved: the system tells, or else they are looked at again and again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from watchfiles import DefaultFilter, watch

from scaffold.core.events import Noted, emit
from scaffold.core.files import digest
from scaffold.errors import ScaffoldError
from scaffold.project.cargo_toml import FILE, read_manifest, table
from scaffold.project.projects import Projects

_STEP, _DEBOUNCE = 10, 50  # milliseconds: of several files that are saved at once, one round is made
_POLLED = 300  # milliseconds between two looks, where the system doesn't tell
_TAGGED = "CACHEDIR.TAG"  # cargo's target folder has one, and so do the caches of other tools
_TIMEOUT = 100  # milliseconds after which the first look says that it has begun
_READY = 5.0  # seconds to wait for that
_CHECK = 0.5  # seconds between two looks whether a folder is still the same
_WRITTEN = ("Cargo.lock", "config.schema.json", "README.md")  # also by a build


class Watch:
    """The files of some folders, looked at by threads of their own from now on."""

    def __init__(self, projects: Projects) -> None:
        self._found: queue.SimpleQueue[set[Path] | str] = queue.SimpleQueue()
        self._threads: list[_Thread] = []
        self._known: dict[Path, str] = {}
        self._there: set[Path] = set()  # what there was
        self._inodes: dict[Path, int] = {}  # of the folders, 0 for one that is gone
        self._checked = 0.0
        self._told = ""
        self._waiting: set[Path] = set()
        self._watched: tuple[frozenset[Path], frozenset[Path]] = (frozenset(), frozenset())
        self._follow(projects)

    def follow(self, projects: Projects) -> None:
        """Watch the folders that the projects have now; those of before if that can't be told."""
        with suppress(OSError, ScaffoldError):  # of a damaged Cargo.toml the build tells
            self._follow(projects)

    def _follow(self, projects: Projects) -> None:
        self._projects = projects
        flat = frozenset(_folders(projects))
        deep = frozenset(each for folder in flat for each in _below(folder))
        if (flat, deep) != self._watched:
            before, self._threads = (
                self._threads,
                [
                    _Thread(sorted(folders), recursive, self._found)
                    for folders, recursive in ((flat, False), (deep, True))
                    if folders
                ],
            )
            self._watched = flat, deep
            for thread in before:  # only now: nothing that is saved in between is missed
                thread.close()
        self._inodes = {folder: _inode(folder) for folder in {*self._inodes, *flat, *deep}}
        self._known = {path: digest(path.read_bytes()) for path in self._ours() if path.is_file()}
        self._there |= {path for folder in flat for path in folder.iterdir()}
        self._there |= {path for folder in deep for path in folder.rglob("*")}

    def waits(self) -> bool:
        """Whether something has been saved since the last changes."""
        self._waiting |= self._changes(0)
        return bool(self._waiting)

    def changes(self, seconds: float) -> set[Path]:
        """What has been saved since the last call, once there is anything, or after that long."""
        found, self._waiting = self._waiting | self._changes(0 if self._waiting else seconds), set()
        return found

    def _changes(self, seconds: float) -> set[Path]:
        found: set[Path] = set()
        try:
            each = self._found.get(timeout=seconds)
            while True:
                if isinstance(each, str):
                    self._tell(each)
                else:
                    found |= each
                each = self._found.get_nowait()
        except queue.Empty:
            found |= self._replaced()
            there = {path for path in found if path.exists()}
            gone = found - there
            gone &= self._there  # others came and went, such as a file that an editor then renames
            self._there |= there
            for folder in [each for each in there if each.is_dir()]:
                there |= self._enter(folder)
            return {path for path in there | gone if not path.is_dir() and not self._is_own(path)}

    def _replaced(self) -> set[Path]:
        """Watch folders again that are others than before under their names; what is in them.

        The system doesn't tell of those, since it watches the folder that was removed, or moved away.
        """
        if time.monotonic() < self._checked + _CHECK:
            return set()
        self._checked = time.monotonic()
        changed = [folder for folder, inode in self._inodes.items() if _inode(folder) != inode]
        if not changed:
            return set()
        self._watched = (frozenset(), frozenset())
        self.follow(self._projects)
        self._inodes |= {folder: _inode(folder) for folder in changed}
        found: set[Path] = set()
        for folder in changed:
            with suppress(OSError):  # it is gone
                found |= set(folder.rglob("*") if folder in self._watched[1] else folder.iterdir())
        return {path for path in found if path.is_file()}

    def _enter(self, folder: Path) -> set[Path]:
        """Watch a crate's folder that is new; the files that are there already."""
        if (
            folder.parent not in self._watched[0]
            or folder in self._watched[1]
            or not _may_have_sources(folder)
        ):
            return set()
        self.follow(self._projects)
        return {path for path in folder.rglob("*") if path.is_file()}

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            emit(Noted(text))

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.close()
        self._threads = []

    def _ours(self) -> Iterator[Path]:
        return (folder / name for folder in self._watched[0] for name in _WRITTEN)

    def _is_own(self, path: Path) -> bool:
        """Whether a build has written it, and nobody since."""
        known = self._known.get(path)
        return known is not None and path.is_file() and digest(path.read_bytes()) == known


class _Thread:
    """A thread that looks at folders, from the moment on when it is made, and tells `found` what it sees."""

    def __init__(
        self, folders: list[Path], recursive: bool, found: queue.SimpleQueue[set[Path] | str]
    ) -> None:
        self._folders, self._recursive, self._found = folders, recursive, found
        self._stop, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        self._ready.wait(_READY)

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        options = {"watch_filter": DefaultFilter(), "debounce": _DEBOUNCE, "step": _STEP}
        options |= {"stop_event": self._stop, "recursive": self._recursive, "raise_interrupt": False}
        options |= {"rust_timeout": _TIMEOUT, "yield_on_timeout": True}
        try:
            while self._looks(options):
                pass
        finally:
            self._ready.set()

    def _looks(self, options: dict[str, Any]) -> bool:
        """Look until the end; whether to try again otherwise, with the `options` as they are then."""
        there = [folder for folder in self._folders if folder.is_dir()]
        try:
            for changes in watch(*there, **options) if there else ():
                self._ready.set()  # at first there are none, once it looks
                if changes:
                    self._found.put({Path(path) for _, path in changes})
        except FileNotFoundError:  # one was removed just now
            return not self._stop.is_set()
        except OSError as error:  # inotify's limit, or a file system without it
            why = f"the system can't watch the files ({error})"
            self._found.put(f"{why}, so they are looked at every {_POLLED} ms")
            options |= {"force_polling": True, "poll_delay_ms": _POLLED}
            return not self._stop.is_set()
        return False


@contextmanager
def watching(projects: Projects) -> Iterator[Watch]:
    """Watch the projects' files while the block runs."""
    made = Watch(projects)
    try:
        yield made
    finally:
        made.close()


def _folders(projects: Projects) -> Iterator[Path]:
    """The crates' folders, the workspace's, and those of the crates by path that they depend on."""
    seen: set[Path] = set()
    waiting = [projects.top, projects.root, *(project.root for project in projects)]
    while waiting:
        folder = waiting.pop().resolve()
        if folder in seen or not (folder / FILE).is_file():
            continue
        seen.add(folder)
        yield folder
        for each in _dependencies(read_manifest(folder / FILE)):
            if isinstance(each, dict) and isinstance(each.get("path"), str):
                waiting.append(folder / each["path"])


def _dependencies(manifest: dict[str, Any]) -> Iterator[Any]:
    """What a Cargo.toml says of each crate that may go into a module. Source: cargo's reference, manifest."""
    targets, patches = table(manifest, "target"), table(manifest, "patch")
    for owner in (manifest, table(manifest, "workspace"), *(table(targets, each) for each in targets)):
        for section in ("dependencies", "build-dependencies"):
            yield from table(owner, section).values()
    for each in patches:
        yield from table(patches, each).values()


def _below(folder: Path) -> Iterator[Path]:
    """The folders in a crate's that may have sources and tests."""
    return (each for each in folder.iterdir() if each.is_dir() and _may_have_sources(each))


def _may_have_sources(folder: Path) -> bool:
    hidden = folder.name.startswith((".", "__"))
    return not hidden and folder.name != "target" and not (folder / _TAGGED).exists()


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return 0
