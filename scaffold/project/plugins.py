"""Which plugins a folder means: a crate's one, or a workspace's; all of these, or the chain of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scaffold.errors import ProjectError, nearest
from scaffold.project.manifest import FILE, NAME, read_manifest, settings_in, table
from scaffold.project.model import RUNNABLE, TRIPLES, Project
from scaffold.project.workspace import Workspace, top

_FEW = 5  # plugins that a line names
_TABLE = f"workspace.metadata.{NAME}"


def plugins_at(root: Path) -> list[Project] | None:
    """All plugins of the workspace whose root `root` is; None where a single crate is meant.

    Raises `ProjectError` when there is none in it, or one of them is broken.
    """
    workspace = Workspace.meant(root)
    if workspace is None:
        return None
    folders = workspace.plugins()
    if not folders:
        hint = "`scaffold new NAME` adds one, and `scaffold adopt` makes one of a filter's crate"
        raise ProjectError(f"no member of the workspace in {workspace.root} is a plugin", hint=hint)
    return [Project.load(folder) for folder in folders]


def triples(root: Path) -> list[str]:
    """What is compiled to in `root`: by its plugins, or by default where there is no project."""
    if not (root / "Cargo.toml").exists():
        return [TRIPLES[0]]
    projects = plugins_at(root) or [Project.load(root)]
    return list(dict.fromkeys(project.settings.triple for project in projects))


def chain_at(root: Path) -> list[Project] | None:
    """The chain of the workspace whose root `root` is; None where a single crate is meant."""
    projects = plugins_at(root)
    return None if projects is None else chain_of(projects)


def chain_of(projects: Sequence[Project]) -> list[Project]:
    """The plugins of a workspace in the order in which traffic meets them.

    `chain` in `[workspace.metadata.proxy-wasm]` names them; else they are those that a host can run, in
    the order of `members`. Raises `ProjectError` for a chain that can't be.
    """
    path = top(projects[0].root) / FILE
    where = f"[{_TABLE}] of {path}"
    metadata = table(read_manifest(path), "workspace").get("metadata")
    settings = settings_in(metadata, "workspace.metadata", path)
    for key in settings.keys() - {"chain"}:
        raise ProjectError(f"unknown key `{key}` in {where}", hint="known: chain")
    runnable = {project.name: project for project in projects if project.settings.type in RUNNABLE}
    if not runnable:
        raise ProjectError(f"no plugin of the workspace in {path.parent} can be run: they are services")
    names = settings.get("chain", list(runnable))
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ProjectError(f"`chain` in {where} is no list of names", hint='`chain = ["auth", "ratelimit"]`')
    for place, name in enumerate(names):
        if name not in runnable:
            what = f"`chain` in {where} names `{name}`, which is no plugin here that a host can run"
            raise ProjectError(what, hint=nearest(name, list(runnable)))
        if name in names[:place]:
            raise ProjectError(f"`chain` in {where} names `{name}` twice")
    return [runnable[name] for name in names]


class Named(Protocol):
    """What has a name: a project, a plugin, one that is deployed."""

    @property
    def name(self) -> str: ...  # noqa: D102 - said above


def called(plugins: Sequence[Named]) -> str:
    """Plugins in a line of few words."""
    few = len(plugins) <= _FEW
    return ", ".join(plugin.name for plugin in plugins) if few else f"{len(plugins)} plugins"


def chained(plugins: Sequence[Named]) -> str:
    """The plugin that runs, or all of the chain, in the singular."""
    names = ", ".join(plugin.name for plugin in plugins)
    return names if len(plugins) == 1 else f"the chain {names}"
