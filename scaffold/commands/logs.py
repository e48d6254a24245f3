"""`logs`: print the log of the deployed plugin."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of, targets
from scaffold.core.events import emit, until_interrupted


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin has logged; with `follow`, new lines too, until Ctrl-C."""
    roots = roots_of(root)
    logs = (target.log_lines(roots, follow) for target in targets())
    lines = next((each for each in logs if each is not None), None)
    if lines is None:
        raise nothing_deployed(roots)
    with until_interrupted() if follow else nullcontext():
        for line in lines:
            emit(line)
