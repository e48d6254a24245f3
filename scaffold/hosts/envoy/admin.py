"""Envoy's admin interface: the few questions that we ask."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import Any
from urllib.parse import quote

from scaffold.hosts.envoy.resources import filter_name

OUR_DOING = (
    "http.admin.",
    "listener.admin.",
    "filesystem.",
)  # changed by our questions and by logging
ECDS = r"^extension_config_discovery\.(http|network)_filter\."


class Admin:
    """A client of the admin interface on a loopback port; each thread has a connection of its own.

    While the interface doesn't answer, the answers are empty: 0, "", {}.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections = threading.local()

    def live(self) -> bool:
        """Whether the listeners accept requests."""
        return self._get("/ready").strip() == "LIVE"

    def gone(self) -> bool:
        """Whether nothing listens there any more."""
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    def listener_port(self) -> int:
        """The port of the first listener that has one; 0 while there is none."""
        statuses = json.loads(self._get("/listeners?format=json") or "{}").get("listener_statuses", [])
        sockets = [each["local_address"].get("socket_address") for each in statuses]
        return int(next((each["port_value"] for each in sockets if each), 0))

    def counter(self, name: str, place: int = 0) -> int:
        """A discovery counter of the filter at a place: `update_success` or `update_rejected`."""
        return int(self._ecds(place).get(name, 0))

    def version_text(self, place: int = 0) -> str:
        """The version text of the filter that Envoy accepted last for a place of the chain."""
        return str(self._ecds(place).get("version_text", ""))

    def stats(self) -> str:
        """All counters and gauges that were ever used, as `metrics` reads them."""
        return self._get("/stats?usedonly&format=json")

    def metrics(self) -> dict[str, float]:
        """All counters and gauges that were ever used, by name."""
        return metrics(self.stats())

    def _ecds(self, place: int) -> dict[str, Any]:
        pattern = rf"{ECDS}{filter_name(place)}\."
        stats = _stats(self._get(f"/stats?format=json&filter={quote(pattern)}"))
        return {item["name"].rpartition(".")[2]: item["value"] for item in stats if "name" in item}

    def _get(self, path: str) -> str:
        connection = getattr(self._connections, "open", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            self._connections.open = connection
        try:
            connection.request("GET", path)
            return str(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException):
            connection.close()
            return ""


def metrics(stats: str) -> dict[str, float]:
    """The counters and gauges in what `Admin.stats` returned; the plugin's have the names it gave them."""
    return {
        item["name"].removeprefix("wasmcustom."): item["value"]
        for item in _stats(stats)
        if isinstance(item.get("value"), int | float) and not item["name"].startswith(OUR_DOING)
    }


def _stats(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["stats"] if text else []
