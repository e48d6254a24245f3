"""What can go wrong: one class for each person who must act, with stable exit codes."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

INTERNAL = 70  # a bug in scaffold: EX_SOFTWARE of sysexits.h
UNDER_PYTEST = 100  # added to our exit codes when pytest ends with them, so that they differ from pytest's
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
# errors of the machine, which can occur anywhere; the OSError carries the path
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
        errno.ENOTSUP,
        errno.ESPIPE,
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
            self.add_note(f"hint: {hint}")  # shown below a traceback, for example in a failed test


class TestsFailed(ScaffoldError):
    """The plugin's own tests failed; their output is already on screen."""

    __test__ = False  # otherwise pytest collects the class because of its name
    exit_code = 1


class BudgetExceeded(ScaffoldError):
    """The plugin costs more than its budget allows: the message has each line that doesn't hold."""

    exit_code = 1


class UsageError(ScaffoldError):
    """The command line asks for something that doesn't exist or isn't possible."""

    exit_code = 2


class ProjectError(ScaffoldError):
    """A file of the project is missing, broken or has an impossible value."""

    exit_code = 3


class MachineError(ScaffoldError):
    """The machine lacks something: a tool, space on disk, a permission."""

    exit_code = 4


class ToolFailed(ScaffoldError):
    """An external tool failed; its output is already on screen."""

    exit_code = 5


class ModuleError(ScaffoldError):
    """The module can't be loaded: it isn't a plugin, or a host refuses it."""

    exit_code = 6


class RegistryError(ScaffoldError):
    """A registry can't be reached, refuses access, or sends wrong data."""

    exit_code = 7


class HostError(ScaffoldError):
    """The host can't run: its port is taken, it died, or it never became ready."""

    exit_code = 8


class TargetError(ScaffoldError):
    """The plugin is deployed but doesn't answer; or nothing is deployed."""

    exit_code = 9


def of_exit_code(code: int) -> type[ScaffoldError]:
    """The error class for the exit code of another scaffold process."""
    return next((kind for kind in ScaffoldError.__subclasses__() if kind.exit_code == code), ScaffoldError)


def of_os_error(error: OSError) -> MachineError | None:
    """The `MachineError` for an OSError, with its path; None if it can only be a bug in scaffold."""
    if error.errno not in _MACHINE_ERRNOS:
        return None
    return MachineError(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Look up a template, host, target or variant by name; the error suggests the nearest name."""
    if name in table:
        return table[name]
    raise UsageError(f"no {kind} named `{name}`", hint=nearest(name, sorted(table)))


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint for an unknown name: the nearest known name, or the list of all known names."""
    import difflib

    spelled = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), spelled, n=10)
    if not near:
        return f"known: {', '.join(known) or 'none'}"
    return f"did you mean `{spelled[closest(name.lower(), near)]}`?"


def closest(name: str, candidates: Sequence[str]) -> str:
    """The candidate with the fewest edits from `name`; swapping two neighbouring letters is one edit."""
    return min(candidates, key=lambda candidate: _edits(name, candidate))


def _edits(left: str, right: str) -> int:
    """The optimal string alignment distance: insertions, deletions, replacements and swaps."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        earlier, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and (a, left[i - 2]) == (right[j - 2], b):
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
