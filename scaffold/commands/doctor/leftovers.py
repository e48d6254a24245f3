"""What earlier runs left behind: dead deployments, and folders that a kill left incomplete."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from scaffold.commands.doctor.finding import Finding, Scope
from scaffold.core import files
from scaffold.hosts.background import deployments as record
from scaffold.hosts.background import target
from scaffold.oci.store import Store

_HOUR = 3600.0


def deployments(_scope: Scope) -> list[Finding]:
    """Whether every recorded deployment runs."""
    every = list(record.every())
    dead = [deployment for deployment in every if not deployment.alive]
    if dead:
        detail = "\n".join(f"{each.name}, deployed from {each.root}, has died" for each in dead)
        why = "`scaffold logs` may say why; its leftovers do no harm"
        remedy = f"scaffold undeploy --root {shlex.quote(dead[0].root)}"
        return [Finding("deployments", "warning", detail, why, remedy, fixable=True)]
    return _unrecorded(every) or [Finding("deployments", "ok", f"{len(every)} running" if every else "none")]


def _unrecorded(every: list[record.Record]) -> list[Finding]:
    """The deployments without a readable record, which may run all the same."""
    read = {Path(deployment.folder) for deployment in every}
    named = {deployment.pid for deployment in every if deployment.alive}
    unread = [place for place in record.places() if place not in read and place.is_dir()]
    running = {pid: place for pid, place in record.supervisors().items() if pid not in named}
    if not unread and not running:
        return []
    lines = [f"{place} contains no readable record" for place in unread]
    lines += [f"process {pid} serves from {place}, and no record names it" for pid, place in running.items()]
    why = "`status` doesn't list it; `deploy` and `undeploy` of the same project end it"
    kill = "kill " + " ".join(map(str, running)) if running else ""
    remedy = "; ".join(filter(None, (kill, _removal(unread) if unread else "")))
    return [Finding("deployments", "warning", "\n".join(lines), why, remedy)]


def forget(_scope: Scope) -> None:
    """Remove the records of dead deployments."""
    for deployment in record.every():
        place = Path(deployment.folder)
        with record.lock(place):
            now = record.read(place)  # it may have been deployed again meanwhile
            if now and not now.alive:
                target.forget(place, now)


def half_made(_scope: Scope) -> list[Finding]:
    """Whether a kill left incomplete folders; those still being written don't count."""
    paths = sorted(_half_made())
    if not paths:
        return [Finding("leftovers", "ok", "none")]
    why = "left incomplete by a killed command: they take space until the same command removes them"
    return [Finding("leftovers", "warning", "\n".join(map(str, paths)), why, _removal(paths))]


def _half_made() -> Iterator[Path]:
    for place in (files.cache_dir() / "staging", files.cache_dir() / "scratch", Store().folder):
        yield from (path for path in files.temporaries(place) if not files.in_use(path))
    toolchains = files.data_dir() / "toolchains"
    for pattern in (".debian-*", ".removed-*"):
        yield from filter(_is_old, toolchains.glob(pattern))
    for path in (files.state_dir() / "deployments").glob("*/"):
        if not (path / record.RECORD).exists() and _is_old(path) and not files.in_use(path):
            yield path


def _is_old(path: Path) -> bool:
    """Whether it hasn't changed for an hour, so that no command can be writing it."""
    try:
        return time.time() - path.stat().st_mtime > _HOUR
    except OSError:
        return False


def _removal(paths: list[Path]) -> str:
    return "rm -r " + " ".join(shlex.quote(str(path)) for path in sorted(paths))
