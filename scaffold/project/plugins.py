"""Which plugins a folder stands for: a crate's one, or a workspace's; all of them, or their chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from scaffold.errors import ProjectError, UsageError, nearest
from scaffold.project.manifest import FILE, NAME, is_plugin, locate, read_manifest, settings_in, table
from scaffold.project.model import RUNNABLE, TRIPLES, Project
from scaffold.project.workspace import Workspace

_FEW = 5  # plugins that a line names
_TABLE = f"workspace.metadata.{NAME}"


@dataclass(frozen=True)
class Projects:
    """The plugins of a command: a crate's one, or, with `workspace`, all of a workspace, each read once.

    `root` is where cargo works: the crate's folder, or the workspace's root.
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
        """The crate's plugin, or the first of the workspace."""
        return self.all[0]

    @property
    def top(self) -> Path:
        """Where cargo keeps the lock file and the target folder."""
        return self.workspace.root if self.workspace else self.first.top

    @property
    def triples(self) -> list[str]:
        """What they are compiled to, each triple once."""
        return list(dict.fromkeys(project.settings.triple for project in self.all))

    def refuse_many(self, option: str) -> None:
        """Raise `UsageError` for an option that only a single plugin can have."""
        if self.workspace:
            what = f"{option} is for a single plugin, but this is a workspace"
            raise UsageError(what, hint="choose a plugin with --root")

    @cached_property
    def chain(self) -> Projects:
        """The plugins that run, in the order in which traffic meets them.

        `chain` in `[workspace.metadata.proxy-wasm]` names them; by default they are those that a host can
        run, in the order of `members`. Raises `ProjectError` for an impossible chain.
        """
        if self.workspace is None:
            return self
        return Projects(_chain(self.all, self.workspace), self.root, self.workspace)


def projects_at(root: Path = Path()) -> Projects:
    """Read the crate in `root`, or every plugin of the workspace whose root it is.

    Raises `ProjectError` when there is no Cargo.toml, no plugin in the workspace, or a broken one.
    """
    root = locate(root)
    projects = _read(root)
    if not projects.all:
        hint = "`scaffold new NAME` adds one, and `scaffold adopt` turns a plugin's crate into one"
        raise ProjectError(f"no member of the workspace in {projects.root} is a plugin", hint=hint)
    return projects


def projects_if_any(root: Path) -> Projects | None:
    """The same, or None where there is no project."""
    projects = _read(root) if (root / FILE).exists() else None
    return projects if projects and projects.all else None


def _read(root: Path) -> Projects:
    manifest = read_manifest(root / FILE)
    workspace = Workspace.at(root, manifest)
    if workspace is None or is_plugin(manifest):
        project = Project.of(root, manifest)
        return Projects((project,), project.root)
    folders = workspace.plugins()
    found = tuple(Project.of(folder, workspace.manifests[folder], workspace) for folder in folders)
    return Projects(found, workspace.root, workspace)


def triples_at(root: Path) -> list[str]:
    """What is compiled to in `root`: by its plugins, or by default where there is no project."""
    return projects_at(root).triples if (root / FILE).exists() else [TRIPLES[0]]


def _chain(projects: Sequence[Project], workspace: Workspace) -> tuple[Project, ...]:
    path = workspace.root / FILE
    where = f"[{_TABLE}] of {path}"
    metadata = table(workspace.manifest, "workspace").get("metadata")
    settings = settings_in(metadata, "workspace.metadata", path)
    for key in settings.keys() - {"chain"}:
        raise ProjectError(f"unknown key `{key}` in {where}", hint="known: chain")
    runnable = {project.name: project for project in projects if project.settings.type in RUNNABLE}
    if not runnable:
        raise ProjectError(f"no plugin of the workspace in {path.parent} can be run: they are services")
    names = settings.get("chain", list(runnable))
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ProjectError(
            f"`chain` in {where} is not a list of names", hint='`chain = ["auth", "ratelimit"]`'
        )
    for place, name in enumerate(names):
        if name not in runnable:
            what = f"`chain` in {where} names `{name}`, which isn't a plugin here that a host can run"
            raise ProjectError(what, hint=nearest(name, list(runnable)))
        if name in names[:place]:
            raise ProjectError(f"`chain` in {where} names `{name}` twice")
    return tuple(runnable[name] for name in names)


class Named(Protocol):
    """Anything with a name: a project, a plugin, a deployed one."""

    @property
    def name(self) -> str: ...  # noqa: D102 - said above


def called(plugins: Sequence[Named]) -> str:
    """Plugins in a short line."""
    few = len(plugins) <= _FEW
    return ", ".join(plugin.name for plugin in plugins) if few else f"{len(plugins)} plugins"


def chained(plugins: Sequence[Named]) -> str:
    """The plugin that runs, or the whole chain, as a singular noun."""
    names = ", ".join(plugin.name for plugin in plugins)
    return names if len(plugins) == 1 else f"the chain {names}"
