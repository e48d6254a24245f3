"""Cargo's workspaces: where one's root is, which crates are its members, and what those take from it.

Source: cargo's reference, workspaces. A path dependency that isn't named, a member to cargo, is none here.
"""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.project.manifest import FILE, is_plugin, locate, read_manifest, table


@dataclass(frozen=True)
class Workspace:
    """A folder whose Cargo.toml has a table `[workspace]`; `root` is absolute and real."""

    root: Path
    manifest: dict[str, Any]

    @classmethod
    def at(cls, folder: Path) -> Workspace | None:
        """The workspace whose root `folder` is. Raises `ProjectError` for a broken Cargo.toml."""
        if not (folder / FILE).is_file():
            return None
        manifest = read_manifest(folder / FILE)
        return cls(folder.resolve(), manifest) if isinstance(manifest.get("workspace"), dict) else None

    @classmethod
    def of(cls, folder: Path) -> Workspace | None:
        """The one that cargo takes the crate in `folder` to be in; the folder needn't be there yet."""
        folder = folder.resolve()
        own = read_manifest(folder / FILE) if (folder / FILE).is_file() else {}
        named = table(own, "package").get("workspace")
        if isinstance(named, str):
            return cls.at(folder / named)
        for above in (folder, *folder.parents):
            found = cls.at(above)
            if found and not found.excludes(folder):
                return found
        return None

    @classmethod
    def meant(cls, root: Path) -> Workspace | None:
        """The one all of whose plugins are meant by `root`: that is its root, and no plugin itself."""
        found = cls.at(locate(root))
        return None if found is None or is_plugin(found.manifest) else found

    def excludes(self, folder: Path) -> bool:
        """Whether a folder below, named by its real path, is kept out; `exclude` has no globs, as cargo's."""

        def below(key: str) -> bool:
            return any(folder.is_relative_to(os.path.normpath(self.root / each)) for each in self._list(key))

        return folder != self.root and below("exclude") and not below("members")

    def members(self) -> list[Path]:
        """The members' folders in the order of the manifest, those of a glob by name."""
        found = [self.root] if "package" in self.manifest else []
        for pattern in self._list("members"):
            # not Path's, which takes neither an absolute pattern nor an empty one
            names = sorted(glob.glob(pattern, root_dir=self.root, recursive=True))  # noqa: PTH207
            found += [(self.root / name).resolve() for name in names if (self.root / name / FILE).is_file()]
        return [folder for folder in dict.fromkeys(found) if not self.excludes(folder)]

    def member(self, name: str) -> Path | None:
        """The folder of the member whose package has that name."""
        for folder in self.members():
            if table(read_manifest(folder / FILE), "package").get("name") == name:
                return folder
        return None

    def plugins(self) -> list[Path]:
        """The folders of those that are plugins."""
        return [folder for folder in self.members() if is_plugin(read_manifest(folder / FILE))]

    def _list(self, key: str) -> list[str]:
        value = self.manifest["workspace"].get(key)
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def choices(folders: Sequence[Path]) -> str:
    """How each of some crates is meant on the command line, from here."""
    return ", ".join(f"--root {shlex.quote(os.path.relpath(folder))}" for folder in folders)


def top(folder: Path) -> Path:
    """Where cargo has the lock file and the target folder of the crate in `folder`."""
    found = Workspace.of(folder)
    return found.root if found else folder.resolve()


def about(package: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """What `[package]` of the crate in `folder` says in words; what it leaves to its workspace, that says."""
    shared: dict[str, Any] = {}
    if any(isinstance(value, dict) and "workspace" in value for value in package.values()):
        found = Workspace.of(folder)
        shared = table(found.manifest["workspace"], "package") if found else {}
    said = {key: shared.get(key) if isinstance(value, dict) else value for key, value in package.items()}
    return {key: value for key, value in said.items() if isinstance(value, str)}
