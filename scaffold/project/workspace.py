"""Cargo workspaces: where the root is, which crates are members, and what they inherit.

Source: the Cargo book, workspaces. To cargo a path dependency that `members` doesn't name is a member, too.
"""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scaffold.project.manifest import FILE, is_plugin, locate, read_manifest, table


@dataclass(frozen=True)
class Workspace:
    """A folder whose Cargo.toml has a table `[workspace]`; `root` is absolute and real.

    Its Cargo.toml and those of its members are read once.
    """

    root: Path
    manifest: dict[str, Any]

    @classmethod
    def at(cls, folder: Path, manifest: dict[str, Any] | None = None) -> Workspace | None:
        """The workspace whose root is `folder`, by its `manifest` if that was read already.

        Raises `ProjectError` for a broken Cargo.toml.
        """
        if manifest is None:
            manifest = read_manifest(folder / FILE) if (folder / FILE).is_file() else {}
        return cls(folder.resolve(), manifest) if isinstance(manifest.get("workspace"), dict) else None

    @classmethod
    def of(cls, folder: Path, manifest: dict[str, Any] | None = None) -> Workspace | None:
        """The workspace to which cargo assigns the crate in `folder`, which need not exist yet."""
        folder = folder.resolve()
        if manifest is None:
            manifest = read_manifest(folder / FILE) if (folder / FILE).is_file() else {}
        named = table(manifest, "package").get("workspace")
        if isinstance(named, str):
            return cls.at(folder / named)
        for above in (folder, *folder.parents):
            found = cls.at(above, manifest if above == folder else None)
            if found and not found.excludes(folder):
                return found
        return None

    @classmethod
    def meant(cls, root: Path) -> Workspace | None:
        """The workspace whose plugins `root` stands for: its root folder, when that is no plugin itself."""
        found = cls.at(locate(root))
        return None if found is None or is_plugin(found.manifest) else found

    def excludes(self, folder: Path) -> bool:
        """Whether a folder below, given by its real path, is excluded; `exclude` takes no globs in cargo."""

        def below(key: str) -> bool:
            return any(folder.is_relative_to(os.path.normpath(self.root / each)) for each in self._list(key))

        return folder != self.root and below("exclude") and not below("members")

    def members(self) -> list[Path]:
        """The members' folders in the order of the manifest, those of a glob by name."""
        return list(self._members)

    @cached_property
    def _members(self) -> tuple[Path, ...]:
        found = [self.root] if "package" in self.manifest else []
        for pattern in self._list("members"):
            # not Path.glob, which takes neither an absolute pattern nor an empty one
            names = sorted(glob.glob(pattern, root_dir=self.root, recursive=True))  # noqa: PTH207
            found += [(self.root / name).resolve() for name in names if (self.root / name / FILE).is_file()]
        return tuple(folder for folder in dict.fromkeys(found) if not self.excludes(folder))

    @cached_property
    def manifests(self) -> dict[Path, dict[str, Any]]:
        """Every member's Cargo.toml by its folder."""
        return {
            folder: self.manifest if folder == self.root else read_manifest(folder / FILE)
            for folder in self._members
        }

    def member(self, name: str) -> Path | None:
        """The folder of the member whose package has that name."""
        for folder, manifest in self.manifests.items():
            if table(manifest, "package").get("name") == name:
                return folder
        return None

    def plugins(self) -> list[Path]:
        """The folders of the members that are plugins."""
        return [folder for folder, manifest in self.manifests.items() if is_plugin(manifest)]

    def describe(self, package: dict[str, Any]) -> dict[str, str]:
        """The strings in a member's `[package]`, with what it inherits from the workspace."""
        return strings(package, table(self.manifest["workspace"], "package"))

    def _list(self, key: str) -> list[str]:
        value = self.manifest["workspace"].get(key)
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def choices(folders: Sequence[Path]) -> str:
    """How to name each of these crates on the command line, from the current folder."""
    return ", ".join(f"--root {shlex.quote(os.path.relpath(folder))}" for folder in folders)


def strings(package: dict[str, Any], shared: dict[str, Any]) -> dict[str, str]:
    """The strings in `[package]`; those with `workspace = true` are taken from `shared`."""
    inherited = {key: shared.get(key) if isinstance(value, dict) else value for key, value in package.items()}
    return {key: value for key, value in inherited.items() if isinstance(value, str)}


def inherits(package: dict[str, Any]) -> bool:
    """Whether a `[package]` takes anything from its workspace."""
    return any(isinstance(value, dict) and "workspace" in value for value in package.values())
