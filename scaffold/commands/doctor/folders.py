"""The folders that scaffold writes to: whether they exist or can be made, are writable, and have room."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from scaffold.commands.doctor.finding import Finding, Scope, State
from scaffold.core import files
from scaffold.core.text import human

SPARE = 64_000_000  # bytes: with less the disk counts as full


def state_folder(_scope: Scope) -> list[Finding]:
    """The folder of deployment records."""
    return [examine("state", files.state_dir(), "XDG_STATE_HOME", "`deploy` keeps its records there")]


def cache_folder(_scope: Scope) -> list[Finding]:
    """The folder that makes builds faster."""
    why = "without it builds are slower, and a kill -9 of `new` leaves files beside the project"
    return [examine("cache", files.cache_dir(), "XDG_CACHE_HOME", why, bad="warning")]


def temp_folder(_scope: Scope) -> list[Finding]:
    """The folder for temporary files."""
    why = "compilers and tests keep their temporary files there"
    return [examine("temp", temp(), "TMPDIR", why)]


def temp() -> Path:
    """The folder that $TMPDIR names. Where it is unusable Python takes another, but cargo and cc don't."""
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def examine(
    name: str, folder: Path, variable: str, why: str, *, needed: int = SPARE, bad: State = "failed"
) -> Finding:
    """Whether a folder is writable and has `needed` bytes free; `variable` is what names another folder.

    A missing folder is ok when it can be made.
    """
    name = f"{name} folder"
    existing = _nearest(folder)
    elsewhere = f"export {variable}=FOLDER"
    try:
        free = shutil.disk_usage(existing).free
        if free >= needed:
            _write_in(existing)
    except OSError as error:
        where = folder if existing == folder else f"{folder}: {existing}"
        return Finding(name, bad, f"{where}: {error.strerror}", why, _remedy(error, existing, elsewhere))
    if free < needed:
        detail = f"{folder}: {human(free)} free, but {human(needed)} needed"
        return Finding(name, bad, detail, why, f"make room on the disk of {existing}, or {elsewhere}")
    if existing == folder:
        return Finding(name, "ok", f"{folder}, {human(free)} free")
    if variable == "TMPDIR":  # no command makes that one
        detail = f"{folder}, which $TMPDIR names, isn't there"
        return Finding(name, bad, detail, why, f"mkdir -p {folder}", fixable=True)
    return Finding(name, "ok", f"{folder}: made when needed, {human(free)} free", fixable=True)


def make(folder: Path) -> None:
    """Make a folder that is missing."""
    files.private(folder)


def _nearest(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    for path in (folder, *folder.absolute().parents):
        try:
            path.lstat()
        except OSError:
            continue
        return path
    return Path("/")


def _write_in(folder: Path) -> None:
    """Write a file and remove it: permission bits don't reveal a full disk, or one mounted read-only."""
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
