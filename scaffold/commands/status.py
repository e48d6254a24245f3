"""`status`: show what is deployed."""

from __future__ import annotations

from pathlib import Path

from scaffold.commands.deploy_targets import note_nothing_deployed, roots_of, targets
from scaffold.hosts.background.deployments import Status
from scaffold.kubernetes.applied import ClusterStatus
from scaffold.project.cargo_toml import locate


def status(root: Path = Path(), *, everything: bool = False) -> list[Status | ClusterStatus]:
    """What the project has deployed, or everything that the user has deployed, in clusters too."""
    roots = None if everything else roots_of(root)
    statuses = [one for target in targets() for one in target.status(roots)]
    if not statuses:
        note_nothing_deployed(locate(root), everything)
    return statuses
