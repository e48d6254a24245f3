"""What earlier runs left: deployments that ended by themselves, folders that a kill left half made."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from scaffold import deployments, files, process
from scaffold.diagnosis.finding import Finding, Patient
from scaffold.errors import choose
from scaffold.targets import TARGETS

_HOUR = 3600.0


def recorded(_patient: Patient) -> list[Finding]:
    """Whether what is recorded as deployed runs."""
    records = {path.parent for path in (files.state_dir() / "deployments").glob(f"*/{deployments.RECORD}")}
    every = list(deployments.every())
    dead = [deployment for deployment in every if not deployment.alive]
    unread = records - {deployments.folder(Path(deployment.root)) for deployment in every}
    if dead:
        found = "\n".join(f"{deployment.name} of {deployment.root} ended by itself" for deployment in dead)
        why = "`scaffold logs` may say why; what they left is in the way of nothing"
        remedy = f"scaffold undeploy --root {shlex.quote(dead[0].root)}"
        return [Finding("deployments", "warning", found, why, remedy, fixable=True)]
    if unread:
        found = "\n".join(f"{folder} holds a record that can't be read" for folder in sorted(unread))
        why = "if it still runs, `status` and `undeploy` don't know"
        return [Finding("deployments", "warning", found, why, _removal(unread))]
    return [Finding("deployments", "ok", f"{len(every)} running" if every else "none")]


def forget(_patient: Patient) -> None:
    """Forget the deployments that ended by themselves."""
    for seen in deployments.every():
        root = Path(seen.root)
        with deployments.lock(root):
            now = deployments.load(root)  # it may have been deployed anew meanwhile
            if now and not now.alive:
                import_module(choose("target", now.target, TARGETS)).remove(now)


def leftovers(_patient: Patient) -> list[Finding]:
    """Whether a kill left something half made; one that is being made now is none."""
    found = sorted(_half_made())
    if not found:
        return [Finding("leftovers", "ok", "none")]
    why = "half made by something that was killed: it takes space, and is swept when the same is made again"
    listed = "\n".join(map(str, found))
    return [Finding("leftovers", "warning", listed, why, _removal(found))]


def _half_made() -> Iterator[Path]:
    for path in (files.cache_dir() / "staging").glob(".scaffold-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdecimal() and process.start_time(int(owner)) is None:
            yield path
    toolchains = files.data_dir() / "toolchains"
    for pattern in (".debian-*", ".removed-*"):
        yield from filter(_is_old, toolchains.glob(pattern))
    for path in (files.state_dir() / "deployments").glob("*/"):
        if not (path / deployments.RECORD).exists() and _is_old(path):
            yield path


def _is_old(path: Path) -> bool:
    """Whether nothing came to it for an hour: its maker is gone."""
    try:
        return time.time() - path.stat().st_mtime > _HOUR
    except OSError:
        return False


def _removal(paths: list[Path] | set[Path]) -> str:
    return "rm -r " + " ".join(shlex.quote(str(path)) for path in sorted(paths))
