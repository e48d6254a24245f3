"""Envoy's admin interface: the few questions that we ask.

It shows everything, secrets in a plugin's configuration too, and obeys whoever reaches it. Ours is a socket
in a folder that only this user may enter.
"""

from __future__ import annotations

import http.client
import json
import shlex
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from scaffold.errors import HostError
from scaffold.hosts.envoy import histograms
from scaffold.hosts.envoy.histograms import Buckets
from scaffold.hosts.envoy.resources import filter_name
from scaffold.hosts.unix_http import UnixConnection

OF_PLUGINS = "wasmcustom."  # how Envoy begins the names of metrics that plugins define
# changed by our questions and by logging
OUR_DOING = ("http.admin.", "listener.admin.", "filesystem.", "server.dropped_stat_flushes")
TIMEOUT = 10.0  # seconds for an answer
_DROPPED = "server.dropped_stat_flushes"  # how often Envoy was still at the flush before
_MOST_QUESTIONS = 50  # that may be dropped, if others ask all the time
ECDS = r"^extension_config_discovery\.(http|network)_filter\."


class Admin:
    """A client of the admin interface at a socket's path, or at `HOST:PORT`; a connection for each thread.

    While the interface doesn't answer, the answers are empty: 0, "", {}. `answered` is when it last did.
    """

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        self.address = address
        self._timeout = timeout
        self.answered = time.monotonic()
        self._dropped = 0.0
        self._connections = threading.local()

    def live(self) -> bool:
        """Whether the listeners accept requests."""
        return self._get("/ready").strip() == "LIVE"

    def gone(self) -> bool:
        """Whether nothing listens there any more."""
        connection = _connection(self.address, 5)
        try:
            connection.connect()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            pass
        finally:
            connection.close()
        return False

    def listener_port(self) -> int:
        """The port of the first listener that has one; 0 while there is none."""
        return next(iter(self.ports().values()), 0)

    def ports(self) -> dict[str, int]:
        """The ports of the listeners that have one, by their names."""
        statuses = json.loads(self._get("/listeners?format=json") or "{}").get("listener_statuses", [])
        sockets = {each["name"]: each["local_address"].get("socket_address") for each in statuses}
        return {name: int(socket["port_value"]) for name, socket in sockets.items() if socket}

    def counter(self, name: str, place: int = 0) -> int:
        """A discovery counter of the filter at a place: `update_success` or `update_rejected`."""
        return int(self._ecds(place).get(name, 0))

    def version_text(self, place: int = 0) -> str:
        """The version text of the filter that Envoy accepted last for a place of the chain."""
        return str(self._ecds(place).get("version_text", ""))

    def watchdog_misses(self) -> int:
        """How often a thread hasn't come back in time, from a plugin's callback for example."""
        stats = _stats(self._get("/stats?format=json&filter=^server\\..*watchdog_miss$"))
        return sum(int(item["value"]) for item in stats if "name" in item)

    def stats(self) -> str:
        """All metrics that were ever used, as `metrics` reads them.

        An Envoy with `stats_flush_on_admin` flushes its statistics whenever it is asked: it begins to merge
        its threads' histograms, and answers before it has. If it begins again, it has finished.
        """
        begun, text = 0, ""
        for _ in range(_MOST_QUESTIONS):
            text = self._get("/stats?usedonly&format=json&histogram_buckets=detailed")
            dropped = next((each["value"] for each in _stats(text) if each.get("name") == _DROPPED), 0)
            begun += dropped == self._dropped
            self._dropped = dropped
            if begun == 2 or not text:
                break
        return text

    def metrics(self) -> dict[str, float]:
        """All metrics that were ever used, by name, as `metrics` has them."""
        return metrics(self.stats())

    def ask(self, path: str, *, post: bool = False) -> tuple[int, str]:
        """The status and the text of an answer to any question. Raises `HostError` when there is none."""
        connection = _connection(self.address, TIMEOUT)
        try:
            connection.request("POST" if post else "GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise HostError(
                f"Envoy's admin interface doesn't answer: {why}",
                hint="`scaffold status` shows whether it runs",
            ) from error
        finally:
            connection.close()

    def _ecds(self, place: int) -> dict[str, Any]:
        pattern = rf"{ECDS}{filter_name(place)}\."
        stats = _stats(self._get(f"/stats?format=json&filter={quote(pattern)}"))
        return {item["name"].rpartition(".")[2]: item["value"] for item in stats if "name" in item}

    def _get(self, path: str) -> str:
        connection = getattr(self._connections, "open", None)
        if connection is None:
            connection = self._connections.open = _connection(self.address, self._timeout)
        try:
            connection.request("GET", path)
            text = str(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException):
            connection.close()
            return ""
        self.answered = time.monotonic()
        return text


def curl(address: str) -> str:
    """The command that asks the interface at that address for its statistics."""
    if address.startswith("/"):
        return f"curl --unix-socket {shlex.quote(address)} http://envoy/stats"
    return f"curl http://{address}/stats"


def _connection(address: str, timeout: float) -> http.client.HTTPConnection:
    if address.startswith("/"):
        return UnixConnection(address, timeout)
    return http.client.HTTPConnection(address, timeout=timeout)


def metrics(stats: str) -> dict[str, float]:
    """What `Admin.stats` returned, by name; the plugin's metrics have the names that it gave them.

    A histogram of the plugin's is `NAME.count`, `NAME.sum`, and its quantiles.
    """
    items = _stats(stats)
    return _numbers(items) | _figures(_histograms(items))


def changes(before: str, after: str) -> dict[str, float]:
    """The same for what has changed between two answers: by how much, and what was recorded meanwhile."""
    old, new = _stats(before), _stats(after)
    earlier, recorded = _histograms(old), _histograms(new)
    numbers = _numbers(old)
    changed = {name: value - numbers.get(name, 0) for name, value in _numbers(new).items()}
    return {name: change for name, change in changed.items() if change} | _figures(
        {name: buckets - earlier.get(name, Counter()) for name, buckets in recorded.items()}
    )


def _numbers(items: list[dict[str, Any]]) -> dict[str, float]:
    """The counters and gauges."""
    return {
        item["name"].removeprefix(OF_PLUGINS): item["value"]
        for item in items
        if isinstance(item.get("value"), int | float) and not item["name"].startswith(OUR_DOING)
    }


def _histograms(items: list[dict[str, Any]]) -> dict[str, Buckets]:
    """The plugin's histograms."""
    return {
        each["name"].removeprefix(OF_PLUGINS): histograms.buckets(each)
        for each in histograms.details(items)
        if each["name"].startswith(OF_PLUGINS)
    }


def _figures(recorded: Mapping[str, Buckets]) -> dict[str, float]:
    found = (histograms.figures(name, buckets) for name, buckets in recorded.items())
    return {name: value for each in found for name, value in each.items()}


def _stats(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["stats"] if text else []
