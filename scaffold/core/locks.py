"""Locks between our processes, which wait for each other and say so."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from scaffold.core import files, process
from scaffold.core.events import Noted, emit
from scaffold.errors import MachineError, ScaffoldError


@contextmanager
def lock(path: Path, *, doing: str, otherwise: ScaffoldError | None = None) -> Iterator[None]:
    """Lock `path` against our other processes and threads; announces which process it waits for.

    With `otherwise`, that is raised instead of waiting.

    The system releases the lock when its owner dies. The file says who holds it, for `_holder`.
    """
    try:
        files.private(path.parent)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", buffering=0)
    except OSError as error:
        raise _cannot_lock(path, error) from error
    with file:
        try:
            files.only_ours(path)
            _acquire(file, path, doing, otherwise)
        except OSError as error:
            raise _cannot_lock(path, error) from error
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _acquire(file: IO[bytes], path: Path, doing: str, otherwise: ScaffoldError | None) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if otherwise:
            raise otherwise from None
        emit(Noted(f"waiting for another scaffold that is {doing} ({_holder(file)}{path})"))
        fcntl.flock(file, fcntl.LOCK_EX)
    with suppress(OSError):  # a full disk: nobody will know who holds it
        file.truncate(0)
        os.pwrite(file.fileno(), f"{os.getpid()} {process.start_time(os.getpid())}".encode(), 0)


def _holder(file: IO[bytes]) -> str:
    """Who holds the lock, or "" if that can't be told.

    A process that has released it isn't in the file any more, and one that was killed doesn't run. One in
    another container runs, but under another number here.
    """
    found = re.fullmatch(rb"(\d{1,9}) (\d+(?:\.\d+)?)", os.pread(file.fileno(), 100, 0))
    runs = found and process.start_time(int(found[1])) == float(found[2])
    return f"pid {int(found[1])}, " if found and runs else ""


def _cannot_lock(path: Path, error: OSError) -> MachineError:
    hint = "does it belong to another user?" if isinstance(error, PermissionError) else None
    return MachineError(f"cannot lock {path}: {error.strerror}", hint=hint)
