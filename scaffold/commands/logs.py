"""`logs`: print the log of the deployed plugin."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from scaffold.commands.deployment_lookup import chain_with, deployed_from, roots_of, with_clusters
from scaffold.core.events import emit, until_interrupted
from scaffold.errors import TargetError, UsageError, choose
from scaffold.hosts.background.target import TARGETS
from scaffold.project.workspace import choices


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin has logged; with `follow`, new lines too, until Ctrl-C."""
    roots = roots_of(root)
    deployed = deployed_from(roots)
    if not deployed and (projects := with_clusters(roots, everything=False)):
        from scaffold.kubernetes import apply as kubernetes

        raise kubernetes.no_logs(*projects)
    if not deployed:
        chain = chain_with(roots[0])
        elsewhere = f"pass {choices([Path(chain.root)])}: it runs in {chain.name}" if chain else ""
        hint = elsewhere or "run `scaffold deploy`, or pass --root"
        raise TargetError("nothing is deployed from here", hint=hint)
    deployment, *others = deployed
    if others and deployment.root != str(roots[0]):  # the chain's comes first
        hint = f"choose one: {choices([Path(each.root) for each in deployed])}"
        raise UsageError("several plugins are deployed from this workspace", hint=hint)
    with until_interrupted() if follow else nullcontext():
        for line in choose("target", deployment.target, TARGETS).log_lines(deployment, follow):
            emit(line.event(by_name=len(deployment.plugins) > 1))
