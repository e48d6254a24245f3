"""The requests in an access log, whose lines are JSON objects: see `resources.access_log`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from scaffold.core.events import Changes, HeaderChange, Requested
from scaffold.hosts.envoy.log import lines_backwards
from scaffold.hosts.envoy.resources import REQUEST_FIELD

_VIA_UPSTREAM = "via_upstream"  # Envoy's word for the ordinary end


@dataclass(frozen=True)
class WantedRequests:
    """Which requests to show: those that fit, the last `tail` of them.

    `since` is in seconds since 1970, `slow` in milliseconds; `statuses` has patterns of three characters.
    """

    path: re.Pattern[str] | None = None
    statuses: re.Pattern[str] | None = None
    failed: bool = False
    slow: float = 0.0
    since: float | None = None
    tail: int | None = None

    def __call__(self, request: Requested) -> bool:
        """Whether a request fits."""
        return (
            (self.path is None or self.path.match(request.path) is not None)
            and (self.statuses is None or self.statuses.fullmatch(str(request.status or "")) is not None)
            and (not self.failed or has_failed(request))
            and request.milliseconds >= self.slow
            and (self.since is None or request.ended >= self.since)
        )

    @property
    def chooses(self) -> bool:
        """Whether some requests don't fit."""
        return self != WantedRequests(tail=self.tail)


def has_failed(request: Requested) -> bool:
    """Whether a request got no whole answer, or one that says that something is broken."""
    if not request.method:
        return bool(request.flags)
    return request.status is None or request.status >= 500 or bool(request.flags)


def newest(path: Path, until: int | None = None) -> Iterator[Requested]:
    """The requests in a log, up to a position in it, the last one first."""
    return filter(None, map(parse, lines_backwards(path, until)))


def parse(line: bytes) -> Requested | None:
    """The request in a line; None if the line is damaged."""
    try:
        record = json.loads(line)
        return _request(record) if REQUEST_FIELD in record else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _request(record: dict[str, Any]) -> Requested:
    begun = datetime.fromisoformat(record["time"]).timestamp()
    milliseconds = float(record["milliseconds"] or 0)
    ended = (
        datetime.fromisoformat(record["ended"]).timestamp()
        if record.get("ended")
        else begun + (milliseconds + 1) / 1000
    )
    changes = record.get("changes") or {}
    return Requested(
        begun,
        ended,
        record[REQUEST_FIELD] or "",
        record["method"] or "",
        record["path"] or "",
        record["status"] or None,
        (record.get("microseconds") or 1000 * milliseconds) / 1000,
        record["received"],
        record["sent"],
        _text(record["flags"]),
        "" if record["details"] == _VIA_UPSTREAM else _text(record["details"] or record.get("closed")),
        bool(changes),
        _changes(changes, "request"),
        _changes(changes, "response"),
    )


def _text(value: str | None) -> str:
    return "" if value in (None, "-") else str(value)


def _changes(changes: dict[str, Any], name: str) -> Changes | None:
    lines = changes.get(name)
    if lines is None:
        return Changes() if name == "request" and changes.get("passed") else None
    removed: dict[str, list[str]] = {}
    added: dict[str, list[str]] = {}
    left_out = 0
    for each in str(lines).splitlines():
        if each.startswith("?"):
            left_out = int(each[1:])
            continue
        key, _, value = unquote_to_bytes(each[1:]).decode(errors="replace").partition(": ")
        (added if each[0] == "+" else removed).setdefault(key, []).append(value)
    headers = [
        change
        for key in dict.fromkeys([*removed, *added])
        for change in _pairs(key, removed.get(key, []), added.get(key, []))
    ]
    body = changes.get(f"{name}_body")
    return Changes(tuple(headers), None if body is None else int(body), left_out)


def _pairs(name: str, before: list[str], after: list[str]) -> Iterator[HeaderChange]:
    """The changes of a header's values, in their order."""
    for place in range(max(len(before), len(after))):
        old, new = (values[place] if place < len(values) else None for values in (before, after))
        yield HeaderChange(name, old, new)
