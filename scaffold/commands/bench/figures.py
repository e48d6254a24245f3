"""What is told of measurements on a machine that does other things too: medians, and what the noise hides."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

_CONFIDENCE = 0.95
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t for so many values, and that confidence


@dataclass(frozen=True)
class Estimate:
    """A median, and the range in which it lies with a confidence of 95 %."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The median of some values, two at least, with its range.

        The range is what the sign test leaves, which assumes no distribution; of fewer than six values it
        leaves nothing, and theirs is Student's, which assumes the normal one.
        """
        ordered = sorted(values)
        if student := _STUDENT.get(len(ordered)):
            middle = statistics.median(ordered)
            half = student * statistics.stdev(ordered) / math.sqrt(len(ordered))
            return cls(middle, middle - half, middle + half)
        place = _rank(len(ordered))
        return cls(statistics.median(ordered), ordered[place], ordered[-1 - place])

    @property
    def is_noise(self) -> bool:
        """Whether a difference may be none."""
        return self.low <= 0 <= self.high


def _rank(count: int) -> int:
    """How many of the lowest, and of the highest, may be left out."""
    left, place = 0.0, 0
    while (left := left + math.comb(count, place) / 2**count) <= (1 - _CONFIDENCE) / 2:
        place += 1
    return max(place - 1, 0)


def differences(values: Sequence[float], base: Sequence[float]) -> Estimate:
    """By how much values exceed those of the same rounds."""
    return Estimate.of([value - other for value, other in zip(values, base, strict=True)])


def slope(places: Sequence[float], values: Sequence[float]) -> Estimate:
    """How fast values grow, whatever some outliers say: the median slope of all pairs, and its range.

    Source: Sen, Estimates of the regression coefficient based on Kendall's tau (1968).
    """
    pairs = combinations(zip(places, values, strict=True), 2)
    slopes = sorted((later - earlier) / (after - before) for (before, earlier), (after, later) in pairs)
    count = len(values)
    spread = 1.96 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    return Estimate(statistics.median(slopes), slopes[low], slopes[-1 - low])
