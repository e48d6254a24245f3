"""`clean`: remove what cargo has built, or what is kept of earlier deploys."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from scaffold.commands.deploy_targets import roots_of
from scaffold.errors import TargetError
from scaffold.hosts.background import deployments
from scaffold.hosts.background import history as past
from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo


def clean(root: Path = Path(), *, logs: bool = False, history: bool = False) -> None:
    """Remove what cargo has built, for the whole workspace if the crate is in one.

    With `logs` or `history`, remove those of what was deployed from there instead. Raises `TargetError` if
    something still is.
    """
    if not (logs or history):
        cargo.clean(projects_at(root))
        return
    roots = roots_of(root)
    for each in roots:
        if deployments.load(each):
            hint = f"run `scaffold undeploy --root {shlex.quote(str(each))}` first"
            raise TargetError("the plugin is still deployed, and writes them", hint=hint)
    for each in roots:
        if logs:
            shutil.rmtree(deployments.logs(deployments.folder(each)), ignore_errors=True)
        if history:
            past.forget(each)
