"""What a request and its answer were, seen from every side: client, origin, plugin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from urllib3 import HTTPHeaderDict as Headers

HeaderInput = Mapping[str, str] | Iterable[tuple[str, str]] | None

__all__ = ["Exchange", "HeaderInput", "Headers", "LogLines", "Request", "Response"]


@dataclass(frozen=True)
class Request:
    """A request as one side saw it. `headers` keeps repeats; `target` is path and query.

    At the origin `headers["host"]` is what the host sent on as its authority.
    """

    method: str
    target: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` when it is none."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """An answer: `headers` keeps repeats, `body` is whole."""

    status: int = 200
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` when it is none."""
        return json.loads(self.body)


class LogLines(tuple[str, ...]):
    """What the plugin logged, a message an entry; `in` looks for a part of any of them."""

    def __contains__(self, part: object) -> bool:
        return any(part in line for line in self) if isinstance(part, str) else False

    def __repr__(self) -> str:
        return "logs:\n" + "\n".join(f"  {line}" for line in self) if self else "logs: (none)"


@dataclass(frozen=True)
class Exchange:
    """One request through a host, from every side.

    `request` as the client sent it, `response` as the client saw it; `upstream` is the request as
    the origin received it, None when it never got there; `logs` what the plugin logged meanwhile,
    `on_log` included; `metrics` the host's counters and gauges that changed, by how much; `details`
    the host's word for how it ended (Envoy's response code details); `trapped` whether the plugin
    crashed on the way (a panic), which ends its virtual machine.
    """

    request: Request
    response: Response
    upstream: Request | None
    logs: LogLines
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    details: str = ""
    trapped: bool = False

    @property
    def status(self) -> int:
        """The response's status."""
        return self.response.status
