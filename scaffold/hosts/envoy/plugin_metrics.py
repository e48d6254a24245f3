"""The metrics that plugins define, as Envoy has them: counters, gauges and histograms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from scaffold.errors import HostError
from scaffold.hosts.envoy import histograms

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin

_PREFIX = "wasmcustom."
_OF_PLUGINS, _OF_WASM = r"^wasmcustom\.", "^wasm"  # with the second, also Envoy's own about VMs and modules
_QUANTILES = ("0", "50", "90", "95", "99", "100")  # those that are shown, in percent
_NAMES = {"0": "min", "100": "max"}


@dataclass(frozen=True)
class Metric:
    """A metric: `type` is "counter", "gauge" or "histogram".

    The `value` of a histogram is how many were recorded; `sum` is theirs, as exact as Envoy's buckets, and
    `quantiles` are by percent, "0" being the least and "100" the greatest.
    """

    name: str
    type: str
    value: int
    sum: float = 0.0
    quantiles: Mapping[str, float] = field(default_factory=dict)

    def shown(self) -> str:
        """Its value, in words."""
        if self.type != "histogram":
            return f"{self.value:,}"
        known = {name: self.quantiles[name] for name in _QUANTILES if name in self.quantiles}
        spread = [f"{_NAMES.get(name, f'p{name}')} {value:g}" for name, value in known.items()]
        return ", ".join([f"{self.value:,} recorded", f"sum {self.sum:g}", *spread])


class Metrics(tuple[Metric, ...]):
    """The metrics of a deployment, by name."""

    def summary(self) -> str:
        """A table."""
        widths = [max((len(getattr(each, name)) for each in self), default=0) for name in ("name", "type")]
        return "\n".join(
            f"{each.name:<{widths[0]}}  {each.type:<{widths[1]}}  {each.shown()}" for each in self
        )


@dataclass(frozen=True)
class Change:
    """A metric that has changed, by how much, and when, in seconds since 1970."""

    time: float
    metric: Metric
    by: int

    def summary(self) -> str:
        """A line."""
        from scaffold.core.times import shown

        return f"{shown(self.time)} {self.metric.name} {self.by:+,}: {self.metric.shown()}"

    def as_json(self) -> dict[str, Any]:
        """The line as `--json` prints it."""
        from scaffold.core.times import utc

        return {"time": utc(self.time), **vars(self.metric), "change": self.by}


def read(admin: Admin, *, everything: bool = False) -> Metrics:
    """The metrics that the plugins have defined; with `everything`, also Envoy's own about wasm."""
    admin.stats()  # then the histograms have all that was recorded
    found: list[Metric] = []
    pattern = _wanted(everything)
    for kind in ("Counters", "Gauges"):
        stats = json.loads(_ask(admin, f"?format=json&type={kind}", pattern))["stats"]
        found += [Metric(_name(each), kind.lower()[:-1], each["value"]) for each in stats if "name" in each]
    stats = json.loads(_ask(admin, "?format=json&type=Histograms&histogram_buckets=detailed", pattern))
    found += [each for part in stats["stats"] for each in _histograms(part.get("histograms", {}))]
    return Metrics(sorted(found, key=lambda metric: metric.name))


def values(admin: Admin, others: str) -> tuple[dict[str, int], dict[str, int]]:
    """The values of plugins' counters and gauges, and of Envoy's whose names match a pattern: one question.

    Every question has all workers of Envoy hand in what they have recorded, so a follower asks few.
    """
    text = _ask(admin, "?format=json", f"{_OF_PLUGINS}|{others}")
    found = {each["name"]: each["value"] for each in json.loads(text)["stats"] if "name" in each}
    own = {name: value for name, value in found.items() if name.startswith(_PREFIX)}
    rest = {name: value for name, value in found.items() if name not in own}
    return {name.removeprefix(_PREFIX): value for name, value in own.items()}, rest


def prometheus(admin: Admin, *, everything: bool = False) -> str:
    """The same in Prometheus's format, as Envoy writes it."""
    admin.stats()
    return _ask(admin, "/prometheus?", _wanted(everything))


def changes(before: Sequence[Metric], after: Sequence[Metric], time: float) -> Iterator[Change]:
    """What has changed between two readings; an Envoy that was restarted counts from 0 again."""
    old = {metric.name: metric.value for metric in before}
    for metric in after:
        by = metric.value - old.get(metric.name, 0)
        if by < 0 and metric.type != "gauge":
            by = metric.value
        if by:
            yield Change(time, metric, by)


def _wanted(everything: bool) -> str:
    return _OF_WASM if everything else _OF_PLUGINS


def _ask(admin: Admin, query: str, pattern: str) -> str:
    status, text = admin.ask(f"/stats{query}&filter={quote(pattern)}")
    if status != 200:
        raise HostError(f"Envoy answered {status} when asked for its metrics: {text.strip()[:200]}")
    return text


def _histograms(part: Mapping[str, Any]) -> Iterator[Metric]:
    names = [f"{percent:g}" for percent in part.get("supported_percentiles", [])]
    for each in part.get("details", []):
        recorded = histograms.buckets(each)
        cumulative = (one["cumulative"] for one in each["percentiles"])
        quantiles = {name: one for name, one in zip(names, cumulative, strict=True) if one is not None}
        yield Metric(_name(each), "histogram", recorded.total(), histograms.total(recorded), quantiles)


def _name(stat: Mapping[str, Any]) -> str:
    """The name that the plugin gave it."""
    return str(stat["name"]).removeprefix(_PREFIX)
