"""The targets of `deploy`, and what a project has deployed to them, here and in clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from scaffold.core.events import Logged, Noted, emit
from scaffold.errors import ProjectError, TargetError
from scaffold.hosts.background import deployments
from scaffold.hosts.background import target as here
from scaffold.hosts.background.deployments import Record, Status, Stopped
from scaffold.hosts.envoy.log import Wanted
from scaffold.hosts.host import HOSTS
from scaffold.kubernetes import applied
from scaffold.kubernetes.applied import ClusterStatus, Removed
from scaffold.kubernetes.options import CLUSTERS
from scaffold.project.cargo_toml import locate
from scaffold.project.crate import Project
from scaffold.project.workspace import Workspace, choices

TARGETS = (*HOSTS, *CLUSTERS)  # their names


class Target(Protocol):
    """All targets of a kind. `roots` are the folders of projects; None means all of the user's."""

    def status(self, roots: Sequence[Path] | None) -> Iterable[Status | ClusterStatus]:
        """What is deployed from there."""
        ...

    def remove(self, roots: Sequence[Path] | None) -> Iterator[Stopped | Removed | None]:
        """Stop what is deployed from there; None is what has no name, or was gone.

        An error doesn't keep the others running: the first one is raised at the end.
        """
        ...

    def log_lines(self, roots: Sequence[Path], wanted: Wanted, follow: bool) -> Iterator[Logged] | None:
        """What the plugin has logged; None if nothing is deployed from there."""
        ...


def targets() -> Iterator[Target]:
    """This machine, and clusters if something was ever applied to one."""
    yield here
    if applied.home().is_dir():
        from scaffold.kubernetes import apply as clusters

        yield clusters


def roots_of(root: Path) -> list[Path]:
    """The project's folder; for a workspace its own, where the chain is deployed, and its members'."""
    try:
        workspace = Workspace.meant(root)
    except ProjectError:  # a deployment runs on even if Cargo.toml is broken now
        workspace = None
    if workspace is None:
        return [locate(root)]
    return list(dict.fromkeys([workspace.root, *workspace.members()]))


def note_nothing_deployed(root: Path, everything: bool) -> None:
    """Announce that nothing is deployed, or that the plugin runs in the chain of its workspace."""
    emit(Noted("nothing is deployed" if everything else f"nothing is deployed from {root.resolve()}"))
    if not everything and (chain := chain_with(root)):
        emit(Noted(f"it runs in {chain.name}: {choices([Path(chain.root)])}"))


def nothing_deployed(roots: Sequence[Path]) -> TargetError:
    """The error of a command that needs a deployment; `roots` are those of `roots_of`."""
    chain = chain_with(roots[0])
    elsewhere = f"pass {choices([Path(chain.root)])}: it runs in {chain.name}" if chain else ""
    return TargetError(
        "nothing is deployed from here", hint=elsewhere or "run `scaffold deploy`, or pass --root"
    )


def chain_with(root: Path) -> Record | None:
    """The deployed chain that contains the plugin in `root`."""
    try:
        project = Project.load(root)
        workspace, name = project.workspace, project.name
    except ProjectError:
        return None
    chain = deployments.load(workspace.root) if workspace else None
    return chain if chain and name in [plugin.name for plugin in chain.plugins] else None
