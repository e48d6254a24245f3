"""A network plugin's context for one connection: a filter of `tcp.Session`.

Source: envoyproxy/envoy, source/extensions/common/wasm/context.cc; proxy-wasm-cpp-host, src/context.cc.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.context import Context
from scaffold.hosts.emulator.stream import Body
from scaffold.hosts.emulator.vm import Trap

if TYPE_CHECKING:
    from scaffold.hosts.emulator.plugin_vm import PluginVm
    from scaffold.hosts.emulator.tcp import Session

_UNKNOWN = 0  # who closed the upstream's connection: Envoy doesn't say


class NetworkContext(Context):
    """A plugin's context for one connection: a filter."""

    exchange: Session

    def __init__(self, of: PluginVm, number: int, session: Session) -> None:
        super().__init__(of, number)
        self.exchange = session
        self._buffers: dict[int, Body] = {}
        self._knows = False  # of the connection, which ends before that if a filter before this closes it
        self._over = False

    # as a filter

    def begin(self) -> bool:
        """The connection is new."""
        self._knows = True
        self._tell("proxy_on_context_create", self.of.root.id)
        return self._asked("proxy_on_new_connection")

    def from_client(self, data: Body, end: bool) -> bool:
        """What the client has sent, together with what is still held back."""
        return self._data(s.DOWNSTREAM_DATA, "proxy_on_downstream_data", data, end)

    def from_upstream(self, data: Body, end: bool) -> bool:
        """The same of the upstream, whose end is told as if it had closed its connection."""
        goes_on = self._data(s.UPSTREAM_DATA, "proxy_on_upstream_data", data, end)
        if end:
            self._tell("proxy_on_upstream_connection_close", _UNKNOWN)
        return goes_on

    def closed(self, by: int) -> None:
        """The connection is closed: the module may log it, whatever it answers."""
        if not self._knows:
            return
        self._tell("proxy_on_downstream_connection_close", by)
        if not self._over:
            self._over = True
            for name in ("proxy_on_done", "proxy_on_log", "proxy_on_delete"):
                self._tell(name)

    def destroy(self) -> None:
        """The connection is gone."""
        self.vm.contexts.pop(self.id, None)

    def _data(self, kind: int, name: str, data: Body, end: bool) -> bool:
        self._buffers[kind] = data
        goes_on = self._asked(name, len(data), int(end))
        if goes_on:
            self._buffers.pop(kind, None)
        return goes_on

    def _asked(self, name: str, *arguments: int) -> bool:
        """Whether the module lets it go on; a VM that has failed closes the connection."""
        if self.vm.failed:
            return self._fail()
        try:
            goes_on = self.enter(name, self.id, *arguments) == 0
        except Trap:
            goes_on = self._fail()
        self.leave()
        return goes_on

    def _fail(self) -> bool:
        if self.of.plugin.more.get("fail_open"):
            return True
        self.exchange.down.close(flush=True)
        return False

    def _tell(self, name: str, *arguments: int) -> None:
        with suppress(Trap):
            self.enter(name, self.id, *arguments)
        self.leave()

    # what a module may ask for, and do

    def body(self, kind: int) -> Body | None:
        """Data that the module may change, while they are held back or a callback is about them."""
        return self._buffers.get(kind)

    def resume(self, kind: int) -> int:
        """Let the client's data go on, once the callback has returned."""
        if kind == s.DOWNSTREAM:
            self.vm.after.append(lambda: self.exchange.resume(self))
        return s.OK

    def close(self, kind: int) -> int:
        """Close the connection once the callback has returned, and what is to be sent has been sent."""
        if kind in (s.DOWNSTREAM, s.UPSTREAM):
            self.vm.after.append(lambda: self.exchange.down.close(flush=True))
        return s.OK
