"""Environment variables of a plugin's VM, as users write them: NAME=VALUE, or NAME for the proxy's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from scaffold.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_VALUE_LIMIT = 2048


@dataclass(frozen=True)
class Variable:
    """An environment variable of the VM; without a value it has the proxy's own."""

    name: str
    value: str | None = None


def parse_variables(texts: Iterable[str], where: str = "--env") -> tuple[Variable, ...]:
    """Parse variables, each name once. Raises `UsageError`; `where` says where they are written."""
    variables = tuple(map(_variable, texts))
    if len({one.name for one in variables}) != len(variables):
        raise UsageError(f"{where} sets a variable twice", hint="pass each name once")
    return variables


def _variable(text: str) -> Variable:
    name, equals, value = text.partition("=")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`{name}` isn't a valid variable name", hint="write NAME=VALUE, or NAME for the proxy's own"
        )
    if len(value) > _VALUE_LIMIT or not value.isprintable():
        raise UsageError(f"the value of {name} isn't one line of at most {_VALUE_LIMIT} characters")
    return Variable(name, value if equals else None)
