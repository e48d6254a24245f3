"""What all VMs of an emulator share: the clock, the log, data and queues, metrics, and other services."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from scaffold.core.versions import Version
from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.clock import VirtualClock
from scaffold.hosts.emulator.exchange import PROTOCOL_ERROR, answer_of, received_by
from scaffold.hosts.emulator.header_map import REQUEST, REQUEST_TRAILERS, HeaderMap
from scaffold.hosts.emulator.shared import Data, Metrics, Queues
from scaffold.hosts.emulator.transcript import Transcript
from scaffold.hosts.emulator.vm import Hostcall, Limits
from scaffold.hosts.emulator.wire import Pair
from scaffold.hosts.envoy import resources
from scaffold.hosts.unsupported import Unsupported
from scaffold.hosts.upstream.handler import Recorder
from scaffold.hosts.upstream.http1 import Received, Reply
from scaffold.project.envoy_clusters import GRPC, UPSTREAM, Address, parse_upstream
from scaffold.project.vm_environment import parse_variables
from scaffold.wasm.check import Host, offered

if TYPE_CHECKING:
    from scaffold.hosts.emulator.plugin_vm import PluginVm
    from scaffold.hosts.plugin import Plugin

_TEXT = b"content-type: text/plain\r\n"
_TIMEOUT = b"upstream request timeout"
_REFUSED = (
    b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
)
_NEEDED = (b":path", b":method", b":authority")


@dataclass
class World:
    """The surroundings of the plugins. `clusters` are the addresses of those that they may call, by name.

    `hostcalls` are those that do something else than Envoy's, by name.
    """

    version: Version
    log_level: int = 2
    clusters: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    transcript: Transcript = field(default_factory=Transcript)
    clock: VirtualClock = field(default_factory=VirtualClock)
    data: Data = field(default_factory=Data)
    queues: Queues = field(default_factory=Queues)
    metrics: Metrics = field(default_factory=Metrics)
    recorder: Recorder = field(default_factory=Recorder)
    hostcalls: Mapping[str, Hostcall] = field(default_factory=dict)

    def offered(self, abi: str) -> Host:
        """What the Envoy that is emulated has for plugins of an ABI."""
        return _offered(self.version, abi)

    def environment(self, plugin: Plugin) -> dict[str, str]:
        """The environment variables of a plugin's VM."""
        found = {}
        for each in parse_variables(plugin.env):
            value = os.environ.get(each.name) if each.value is None else each.value
            if value is not None:
                found[each.name] = value
        return found

    def vm_id(self, plugin: Plugin) -> bytes:
        """The id of a plugin's VM; one with an environment has another than without."""
        variables = resources.environment(parse_variables(plugin.env), self.version)
        made: str = resources.wasm_vm({}, vm_id=plugin.vm_id, environment=variables)["vm_id"]
        return made.encode()

    def has_cluster(self, name: str) -> bool:
        """Whether there is a cluster of that name."""
        return name == UPSTREAM or name in self.clusters

    def bridged(self, cluster: str) -> bool:
        """Whether a cluster is called by gRPC, and leads to the built-in upstream."""
        return self.clusters.get(cluster) == f"{GRPC}{UPSTREAM}"

    def reaches_upstream(self, cluster: str) -> bool:
        """Whether a cluster leads to the built-in upstream, or else nowhere; as `origin_of`."""
        return self._place(cluster) == UPSTREAM or self.bridged(cluster)

    def origin_of(self, cluster: str, *, grpc: bool = False) -> Callable[[Received, str], Reply]:
        """What answers in a cluster, to gRPC or to HTTP. Raises `Unsupported` for another program."""
        place = self._place(cluster)
        if self.bridged(cluster) and not grpc:
            raise Unsupported(f"requests by HTTP to the cluster {cluster}, which is for gRPC")
        if self.reaches_upstream(cluster):
            return lambda received, cluster: self.recorder.receive(received, cluster=cluster)
        if _listens(parse_upstream(place)):
            raise Unsupported(f"the cluster {cluster}, which leads to {place}")
        return lambda _received, _cluster: Reply(503, _TEXT, _REFUSED)

    def call(
        self,
        caller: PluginVm,
        cluster: str,
        headers: list[Pair],
        body: bytes,
        trailers: list[Pair],
        timeout: float,
    ) -> tuple[int, int]:
        """Call another service for a plugin: the status of the call, and its token."""
        if timeout < 0:
            return s.BAD_ARGUMENT, 0
        if not self.has_cluster(cluster):
            return s.BAD_ARGUMENT, 0
        message = HeaderMap(REQUEST)
        for name, value in headers:
            message.add(name, value)
        if any(message.get(name) is None for name in _NEEDED):
            return s.BAD_ARGUMENT, 0
        if body:
            message.replace(b"content-length", str(len(body)).encode())
        token = caller.next_call()
        tail = HeaderMap(REQUEST_TRAILERS, trailers) if trailers else None
        message.add(b"x-envoy-internal", b"true")
        if timeout:
            message.add(b"x-envoy-expected-rq-timeout-ms", str(round(timeout * 1000)).encode())
        answer = self._asked(
            cluster, received_by(message, body, tail, ended_by_headers=not body and not tail)
        )
        if answer is None:  # it waits for the rest of what content-length announces
            answer = Reply(504, after=math.inf)
        own = self._instead(cluster, answer, timeout)
        answer = own or answer

        def deliver() -> None:
            if answer.cut:
                caller.answered(token, [], b"", [])
                return
            found, parts, tail = answer_of(answer, message.get(b":method") or b"")
            if not own:
                found.add(b"x-envoy-upstream-service-time", b"0")
            caller.answered(token, list(found), b"".join(parts), tail)

        if answer.after < math.inf:
            caller.pending[token] = self.clock.after(answer.after, deliver).cancel
        return s.OK, token

    def _instead(self, cluster: str, answer: Reply, timeout: float) -> Reply | None:
        """What Envoy answers itself, if the service is too late or ends within its headers."""
        if timeout and answer.after > timeout:
            return Reply(504, _TEXT, _TIMEOUT, after=timeout)
        if self._place(cluster) != UPSTREAM:  # nothing listens there: the answer is Envoy's
            return answer
        broken = answer.cut and not answer.body
        return Reply(502, _TEXT, PROTOCOL_ERROR, after=answer.after) if broken else None

    def _place(self, cluster: str) -> str:
        return self.clusters.get(cluster, UPSTREAM)

    def _asked(self, cluster: str, received: Received | None) -> Reply | None:
        return None if received is None else self.origin_of(cluster)(received, cluster)


def _listens(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=1).close()
    except OSError:
        return False
    return True


@lru_cache
def _offered(version: Version, abi: str) -> Host:
    return offered(Version(version[:2]), abi)
