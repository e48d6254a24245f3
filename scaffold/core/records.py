"""Keep JSON records on disk: each is whole or absent, and checked against its type when it is read.

A record may come from an earlier or later version of ours: fields that we don't know are ignored, and missing
ones take their default. A damaged record is an error that names the file; where a command can go on without
the record, a warning, and the record counts as absent.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from scaffold.core import files
from scaffold.core.events import Warned, emit
from scaffold.errors import MachineError

T = TypeVar("T")


class DamagedRecord(MachineError):
    """A record isn't what it should be: somebody edited it, or the disk lost a part of it."""

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(
            f"{path} is damaged: {why}", hint=f"`rm {shlex.quote(str(path))}` forgets what it records"
        )


def write(path: Path, record: object, *, mode: int = 0o600) -> None:
    """Replace the record at once; its folder is made where it is missing."""
    files.private(path.parent)
    files.write(path, json.dumps(record, default=dataclasses.asdict, indent=2) + "\n", mode=mode)


def read(path: Path, kind: type[T]) -> T | None:
    """The record in a file, as a dataclass, or a list or dictionary of values; None if there is no file.

    Raises `DamagedRecord` when the file doesn't contain one.
    """
    try:
        return parse(kind, json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(path, error) from error


def read_or_warn(path: Path, kind: type[T]) -> T | None:
    """The same, except that a damaged record is named in a warning, once, and counts as absent."""
    try:
        return read(path, kind)
    except DamagedRecord as error:
        warn(error)
        return None


def warn(error: DamagedRecord) -> None:
    """Name a damaged record in a warning, but not at every look at it."""
    _warn(error.message)


@cache
def _warn(text: str) -> None:
    emit(Warned(text))


def parse(kind: type[T], value: object) -> T:
    """A value of an annotated type from its form in JSON. Raises `ValueError`."""
    parsed: T = _parse(kind, value)
    return parsed


def fields(kind: type, value: object) -> dict[str, Any]:
    """The arguments of a dataclass from a JSON object. Raises `ValueError`, which names a field."""
    if not isinstance(value, dict):
        raise ValueError("it isn't a JSON object")
    types, arguments = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            try:
                arguments[field.name] = _parse(types[field.name], value[field.name])
            except _FieldError:
                raise
            except ValueError as error:
                raise _FieldError(f"its `{field.name}` isn't valid") from error
        elif (field.default, field.default_factory) == (dataclasses.MISSING, dataclasses.MISSING):
            raise _FieldError(f"its `{field.name}` is missing")
    return arguments


class _FieldError(ValueError):
    """A value isn't valid, and the innermost field with the fault is named."""


def _parse(kind: Any, value: object) -> Any:
    parts, origin = get_args(kind), get_origin(kind) or kind
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return origin(**fields(origin, value))
    if isinstance(kind, UnionType):
        return _parse_any(parts, value)
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_parse(parts[0], each) for each in value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _parse(parts[1], each) for key, each in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    accepted = (float, int) if kind is float else origin
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise ValueError(f"it isn't of type {getattr(origin, '__name__', origin)}")
    return value


def _parse_any(kinds: tuple[Any, ...], value: object) -> Any:
    for kind in kinds:
        try:
            return _parse(kind, value)
        except ValueError as error:
            last = error
    raise last
