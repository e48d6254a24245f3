"""The faults: what each is called, and what is done to the plugin, to the request or to the services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from scaffold.hosts.client import Conversation
from scaffold.hosts.exchange import Headers
from scaffold.hosts.faults.scenes import Sent

LATE = 5.0  # seconds that a slow service takes
TICKS = 200  # of a storm
MISMATCHES = 10  # in a row, for each key of shared data
_START = ("proxy_on_vm_start", "proxy_on_configure")
_OF_ROOT = ("proxy_on_tick", "proxy_on_queue_ready", "proxy_on_http_call_response")
_NOT_UTF8 = "\xff\xfe"  # as latin-1
_LARGE = 40_000  # bytes of a header; Envoy takes 60 KiB of them by default
_MANY = 60  # headers; Envoy takes 100 by default
# what HTTP itself, or the host, reads
_FRAMING = frozenset(
    "host connection content-length transfer-encoding te upgrade expect x-request-id".split()
)
_OFTEN_READ = ("authorization", "cookie", "x-fault")
_HEADERS = "headers of its own"
_SMALL, _SMALL_PIECES = 7, (1,) * 20

Change = Callable[[Sent], Sent | None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong; `name` is what reports call it.

    `traps` is a callback that panics. `cluster` is one that is `down`, or whose answers are late, by `after`
    seconds, or `cut` off. `change` makes the request that is sent instead, or None of one that it isn't
    for. With `leaves`, the client leaves before the answer. `ticks` are due at once. With `contended`, others
    write shared data between any read and write of the plugin. `needs` is what requests lack that it
    isn't for.
    """

    name: str
    traps: str = ""
    cluster: str = ""
    down: bool = False
    after: float = 0
    cut: bool = False
    change: Change | None = None
    leaves: bool = False
    ticks: int = 0
    contended: bool = False
    needs: str = ""

    @property
    def at_start(self) -> bool:
        """Whether it keeps the plugin from starting."""
        return self.traps in _START

    def sent(self, request: Sent) -> Sent | None:
        """What the client sends; None if the fault isn't one for that request."""
        return self.change(request) if self.change else request


def panics(callbacks: Iterable[str]) -> list[Fault]:
    """A panic in each of these callbacks."""
    return [Fault(f"panic in {name.removeprefix('proxy_')}", traps=name) for name in callbacks]


def of_service(cluster: str) -> list[Fault]:
    """What goes wrong with a service, or with the upstream."""
    return [
        Fault(f"{cluster} down", cluster=cluster, down=True),
        Fault(f"{cluster} {LATE:g} s late", cluster=cluster, after=LATE),
        Fault(f"{cluster} cut off", cluster=cluster, cut=True),
    ]


def _in_pieces(request: Sent) -> Sent | None:
    """The body, or all of a conversation, byte by byte, then in small pieces."""
    if not request.body:
        return None
    if isinstance(request, Conversation):
        content, one_by_one = request.body, len(_SMALL_PIECES)
        starts = [*range(min(one_by_one, len(content))), *range(one_by_one, len(content), _SMALL)]
        ends = [*starts[1:], len(content)]
        return replace(request, pieces=tuple(content[a:b] for a, b in zip(starts, ends, strict=True)))
    rest = max(0, min(len(request.body), 2000) - len(_SMALL_PIECES)) // _SMALL
    return replace(request, pieces=(*_SMALL_PIECES, *((_SMALL,) * rest)))


def _with(request: Sent, added: Iterable[tuple[str, str]]) -> Sent | None:
    if isinstance(request, Conversation):
        return None
    return replace(request, headers=Headers([*request.headers.iteritems(), *added]))


def _large(request: Sent) -> Sent | None:
    return _with(request, [("x-fault", "x" * _LARGE)])


def _many(request: Sent) -> Sent | None:
    return _with(request, [(f"x-fault-{number}", "x") for number in range(_MANY)])


def _not_utf8(request: Sent) -> Sent | None:
    """Every header that the request has, and some that plugins often read."""
    if isinstance(request, Conversation):
        return None
    fields = [
        (name, value if name.lower() in _FRAMING else _NOT_UTF8)
        for name, value in request.headers.iteritems()
    ]
    has = {name.lower() for name, _ in fields}
    fields += [(name, _NOT_UTF8) for name in _OFTEN_READ if name not in has]
    return replace(request, headers=Headers(fields))


GONE = Fault("client gone", leaves=True)
OF_REQUESTS = (
    GONE,
    Fault("odd chunking", change=_in_pieces, needs="a body"),
    Fault("a huge header", change=_large, needs=_HEADERS),
    Fault(f"{_MANY} more headers", change=_many, needs=_HEADERS),
    Fault("non-UTF-8 headers", change=_not_utf8, needs=_HEADERS),
)
STORM = Fault(f"{TICKS} ticks at once", ticks=TICKS)
CONTENTION = Fault("CAS contention", contended=True)
