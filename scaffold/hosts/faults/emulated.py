"""Faults on the emulator: every trial in a host of its own, in which no wait lasts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from scaffold.core.versions import Version
from scaffold.errors import ModuleError
from scaffold.hosts.client import Conversation
from scaffold.hosts.emulator.host import EmulatorHost, emulated
from scaffold.hosts.emulator.shared import Data
from scaffold.hosts.emulator.status import CAS_MISMATCH
from scaffold.hosts.exchange import Incomplete, Unanswered
from scaffold.hosts.faults.fault import MISMATCHES, Fault
from scaffold.hosts.faults.scenes import Scene, Sent
from scaffold.hosts.faults.stage import (
    NO_ANSWER,
    PAUSE,
    REFUSED,
    TIMEOUT,
    Healthy,
    Outcome,
    Trial,
    called,
    of_conversation,
    of_exchange,
    prepare,
    seen,
)
from scaffold.hosts.options import HostSettings, RunOptions
from scaffold.hosts.plugin import Plugin

# shared data, with the number of the version that it replaces
_WRITES = re.compile(r"\[vm->host\] env\.proxy_set_shared_data\(.*, [1-9]\d*\)")
DEAD = "http://127.0.0.1:1"  # where nothing listens


class Contended(Data):
    """Shared data that others write, too: between the plugin's reads and its writes, so many times."""

    def __init__(self) -> None:
        super().__init__()
        self._lost: dict[tuple[bytes, bytes], int] = {}

    def set(self, vm_id: bytes, key: bytes, value: bytes, number: int) -> int:
        """Set a value, if nobody else did it first."""
        lost = self._lost.get((vm_id, key), 0)
        if number and lost < MISMATCHES:
            self._lost[vm_id, key] = lost + 1
            present = self.get(vm_id, key)
            if present:
                super().set(vm_id, key, present[0], 0)
                return CAS_MISMATCH
        return super().set(vm_id, key, value, number)


class Emulated:
    """The emulator as a stage; `options` are those of the tests."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    @property
    def version(self) -> Version:
        """The Envoy that is emulated."""
        return emulated(self._settings("info"))

    def healthy(self, plugin: Plugin, scene: Scene) -> Healthy:
        """Play a scene while nothing is wrong."""
        with self._host(plugin, scene, "trace") as host:
            first = seen(host, scene.request, partial(_played, host))
            lines = host.log.since(0)
            clusters = {*(each.cluster for each in host.origin.requests()), *first.reached}
            host.clock.advance(PAUSE)
            mark = host.log.size()
            again = seen(host, scene.request, partial(_played, host))  # what it shares is there now
            shares = any(_WRITES.match(line.text) for line in host.log.since(mark))
            mark = host.log.size()
            host.clock.advance(host.period)
            callbacks = called(line.text for line in [*lines, *host.log.since(mark)])
        return Healthy(first, again, callbacks, tuple(sorted(clusters)), shares)

    def trial(self, plugin: Plugin, scene: Scene, fault: Fault) -> Trial:
        """Play a scene under a fault."""
        request = fault.sent(scene.request)
        if request is None:
            raise ValueError(f"{fault.name} isn't for {scene}")
        try:
            with self._host(plugin, scene) as host:
                clusters = host.world.clusters
                if fault.contended:
                    host.world.data = Contended()
                    seen(host, scene.request, partial(_played, host))  # now there is something to read
                mark = host.log.size()
                _bring_about(host, fault)
                during = seen(host, request, partial(_played, host, leaves=fault.leaves), since=mark)
                host.world.clusters = clusters
                prepare(host.origin, scene)
                host.clock.advance(PAUSE)
                if fault.contended:  # it was the second request, and a third one would tell nothing new
                    return Trial(during)
                return Trial(during, seen(host, scene.request, partial(_played, host)))
        except ModuleError:
            return Trial(REFUSED)

    @contextmanager
    def _host(self, plugin: Plugin, scene: Scene, level: str = "info") -> Iterator[EmulatorHost]:
        host = EmulatorHost([plugin], self._settings(level))
        try:
            host.clock.hurries = True
            prepare(host.origin, scene)
            yield host
        finally:
            host.close()

    def _settings(self, level: str) -> HostSettings:
        return RunOptions(port=0, log_level=level, envoy=self._options.envoy).settings


def _bring_about(host: EmulatorHost, fault: Fault) -> None:
    if fault.down:
        host.world.clusters = {**host.world.clusters, fault.cluster: DEAD}
    elif fault.cluster:
        host.origin.trouble(fault.cluster, after=fault.after, cut=fault.cut)
    if fault.ticks or fault.traps == "proxy_on_tick":
        host.clock.advance(host.period * max(1, fault.ticks))


def _played(host: EmulatorHost, sent: Sent, *, leaves: bool = False) -> Outcome:
    """Send what a client sends. Raises `HostError` where the host itself fails."""
    if isinstance(sent, Conversation):
        with host.connect(timeout=TIMEOUT) as connection:
            return of_conversation(connection, sent, leaves=leaves)
    try:
        outcome = of_exchange(host.play(sent, timeout=TIMEOUT, gone=lambda: leaves))
    except Incomplete as error:
        outcome = of_exchange(error.exchange, "cut")
    except Unanswered:
        outcome = Outcome(wrong=NO_ANSWER)
    return Outcome(wrong="left") if leaves else outcome
