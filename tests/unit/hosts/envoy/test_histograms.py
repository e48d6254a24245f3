"""What a test sees of the histograms in Envoy's answer."""

from __future__ import annotations

import json

from scaffold.hosts.envoy.admin import changes, metrics


def answer(*totals: tuple[float, float, int], name: str = "wasmcustom.sizes", **numbers: int) -> str:
    """What Envoy answers: the lower bounds, widths and counts of a histogram's buckets."""
    buckets = [{"lower_bound": each[0], "width": each[1], "count": each[2]} for each in totals]
    histograms = {"supported_percentiles": [], "details": [{"name": name, "totals": buckets}]}
    stats = [{"name": name, "value": value} for name, value in numbers.items()]
    return json.dumps({"stats": [*stats, {"histograms": histograms}]})


def test_only_what_was_recorded_meanwhile_counts():
    before = answer((5, 0.1, 7), (300, 10, 1), requests=8)
    after = answer((5, 0.1, 8), (42, 1, 2), (300, 10, 2), requests=12)
    assert changes(before, after) == {
        "requests": 4,
        "sizes.count": 4,
        "sizes.sum": 5 + 2 * 42 + 305,
        "sizes.min": 5,
        "sizes.p50": 42,
        "sizes.p90": 305,
        "sizes.p95": 305,
        "sizes.p99": 305,
        "sizes.max": 305,
    }


def test_the_first_value_is_no_less_seen():
    assert changes(answer(), answer((0, 0, 1)))["sizes.count"] == 1
    assert changes(json.dumps({"stats": []}), answer((0, 0, 1)))["sizes.max"] == 0


def test_nothing_recorded_is_nothing():
    assert changes(answer((5, 0.1, 7)), answer((5, 0.1, 7))) == {}
    assert metrics(answer()) == {}


def test_those_of_envoy_itself_are_left_out():
    assert metrics(answer((5, 0.1, 7), name="cluster.upstream.upstream_rq_time", requests=1)) == {
        "requests": 1
    }


def test_an_envoy_that_is_silent_has_none():
    assert metrics("") == {}
    assert changes(answer((5, 0.1, 7)), "") == {}
