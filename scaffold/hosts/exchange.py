"""A request and its answer, seen from every side: client, upstream, plugin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from scaffold.core.text import indented
from scaffold.errors import HostError, UsageError
from scaffold.hosts.unsupported import Unsupported
from scaffold.project.envoy_clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.envoy.log import Line

BAD_ARGUMENT = "BadArgument"  # the SDK's word, where a plugin logs why a call failed
PAUSED = "the plugin paused the request"  # in the words for a request without an answer
# why there is no answer, and what to do about it
REQUEST_PAUSED = (
    f"{PAUSED}, and nothing resumed it",
    "call `resume_http_request()`, or return `Action::Continue`",
)
ANSWER_PAUSED = (
    "the plugin paused the answer, and nothing resumed it",
    "call `resume_http_response()`, or return `Action::Continue`",
)
NO_ANSWER = ("the upstream hasn't answered", "is it slow? `timeout=` waits longer")
REQUEST_ID = "x-request-id"  # the header that tells a request from all others

_PANICKED = "panicked at "
_FAILED = re.compile(r"Function: .* failed")  # Envoy's words for a callback that trapped

HeaderInput = Mapping[str, str] | Iterable[tuple[str, str]] | None


class Headers(MutableMapping[str, str]):
    """Header fields in order, repeats included; names are compared without regard to case.

    `headers[name]` joins the values of a name with ", " (RFC 9110, 5.3); `getlist` keeps them apart.
    """

    def __init__(self, fields: HeaderInput = None) -> None:
        if isinstance(fields, Headers):
            fields = fields.iteritems()
        elif isinstance(fields, Mapping):
            fields = fields.items()
        self._fields = list(fields or ())

    def getlist(self, name: str) -> list[str]:
        """The values of a name, in order; empty when the name isn't there."""
        return [value for each, value in self._fields if each.lower() == name.lower()]

    def add(self, name: str, value: str) -> None:
        """Add a field, whether or not others have that name."""
        self._fields.append((name, value))

    def iteritems(self) -> Iterator[tuple[str, str]]:
        """Every field, repeats included; `items` has each name once."""
        return iter(self._fields)

    def __getitem__(self, name: str) -> str:
        __tracebackhide__ = True
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
        own, others = ({name.lower(): each[name] for name in each} for each in (self, Headers(other)))
        return own == others

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"

    def _without(self, name: str) -> list[tuple[str, str]]:
        return [field for field in self._fields if field[0].lower() != name.lower()]


def _parsed(body: bytes) -> Any:
    __tracebackhide__ = True
    try:
        return json.loads(body)
    except ValueError as error:
        raise ValueError(f"the body isn't JSON ({error}): {body[:100]!r}") from None


@dataclass(frozen=True)
class Request:
    """A request as one side saw it. `headers` keeps repeats; `target` is the path with its query.

    `pieces` are the sizes of the pieces in which a client sends the body; what is left comes as one.
    At the upstream, `headers["host"]` is the authority that the host forwarded, and `cluster` is the one
    that the request came by: "upstream", or one of the project's `clusters`.
    """

    method: str
    target: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    cluster: str = ""
    trailers: Headers = field(default_factory=Headers)
    pieces: tuple[int, ...] = ()

    @property
    def parts(self) -> list[bytes]:
        """The body in its pieces, none of which is empty."""
        parts, rest = [], self.body
        for size in self.pieces:
            parts.append(rest[:size])
            rest = rest[size:]
        return [part for part in (*parts, rest) if part]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` when it isn't JSON."""
        __tracebackhide__ = True
        return _parsed(self.body)


@dataclass(frozen=True)
class Response:
    """An answer: `headers` keeps repeats; `trailers` came after the body, which is whole if it is `complete`.

    `surplus` is how many bytes of a body came after those that its content-length announces: a client takes
    them for the beginning of the next answer.
    """

    status: int = 200
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    trailers: Headers = field(default_factory=Headers)
    surplus: int = 0
    complete: bool = True

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` when it isn't JSON."""
        __tracebackhide__ = True
        return _parsed(self.body)


class LogLines(tuple[str, ...]):
    """What the plugin logged, one message per entry; `in` looks for a part of any message."""

    @classmethod
    def of(cls, lines: Iterable[Line]) -> LogLines:
        """The messages in a host's log for a test: of the plugin, from the level `debug` on."""
        return cls(line.text for line in lines if line.of_plugin and line.level != "trace")

    def __contains__(self, part: object) -> bool:
        return any(part in line for line in self) if isinstance(part, str) else False

    @property
    def trapped(self) -> bool:
        """Whether they tell of a crash."""
        return any(map(_FAILED.match, self))

    @property
    def crash(self) -> str:
        """What they say of a crash, in a line: the panic, or the function that failed; "" without one."""
        failed = next((at for at, line in enumerate(self) if _FAILED.match(line)), None)
        if failed is None:
            return ""
        panics = [line for line in self[:failed] if line.startswith(_PANICKED)]
        return " ".join((panics[-1] if panics else self[failed].partition("\n")[0]).split())

    def __repr__(self) -> str:
        return "\n".join(["logs:", *(f"  {indented(each)}" for each in self)]) if self else "logs: (none)"


class Sides(Protocol):
    """What a host can say of an exchange or a connection; a look may cost it a question."""

    @property
    def knows_upstream(self) -> bool:
        """Whether the traffic goes to the built-in upstream, which records what it receives."""
        ...

    @property
    def upstream(self) -> Request | None:
        """The request as the upstream received it; None when it never arrived there."""
        ...

    @property
    def requests(self) -> list[Request]:
        """Everything that the upstream received meanwhile."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics that changed meanwhile, as `Exchange.metrics` has them."""
        ...


@dataclass(frozen=True)
class Seen:
    """`Sides` that are known from the start."""

    upstream: Request | None = None
    requests: list[Request] = field(default_factory=list)
    metrics: Mapping[str, float] = field(default_factory=dict)
    knows_upstream: bool = True


@dataclass(frozen=True)
class Cost:
    """What a plugin used for a request: steps of wasm, calls between host and module, bytes that they copied.

    The same plugin uses the same for the same request, on any machine.
    """

    fuel: int = 0
    crossings: int = 0
    copied_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.fuel + other.fuel, self.crossings + other.crossings, self.copied_bytes + other.copied_bytes
        )


@dataclass(frozen=True, repr=False)
class Exchange:
    """One request through a host, from every side.

    `request` is as the client sent it, `response` as the client received it. `logs` is what the plugin
    logged during the request, `on_log` included. `details` is the host's word for how it ended (Envoy's
    response code details). `trapped` says whether the plugin crashed (a panic), which ends its VM.
    """

    request: Request
    response: Response
    logs: LogLines = field(default_factory=LogLines)
    details: str = ""
    trapped: bool = False
    _sides: Sides = field(default_factory=Seen)
    costs: tuple[Cost, ...] = ()  # of the plugins, in the chain's order; empty if the host can't tell

    def __repr__(self) -> str:
        parts = {
            name: repr(getattr(self, name)) for name in ("request", "response", "logs", "details", "trapped")
        }
        parts["upstream"] = repr(self._sides.upstream) if self._sides.knows_upstream else "(not recorded)"
        return f"Exchange({', '.join(f'{name}={text}' for name, text in parts.items())})"

    @property
    def status(self) -> int:
        """The response's status."""
        return self.response.status

    @property
    def upstream(self) -> Request | None:
        """The request as the built-in upstream received it; None when it never arrived there.

        Raises `UsageError` when the traffic goes to another upstream, which records nothing for us.
        """
        if not self._sides.knows_upstream:
            raise UsageError(
                "what your own upstream received isn't known: only the built-in one records it",
                hint="leave out --upstream and --bootstrap, or look at the response alone",
            )
        return self._sides.upstream

    @property
    def cost(self) -> Cost:
        """What the plugins used for the request, callouts included; a test is skipped where none can tell."""
        if not self.costs:
            raise Unsupported("what a request costs", by="Envoy", instead="--host emulator")
        return sum(self.costs, Cost())

    @property
    def metrics(self) -> Mapping[str, float]:
        """The host's counters and gauges that changed, and by how much, and what histograms recorded.

        Of each of the plugin's histograms there are `NAME.count`, `.sum`, `.min`, `.p50`, `.p90`, `.p95`,
        `.p99` and `.max`: exact for whole numbers up to 100, and to two digits beyond. All are counted from
        just before the request until the first look, or until the next request.
        """
        return self._sides.metrics


def of_request(requests: Iterable[Request], request_id: str | None) -> Request | None:
    """Which of the requests at the upstream is the one with that id; None if none can be told to be it."""
    requests = list(requests)
    if with_id := [each for each in requests if each.headers.get(REQUEST_ID) == request_id]:
        return with_id[-1]
    # a plugin may have removed the id: then it is the only one that arrived and isn't a callout
    others = [each for each in requests if each.cluster == UPSTREAM]
    return others[0] if len(others) == 1 and REQUEST_ID not in others[0].headers else None


class Unanswered(HostError):
    """No answer came, though the host runs."""


class Incomplete(HostError):
    """The end of an answer never came; `exchange` has what did."""

    def __init__(self, error: HostError, exchange: Exchange) -> None:
        super().__init__(error.message, hint=error.hint)
        self.exchange = exchange
