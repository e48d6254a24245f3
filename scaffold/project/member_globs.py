"""The folders that a glob in `members` matches, as cargo finds them, but with an end.

Source: Rust's crate `glob`, which cargo uses: names that begin with a dot match too, links are followed, and
`**` is any number of folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from scaffold.core.text import quoted
from scaffold.errors import ProjectError

LIMIT = 500_000  # files and folders that are looked at: some seconds
_MAGIC = re.compile(r"[*?[]")


class Budget:
    """How many files and folders may still be looked at for a manifest."""

    def __init__(self) -> None:
        self._left = LIMIT

    def take(self, count: int) -> None:
        """Look at so many."""
        self._left -= count
        if self._left < 0:
            raise _TooMuchError


def folders(root: Path, pattern: str, manifest: Path, budget: Budget) -> list[Path]:
    """The folders below `root` that match the pattern, sorted, without links.

    If there are none, the pattern may be the name of a folder itself, as for cargo.
    Raises `ProjectError`, which names the `manifest`, when there is too much to look at.
    """
    parts: list[str] = []
    for part in pattern.split("/"):
        if part not in ("", ".") and not (part == "**" and parts[-1:] == ["**"]):
            parts.append(part)
    if not pattern:
        return []
    start = "/" if pattern.startswith("/") else os.path.realpath(root)
    try:
        matching = sorted(set(_matching(start, parts, budget)))
    except _TooMuchError as error:
        raise ProjectError(
            f"the pattern {quoted(pattern)} in `members` of {manifest} matches too much of the disk",
            hint="name the folders that contain the members",
        ) from error
    named = os.path.realpath(os.path.join(start, *parts)) if "\0" not in pattern else ""  # noqa: PTH118
    literal = [named] if os.path.isdir(named) else []  # noqa: PTH112
    return [Path(folder) for folder in matching or literal]


class _TooMuchError(Exception):
    """More than `LIMIT` was looked at."""


def _matching(start: str, parts: Sequence[str], budget: Budget) -> Iterator[str]:
    """The folders that match. Each is visited once for the same rest of the pattern, so that loops end."""
    seen: set[tuple[str, int]] = set()
    todo = [(start, 0)]
    while todo:
        folder, at = todo.pop()
        if (folder, at) in seen:
            continue
        seen.add((folder, at))
        if at == len(parts):
            yield folder
        elif not _MAGIC.search(parts[at]):
            named = os.path.join(folder, parts[at])  # noqa: PTH118 - Path is slow in a long loop
            todo += [(os.path.realpath(named), at + 1)] if os.path.isdir(named) else []  # noqa: PTH112
        else:
            entries = _entries(folder)
            budget.take(len(entries))
            below = [each for each in entries if parts[at] == "**" or fnmatchcase(each.name, parts[at])]
            inside = at if parts[at] == "**" else at + 1
            todo += [(folder, at + 1)] if parts[at] == "**" else []
            todo += [(real, inside) for each in below if (real := _folder(each))]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing if it can't be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _folder(entry: os.DirEntry[str]) -> str | None:
    """The folder that it is, or that it links to; None if it is none."""
    try:
        if entry.is_dir():
            return os.path.realpath(entry.path) if entry.is_symlink() else entry.path
    except OSError:  # a link to itself
        pass
    return None
