"""What can go wrong, one class for each person who must act, with stable exit codes."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

INTERNAL = 70  # a bug of ours: EX_SOFTWARE of sysexits.h
UNDER_PYTEST = 100  # added to an exit code of ours where pytest reports it, to tell it from pytest's
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
# what the machine can refuse anywhere; the path it was about comes with the error
_MACHINE_ERRNOS = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
    )
)


class ScaffoldError(Exception):
    """Base of every error a user may see: one sentence, and `hint`, the next thing to type."""

    exit_code = INTERNAL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # where a traceback shows it, as in a test


class TestsFailed(ScaffoldError):
    """The plugin's own tests failed; their output is already on screen."""

    __test__ = False  # pytest would collect it by its name
    exit_code = 1


class UsageError(ScaffoldError):
    """The command line asks for something that isn't there or can't be."""

    exit_code = 2


class ProjectError(ScaffoldError):
    """A file of the project is missing, broken or says something impossible."""

    exit_code = 3


class MachineError(ScaffoldError):
    """The machine lacks something: a tool, space on disk, a permission."""

    exit_code = 4


class ToolFailed(ScaffoldError):
    """A tool said no; its own words are already on screen."""

    exit_code = 5


class ModuleError(ScaffoldError):
    """The module can't be loaded: not a plugin, or a host refused it."""

    exit_code = 6


class RegistryError(ScaffoldError):
    """A registry can't be reached, doesn't let us, or sends what it shouldn't."""

    exit_code = 7


class HostError(ScaffoldError):
    """The host can't run: its port is taken, it died, or it never became ready."""

    exit_code = 8


class TargetError(ScaffoldError):
    """Deployed, but the filter doesn't answer; or nothing is deployed."""

    exit_code = 9


def of_exit_code(code: int) -> type[ScaffoldError]:
    """The class of an error whose exit code came from another process."""
    return next((kind for kind in ScaffoldError.__subclasses__() if kind.exit_code == code), ScaffoldError)


def of_os_error(error: OSError) -> MachineError | None:
    """What the machine refused, with the path it was about; None for what can only be a bug of ours."""
    if error.errno not in _MACHINE_ERRNOS:
        return None
    return MachineError(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Look up a template, host, target or variant by name; a miss suggests the nearest."""
    if name in table:
        return table[name]
    raise UsageError(f"no {kind} named `{name}`", hint=nearest(name, sorted(table)))


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint for a name that isn't known: what it nearly is, or else what there is."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
