"""What changed between two readings of the metrics, and how a metric is shown."""

from __future__ import annotations

from scaffold.hosts.envoy.plugin_metrics import Change, Metric, Metrics, changes

BEFORE = [Metric("a", "counter", 5), Metric("g", "gauge", 7), Metric("same", "counter", 1)]


def test_what_moved_and_by_how_much():
    after = [Metric("a", "counter", 8), Metric("g", "gauge", 3), Metric("same", "counter", 1)]
    assert list(changes(BEFORE, after, 1.0)) == [Change(1.0, after[0], 3), Change(1.0, after[1], -4)]


def test_a_new_metric_moved_by_its_value():
    new = Metric("new", "histogram", 2)
    assert list(changes(BEFORE, [*BEFORE, new], 1.0)) == [Change(1.0, new, 2)]


def test_a_counter_of_a_restarted_envoy_begins_at_0():
    after = [Metric("a", "counter", 2), Metric("g", "gauge", 0)]
    assert [change.by for change in changes(BEFORE, after, 1.0)] == [2, -7]


def test_a_histogram_shows_its_spread():
    metric = Metric("h", "histogram", 1200, 61.5, {"0": 1.5, "25": 2, "50": 3, "99.9": 4, "100": 5})
    assert metric.shown() == "1,200 recorded, sum 61.5, min 1.5, p50 3, max 5"
    assert Metric("h", "histogram", 0).shown() == "0 recorded, sum 0"


def test_the_table_has_a_line_for_each():
    table = Metrics([Metric("requests", "counter", 1234), Metric("level", "gauge", 3)])
    assert table.summary() == "requests  counter  1,234\nlevel     gauge    3"
    assert Metrics().summary() == ""


def test_a_change_as_json_has_the_time_in_utc():
    change = Change(1769869800.25, Metric("a", "counter", 8), 3)
    assert change.as_json() == {
        "time": "2026-01-31T14:30:00.250Z",
        "name": "a",
        "type": "counter",
        "value": 8,
        "sum": 0.0,
        "quantiles": {},
        "change": 3,
    }
