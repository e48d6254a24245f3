from __future__ import annotations

import random
import statistics

import pytest

from scaffold.commands.bench.figures import Estimate, differences, slope


def test_the_range_of_a_median_is_what_the_sign_test_leaves():
    assert Estimate.of([5, 1, 4, 2, 3, 6]) == Estimate(3.5, 1, 6)  # 1 of 32 that all are on one side
    assert Estimate.of(range(1, 13)) == Estimate(6.5, 3, 10)
    assert Estimate.of([1, 1, 1, 1, 1, 1000]).median == 1


def test_few_values_say_little():
    assert Estimate.of([1, 2]).is_noise
    assert Estimate.of([0.9, 2, 3.2]).is_noise
    assert not Estimate.of([21.0, 21.3, 21.1]).is_noise
    assert not Estimate.of([5.0, 5.0]).is_noise


def test_noise_is_what_may_be_none():
    assert Estimate(1, -0.1, 2).is_noise
    assert Estimate(-1, -2, 0).is_noise
    assert not Estimate(1, 0.1, 2).is_noise
    assert not Estimate(-1, -2, -0.1).is_noise


def test_differences_are_those_of_the_same_rounds():
    base = [100, 150, 90, 200, 130, 110, 180, 95]  # another load in each round
    assert differences([each + 7 for each in base], base) == Estimate(7, 7, 7)


@pytest.mark.parametrize("rounds", [3, 5, 6, 12, 20])
def test_sides_that_cost_the_same_are_told_apart_seldom(rounds):
    made = random.Random(rounds)
    wrong = 0
    for _ in range(400):
        sides = [[made.gauss(60, 5) for _ in range(rounds)] for _ in range(2)]
        wrong += not differences(*sides).is_noise
    assert wrong / 400 < 0.09


def test_a_slope_isnt_moved_by_outliers():
    places = list(range(40))
    values = [2 * each + (1000 if each in (3, 20) else 0) for each in places]
    found = slope(places, values)
    assert found.median == 2
    assert 1.9 < found.low <= found.high < 2.1


def test_noise_has_no_slope():
    made = random.Random(1)
    wrong = 0
    for _ in range(200):
        values = [made.gauss(100, 3) for _ in range(30)]
        wrong += not slope(list(range(30)), values).is_noise
    assert wrong / 200 < 0.09
    assert statistics.fmean(values) > 90
