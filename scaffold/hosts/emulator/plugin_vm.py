"""A plugin in one VM: how it starts, its root context, its timer, and what it is told of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from scaffold.errors import HostError
from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.context import Context, HttpContext, Root, readable_configuration
from scaffold.hosts.emulator.grpc import Grpc
from scaffold.hosts.emulator.header_map import RESPONSE, RESPONSE_TRAILERS, HeaderMap
from scaffold.hosts.emulator.network_context import NetworkContext
from scaffold.hosts.emulator.vm import Trap, Vm
from scaffold.hosts.emulator.wire import Pair

if TYPE_CHECKING:
    from scaffold.hosts.emulator.clock import Timer
    from scaffold.hosts.emulator.tcp import Session
    from scaffold.hosts.emulator.world import World
    from scaffold.hosts.plugin import Plugin


class Refused(Exception):
    """A plugin doesn't start: says why, like Envoy."""


class PluginVm:
    """A plugin's VM. `live` says whether it goes on after it has started: not to try a configuration."""

    def __init__(self, plugin: Plugin, world: World, *, live: bool = True) -> None:
        self.plugin, self.world, self.live = plugin, world, live
        try:
            self.vm = Vm(plugin, world)
        except Trap as trap:
            raise Refused(str(trap)) from trap
        self.last_status = (0, b"")  # of the last call to another service
        self._ids = 0
        self.period = 0  # milliseconds between its ticks; 0 without any
        self._timer: Timer | None = None
        self._calls = 0
        self.replaceable = True  # once it has failed, a new one may take its place
        self.successor: PluginVm | None = None  # that has taken its place on its thread
        self.pending: dict[int, Callable[[], None]] = {}  # calls to other services -> how to cancel each
        self.grpc = Grpc(self)
        self.begun = world.clock.now()
        self._initialize()
        Context(self, 0)  # the VM's own
        self.root = Root(self, self._next_id())

    def calls(self, name: str) -> bool:
        """Whether the module has that callback."""
        return self.vm.has(name)

    def _initialize(self) -> None:
        with self.vm.starting():
            try:
                if self.vm.has("_initialize"):
                    self.vm.call("_initialize")
                    if self.vm.has("main"):
                        self.vm.call("main", 0, 0)
                    elif (
                        self.vm.has("__main_void") and "__main_void" in self.world.offered(self.vm.abi).setup
                    ):
                        self.vm.call("__main_void")
                elif self.vm.has("_start"):
                    self.vm.call("_start")
            except Trap as trap:
                raise Refused(f"Failed to initialize Wasm code: {trap}") from trap

    def start(self) -> None:
        """Start the VM and configure the plugin. Raises `Refused`; then it is stopped."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        root, plugin = self.root, self.plugin
        with suppress(Trap):  # Envoy goes on, with a VM that has failed
            root.call("proxy_on_context_create", root.id, 0)
        if not self._agrees("proxy_on_vm_start", len(plugin.vm_configuration)):
            raise Refused("Wasm VM failed Failed to start base Wasm")
        if self.vm.failed:
            self.replaceable = False
            return
        with readable_configuration(root):
            if not self._agrees("proxy_on_configure", len(plugin.configuration)):
                raise Refused("Wasm VM failed Failed to configure base Wasm plugin")

    def _agrees(self, name: str, size: int) -> bool:
        """Whether the module agrees to start, as one does without that callback; even one that has failed."""
        if not self.calls(name):
            return True
        before, self.vm.failed = self.vm.failed, ""
        try:
            return self.root.call(name, self.root.id, size) != 0
        except Trap:
            return False
        finally:
            self.vm.failed = self.vm.failed or before

    def shut_down(self) -> None:
        """Tell the module that it is over, unless it has failed, and end it."""
        if not self.vm.failed:
            with suppress(Trap, HostError):
                if not self.calls("proxy_on_done") or self.root.call("proxy_on_done", self.root.id):
                    self.root.call("proxy_on_delete", self.root.id)
        self.stop()

    def stop(self) -> None:
        """End it: nothing is delivered to it any more."""
        self.live = False
        self.tick(0)
        for cancel in list(self.pending.values()):
            cancel()
        self.pending.clear()
        self.grpc.stop()
        self.vm.close()

    def stream_context(self) -> HttpContext:
        """A context for a new stream."""
        return HttpContext(self, self._next_id())

    def network_context(self, session: Session) -> NetworkContext:
        """A context for a new connection."""
        return NetworkContext(self, self._next_id(), session)

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    # what happens beside streams

    def tick(self, period: int) -> None:
        """Call `proxy_on_tick` every so many milliseconds; with 0, no more."""
        if self._timer:
            self._timer.cancel()
        self.period = period
        self._timer = self._next_tick() if period and self.live else None

    def _on_tick(self) -> None:
        self.tell("proxy_on_tick")
        if self.period:
            self._timer = self._next_tick()

    def _next_tick(self) -> Timer:
        return self.world.clock.after(self.period / 1000, self._on_tick, apart=True)

    def queue_ready(self, token: int) -> None:
        """Tell the module of a message, later: then in the VM that this thread has for the plugin."""

        def tell() -> None:
            told = self
            while told.successor:
                told = told.successor
            told.tell("proxy_on_queue_ready", token)

        self.world.clock.after(0, tell)

    def next_call(self) -> int:
        """The token of a new call to another service."""
        self._calls += 1
        return 4 * self._calls

    def answered(self, token: int, headers: list[Pair], body: bytes, trailers: list[Pair]) -> None:
        """Tell the module of the answer to a call; without headers it failed."""
        self.pending.pop(token, None)
        tail = HeaderMap(RESPONSE_TRAILERS, trailers) if trailers else None
        self.root.answer = HeaderMap(RESPONSE, headers), body, tail
        if not headers:
            self.last_status = s.BROKEN_CONNECTION, b"reset"
        self.vm.after.append(self._forget_answer)  # before what the callback leaves for later
        self.tell("proxy_on_http_call_response", token, len(headers), len(body), len(trailers))

    def _forget_answer(self) -> None:
        self.root.answer = None
        self.last_status = self.last_status[0], b""

    def tell(self, name: str, *arguments: int) -> None:
        """Call the module about its root context; one that has failed, or is gone, isn't told."""
        if not self.live or self.vm.failed:
            self.vm.after.clear()
            return
        try:
            self.root.call(name, self.root.id, *arguments)
        except Trap:
            self.vm.after.clear()
