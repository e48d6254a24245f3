"""The request that shows whether a deployed plugin works, as a project describes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from scaffold.errors import ProjectError, UsageError, nearest

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: of a method or a header
_PATH = re.compile(r"/[!-~]*")
_HINT = 'write `probe = { path = "/health", statuses = [200] }`, or `probe = false`'


@dataclass(frozen=True)
class Probe:
    """A request, and the statuses that its answer may have: any below 500 if there are none.

    One that isn't `sent` is none: the deployment stays unverified.
    """

    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    statuses: tuple[int, ...] = ()
    sent: bool = field(default=True, metadata={"key": False})

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        """The setting `probe`: a table, or false. Raises `ProjectError`, which names the place `where`."""
        if value is False:
            return cls(sent=False)
        if not isinstance(value, dict):
            raise ProjectError(f"`probe` in {where} is neither a table nor false", hint=_HINT)
        known = [each.name for each in fields(cls) if each.metadata.get("key", True)]
        for key in value:
            if key not in known:
                raise ProjectError(f"unknown key `{key}` in `probe` in {where}", hint=nearest(key, known))
        wrong = next((key for key, each in value.items() if not VALID[key](each)), None)
        if wrong:
            raise ProjectError(f"`{wrong}` of `probe` in {where} isn't valid: {value[wrong]!r}", hint=_HINT)
        return cls(**value | {"statuses": tuple(value.get("statuses", ()))})

    def accepts(self, status: int) -> bool:
        """Whether an answer with that status is what the project expects."""
        return not self.statuses or status in self.statuses


def check_path(path: str) -> None:
    """Raise `UsageError` if no request can have the path of --probe."""
    if not _is_path(path):
        raise UsageError(f"--probe {path!r} isn't the path of a request", hint="such as `--probe /health`")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and _PATH.fullmatch(value) is not None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_field(name: Any, value: Any) -> bool:
    return _is_name(name) and isinstance(value, str) and value.isprintable()


VALID: dict[str, Callable[[Any], bool]] = {
    "path": _is_path,
    "method": _is_name,
    "headers": lambda value: isinstance(value, dict) and all(_is_field(*each) for each in value.items()),
    "body": lambda value: isinstance(value, str),
    "statuses": lambda value: (
        isinstance(value, list) and all(type(each) is int and 100 <= each <= 599 for each in value)
    ),
}
