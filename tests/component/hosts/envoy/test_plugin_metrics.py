"""What is read from the answers of Envoy's admin interface about metrics; here a server gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import pytest
from support.slow_servers import answering

from scaffold.errors import HostError
from scaffold.hosts.envoy import plugin_metrics
from scaffold.hosts.envoy.admin import Admin
from scaffold.hosts.envoy.plugin_metrics import Metric

ANSWERS = {
    "Counters": [{"name": "wasmcustom.probe_requests", "value": 4}, {"name": "wasmcustom.a", "value": 0}],
    "Gauges": [{"name": "wasmcustom.probe_level", "value": 300}],
    "Histograms": [
        {
            "histograms": {
                "supported_percentiles": [0, 50, 99.9, 100],
                "details": [
                    {
                        "name": "wasmcustom.sizes",
                        "percentiles": [
                            {"cumulative": 10, "interval": None},
                            {"cumulative": 20.5, "interval": None},
                            {"cumulative": None, "interval": None},
                            {"cumulative": 310, "interval": None},
                        ],
                        "totals": [
                            {"lower_bound": 10, "width": 1, "count": 2},
                            {"lower_bound": 300, "width": 10, "count": 1},
                        ],
                        "intervals": [],
                    },
                    {"name": "wasmcustom.none", "percentiles": [{"cumulative": None}] * 4, "totals": []},
                ],
            }
        }
    ],
}


@contextmanager
def envoy(status: str = "200 OK") -> Iterator[tuple[Admin, list[str]]]:
    """An admin interface with these answers, and the filters of what it was asked."""
    filters: list[str] = []

    def answer(client, over):
        client.settimeout(0.05)
        while not over.is_set():
            with suppress(TimeoutError):
                if not (request := client.recv(65536)):
                    return
                parts = urlsplit(request.split()[1].decode())
                words = parse_qs(parts.query)
                filters.extend(words.get("filter", ["all"]))
                stats = ANSWERS.get(words.get("type", [""])[0], [])
                body = json.dumps({"stats": stats}) if "format" in words else f"# TYPE a {parts.path}\n"
                client.sendall(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())

    with answering(answer) as place:
        yield Admin(place), filters


def test_metrics_have_the_names_that_their_plugins_gave_them_in_order():
    with envoy() as (admin, filters):
        found = plugin_metrics.read(admin)
    assert [each.name for each in found] == ["a", "none", "probe_level", "probe_requests", "sizes"]
    assert found[2:4] == (Metric("probe_level", "gauge", 300), Metric("probe_requests", "counter", 4))
    *asked_before, _, _, _ = filters
    assert set(asked_before) == {"all"}, "Envoy flushes what it has when it is asked"
    assert filters[-3:] == [r"^wasmcustom\."] * 3


def test_a_histogram_is_summed_by_the_values_that_its_buckets_stand_for():
    with envoy() as (admin, _):
        *_, sizes = plugin_metrics.read(admin)
        none = plugin_metrics.read(admin)[1]
    assert sizes == Metric("sizes", "histogram", 3, 325.0, {"0": 10, "50": 20.5, "100": 310})
    assert none == Metric("none", "histogram", 0)


def test_envoys_own_are_asked_for_by_name():
    with envoy() as (admin, filters):
        plugin_metrics.read(admin, everything=True)
        assert plugin_metrics.prometheus(admin) == "# TYPE a /stats/prometheus\n"
    assert [each for each in filters if each != "all"] == ["^wasm"] * 3 + [r"^wasmcustom\."]


def test_a_refusal_is_an_error_with_envoys_words():
    with envoy("503 Busy") as (admin, _), pytest.raises(HostError, match="Envoy answered 503 when asked"):
        plugin_metrics.read(admin)
