"""Moments: as a user types them, as a terminal shows them, and as ISO 8601 has them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from scaffold.errors import UsageError

_AGO = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_CLOCK = re.compile(r"\d\d?:\d\d(:\d\d)?")


def parse(text: str, what: str, now: float | None = None) -> float:
    """A moment in seconds since 1970: `10m` before `now`, the last such time of day, or a date and time.

    `what` is the option that has it. Raises `UsageError` for anything else.
    """
    now = time.time() if now is None else now
    given, text = text, text.strip()
    if ago := _AGO.fullmatch(text):
        return now - float(ago[1]) * _SECONDS[ago[2]]
    is_clock = _CLOCK.fullmatch(text)
    if is_clock:
        text = f"{datetime.fromtimestamp(now):%Y-%m-%d} {text.zfill(5 if text.count(':') == 1 else 8)}"
    try:
        moment = datetime.fromisoformat(text).timestamp()
        return moment - _SECONDS["d"] if is_clock and moment > now else moment
    except (ValueError, OverflowError):
        raise UsageError(
            f"{what} isn't a time: {given!r}", hint="such as `10m` (ago), `14:30`, or `2026-01-31 14:30`"
        ) from None


def duration(text: str, what: str) -> float:
    """A duration in seconds: `100ms`, `1.5s`, `2m`. `what` is the option; raises `UsageError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|min|h|d)", text.strip())
    if found is None:
        raise UsageError(f"{what} isn't a duration: {text!r}", hint="such as `100ms`, `1.5s`, or `2m`")
    return float(found[1]) * (_SECONDS | {"ms": 0.001})[found[2]]


def utc(moment: float) -> str:
    """A moment as ISO 8601 has it, in UTC, to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(moment: float, now: float | None = None) -> str:
    """A moment in this machine's time zone, to the millisecond; with its date if that isn't today's."""
    here, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(time.time() if now is None else now)
    clock = here.strftime("%H:%M:%S.") + f"{here.microsecond // 1000:03}"
    return clock if here.date() == today.date() else f"{here:%Y-%m-%d} {clock}"
