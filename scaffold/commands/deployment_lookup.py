"""What a project has deployed, here and in clusters: what `status`, `logs` and `undeploy` are about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Noted, emit
from scaffold.errors import ProjectError
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import Record
from scaffold.project.cargo_toml import locate
from scaffold.project.crate import Project
from scaffold.project.workspace import Workspace, choices


def roots_of(root: Path) -> list[Path]:
    """The project's folder; for a workspace its own, where the chain is deployed, and its members'."""
    try:
        workspace = Workspace.meant(root)
    except ProjectError:  # a deployment runs on even if Cargo.toml is broken now
        workspace = None
    if workspace is None:
        return [locate(root)]
    return list(dict.fromkeys([workspace.root, *workspace.members()]))


def deployed_from(roots: Sequence[Path]) -> list[Record]:
    """The deployments on this machine of the projects in these folders."""
    return [deployment for root in roots if (deployment := deployments.load(root))]


def with_clusters(roots: Sequence[Path], everything: bool) -> list[Path]:
    """The projects, of these or of all, that have applied something to a cluster."""
    if not (files.state_dir() / "clusters").is_dir():
        return []
    from scaffold.kubernetes import applied

    return list(applied.roots()) if everything else [root for root in roots if applied.load(root)]


def note_nothing_deployed(root: Path, everything: bool) -> None:
    """Announce that nothing is deployed, or that the plugin runs in the chain of its workspace."""
    emit(Noted("nothing is deployed" if everything else f"nothing is deployed from {root.resolve()}"))
    if not everything and (chain := chain_with(root)):
        emit(Noted(f"it runs in {chain.name}: {choices([Path(chain.root)])}"))


def chain_with(root: Path) -> Record | None:
    """The deployed chain that contains the plugin in `root`."""
    try:
        project = Project.load(root)
        workspace, name = project.workspace, project.name
    except ProjectError:
        return None
    chain = deployments.load(workspace.root) if workspace else None
    return chain if chain and name in [plugin.name for plugin in chain.plugins] else None
