"""Histograms in Envoy's statistics: how many values were recorded, and about which.

Envoy keeps no values, but counts them in buckets that are as wide as two digits of them are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

Buckets = Counter[float]  # a value that stands for all of its bucket -> how many there are

_QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


def details(stats: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The histograms in what Envoy answers in JSON with `histogram_buckets=detailed`."""
    for each in stats:
        yield from each.get("histograms", {}).get("details", ())


def buckets(detail: Mapping[str, Any]) -> Buckets:
    """All that was recorded in a histogram since Envoy started."""
    made: Buckets = Counter()
    for each in detail["totals"]:
        made[_value(each["lower_bound"], each["width"])] += each["count"]
    return made


def _value(lower: float, width: float) -> float:
    """The middle of a bucket, or the only whole number in it: plugins record those."""
    return lower if width <= 1 else lower + width / 2


def bucketed(values: Iterable[int]) -> Buckets:
    """What Envoy would keep of whole numbers."""
    made: Buckets = Counter()
    for value in values:
        width = 10 ** max(0, len(str(value)) - 2)
        made[_value(value // width * width, width)] += 1
    return made


def total(recorded: Buckets) -> float:
    """The sum of what was recorded."""
    return round(sum(value * count for value, count in recorded.items()), 6)


def figures(name: str, recorded: Buckets) -> dict[str, float]:
    """What was recorded, as metrics: its count, its sum and quantiles; none if nothing was."""
    count = recorded.total()
    if not count:
        return {}
    values = sorted(recorded)
    ranks = list(accumulate(recorded[value] for value in values))
    found = {
        quantile: next(value for value, rank in zip(values, ranks, strict=True) if rank >= share * count)
        for quantile, share in _QUANTILES.items()
    }
    every = {"count": count, "sum": total(recorded)} | found
    return {f"{name}.{figure}": value for figure, value in every.items()}
