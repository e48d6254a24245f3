"""Where faults are played: a host with the plugin, the request of a scene, and what its client sees."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from scaffold.core.versions import Version
from scaffold.hosts.exchange import (
    REQUEST_ID,
    Exchange,
    Headers,
    LogLines,
    Request,
    of_request,
)
from scaffold.hosts.faults.fault import Fault
from scaffold.hosts.faults.scenes import Scene
from scaffold.hosts.host import Played
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.upstream.control import Origin

TIMEOUT = 10.0  # seconds for an answer
PAUSE = 0.25  # seconds until the next request: Envoy reloads a plugin that has crashed after 0.15 at most
_CALLBACK = re.compile(r"\[host->vm\] (proxy_on_(?!memory_allocate)\w+)\(")
_DENIED = (401, 403, 407)
_VIA_UPSTREAM = "via_upstream"  # Envoy's word for an answer that isn't its own, or a plugin's
_GRPC_DENIED = ("7", "16")  # PERMISSION_DENIED, UNAUTHENTICATED


@dataclass(frozen=True)
class Seen:
    """What a client saw: a status, if any, and what was wrong with the answer, if anything.

    `wrong` is "cut", "no answer", "left" (the client), or "refused": the host didn't take the plugin.
    `reached` are the clusters where the request arrived. `crash` is how the plugin crashed. `denied` says
    whether the plugin answered itself, that the client has no access.
    """

    status: int | None = None
    wrong: str = ""
    reached: tuple[str, ...] = ()
    crash: str = ""
    denied: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.status or ""), self.wrong]))


REFUSED = Seen(wrong="refused")


@dataclass(frozen=True)
class Trial:
    """A scene under a fault: what the client saw of its request, and of the same again soon after.

    The fault is over by then, unless it is a panic, which stays in the module.
    """

    during: Seen
    after: Seen | None = None

    @property
    def crashed(self) -> bool:
        """Whether the plugin crashed, in whatever way."""
        return bool(self.during.crash or (self.after and self.after.crash)) or self.during == REFUSED


@dataclass(frozen=True)
class Healthy:
    """A scene while nothing is wrong.

    `callbacks` are those that are called, from the start on; `clusters` those that get any request.
    `shares` says whether the plugin writes shared data with the number of the version that it has read.
    """

    seen: Seen
    again: Seen  # the same request once more
    callbacks: tuple[str, ...]
    clusters: tuple[str, ...]
    shares: bool = False


class Stage(Protocol):
    """A host for faults, and its version."""

    @property
    def version(self) -> Version:
        """The host's version."""
        ...

    def trial(self, plugin: Plugin, scene: Scene, fault: Fault) -> Trial:
        """Play a scene under a fault, with a plugin whose module already has it."""
        ...


def seen(host: Played, request: Request, play: Play, *, since: int | None = None) -> Seen:
    """Send a request, and gather what its client sees. Raises what the host itself fails by.

    A crash counts from the position `since` of the host's log on, or else from now.
    """
    sent = replace(request, headers=Headers([*request.headers.iteritems()]))
    request_id = sent.headers.setdefault(REQUEST_ID, uuid.uuid4().hex)
    origin, log = host.origin, host.log.size() if since is None else since
    mark = origin.mark() if origin else 0
    exchange, wrong = play(sent)
    lines = LogLines(line.text for line in host.log.since(log) if line.of_plugin)
    arrived = origin.requests(since=mark) if origin else []
    clusters = {each.cluster for each in arrived if each.headers.get(REQUEST_ID) == request_id}
    if found := of_request(arrived, request_id):
        clusters.add(found.cluster)
    status = exchange.status if exchange else None
    denied = exchange is not None and _denies(exchange)
    return Seen(status, wrong, tuple(sorted(clusters)), lines.crash, denied)


def _denies(exchange: Exchange) -> bool:
    """Whether it is the plugin that denies access: by a status, or by that of a gRPC call."""
    response = exchange.response
    denied = response.status in _DENIED or response.headers.get("grpc-status") in _GRPC_DENIED
    return denied and exchange.details != _VIA_UPSTREAM


class Play(Protocol):
    """Sends a request: the exchange, if there was an answer, and what was wrong with it."""

    def __call__(self, request: Request) -> tuple[Exchange | None, str]:
        """Send it. Raises `HostError` if the host itself fails."""
        ...


def called(lines: Iterable[str]) -> tuple[str, ...]:
    """The callbacks that a log at level `trace` tells of, each once."""
    calls = (match[1] for line in lines if (match := _CALLBACK.match(line)))
    return tuple(dict.fromkeys(calls))


def prepare(origin: Origin, scene: Scene) -> None:
    """Have the upstream answer as in the scene."""
    origin.forget_answers()
    origin.end_troubles()
    for each in scene.answers:
        origin.answer(each.response, path=each.path, after=each.after, cut=each.cut)
