"""The plugins that a command works on: one crate's, or all of a workspace or its chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from scaffold.errors import ProjectError, UsageError, nearest
from scaffold.project.cargo_toml import FILE, NAME, is_plugin, locate, read_manifest, settings_in, table
from scaffold.project.crate import TRIPLES, Project, choose_one
from scaffold.project.workspace import Workspace

_MAX_NAMED = 5  # plugins in a line of output
_TABLE = f"workspace.metadata.{NAME}"


@dataclass(frozen=True)
class Projects:
    """The plugins that a command works on, each read once: one, or all of `workspace`.

    `root` is where cargo runs: the crate's folder, or the workspace's root.
    """

    all: tuple[Project, ...]
    root: Path
    workspace: Workspace | None = None

    def __iter__(self) -> Iterator[Project]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def first(self) -> Project:
        """The only plugin, or the first of the workspace."""
        return self.all[0]

    @property
    def top(self) -> Path:
        """The folder with cargo's lock file and target folder."""
        return self.workspace.root if self.workspace else self.first.top

    @property
    def triples(self) -> list[str]:
        """The triples that the plugins are compiled for, without duplicates."""
        return list(dict.fromkeys(project.settings.triple for project in self.all))

    def grouped(self, key: Callable[[Project], object]) -> list[Projects]:
        """These plugins by a key, in the order in which it first occurs."""
        keys = dict.fromkeys(map(key, self.all))
        return [replace(self, all=tuple(each for each in self.all if key(each) == one)) for one in keys]

    def refuse_many(self, option: str) -> None:
        """Raise `UsageError` for an option, or a command, that is for a single plugin."""
        if self.workspace:
            message = f"{option} is for a single plugin, but this is a workspace"
            raise UsageError(message, hint=choose_one([project.root for project in self]))

    @cached_property
    def chain(self) -> Projects:
        """The plugins that run, in the order in which they process requests.

        `chain` in `[workspace.metadata.proxy-wasm]` names them; the default is every plugin, in the
        order of `members`; services run beside the others. Raises `ProjectError` for an invalid chain.
        """
        if self.workspace is None:
            return self
        return Projects(_chain(self.all, self.workspace), self.root, self.workspace)


def projects_at(root: Path = Path()) -> Projects:
    """Read the crate in `root`, or every plugin of the workspace at `root`.

    Raises `ProjectError` if there is no Cargo.toml, no plugin in the workspace, or an invalid one.
    """
    root = locate(root)
    projects = _read(root)
    if not projects.all:
        hint = "add one with `scaffold new NAME`, or turn a plugin crate into a project with `scaffold adopt`"
        raise ProjectError(f"no member of the workspace in {projects.root} is a plugin", hint=hint)
    return projects


def projects_if_any(root: Path) -> Projects | None:
    """Like `projects_at`, or None if there is no project."""
    projects = _read(root) if (root / FILE).exists() else None
    return projects if projects and projects.all else None


def _read(root: Path) -> Projects:
    manifest = read_manifest(root / FILE)
    workspace = Workspace.at(root, manifest)
    if workspace is None or is_plugin(manifest):
        project = Project.of(root, manifest)
        return Projects((project,), project.root)
    folders = workspace.plugins()
    members = tuple(Project.of(folder, workspace.manifests[folder], workspace) for folder in folders)
    return Projects(members, workspace.root, workspace)


def triples_at(root: Path) -> list[str]:
    """The triples of the plugins in `root`, or the default triple if there is no project."""
    return projects_at(root).triples if (root / FILE).exists() else [TRIPLES[0]]


def _chain(projects: Sequence[Project], workspace: Workspace) -> tuple[Project, ...]:
    path = workspace.root / FILE
    where = f"[{_TABLE}] of {path}"
    metadata = table(workspace.manifest, "workspace").get("metadata")
    settings = settings_in(metadata, "workspace.metadata", path)
    for key in settings.keys() - {"chain"}:
        raise ProjectError(f"unknown key `{key}` in {where}", hint="known: chain")
    plugins = {project.name: project for project in projects}
    names = settings.get("chain", list(plugins))
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ProjectError(
            f"`chain` in {where} is not a list of names", hint='write `chain = ["auth", "ratelimit"]`'
        )
    for index, name in enumerate(names):
        if name not in plugins:
            message = f"`chain` in {where} names `{name}`, which isn't a plugin of this workspace"
            raise ProjectError(message, hint=nearest(name, list(plugins)))
        if name in names[:index]:
            raise ProjectError(f"`chain` in {where} names `{name}` twice")
    return tuple(plugins[name] for name in names)


class Named(Protocol):
    """Anything with a name: a project, a plugin, a deployed plugin."""

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class


def called(plugins: Sequence[Named]) -> str:
    """The plugins' names, or just their number if they are many."""
    few = len(plugins) <= _MAX_NAMED
    return ", ".join(plugin.name for plugin in plugins) if few else f"{len(plugins)} plugins"


def chained(plugins: Sequence[Named]) -> str:
    """The name of a plugin, or "the chain a, b"."""
    names = ", ".join(plugin.name for plugin in plugins)
    return names if len(plugins) == 1 else f"the chain {names}"
