from __future__ import annotations

import random

import pytest

from scaffold.commands.bench.soak import Soaked, grown

MB, PAGE = 1_000_000, 65_536


def judge(held, least=PAGE, batch=200):
    return grown("requests", [int(each) for each in held], batch, least)


def test_what_grows_all_the_time_leaks_and_the_slope_is_known():
    noise = random.Random(1)
    found = judge(90 * MB + 200 * 100 * number + noise.gauss(0, 20_000) for number in range(100))
    assert found.leaks
    assert 90 < found.each.low < 100 < found.each.high < 110
    assert found.summary().startswith("grows by ")
    assert "MB after 10,000, " in found.summary()


@pytest.mark.parametrize(
    "held",
    [
        [90 * MB] * 100,
        [90 * MB if number < 80 else 97 * MB for number in range(100)],  # a cache
        [90 * MB + MB * (number // 30) for number in range(100)],
        [100 * MB - 30 * MB / (number + 1) for number in range(100)],  # it comes to rest
        [90 * MB - 10_000 * number for number in range(100)],
        [90 * MB + random.Random(number).gauss(0, MB) for number in range(100)],
        [90 * MB + 100 * number for number in range(100)],  # less than a page in all
    ],
)
def test_steps_and_noise_are_no_leak(held):
    found = judge(held)
    assert not found.leaks
    assert found.summary().startswith("flat: ")


def test_a_leak_from_the_start_that_ended_is_none():
    assert not judge([min(number, 50) * MB for number in range(100)]).leaks


def test_the_exit_code_says_whether_anything_leaks():
    flat, leak = judge([MB] * 20), judge([MB * number for number in range(20)])
    assert Soaked("a", "1", [flat, flat], {"200": 1}, {}).exit_code == 0
    soaked = Soaked("a", "1", [flat, leak], {"200": 1, "503": 2}, {})
    assert soaked.exit_code == 1
    assert soaked.summary().endswith("\na answered 200 to 1, 503 to 2 requests.")
