"""What earlier runs left: deployments that ended by themselves, folders that a kill left half made."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from scaffold.commands.deploy import TARGETS
from scaffold.commands.doctor.finding import Finding, Patient
from scaffold.core import files, process
from scaffold.errors import choose
from scaffold.hosts.background import record as deployments

_HOUR = 3600.0


def recorded(_patient: Patient) -> list[Finding]:
    """Whether what is recorded as deployed runs."""
    every = list(deployments.every())
    dead = [deployment for deployment in every if not deployment.alive]
    if dead:
        found = "\n".join(f"{deployment.name} of {deployment.root} ended by itself" for deployment in dead)
        why = "`scaffold logs` may say why; what they left is in the way of nothing"
        remedy = f"scaffold undeploy --root {shlex.quote(dead[0].root)}"
        return [Finding("deployments", "warning", found, why, remedy, fixable=True)]
    return _astray(every) or [Finding("deployments", "ok", f"{len(every)} running" if every else "none")]


def _astray(every: list[deployments.Deployment]) -> list[Finding]:
    """The deployments that no readable record tells of; they may run all the same."""
    read = {Path(deployment.folder) for deployment in every}
    named = {deployment.pid for deployment in every if deployment.alive}
    unread = [place for place in deployments.places() if place not in read and place.is_dir()]
    running = {pid: place for pid, place in deployments.supervisors().items() if pid not in named}
    if not unread and not running:
        return []
    lines = [f"{place} holds no record that can be read" for place in unread]
    lines += [f"pid {pid} serves from {place}, and no record names it" for pid, place in running.items()]
    why = "`status` doesn't know of it; `deploy` and `undeploy` of the same project end it"
    kill = "kill " + " ".join(map(str, running)) if running else ""
    remedy = "; ".join(filter(None, (kill, _removal(unread) if unread else "")))
    return [Finding("deployments", "warning", "\n".join(lines), why, remedy)]


def forget(_patient: Patient) -> None:
    """Forget the deployments that ended by themselves."""
    for seen in deployments.every():
        place = Path(seen.folder)
        with deployments.lock(place):
            now = deployments.read(place)  # it may have been deployed anew meanwhile
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
