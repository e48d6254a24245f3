"""One TCP connection through network filters, as Envoy leads it: connections, filter manager, TCP proxy.

Source: envoyproxy/envoy, source/common/network/{connection_impl,filter_manager_impl}.cc,
source/common/tcp_proxy/tcp_proxy.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from scaffold.hosts.emulator.sockets import End
from scaffold.hosts.emulator.stream import BUFFER_LIMIT, Body
from scaffold.hosts.emulator.tcp_upstream import Upstream
from scaffold.project.envoy_clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.emulator.clock import Timer
    from scaffold.hosts.emulator.network_context import NetworkContext
    from scaffold.hosts.emulator.world import World

LOCAL, REMOTE = 1, 2  # who closed a connection, in the ABI's numbers


class Conn:
    """Envoy's side of one connection, the client's or the upstream's. Either direction ends by itself."""

    def __init__(self, end: End, later: Callable[[Callable[[], None]], None]) -> None:
        self.end = end
        self.read = Body()  # what has come and nobody has taken
        self.written = bytearray()  # what hasn't been sent yet
        self.disabled = 0  # how many don't want it to be read
        self.ended = False  # no more comes
        self.write_ended = False
        self.closing = False  # once everything is sent
        self.is_closed = False
        self.on_data: Callable[[], None] = lambda: None
        self.on_close: list[Callable[[int], None]] = []
        self._later = later
        self._told_end = False
        self._shut = False
        self._full = False  # so much is held back that no more is read
        self._waits = False  # for what it holds, though nothing new has come
        self._due: set[str] = set()  # events that are to come
        end.woken = self._wake

    @property
    def is_open(self) -> bool:
        """Whether it is neither closed nor about to be."""
        return not (self.is_closed or self.closing)

    # reading

    def disable(self, disabled: bool) -> None:
        """Let nothing be read, or again."""
        self.disabled += 1 if disabled else -1
        if not disabled and self.is_open:
            if self._is_wanted and len(self.read):
                self._waits = True
            self._wake()

    @property
    def _is_wanted(self) -> bool:
        return self.disabled == 0 or (self.disabled == 1 and self._full)

    def _wake(self) -> None:
        self._event("read", self._on_readable)

    def _event(self, name: str, action: Callable[[], None]) -> None:
        if name not in self._due and not self.is_closed:
            self._due.add(name)
            self._later(partial(self._happen, name, action))

    def _happen(self, name: str, action: Callable[[], None]) -> None:
        self._due.discard(name)
        if not self.is_closed:
            action()

    def _on_readable(self) -> None:
        waits, self._waits = self._waits, False
        if self.closing:
            return
        if self.disabled:
            if waits and self._is_wanted:
                self._on_read()
            return
        came, broken = self._take()
        if came or (waits and len(self.read)):
            self._on_read()
        if self.is_closed:
            return
        if broken or self._is_through:
            self._close(REMOTE)

    def _take(self) -> tuple[bool, bool]:
        """Read what is there: whether anything came, the end included; and whether it is broken."""
        came = False
        while part := self.end.take():
            self.read.content += part
            came = True
            if len(self.read) >= BUFFER_LIMIT:
                self._wake()
                break
        else:
            if self.end.is_broken:
                return came, True
            if self.end.has_ended and not self.ended:
                self.ended = came = True
        self._watch()
        return came, False

    def _on_read(self) -> None:
        if self.ended:
            if self._told_end:
                return
            self._told_end = True
        self.on_data()
        self._watch()

    def _watch(self) -> None:
        """Stop reading when too much is held back, and go on when little is left."""
        if not self._full and len(self.read) > BUFFER_LIMIT:
            self._full = True
            self.disable(True)
        elif self._full and len(self.read) <= BUFFER_LIMIT // 2:
            self._full = False
            self.disable(False)

    # writing

    def write(self, data: Body, end: bool, through: Callable[[Body, bool], bool] | None = None) -> None:
        """Write what `data` holds, unless `through` stops it; with `end` it is the last."""
        if self.write_ended or (through and not through(data, end)):
            return
        self.write_ended = end
        if len(data) or end:
            self.written += data.take()
            self._event("write", self._on_writable)

    def _on_writable(self) -> None:
        if self.written and not self._flush():
            self._close(REMOTE)
            return
        if self.write_ended and not self._shut:
            self._shut = True
            self.end.finish()
        if self.closing or self._is_through:
            self._close(LOCAL)

    def _flush(self) -> bool:
        sent = self.end.send(bytes(self.written))
        if sent:
            self.written.clear()
        return sent

    # the end

    @property
    def _is_through(self) -> bool:
        return self.ended and self.write_ended and not self.written

    def close(self, *, flush: bool) -> None:
        """Close it; with `flush` once everything is sent."""
        if self.is_closed or (self.closing and flush):
            return
        if self.written and flush:
            self.closing = True
            return
        if self.written:
            self._flush()
        self._close(LOCAL)

    def _close(self, by: int) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.written.clear()
        self.end.close()
        for each in self.on_close:
            each(by)


class Session:
    """A client's connection on its way through `filters` to the upstream."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.filters: Sequence[NetworkContext] = ()
        self.client_end, ours = End.pair()
        self.client_port = _FIRST_PORT + number % _PORTS
        self.peer, self.peer_port = f"127.0.0.1:{self.client_port}".encode(), self.client_port
        self.local, self.local_port = b"127.0.0.1:80", 80
        self.state: dict[bytes, bytes] = {}  # what plugins have set
        self.envoys_state: dict[str, bytes] = {}  # what they have set that Envoy itself looks at
        self.fixed: set[bytes] = set()  # what of it can't be set again
        self.began = world.clock.nanoseconds()
        self.received = 0  # bytes; those that are held back count each time
        self.sent = 0
        self.cluster = ""  # that it goes to, once it goes there
        self.waited: int | None = None  # nanoseconds until the upstream was there
        self.is_over = False
        self._events = 0  # that are to come
        self._timers: list[Timer] = []  # of the upstream
        self.down = Conn(ours, self._later)
        self.up: Conn | None = None
        self._begun = 0  # filters that know of the connection

    @property
    def is_busy(self) -> bool:
        """Whether something happens at once."""
        return self._events > 0

    @property
    def waits(self) -> bool:
        """Whether the upstream does something later."""
        return any(each.action for each in self._timers)

    def timer(self, seconds: float, action: Callable[..., object], *arguments: object) -> Timer:
        """Have the upstream do something after a time."""

        def happen() -> None:
            self._timers.remove(timer)
            action(*arguments)

        timer = self.world.clock.after(seconds, happen)
        self._timers.append(timer)
        return timer

    def _later(self, action: Callable[[], None]) -> None:
        def happen() -> None:
            self._events -= 1
            action()

        self._events += 1
        self.world.clock.after(0, happen)

    # through the filters

    def start(self, filters: Sequence[NetworkContext]) -> None:
        """The client has connected."""
        self.filters = filters
        self.down.on_close = [*(each.closed for each in filters), self._client_gone]
        self.down.on_data = partial(self._lead, 0, came=True)
        self.down.disable(True)  # until there is an upstream
        for at in range(len(filters) + 1):
            if at == self._begun and (not self._begin_next() or not self.down.is_open):
                return

    def _begin_next(self) -> bool:
        """Tell the next filter of the connection, or the TCP proxy after the last; whether it goes on."""
        at, self._begun = self._begun, self._begun + 1
        if at < len(self.filters):
            return self.filters[at].begin()
        self.cluster = UPSTREAM
        self._later(self._connect)
        return False

    def resume(self, one: NetworkContext) -> None:
        """A filter lets go on what it has held back of the client's data, or the new connection."""
        self._lead(next(at for at, each in enumerate(self.filters) if each is one) + 1)

    def _lead(self, start: int, *, came: bool = False) -> None:
        down = self.down
        if not down.is_open:
            return
        if came:
            self.received += len(down.read)
        for at in range(start, len(self.filters) + 1):
            if at >= self._begun and (not self._begin_next() or not down.is_open):
                return
            if len(down.read) or down.ended:
                if at == len(self.filters):
                    self._to_upstream()
                elif not self.filters[at].from_client(down.read, down.ended) or not down.is_open:
                    return

    def _lead_back(self, data: Body, end: bool) -> bool:
        for each in reversed(self.filters):
            if not self.down.is_open or not each.from_upstream(data, end):
                return False
        if not self.down.is_open:
            return False
        self.sent += len(data)
        return True

    # the TCP proxy

    def _connect(self) -> None:
        if self.down.is_closed:
            return
        if not self.world.reaches_upstream(UPSTREAM):  # nothing listens there
            self.down.close(flush=False)
            return
        ours, theirs = End.pair(is_local=True)
        self.up = up = Conn(ours, self._later)
        up.on_data = self._from_upstream
        up.on_close = [self._upstream_gone]
        self.waited = self.world.clock.nanoseconds() - self.began
        Upstream(self.world.recorder, theirs, self._later, self.timer)
        self.down.disable(False)

    def _to_upstream(self) -> None:
        if self.up:
            self.up.write(self.down.read, self.down.ended)

    def _from_upstream(self) -> None:
        if self.up:
            self.down.write(self.up.read, self.up.ended, self._lead_back)

    def _client_gone(self, by: int) -> None:
        up, self.up = self.up, None
        if up:
            up.close(flush=by == REMOTE)
        self._later(self._destroy)

    def _upstream_gone(self, _: int) -> None:
        if self.up:
            self.up = None
            self.down.close(flush=True)

    def _destroy(self) -> None:
        self.is_over = True
        for each in self.filters:
            each.destroy()


_FIRST_PORT, _PORTS = 40001, 20000  # of clients
