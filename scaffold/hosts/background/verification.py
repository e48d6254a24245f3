"""See whether deployed plugins work: a request through them, a look at their timers and their log.

The request goes through a second host, a trial with the same plugins and settings: what is deployed counts
nothing, logs nothing and takes no token from a rate limit for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass

from scaffold.core.events import Noted, Warned, emit
from scaffold.errors import HostError, ModuleError, ScaffoldError, TargetError
from scaffold.hosts import host as hosts
from scaffold.hosts.envoy.running import died
from scaffold.hosts.exchange import BAD_ARGUMENT, Exchange, Headers, LogLines, Request
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import UPSTREAM
from scaffold.project.probe_request import Probe
from scaffold.project.projects import chained

TICK_SECONDS = 0.6  # that a plugin with a timer is watched; Envoy reports a stuck thread after 0.2
PASS_SECONDS = 3.0  # that a network filter may hold back a request's bytes
_ONLY_ROOT = "missing ContextType"  # the SDK's words, where a plugin has no context for a request


@dataclass
class Verification:
    """A request through deployed plugins; to the user's own upstream only if the user says which: a `probe`.

    `trial` starts another host with them. `begun` is where the log was when Envoy started; `error` is what
    went wrong although they are deployed.
    """

    host: hosts.Running
    trial: Callable[[], AbstractContextManager[hosts.Running]]
    plugins: Sequence[Plugin]
    probe: Probe | None
    begun: int = 0
    error: TargetError | None = None

    def check(self) -> None:
        """Send it. Raises `ModuleError` if a plugin loops, and can't stay."""
        with self._judging(self.host):
            self._await_tick(self.host)
        if self._services and not self.error:
            self._check_services()
        elif not self.error and self._is_sent():
            self._try_out()

    def _is_sent(self) -> bool:
        """Whether a request is sent; says why not."""
        if self.host.origin is None and self.probe is None:
            emit(Noted("not verified: this is your own upstream; pass --probe PATH"))
            return False
        if self.probe and not self.probe.sent:
            emit(Noted("not verified: no request was sent"))
            return False
        return True

    def _try_out(self) -> None:
        """Send the request through the trial, and look at its timers afterwards."""
        with ExitStack() as stack:
            try:
                trial = stack.enter_context(self.trial())
            except ModuleError:  # it doesn't load, and can't stay
                raise
            except (ScaffoldError, OSError) as error:
                emit(Warned(f"not verified: the second Envoy, for the request, didn't start: {error}"))
                return
            with self._judging(trial):
                self._send(trial)
                self._await_tick(trial)

    def _await_tick(self, host: hosts.Running) -> None:
        """Give a timer the time for a first call. Raises `HostError` when Envoy gets stuck."""
        if not any(plugin.ticks for plugin in self.plugins):
            return
        is_stuck, deadline = host.is_stuck(), time.monotonic() + TICK_SECONDS
        while time.monotonic() < deadline:
            if is_stuck():
                raise HostError("it got stuck")
            time.sleep(0.05)

    @contextmanager
    def _judging(self, host: hosts.Running) -> Iterator[None]:
        """Note what goes wrong in a host. Raises `ModuleError` if a plugin loops."""
        mark = host.log.size()
        try:
            yield
        except HostError as error:
            if _closed(host, error, mark):
                emit(Noted(f"{chained(self.plugins)} closed the request's connection itself"))
                return
            if loop := host.find_loop(self.plugins):
                raise loop from error
            hint = error.hint or "does it loop, or wait for something?"
            self._fail(
                f"doesn't answer: {error.message}",
                _words(host, mark),
                hint if self._services else f"{hint}; --probe PATH sends another request",
            )

    @property
    def _services(self) -> bool:
        """Whether no request passes any of the plugins."""
        return all(plugin.is_service for plugin in self.plugins)

    def _check_services(self) -> None:
        """See whether services have crashed."""
        lines = LogLines.of(self.host.log.since(self.begun))
        if lines.trapped:
            hint = "fix it and deploy again: Envoy starts a crashed service only when it starts itself"
            self._fail("crashed", lines[-5:], hint)

    def _fail(self, why: str, lines: Iterable[str], hint: str) -> None:
        """Note that they don't work: the reason, and below it what the log has."""
        text = f"{chained(self.plugins)} is deployed, but {why}"
        self.error = TargetError("\n".join([text, *dict.fromkeys(filter(None, lines))]), hint=hint)

    def _send(self, host: hosts.Running) -> None:
        probe = self.probe or Probe()
        if self.probe is None and all(plugin.type != "http" for plugin in self.plugins):
            _pass(host)
            return
        headers = Headers(probe.headers)
        exchange = host.play(Request(probe.method, probe.path, headers, probe.body.encode()))
        if surplus := exchange.response.surplus:
            size = len(exchange.response.body)
            longer = f"{chained(self.plugins)} made the answer's body {surplus} bytes longer"
            why = f"its content-length is still {size}, and clients see it cut off"
            emit(Warned(f"{longer}, but {why}: remove that header before the body changes"))
        if probe.statuses:
            self._expect(probe, exchange)
            return
        if exchange.status < 500 or (host.origin and exchange.upstream is not None):
            return
        if not exchange.details and not exchange.trapped:  # Envoy has a word for each answer of its own
            emit(Noted(f"{chained(self.plugins)} answered the request itself, with {exchange.status}"))
            return
        words = [*exchange.logs, exchange.response.text.strip(), exchange.details]
        self._fail(f"a request got {exchange.status}", words, self._hint(exchange))

    def _expect(self, probe: Probe, exchange: Exchange) -> None:
        if not probe.accepts(exchange.status):
            expected = " or ".join(map(str, probe.statuses))
            why = f"answered the probe with {exchange.status} instead of {expected}"
            self._fail(why, exchange.logs, "the probe is in [package.metadata.proxy-wasm] of Cargo.toml")

    def _hint(self, exchange: Exchange) -> str:
        """What to do about a request that failed."""
        if BAD_ARGUMENT in exchange.logs and self.host.origin:
            known = ", ".join(dict.fromkeys([UPSTREAM, *(n for each in self.plugins for n in each.clusters)]))
            return (
                f"did it call a cluster? a call to one that isn't defined fails with {BAD_ARGUMENT};"
                f" defined: {known};"
                ' add yours to Cargo.toml, such as `clusters = { NAME = "http://host:port" }`'
            )
        if _ONLY_ROOT in exchange.logs:
            return 'if no request shall pass it, set `type = "service"` in Cargo.toml'
        return "fix it and deploy again; --probe PATH sends another request"


def _words(host: hosts.Running, mark: int) -> list[str]:
    return [line.text for line in host.log.since(mark) if line.is_shown][-5:]


def _closed(host: hosts.Running, error: HostError, mark: int) -> bool:
    """Whether the plugin ended the connection, and not Envoy's end."""
    trapped = LogLines(_words(host, mark)).trapped
    return isinstance(error.__cause__, ConnectionError) and host.alive and not trapped


def _pass(host: hosts.Running) -> None:
    """Send a request's bytes through network filters, which may hold or refuse them, but not crash."""
    received = b""
    mark = host.log.size()
    with host.connect(timeout=PASS_SECONDS) as connection, suppress(HostError):
        connection.send("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        connection.finish()
        received = connection.receive()
    if connection.trapped:
        raise HostError("it crashed when a connection came")
    if host.process and (code := host.process.poll()) is not None:
        raise died(code, host.log.since(mark))
    if not received:
        emit(Noted("the plugin let no HTTP request through; --probe PATH asks for an answer"))
