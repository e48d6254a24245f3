"""The folders that scaffold writes in: there or makeable, writable, with room."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from scaffold.commands.doctor.finding import Finding, Patient, State
from scaffold.core import files
from scaffold.core.files import human

SPARE = 64_000_000  # bytes: less is as good as a full disk


def state_folder(_patient: Patient) -> list[Finding]:
    """Where deployments are recorded."""
    return [examine("state", files.state_dir(), "XDG_STATE_HOME", "`deploy` records there what it deploys")]


def cache_folder(_patient: Patient) -> list[Finding]:
    """Where it would be quicker to have something from."""
    why = "without it a kill -9 leaves its files beside a new project, and compilers are asked at every build"
    return [examine("cache", files.cache_dir(), "XDG_CACHE_HOME", why, bad="warning")]


def temp_folder(_patient: Patient) -> list[Finding]:
    """Where compilers and tests put what they need for a moment."""
    why = "compilers and tests put there what they need for a moment"
    return [examine("temp", temp(), "TMPDIR", why)]


def temp() -> Path:
    """The folder that $TMPDIR names: Python goes elsewhere when it is unfit, but cargo and cc don't."""
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def examine(
    name: str, folder: Path, variable: str, why: str, *, needed: int = SPARE, bad: State = "failed"
) -> Finding:
    """Whether one can write in a folder and has `needed` bytes there; `variable` would name another.

    One that isn't there yet is fit when it can be made.
    """
    name = f"{name} folder"
    near = _nearest(folder)
    elsewhere = f"export {variable}=FOLDER"
    try:
        free = shutil.disk_usage(near).free
        if free >= needed:
            _write_in(near)
    except OSError as error:
        where = folder if near == folder else f"{folder}: {near}"
        return Finding(name, bad, f"{where}: {error.strerror}", why, _remedy(error, near, elsewhere))
    if free < needed:
        found = f"{folder}: {human(free)} free, {human(needed)} are needed"
        return Finding(name, bad, found, why, f"make room on the disk of {near}, or {elsewhere}")
    if near == folder:
        return Finding(name, "ok", f"{folder}, {human(free)} free")
    if variable == "TMPDIR":  # which nobody makes
        found = f"{folder}, as $TMPDIR says, isn't there"
        return Finding(name, bad, found, why, f"mkdir -p {folder}", fixable=True)
    return Finding(name, "ok", f"{folder}: made when needed, {human(free)} free", fixable=True)


def make(folder: Path) -> None:
    """Make a folder that is missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    for path in (folder, *folder.absolute().parents):
        try:
            path.lstat()
        except OSError:
            continue
        return path
    return Path("/")


def _write_in(folder: Path) -> None:
    """Write a file and let it go: the rights' bits don't tell of a full disk or one mounted read-only."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))


def _remedy(error: OSError, folder: Path, elsewhere: str) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f'sudo chown "$USER" {folder}, or {elsewhere}'
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"make room on the disk of {folder}, or {elsewhere}"
    return elsewhere
