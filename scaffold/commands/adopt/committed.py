"""The committed files of a repository, as seen from one crate in it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from scaffold.project.cargo_toml import FILE
from scaffold.project.templates.merge import LINK, Entry, Scratch, Worktree


@dataclass(frozen=True)
class Committed:
    """The files of a repository. `prefix` is the crate's folder in it: "" or, for example, "plugins/one/"."""

    repository: Worktree
    scratch: Scratch
    prefix: str

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Every file of the repository, by its path there."""
        return self.scratch.entries(self.repository.tree)

    @cached_property
    def own(self) -> frozenset[str]:
        """The paths of the files in the crate's folder, from there."""
        paths = (path for path in self.entries if path.startswith(self.prefix))
        return frozenset(path.removeprefix(self.prefix) for path in paths)

    @property
    def folder(self) -> str:
        """The crate's folder in the repository; "" is the top."""
        return self.prefix.rstrip("/")

    def folders(self) -> Iterator[str]:
        """The crate's folder, and those above it in the repository."""
        folder = self.folder
        while folder:
            yield folder
            folder = posixpath.dirname(folder)
        yield ""

    @cached_property
    def _crates(self) -> frozenset[str]:
        return frozenset(posixpath.dirname(path) for path in self.entries if posixpath.basename(path) == FILE)

    def is_related(self, path: str) -> bool:
        """Whether a file is the crate's, or beside or above it and of no other crate."""
        folder = posixpath.dirname(path)
        while folder and folder not in self._crates:
            folder = posixpath.dirname(folder)
        return not folder or self.prefix.startswith(f"{folder}/")

    def path(self, name: str) -> str:
        """The path in the repository of a file in the crate's folder."""
        return self.prefix + name

    def from_crate(self, path: str) -> str:
        """A path in the repository as seen from the crate's folder."""
        return posixpath.relpath(path, self.folder or ".")

    def is_link(self, path: str) -> bool:
        """Whether a path in the repository is a symbolic link."""
        return path in self.entries and self.entries[path].mode == LINK

    def read(self, path: str) -> str:
        """The text of a file, by its path in the repository; "" if it isn't there, or is a link."""
        entry = self.entries.get(path)
        return self.scratch.text(entry.name) if entry and not self.is_link(path) else ""
