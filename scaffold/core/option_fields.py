"""Options of commands, each declared once: a field of a frozen dataclass, with what help says about it.

The command line, the invoke tasks, the pytest options and the check whether a target supports an option
are all derived from these fields.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from scaffold.errors import UsageError, nearest

_KEY = "option"


@dataclass(frozen=True)
class Declaration:
    """What the command line needs to know of an option beyond its name, type and default."""

    help: str
    metavar: str = ""
    standard: str = ""  # what help names as the default of an option whose default is None
    short: str = ""  # "-y"
    choices: tuple[str, ...] = ()
    limits: tuple[int, int] | None = None  # of a whole number
    is_path: bool = False
    is_switch: bool = False  # True, False, or None: as deployed, where options are kept; else the standard
    targets: tuple[str, ...] = ()  # the only ones that support it; (): every target of the class
    heading: str = ""  # under which `--help` lists it


def option(default: Any, help: str, **more: Any) -> Any:  # noqa: A002 - what it becomes
    """A field of an options class: its default, the sentence of its help, and more of `Declaration`."""
    return field(default=default, metadata={_KEY: Declaration(help, **more)})


def declarations(kind: type) -> dict[str, Declaration]:
    """Every option of an options class by its field's name, in order."""
    return {each.name: each.metadata[_KEY] for each in fields(kind) if _KEY in each.metadata}


def flag(name: str) -> str:
    """How an option is written on the command line."""
    return f"--{name.replace('_', '-')}"


def chosen(options: Any) -> list[str]:
    """The names of the fields whose value isn't the default."""
    return [each.name for each in fields(options) if getattr(options, each.name) != each.default]


def check_values(options: Any) -> None:
    """Raise `UsageError` for a value that isn't among an option's choices, or beyond its limits."""
    for name, declared in declarations(type(options)).items():
        value = getattr(options, name)
        if value is None:
            continue
        if declared.choices and value not in declared.choices:
            raise not_among(flag(name), value, declared.choices)
        if declared.limits and not declared.limits[0] <= value <= declared.limits[1]:
            raise not_between(flag(name), value, declared.limits)


def not_among(called: str, value: str, choices: Sequence[str]) -> UsageError:
    """The error for a value that isn't among the choices of an option or an argument."""
    return UsageError(f"{called} can't be `{value}`", hint=nearest(value, choices))


def not_between(called: str, value: object, limits: tuple[int, int | None]) -> UsageError:
    """The error for what isn't a number, or is beyond the limits."""
    low, high = limits
    upwards = "up" if high is None else f"to {high}"
    return UsageError(f"{called} can't be `{value}`", hint=f"pass a number from {low} {upwards}")


def refuse(
    options: Any,
    place: str,
    *,
    supported: Collection[str] = (),
    instead: Mapping[str, str] | None = None,
    hint: str = "leave it out",
) -> None:
    """Raise `UsageError` for an option that `place` doesn't support: a command, a target, or words for one.

    `instead` has better hints by field.
    """
    called = place if " " in place or place.startswith("-") else f"`{place}`"
    for name in chosen(options):
        if name not in supported:
            better = (instead or {}).get(name, hint)
            raise UsageError(f"{flag(name)} isn't supported for {called}", hint=better)


def check_target(
    options: Any, target: str, *, instead: Mapping[str, str] | None = None, hint: str = "leave it out"
) -> None:
    """Raise `UsageError` for an option that the target doesn't support; `instead` as in `refuse`."""
    refuse(options, target, supported=supported_by(type(options), target), instead=instead, hint=hint)


def supported_by(kind: type, target: str) -> list[str]:
    """The options of a class that a target supports."""
    return [name for name, each in declarations(kind).items() if not each.targets or target in each.targets]
