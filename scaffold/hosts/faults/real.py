"""Faults on a real Envoy, which stays the same for all trials: it gets another plugin for each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import files
from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError
from scaffold.hosts.client import Conversation
from scaffold.hosts.exchange import Incomplete, Request
from scaffold.hosts.faults.fault import Fault
from scaffold.hosts.faults.scenes import Scene, Sent
from scaffold.hosts.faults.stage import (
    NO_ANSWER,
    PAUSE,
    REFUSED,
    TIMEOUT,
    Outcome,
    Trial,
    of_conversation,
    of_exchange,
    prepare,
    seen,
)
from scaffold.hosts.host import find
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.upstream.control import Origin
from scaffold.project.envoy_clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.host import Running

_TICK = "proxy_on_tick"
_PATIENCE = 3.0  # seconds for an answer, where a service takes no longer
_QUIET = 0.5  # seconds of silence after which nothing more comes of a connection
_WAITS = 0.5  # seconds that the upstream takes while the client leaves
_SENT = 0.1  # seconds until a request has surely arrived


def can(fault: Fault) -> bool:
    """Whether a real host can bring it about: its time can't be hurried, nor another writer be told when."""
    return not fault.ticks and not fault.contended and fault.traps != _TICK


class Real:
    """Envoy as a stage, while its block runs; `options` are those of the tests."""

    def __init__(self, options: RunOptions) -> None:
        self._start, self._options = find("envoy"), options
        self._stack = ExitStack()
        self._host: Running | None = None
        self._version: Version | None = None

    def __enter__(self) -> Real:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def version(self) -> Version:
        """The host's version."""
        if self._version is None:
            raise RuntimeError("no plugin has been played yet")
        return self._version

    def seen(self, plugin: Plugin, scene: Scene) -> Trial:
        """What the client sees of a scene while nothing is wrong, and of the same again."""
        host = self._with(replace(plugin, configuration=scene.configuration))
        prepare(_origin(host), scene)
        first = seen(host, scene.request, partial(_played, host))
        return Trial(first, seen(host, scene.request, partial(_played, host)))

    def trial(self, plugin: Plugin, scene: Scene, fault: Fault) -> Trial:
        """Play a scene under a fault."""
        request = fault.sent(scene.request)
        if request is None:
            raise ValueError(f"{fault.name} isn't for {scene}")
        try:
            if fault.down:
                with self._without(fault.cluster, plugin) as alone:
                    return Trial(seen(alone, request, partial(_played, alone)))
            host = self._with(plugin)
        except ModuleError:
            return Trial(REFUSED)
        prepare(_origin(host), scene)
        if fault.leaves:
            _origin(host).trouble(UPSTREAM, after=_WAITS)
        elif fault.cluster:
            _origin(host).trouble(fault.cluster, after=fault.after, cut=fault.cut)
        play = partial(_left, host) if fault.leaves else partial(_played, host, late=fault.after)
        during = seen(host, request, play)
        prepare(_origin(host), scene)
        host.clock.advance(PAUSE)
        return Trial(during, seen(host, scene.request, partial(_played, host)))

    def _with(self, plugin: Plugin) -> Running:
        """The host with this plugin, without state of earlier ones."""
        if self._host and self._host.alive:
            self._host.replace(plugin, fresh=True)
            return self._host
        self._stack.close()
        self._host = self._stack.enter_context(self._started(plugin, None))
        self._version = Version(self._host.version)
        return self._host

    @contextmanager
    def _without(self, cluster: str, plugin: Plugin) -> Iterator[Running]:
        """Another host, in which nothing listens any more where a cluster leads."""
        with ExitStack() as stack:
            with socket.create_server(("127.0.0.1", 0)) as service:
                place = f"http://127.0.0.1:{service.getsockname()[1]}"
                if cluster == UPSTREAM:
                    started = self._started(plugin, place)
                else:
                    clusters = {**plugin.clusters, cluster: place}
                    started = self._started(replace(plugin, clusters=clusters), None)
                host = stack.enter_context(started)
            yield host

    @contextmanager
    def _started(self, plugin: Plugin, upstream: str | None) -> Iterator[Running]:
        options = RunOptions(port=0, log_level="trace", envoy=self._options.envoy, upstream=upstream)
        settings = replace(options.settings, changes=False)
        with files.scratch() as folder, self._start(plugin, folder=Path(folder), settings=settings) as host:
            yield host


def _origin(host: Running) -> Origin:
    if host.origin is None:
        raise RuntimeError("the host has no built-in upstream")
    return host.origin


def _played(host: Running, sent: Sent, *, late: float = 0) -> Outcome:
    """Send what a client sends. Raises `HostError` if the host has ended."""
    if isinstance(sent, Conversation):
        with host.connect(timeout=late + _QUIET) as connection:
            return of_conversation(connection, sent)
    try:
        return of_exchange(host.play(sent, timeout=late + _PATIENCE))
    except HostError as error:
        if not host.alive:
            raise
        return (
            of_exchange(error.exchange, "cut") if isinstance(error, Incomplete) else Outcome(wrong=NO_ANSWER)
        )


def _left(host: Running, sent: Sent) -> Outcome:
    """Send what a client sends, and leave without an answer. Raises `HostError` if the host has ended."""
    conversation = sent if isinstance(sent, Conversation) else Conversation((_as_bytes(sent),))
    with host.connect(timeout=TIMEOUT) as connection:
        outcome = of_conversation(connection, conversation, leaves=True)
        host.clock.advance(_SENT)
    if not host.alive:
        raise HostError("it ended when the client left")
    return outcome


def _as_bytes(request: Request) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.iteritems())
    if "host" not in request.headers:
        fields = f"host: localhost\r\n{fields}"
    if request.body and not {"content-length", "transfer-encoding"} & request.headers.keys():
        fields += f"content-length: {len(request.body)}\r\n"
    head = f"{request.method} {request.target} HTTP/1.1\r\n{fields}\r\n"
    return head.encode("latin-1") + request.body
