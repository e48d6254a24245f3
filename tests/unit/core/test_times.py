"""Moments, as users type them and as we show them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from scaffold.core import times
from scaffold.errors import UsageError

NOW = datetime(2026, 3, 4, 15, 16, 17, 250_000).timestamp()  # of this machine's time zone


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - 600),
        ("10 min", NOW - 600),
        ("1.5h", NOW - 5400),
        ("30s", NOW - 30),
        ("2d", NOW - 172_800),
        ("0s", NOW),
        ("9:05", datetime(2026, 3, 4, 9, 5).timestamp()),
        ("14:30", datetime(2026, 3, 4, 14, 30).timestamp()),
        ("23:50", datetime(2026, 3, 3, 23, 50).timestamp()),
        ("14:30:05", datetime(2026, 3, 4, 14, 30, 5).timestamp()),
        ("2026-01-31", datetime(2026, 1, 31).timestamp()),
        (" 2026-01-31 14:30 ", datetime(2026, 1, 31, 14, 30).timestamp()),
        ("2026-01-31T14:30:00Z", 1769869800.0),
        ("2026-01-31T14:30:00+02:00", 1769862600.0),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago(text, moment):
    assert times.parse(text, "--since", NOW) == moment


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "tomorrow", "25:00", "2026-13-01", "1e999d"])
def test_anything_else_is_refused_by_name(text):
    with pytest.raises(UsageError, match="--since isn't a time") as caught:
        times.parse(text, "--since", NOW)
    assert "`10m`" in (caught.value.hint or "")


def test_without_a_now_it_is_the_clocks():
    assert abs(times.parse("1h", "--since") - (time.time() - 3600)) < 60


def test_a_moment_of_another_day_is_shown_with_its_date():
    assert times.shown(NOW, NOW + 60) == "15:16:17.250"
    later = datetime.fromtimestamp(NOW) + timedelta(days=1)
    assert times.shown(NOW, later.timestamp()) == "2026-03-04 15:16:17.250"


def test_iso_8601_has_it_in_utc():
    assert times.utc(1769869800.0625) == "2026-01-31T14:30:00.062Z"
