"""What a request and its answer were, seen from every side: client, origin, plugin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

HeaderInput = Mapping[str, str] | Iterable[tuple[str, str]] | None


class Headers(MutableMapping[str, str]):
    """Header fields in their order, repeats kept; a name is the same in any case.

    `headers[name]` joins the values of a name by ", " (RFC 9110, 5.3), `getlist` keeps them apart.
    """

    def __init__(self, fields: HeaderInput = None) -> None:
        if isinstance(fields, Headers):
            fields = fields.iteritems()
        elif isinstance(fields, Mapping):
            fields = fields.items()
        self._fields = list(fields or ())

    def getlist(self, name: str) -> list[str]:
        """The values of a name, in their order; none when it isn't there."""
        return [value for each, value in self._fields if each.lower() == name.lower()]

    def add(self, name: str, value: str) -> None:
        """One more field, whether or not there are some of that name."""
        self._fields.append((name, value))

    def iteritems(self) -> Iterator[tuple[str, str]]:
        """Every field, repeats apart; `items` has each name once."""
        return iter(self._fields)

    def __getitem__(self, name: str) -> str:
        if values := self.getlist(name):
            return ", ".join(values)
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        self._fields = [*self._without(name), (name, value)]

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._fields = self._without(name)

    def __iter__(self) -> Iterator[str]:
        written: dict[str, str] = {}
        for name, _ in self._fields:
            written.setdefault(name.lower(), name)
        return iter(written.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._fields})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        ours, theirs = ({name.lower(): each[name] for name in each} for each in (self, Headers(other)))
        return ours == theirs

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"

    def _without(self, name: str) -> list[tuple[str, str]]:
        return [field for field in self._fields if field[0].lower() != name.lower()]


@dataclass(frozen=True)
class Request:
    """A request as one side saw it. `headers` keeps repeats; `target` is path and query.

    At the origin `headers["host"]` is what the host sent on as its authority, and `cluster` the one by
    which it came: "upstream", or one of the project's `clusters`.
    """

    method: str
    target: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    cluster: str = ""

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
