"""Which plugins a folder means: a crate's one, or a workspace's; all of these, or the chain of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from scaffold.cargo_toml import FILE, NAME, table
from scaffold.errors import ProjectError, nearest
from scaffold.project import TRIPLES, Project
from scaffold.workspace import Workspace

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
    """The plugins of the workspace whose root `root` is, in the order in which traffic meets them.

    `chain` in `[workspace.metadata.proxy-wasm]` names them; else they are all, in the order of `members`.
    None where a single crate is meant. Raises `ProjectError` for a chain that can't be.
    """
    projects, workspace = plugins_at(root), Workspace.meant(root)
    if projects is None or workspace is None:
        return None
    settings = table(table(workspace.manifest["workspace"], "metadata"), NAME)
    where = f"[{_TABLE}] of {workspace.root / FILE}"
    for key in settings:
        if key != "chain":
            raise ProjectError(f"unknown key `{key}` in {where}", hint="known: chain")
    by_name = {project.name: project for project in projects}
    names = settings.get("chain", list(by_name))
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ProjectError(f"`chain` in {where} is no list of names", hint='`chain = ["auth", "ratelimit"]`')
    for place, name in enumerate(names):
        if name not in by_name:
            hint = nearest(name, list(by_name))
            raise ProjectError(f"`chain` in {where} names `{name}`, which is no plugin here", hint=hint)
        if name in names[:place]:
            raise ProjectError(f"`chain` in {where} names `{name}` twice")
    return [by_name[name] for name in names]


class Named(Protocol):
    """What has a name: a project, a plugin, one that is deployed."""

    @property
    def name(self) -> str: ...  # noqa: D102 - said above


def called(plugins: Sequence[Named]) -> str:
    """Plugins in a line of few words."""
    few = len(plugins) <= _FEW
    return ", ".join(plugin.name for plugin in plugins) if few else f"{len(plugins)} plugins"
