"""`undeploy`: stop what is deployed."""

from __future__ import annotations

from pathlib import Path

from scaffold.commands.deployment_lookup import note_nothing_deployed, roots_of, with_clusters
from scaffold.core.collected_errors import Failures
from scaffold.core.events import Noted, emit
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import Stopped
from scaffold.hosts.background.target import forget
from scaffold.kubernetes.applied import Removed
from scaffold.project.cargo_toml import locate


def undeploy(root: Path = Path(), *, everything: bool = False) -> list[Stopped | Removed]:
    """Stop what the project has deployed, or everything that the user has deployed, in clusters too.

    Returns what was stopped. An error doesn't keep the others running: the first one is raised at the end.
    """
    roots = roots_of(root)
    own = [deployments.folder(each) for each in roots]
    places = [place for place in deployments.places() if everything or place in own]
    projects = with_clusters(roots, everything)
    if not places and not projects:
        note_nothing_deployed(locate(root), everything)
    stopped: list[Stopped | Removed] = []
    failures = Failures()
    for place in places:
        with failures.kept(), deployments.lock(place):
            now = deployments.read(place)  # under the lock: a deploy may just have ended
            forget(place, now)
            if now:
                stopped.append(Stopped(now.name, f"http://localhost:{now.port}", now.root))
    if projects:
        from scaffold.kubernetes import apply as kubernetes

        with failures.kept():
            for removed in kubernetes.remove(*projects):
                stopped.append(removed)  # one by one, since a later one may fail
    if failures.errors:
        for one in stopped:
            emit(Noted(one.summary()))
    failures.end()
    return stopped
