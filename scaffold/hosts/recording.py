"""What a run of the tests saw on a host, kept to be compared: exchanges, the plugin's logs, transcripts.

What differs between two runs on the same host is masked: addresses in memory, ids, times, ports.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from scaffold.core.files import digest
from scaffold.errors import HostError
from scaffold.hosts.exchange import Exchange, Request

if TYPE_CHECKING:
    from scaffold.hosts.client import Connection

CONNECTION = "TCP connection"  # in the place of a request
_LONGEST = 2000  # bytes of a body that are kept; of a longer one, the digest
_MOST_LINES = 40  # of a difference that are shown
_MASKED = "*"
_VARYING = ("date", "x-request-id", "x-envoy-upstream-service-time", "x-forwarded-for")
_DROPPED = ("connection",)  # an answer that overtakes the request's body closes it
_TRACE = ("[host->vm]", "[vm->host]", "[host<-vm]", "[vm<-host]")
_CALL = re.compile(r"(\[vm->host\] )([\w.]+)\((.*)\)")
_ALLOCATED = re.compile(r"(\[host..vm\] (?:malloc|proxy_on_memory_allocate)).*")
_CALLBACK = re.compile(r"\[host->vm\] (\w+)\(")
# a root context has the number 1, and the parent 0; `_initialize` is about none
_OF_ROOT = re.compile(r"\[host->vm\] (?:\w+\((?:1\b|\))|proxy_on_context_create\(\d+, 0\))")
_MERE, _ANY_PIECE = 2, ", *, 0)"  # lines of a callback without hostcalls; the end of one about a piece
_NUMBER = re.compile(r"(\[host->vm\] proxy_on_\w+\(|proxy_set_effective_context\()\d+")
_CREATED = re.compile(r"\[host->vm\] proxy_on_context_create\((\d+),")
_END = re.compile(r"\[host->vm\] proxy_on_(?:log|done|delete)\((\d+)\)")
_PART = re.compile(r"(\[host->vm\] proxy_on_\w+_(?:body|data)\(\d+, )\d+(, 0\))")
_ASKED = re.compile(r"env\.proxy_(http_call|grpc_call|grpc_stream)\(")
_ANSWER = re.compile(r"proxy_on_(http_call_response|grpc_\w+)\(")
_WITH_VERSION = "env.proxy_set_shared_data"  # its last argument is a number that all keys count up
_PORT = re.compile(r"(localhost|127\.0\.0\.1):\d+")
_ID = re.compile(r"\b[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}\b")
_TIME = re.compile(
    r"\b\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"
)
# one that was measured has a fraction; a round one is somebody's setting, which counts
_DURATION = re.compile(r"\b\d+\.\d+ ?(ns|µs|us|ms|s)\b")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
# a stream's first and last line; SETTLED is how long its end may take, in seconds
CREATED, DELETED, SETTLED = "[host->vm] proxy_on_context_create", "[host<-vm] proxy_on_delete", 0.3
# the beginnings of the names of Envoy's own metrics; a plugin may well have some that begin like the second
ENVOYS_OWN = tuple(
    "cluster. http. listener. listener_manager. server. wasm. extension_config_discovery.".split()
)
_MORE_OF_ENVOYS = (
    *("cluster_manager.", "main_thread.", "runtime.", "filesystem.", "workers.", "thread_local.", "vhost."),
    *("access_logs.", "dns.", "tls_", "ssl", "envoy_", "http1.", "http2."),
)
# of Envoy's TCP proxy, after `tcp.` and its name
_OF_TCP_PROXY = re.compile(
    r"tcp\.[\w-]+\.(?:(?:down|up)stream_|idle_timeout|max_|early_|on_demand_|no_route)"
)
_IN_MEMORY = 1024  # numbers above are addresses in the module's memory, more often than not


@dataclass
class Played:
    """A request of a test, or a connection, and what became of it, in JSON's types.

    `sent` is all that the client sent, as far as that is known beforehand.
    """

    request: str
    status: int | None = None
    headers: list[list[str]] = field(default_factory=list)
    body: str = ""
    trailers: list[list[str]] = field(default_factory=list)
    upstream: dict[str, Any] | None = None
    logs: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    details: str = ""
    error: str = ""
    transcript: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)


@dataclass
class Test:
    """A test: pytest's id, its outcome ("passed", "failed" or "skipped", with the reason), its requests."""

    __test__: ClassVar = False  # none of pytest's

    name: str
    outcome: str
    reason: str = ""
    played: list[Played] = field(default_factory=list)


def of_exchange(exchange: Exchange, lines: Iterable[str]) -> Played:
    """The record of an exchange; `lines` are those of the host's log meanwhile."""
    response = exchange.response
    knows = exchange._sides.knows_upstream
    return Played(
        request=f"{exchange.request.method} {exchange.request.target}",
        sent=_sent(exchange.request),
        status=response.status,
        headers=_fields(response.headers.iteritems()),
        body=_body(response.body),
        trailers=_fields(response.trailers.iteritems()),
        upstream=_arrived(exchange.upstream) if knows else None,
        logs=list(map(_masked, exchange.logs)),
        metrics={name: value for name, value in exchange.metrics.items() if is_plugins(name)},
        details=exchange.details,
        transcript=transcript(lines),
    )


def of_connection(connection: Connection, lines: Iterable[str]) -> Played:
    """The record of a TCP connection; of the bytes that came, it has those that the test looked at."""
    knows = connection.sides.knows_upstream
    return Played(
        request=CONNECTION,
        body=_body(b"".join(connection._received)),
        upstream={"requests": list(map(_arrived, connection.requests))} if knows else None,
        logs=list(map(_masked, connection.logs)),
        metrics={name: value for name, value in connection.metrics.items() if is_plugins(name)},
        details=connection.details,
        transcript=transcript(lines),
    )


def of_error(request: Request, error: HostError, lines: Iterable[str]) -> Played:
    """The record of a request without an answer."""
    text = f"{request.method} {request.target}"
    return Played(text, error=_masked(error.message), transcript=transcript(lines), sent=_sent(request))


def transcript(lines: Iterable[str]) -> list[str]:
    """The calls between host and module for a stream: each callback with the hostcalls in it.

    Addresses are masked, and how much of a body came at once, which is up to the network. What is about a
    root context comes in its own time, and is left out: except the answers to calls that the stream made. So
    does the end of an earlier stream, whose client has left.
    """
    lines = list(lines)
    created = {found[1] for line in lines if (found := _CREATED.match(line))}
    kept: list[list[str]] = []
    calls = False
    for callback in _without_mere_pieces(_callbacks(lines)):
        first = callback[0]
        of_root = bool(_OF_ROOT.search(first)) and not (calls and _ANSWER.search(first))
        of_root = of_root or bool(_ALLOCATED.match(first))  # the rest of a start that began before
        end = _END.match(first)
        is_earlier = bool(created and end and end[1] not in created)
        if of_root or is_earlier or callback == (kept[-1] if kept else None):
            continue
        calls = calls or any(map(_ASKED.search, callback))
        kept.append(callback)
    return [line for callback in kept for line in callback]


def _without_mere_pieces(callbacks: Iterable[list[str]]) -> Iterator[list[str]]:
    """Without those about a piece of a body that make no hostcall: it may come with another piece."""
    for first, group in itertools.groupby(callbacks, key=lambda callback: callback[0]):
        pieces = list(group)
        calling = [each for each in pieces if len(each) > _MERE]
        yield from (calling or pieces[:1]) if first.endswith(_ANY_PIECE) else pieces


def _callbacks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each callback, masked; those of one that began before are left out."""
    callback: list[str] = []
    returns = ""
    for line in lines:
        if not callback and not (found := _CALLBACK.match(line)):
            continue
        if not callback and found:
            returns = f"[host<-vm] {found[1]} "
        if line.startswith(_TRACE):
            callback.append(_without_addresses(line))
        if callback and line.startswith(returns):
            yield callback
            callback = []
    if callback:  # it trapped
        yield callback


def _without_addresses(line: str) -> str:
    if found := _CALL.fullmatch(line):
        numbers = [_MASKED if int(each) >= _IN_MEMORY else each for each in found[3].split(", ") if each]
        if found[2] == _WITH_VERSION:
            numbers[-1] = _MASKED
        return f"{found[1]}{found[2]}({', '.join(numbers)})"
    return _PART.sub(r"\1*\2", _ALLOCATED.sub(r"\1 …", line))


def write(path: Path, tests: list[Test]) -> None:
    """Keep what was recorded."""
    path.write_text(packed(tests))


def read(path: Path) -> list[Test]:
    """What was kept."""
    return unpacked(path.read_text())


def packed(tests: list[Test]) -> str:
    """It as JSON."""
    return json.dumps([asdict(test) for test in tests])


def unpacked(text: str) -> list[Test]:
    """The reverse."""
    return [
        Test(each["name"], each["outcome"], each["reason"], [Played(**one) for one in each["played"]])
        for each in json.loads(text)
    ]


@dataclass(frozen=True)
class Difference:
    """Where a test differs on two sides: what differs ("status", "transcript" …), and both."""

    test: str
    request: str
    what: str
    left: Any
    right: Any

    def lines(self, left: str, right: str) -> list[str]:
        """It as text; `left` and `right` name the sides."""
        where = f"{self.test}, {self.request}" if self.request else self.test
        if isinstance(self.left, list) and isinstance(self.right, list):
            found = difflib.unified_diff(_texts(self.left), _texts(self.right), left, right, lineterm="", n=2)
            shown = list(found)
            more = [f"… {len(shown) - _MOST_LINES} lines more"] * (len(shown) > _MOST_LINES)
            return [f"{where}: {self.what}", *(f"  {line}" for line in [*shown[:_MOST_LINES], *more])]
        width = max(len(left), len(right))
        sides = [f"  {name:<{width}}  {value!r}" for name, value in ((left, self.left), (right, self.right))]
        return [f"{where}: {self.what}", *sides]


def differences(left: Sequence[Test], right: Sequence[Test], *, transcripts: bool = True) -> list[Difference]:
    """Where two runs differ, in the tests' order; tests that one of them skipped aren't compared."""
    found: list[Difference] = []
    others = {test.name: test for test in right}
    for test in left:
        other = others.pop(test.name, None)
        if other is None:
            found.append(Difference(test.name, "", "test", test.outcome, "(not run)"))
        elif "skipped" not in (test.outcome, other.outcome):
            found += _of_test(test, other, transcripts=transcripts)
    return found + [Difference(name, "", "test", "(not run)", each.outcome) for name, each in others.items()]


def _of_test(test: Test, other: Test, *, transcripts: bool) -> Iterator[Difference]:
    if test.outcome != other.outcome:
        yield Difference(test.name, "", "outcome", test.outcome, other.outcome)
    left, right = test.played, other.played
    if len(left) != len(right):
        left, right = _once(left), _once(right)
    if len(left) != len(right):
        yield Difference(test.name, "", "number of requests", len(test.played), len(other.played))
    for one, two in zip(left, right, strict=False):
        if (one.request, one.sent) != (two.request, two.sent):
            yield Difference(test.name, one.request, "what the test sent", one.sent, two.sent)
            break  # the rest comes of that
        for name, value in vars(one).items():
            if value != vars(two)[name] and (transcripts or name != "transcript"):
                yield Difference(test.name, one.request, name, value, vars(two)[name])


def _once(played: Sequence[Played]) -> list[Played]:
    """Requests without those whose outcome was that of the one before: a test may ask until time has passed.

    The numbers of contexts, which count on, are masked. What a plugin logs meanwhile may be in any of them.
    """
    kept: list[Played] = []
    for each in played:
        transcript = [_NUMBER.sub(r"\1*", line) for line in each.transcript]
        masked = replace(each, transcript=transcript, logs=[])
        if not kept or masked != kept[-1]:
            kept.append(masked)
    return kept


def _texts(values: list[Any]) -> list[str]:
    return [each if isinstance(each, str) else ": ".join(map(str, each)) for each in values]


def _fields(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Header fields, sorted by name: their order is HTTP's only among those of one name."""
    named = [(name.lower(), value) for name, value in pairs if name.lower() not in _DROPPED]
    fields = [[name, _MASKED if name in _VARYING else _masked(value)] for name, value in named]
    return sorted(fields, key=lambda each: each[0])


def _sent(request: Request) -> list[str]:
    fields = [f"{name}: {_masked(value)}" for name, value in request.headers.iteritems()]
    body = [_body(request.body), f"in pieces of {list(request.pieces)}"] if request.body else []
    return [f"{request.method} {request.target}", *fields, *body]


def _arrived(request: Request | None) -> dict[str, Any] | None:
    if request is None:
        return None
    return {
        "method": request.method,
        "target": request.target,
        "cluster": request.cluster,
        "headers": _fields(request.headers.iteritems()),
        "body": _body(request.body),
        "trailers": _fields(request.trailers.iteritems()),
    }


def _body(content: bytes) -> str:
    text = _masked(content.decode("latin-1"))
    return text if len(text) <= _LONGEST else f"{len(text)} bytes, {digest(text.encode())}"


def _masked(text: str) -> str:
    text = _DURATION.sub(_MASKED, _TIME.sub(_MASKED, _PORT.sub(r"\1:*", text)))
    return _ADDRESS.sub("0x*", _ID.sub(_MASKED, text))


def is_plugins(name: str) -> bool:
    """Whether a metric is a plugin's own, as far as its name tells."""
    return not name.startswith((*ENVOYS_OWN, *_MORE_OF_ENVOYS)) and not _OF_TCP_PROXY.match(name)
