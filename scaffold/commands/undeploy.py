"""`undeploy`: stop what is deployed."""

from __future__ import annotations

from pathlib import Path

from scaffold.commands.deploy_targets import note_nothing_deployed, roots_of, targets
from scaffold.core.collected_errors import Failures
from scaffold.core.events import Noted, emit
from scaffold.hosts.background import history
from scaffold.hosts.background.deployments import Stopped
from scaffold.kubernetes.applied import Removed
from scaffold.project.cargo_toml import locate


def undeploy(root: Path = Path(), *, everything: bool = False) -> list[Stopped | Removed]:
    """Stop what the project has deployed, or everything that the user has deployed, in clusters too.

    Returns what was stopped. An error doesn't keep the others running: the first one is raised at the end.
    """
    roots = None if everything else roots_of(root)
    found: list[Stopped | Removed | None] = []
    failures = Failures()
    for target in targets():
        with failures.kept():
            for one in target.remove(roots):
                found.append(one)  # one by one, since a later one may fail
    history.forget_old()
    if not found and not failures.errors:
        note_nothing_deployed(locate(root), everything)
    stopped = [one for one in found if one]
    if failures.errors:
        for one in stopped:
            emit(Noted(one.summary()))
    failures.end()
    return stopped
