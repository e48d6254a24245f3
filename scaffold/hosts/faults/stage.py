"""Where faults are played: a host with the plugin, the request of a scene, and what its client sees."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from scaffold.core.versions import Version
from scaffold.errors import HostError
from scaffold.hosts.client import Connection, Conversation
from scaffold.hosts.exchange import (
    REQUEST_ID,
    Exchange,
    Headers,
    LogLines,
    Request,
    of_request,
)
from scaffold.hosts.faults.fault import Fault
from scaffold.hosts.faults.scenes import Scene, Sent
from scaffold.hosts.host import Played
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.upstream.control import Origin
from scaffold.project.envoy_clusters import UPSTREAM

TIMEOUT = 10.0  # seconds for an answer
PAUSE = 0.25  # seconds until the next request: Envoy reloads a plugin that has crashed after 0.15 at most
_CALLBACK = re.compile(r"\[host->vm\] (proxy_on_(?!memory_allocate)\w+)\(")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
NO_ANSWER = "no answer"
_DENIED = (401, 403, 407)
_VIA_UPSTREAM = "via_upstream"  # Envoy's word for an answer that isn't its own, or a plugin's
_GRPC_DENIED = ("7", "16")  # PERMISSION_DENIED, UNAUTHENTICATED


@dataclass(frozen=True)
class Seen:
    """What a client saw: a status, if any, and what was wrong with the answer, if anything.

    `wrong` is "cut", "no answer", "left" (the client), or "refused": the host didn't take the plugin. Of a
    TCP connection it is "closed", "answered" for bytes that are no HTTP, or both; or "open", without any.
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


@dataclass(frozen=True)
class Outcome:
    """What a client got, whether the plugin denies it access, and whether its connection `passes`."""

    status: int | None = None
    wrong: str = ""
    denied: bool = False
    passes: bool = False


def of_exchange(exchange: Exchange, wrong: str = "") -> Outcome:
    """What a client got with an answer."""
    return Outcome(exchange.status, wrong, _denies(exchange))


def of_conversation(connection: Connection, sent: Conversation, *, leaves: bool = False) -> Outcome:
    """Send all of a conversation, and read what comes of it."""
    with suppress(HostError):  # it has ended, which shows when we read
        for piece in sent.pieces:
            connection.send(piece)
        if sent.finishes and not leaves:
            connection.finish()
    if leaves:
        return Outcome(wrong="left")
    received, ended = connection.rest()
    status = _STATUS.match(received)
    words = ["answered"] * bool(received and not status) + ["closed"] * ended
    denied = ended and not received
    return Outcome(
        int(status[1]) if status else None,
        ", ".join(words) if received or ended else "open",
        denied,
        passes=not denied,  # what still is open will be answered when there is more
    )


def seen(host: Played, request: Sent, play: Play, *, since: int | None = None) -> Seen:
    """Send a request, and gather what its client sees. Raises what the host itself fails by.

    A crash counts from the position `since` of the host's log on, or else from now.
    """
    sent, request_id = request, ""
    if isinstance(request, Request):
        sent = replace(request, headers=Headers([*request.headers.iteritems()]))
        request_id = sent.headers.setdefault(REQUEST_ID, uuid.uuid4().hex)
    origin, log = host.origin, host.log.size() if since is None else since
    mark = origin.mark() if origin else 0
    outcome = play(sent)
    lines = LogLines.of(host.log.since(log))
    arrived = origin.requests(since=mark) if origin else []
    clusters = {each.cluster for each in arrived if each.headers.get(REQUEST_ID, "") == request_id}
    if request_id and (found := of_request(arrived, request_id)):
        clusters.add(found.cluster)
    if outcome.passes:
        clusters.add(UPSTREAM)
    denied = outcome.denied and not (isinstance(request, Conversation) and clusters)
    return Seen(outcome.status, outcome.wrong, tuple(sorted(clusters)), lines.crash, denied)


def _denies(exchange: Exchange) -> bool:
    """Whether it is the plugin that denies access: by a status, or by that of a gRPC call."""
    response = exchange.response
    denied = response.status in _DENIED or response.headers.get("grpc-status") in _GRPC_DENIED
    return denied and exchange.details != _VIA_UPSTREAM


class Play(Protocol):
    """Sends what a client sends."""

    def __call__(self, request: Sent) -> Outcome:
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
