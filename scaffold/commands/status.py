"""`status`: show what is deployed."""

from __future__ import annotations

from pathlib import Path

from scaffold.commands.deployment_lookup import deployed_from, note_nothing_deployed, roots_of, with_clusters
from scaffold.errors import choose
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import Record, Status
from scaffold.hosts.background.target import TARGETS
from scaffold.kubernetes.applied import ClusterStatus
from scaffold.project.cargo_toml import locate


def status(root: Path = Path(), *, everything: bool = False) -> list[Status | ClusterStatus]:
    """What the project has deployed, or everything that the user has deployed, in clusters too."""
    roots = roots_of(root)
    projects = with_clusters(roots, everything)
    here = list(deployments.every()) if everything else deployed_from(roots)
    if not here and not projects:
        note_nothing_deployed(locate(root), everything)
    statuses: list[Status | ClusterStatus] = [_status(deployment) for deployment in here]
    if projects:
        from scaffold.kubernetes import apply as kubernetes

        statuses += kubernetes.status(*projects)
    return statuses


def _status(deployment: Record) -> Status:
    return Status.of(deployment, choose("target", deployment.target, TARGETS).admin_port(deployment))
