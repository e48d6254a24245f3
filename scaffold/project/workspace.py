"""Cargo workspaces: the root, the members, and what they inherit.

Source: the Cargo book, workspaces. Unlike cargo, we don't count path dependencies as members.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scaffold.project import member_globs
from scaffold.project.cargo_toml import FILE, is_plugin, locate, read_manifest, table


@dataclass(frozen=True)
class Workspace:
    """A folder whose Cargo.toml has a table `[workspace]`; `root` is absolute, without symbolic links.

    Its Cargo.toml and those of its members are read once.
    """

    root: Path
    manifest: dict[str, Any]

    @classmethod
    def at(cls, folder: Path, manifest: dict[str, Any] | None = None) -> Workspace | None:
        """The workspace with the root `folder`; reads its Cargo.toml unless `manifest` is given.

        Raises `ProjectError` for an invalid Cargo.toml.
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
        explicit = table(manifest, "package").get("workspace")
        if isinstance(explicit, str):
            return cls.at(folder / explicit)
        for above in (folder, *folder.parents):
            workspace = cls.at(above, manifest if above == folder else None)
            if workspace and not workspace.excludes(folder):
                return workspace
        return None

    @classmethod
    def meant(cls, root: Path) -> Workspace | None:
        """The workspace at `root`, unless the crate there is a plugin itself, which is meant instead."""
        workspace = cls.at(locate(root))
        return None if workspace is None or is_plugin(workspace.manifest) else workspace

    def excludes(self, folder: Path) -> bool:
        """Whether the manifest excludes a folder below the root; cargo's `exclude` has no globs."""

        def below(key: str) -> bool:
            return any(folder.is_relative_to(os.path.normpath(self.root / each)) for each in self._list(key))

        return folder != self.root and below("exclude") and not below("members")

    def members(self) -> list[Path]:
        """The members' folders in the manifest's order; those of one glob are sorted by name."""
        return list(self._members)

    @cached_property
    def _members(self) -> tuple[Path, ...]:
        folders = [self.root] if "package" in self.manifest else []
        budget = member_globs.Budget()
        for pattern in self._list("members"):
            matching = member_globs.folders(self.root, pattern, self.root / FILE, budget)
            folders += [folder for folder in matching if (folder / FILE).is_file()]
        return tuple(folder for folder in dict.fromkeys(folders) if not self.excludes(folder))

    @cached_property
    def manifests(self) -> dict[Path, dict[str, Any]]:
        """Each member's parsed Cargo.toml, by folder."""
        return {
            folder: self.manifest if folder == self.root else read_manifest(folder / FILE)
            for folder in self._members
        }

    def member(self, name: str) -> Path | None:
        """The folder of the member with that package name."""
        for folder, manifest in self.manifests.items():
            if table(manifest, "package").get("name") == name:
                return folder
        return None

    def plugins(self) -> list[Path]:
        """The folders of the members that are plugins."""
        return [folder for folder, manifest in self.manifests.items() if is_plugin(manifest)]

    def describe(self, package: dict[str, Any]) -> dict[str, str]:
        """The strings in a member's `[package]`, including those inherited from the workspace."""
        return strings(package, table(self.manifest["workspace"], "package"))

    def _list(self, key: str) -> list[str]:
        value = self.manifest["workspace"].get(key)
        return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def choices(folders: Sequence[Path]) -> str:
    """The options for these crates on the command line: `--root a, --root b`."""
    return ", ".join(f"--root {shlex.quote(os.path.relpath(folder))}" for folder in folders)


def strings(package: dict[str, Any], shared: dict[str, Any]) -> dict[str, str]:
    """The strings in `[package]`; values with `workspace = true` come from `shared`."""
    inherited = {key: shared.get(key) if isinstance(value, dict) else value for key, value in package.items()}
    return {key: value for key, value in inherited.items() if isinstance(value, str)}


def inherits(package: dict[str, Any]) -> bool:
    """Whether a `[package]` inherits anything from its workspace."""
    return any(isinstance(value, dict) and "workspace" in value for value in package.values())
