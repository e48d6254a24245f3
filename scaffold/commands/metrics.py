"""`metrics`: show the metrics of the deployed plugin."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of
from scaffold.core.events import Noted, emit, until_interrupted
from scaffold.errors import HostError, UsageError
from scaffold.hosts.background import target as here
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.envoy import plugin_metrics
from scaffold.hosts.envoy.admin import Admin
from scaffold.hosts.envoy.plugin_metrics import Change, Metric, Metrics

_SECONDS = 1.0  # between two readings
_NONE = (
    "the plugin has defined no metrics yet;"
    ' `proxy_wasm::hostcalls::define_metric(MetricType::Counter, "my.requests")` defines one'
)


def metrics(
    root: Path = Path(), *, follow: bool = False, everything: bool = False, prometheus: bool = False
) -> Metrics | str | Iterator[Change]:
    """The counters, gauges and histograms that the deployed plugin has defined.

    With `follow`, what changes, until Ctrl-C; with `everything`, also Envoy's own metrics about wasm; with
    `prometheus`, a text in Prometheus's format. Raises `TargetError` when nothing is deployed.
    """
    if follow and prometheus:
        raise UsageError("--prometheus can't follow", hint="leave out --follow, and ask again when you want")
    roots = roots_of(root)
    record = here.chosen(roots)
    if record is None:
        raise nothing_deployed(roots)
    admin = here.admin_of(record)
    if prometheus:
        return plugin_metrics.prometheus(admin, everything=everything).removesuffix("\n")
    found = plugin_metrics.read(admin, everything=everything)
    if not found:
        emit(Noted(_NONE))
    return _followed(record, admin, found, everything) if follow else found


def _followed(record: Record, admin: Admin, before: tuple[Metric, ...], everything: bool) -> Iterator[Change]:
    """What changes from now on; an Envoy that is being restarted is waited for."""
    with until_interrupted():
        emit(Noted("Press Ctrl-C to stop"))
        while True:
            time.sleep(_SECONDS)
            try:
                now = plugin_metrics.read(admin, everything=everything)
            except HostError:
                record = record if record.alive else here.renewed(record)
                admin = Admin(here.attach(record).admin_address)
                continue
            yield from plugin_metrics.changes(before, now, time.time())
            before = now
