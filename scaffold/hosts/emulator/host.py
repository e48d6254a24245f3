"""The host `emulator`: plugins in this process, without Envoy."""

from __future__ import annotations

import dataclasses
import json
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError, UsageError
from scaffold.hosts import client
from scaffold.hosts.client import Connection
from scaffold.hosts.emulator import engine, load
from scaffold.hosts.emulator.client_socket import ClientSocket
from scaffold.hosts.emulator.clock import VirtualClock
from scaffold.hosts.emulator.exchange import Exchange as Passing
from scaffold.hosts.emulator.exchange import check as check_request
from scaffold.hosts.emulator.plugin_vm import PluginVm, Refused
from scaffold.hosts.emulator.probe import PROBE
from scaffold.hosts.emulator.relay import PATIENCE, relaying
from scaffold.hosts.emulator.shared import Data, Queues
from scaffold.hosts.emulator.tcp import Session
from scaffold.hosts.emulator.transcript import Transcript
from scaffold.hosts.emulator.vm import Bill, Limits
from scaffold.hosts.emulator.world import World
from scaffold.hosts.envoy import histograms
from scaffold.hosts.envoy.resources import failure_policy
from scaffold.hosts.exchange import (
    NO_ANSWER,
    REQUEST_ID,
    REQUEST_PAUSED,
    Exchange,
    Headers,
    Incomplete,
    LogLines,
    Request,
    Response,
    Unanswered,
    of_request,
)
from scaffold.hosts.options import LEVELS, HostSettings, url_at
from scaffold.hosts.plugin import SERVICE, Plugin
from scaffold.hosts.recording import ENVOYS_OWN
from scaffold.hosts.unsupported import Unsupported
from scaffold.hosts.upstream import httpbin
from scaffold.hosts.upstream.control import Origin
from scaffold.hosts.upstream.http1 import Received, Reply
from scaffold.hosts.upstream.server import answering
from scaffold.wasm.check import facts

_END_SECONDS = 5.0  # that the end of a connection may take, as on Envoy
_BACKOFF = 0.1  # seconds until a plugin that has failed gets a new VM


Values = dict[tuple[str, int], tuple[int, int]]  # of metrics by name and kind


class InProcess(Origin):
    """The built-in upstream, in this process."""

    def __init__(self, world: World) -> None:
        super().__init__(Path())
        self._world = world

    def _ask(self, method: str, target: str, body: bytes = b"") -> Any:
        reply = self._world.recorder.control(Received(method.encode(), target.encode("latin-1"), [], body))
        answer = json.loads(reply.body)
        if reply.status != 200:
            raise UsageError(answer["error"])
        return answer


class Metrics(dict[str, float]):
    """The metrics of plugins; those of Envoy itself can't be asked for."""

    def __missing__(self, name: str) -> float:
        self._check(name)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        self._check(name)
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Like a dict's."""
        self._check(name)
        return super().get(name, default)

    def _check(self, name: object) -> None:
        if isinstance(name, str) and name.startswith(ENVOYS_OWN):
            raise Unsupported(f"Envoy's own metric {name}")


@dataclasses.dataclass
class Sides:
    """What the emulator can say of an exchange."""

    host: EmulatorHost
    request_id: str
    arrived: int
    before: Values

    knows_upstream = True

    @property
    def requests(self) -> list[Request]:
        """Everything that the upstream received meanwhile."""
        return self.host.origin.requests(since=self.arrived)

    @property
    def upstream(self) -> Request | None:
        """The request as the upstream received it."""
        return of_request(self.requests, self.request_id)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics that changed meanwhile."""
        return self.host.changes(self.before)


@dataclasses.dataclass
class Opened:
    """A client's connection: where the log began, the plugins it goes through, and what it costs."""

    session: Session
    socket: ClientSocket
    sides: Sides
    mark: int
    plugins: list[PluginVm]
    bill: Bill


class EmulatorHost:
    """A host in this process. `world` is what its VMs share; a plugin runs in two, as on one worker."""

    alive = True

    def __init__(self, plugins: Sequence[Plugin], settings: HostSettings, limits: Limits = Limits()) -> None:
        self.version = emulated(settings)
        self.log = Transcript(on=settings.log_level == "trace")
        self.world = World(
            self.version,
            LEVELS.index(settings.log_level),
            settings.serving(*plugins).clusters,
            limits,
            self.log,
        )
        self.world.clock.hurries = PROBE.hurries
        self.origin = InProcess(self.world)
        self._lock = self.world.clock.lock
        self._port = ExitStack()  # for clients of a test's own
        self._url = ""
        self._numbers = 0
        self._sessions: list[Session] = []  # connections that may be open
        self._retired: list[PluginVm] = []  # that have been replaced
        self._main: list[PluginVm] = []
        self._worker: list[PluginVm] = []
        self._use(self._loaded(plugins))

    @property
    def clock(self) -> VirtualClock:
        """The emulator's time."""
        return self.world.clock

    @property
    def period(self) -> float:
        """Seconds between the ticks of the plugin whose timer is the fastest; 0 without any."""
        return min((each.period / 1000 for each in self._worker if each.period), default=0.0)

    @property
    def url(self) -> str:
        """Where the plugins answer a client of the test's own; the port is opened when it is asked for."""
        if not self._url:
            listener = self._port.enter_context(socket.create_server(("127.0.0.1", 0)))
            if self.is_network:
                serving: AbstractContextManager[None] = relaying(listener, self._open_for_others)
            else:
                serving = answering(listener, self._serve)
            self._port.enter_context(serving)
            self._url = url_at(listener.getsockname()[1], tls=False)
        return self._url

    def _open_for_others(self) -> ClientSocket:
        return self._open(PATIENCE).socket

    def _serve(self, received: Received, gone: Callable[[], bool]) -> Reply:
        """Answer a client: what it sends goes through the plugins."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in received.headers]
        framing = ("transfer-encoding", "connection")
        kept = Headers((name, value) for name, value in headers if name.lower() not in framing)
        request = Request(received.method.decode(), received.target.decode("latin-1"), kept, received.body)
        try:
            response = self.play(request, gone=gone).response
        except Incomplete as incomplete:
            response = incomplete.exchange.response
        except HostError:
            return Reply(503, close=True, cut=True, body=b" ")
        fields = response.headers.iteritems()
        return httpbin.reply(response.status, fields, response.body, response.trailers.iteritems())

    @property
    def metrics(self) -> dict[str, float]:
        """The plugins' metrics."""
        return self.changes({}, every=True)

    def play(
        self, request: Request, *, timeout: float = 10, gone: Callable[[], bool] = lambda: False
    ) -> Exchange:
        """Send a request through the plugins, and gather what they did.

        `gone` tells whether the client has left.
        """
        check_request(request)
        headers = Headers(request.headers)
        request_id = headers.setdefault(REQUEST_ID, uuid.uuid4().hex)
        sent = dataclasses.replace(request, headers=headers)
        if self.is_network:
            return self._play_over_tcp(sent, request_id, timeout)
        with self._lock:
            self.world.clock.catch_up()
            mark = self.log.size()
            sides = Sides(self, request_id, self.world.recorder.count, self._values())
            self._numbers += 1
            plugins = self._living()
            bill = Bill()
            contexts = [each.stream_context() for each in plugins]
            passing = Passing(self.world, sent, contexts, self._numbers)

            def watch() -> None:
                if gone():  # Envoy notices at once
                    passing.stream.reset()

            try:
                with self.world.clock.watching(watch), self.world.clock.paid_by(bill):
                    passing.run()
                    self.world.clock.run(lambda: passing.stream.is_over or gone(), timeout)
                    done = passing.stream.is_over
                    self.world.clock.catch_up()  # what the stream's end has set going
            except BaseException:
                passing.stream.abandon()
                raise
        logs = LogLines.of(self.log.since(mark))
        if not done:
            why, hint = passing.waits_for()
            passing.stream.reset()
            if passing.client.head is None:
                what = f"{request.method} {request.target}"
                raise Unanswered(f"{why}: {what} got no whole answer within {timeout:g} s", hint=hint)
        response = passing.client.response(request.method)
        if response is None:
            what = f"{request.method} {request.target} got no whole answer within {timeout:g} s"
            raise Unanswered(f"the stream was closed, of which Envoy doesn't tell the client: {what}")
        costs = tuple(bill.of(each.vm) for each in self._in_order())
        exchange = Exchange(sent, response, logs, passing.stream.details or "", logs.trapped, sides, costs)
        if not response.complete:
            raise Incomplete(_cut(request, response, logs, in_time=done), exchange)
        return exchange

    def _in_order(self) -> list[PluginVm]:
        """Every plugin in the chain's order, where it does its work: a service on the main thread."""
        filters = iter(self._worker)
        return [each if each.plugin.is_service else next(filters) for each in self._main]

    @property
    def is_network(self) -> bool:
        """Whether the plugins see the bytes of connections."""
        return any(each.plugin.type == "network" for each in self._worker)

    @contextmanager
    def connect(self, *, timeout: float = 10) -> Iterator[Connection]:
        """Open a TCP connection through the plugins; after the block it holds what they did."""
        if not self.is_network:
            raise Unsupported("TCP connections through HTTP plugins")
        opened = self._open(timeout)
        with opened.socket:
            connection = Connection(opened.socket, timeout, apart=0)
            yield connection
        self._await_end(opened)
        connection.sides, connection.logs = opened.sides, self._logs(opened.mark)
        connection.trapped = connection.logs.trapped

    def _open(self, timeout: float, request_id: str = "") -> Opened:
        """Connect a client; raises what a callback raises."""
        with self._lock:
            self.world.clock.catch_up()
            mark = self.log.size()
            sides = Sides(self, request_id, self.world.recorder.count, self._values())
            self._numbers += 1
            plugins = self._living()
            session = Session(self.world, self._numbers)
            self._sessions.append(session)
            socket, bill = ClientSocket(session, timeout), Bill()
            with self.world.clock.paid_by(bill):
                session.start([each.network_context(session) for each in plugins])
                socket.settle()
            return Opened(session, socket, sides, mark, plugins, bill)

    def _await_end(self, opened: Opened) -> None:
        """Wait for the end of a connection that its client has closed, if it is to come."""
        session = opened.session

        def done() -> bool:
            comes = session.is_busy or session.waits or any(each.pending for each in opened.plugins)
            return session.is_over or not comes

        with self._lock:
            self.world.clock.run(done, _END_SECONDS)
            self.world.clock.catch_up()
            self._end_retired()

    def _logs(self, mark: int) -> LogLines:
        return LogLines.of(self.log.since(mark))

    def _play_over_tcp(self, sent: Request, request_id: str, timeout: float) -> Exchange:
        """Send a request's bytes through the plugins."""
        opened = self._open(timeout, request_id)
        try:
            with self.world.clock.paid_by(opened.bill):
                response, _ = client.send_over(opened.socket, opened.session.local_port, sent, timeout)
        except HostError as error:
            logs = self._logs(opened.mark)
            found = client.why(error.__cause__, logs)
            if not found and isinstance(error.__cause__, TimeoutError):
                found = NO_ANSWER if opened.sides.upstream else REQUEST_PAUSED
            made = Unanswered(f"{found[0]}: {error.message}", hint=found[1]) if found else error
            if isinstance(error.__cause__, client.CutOff):
                raise Incomplete(made, self._exchange(opened, sent, error.__cause__.response)) from error
            raise made from error
        return self._exchange(opened, sent, response)

    def _exchange(self, opened: Opened, sent: Request, response: Response) -> Exchange:
        self._await_end(opened)
        logs = self._logs(opened.mark)
        costs = tuple(opened.bill.of(each.vm) for each in self._in_order())
        return Exchange(sent, response, logs, "", logs.trapped, opened.sides, costs)

    def replace(self, *plugins: Plugin, fresh: bool = False, check: Callable[[], None] | None = None) -> None:
        """Replace the running plugins; if one is refused, the previous ones serve on."""
        if any(each.is_service for each in plugins):
            raise HostError("Envoy replaces no service while it runs", hint="start another Envoy with it")
        with self._lock:
            before, kept = (self._main, self._worker), (self.world.data, self.world.queues)
            try:
                if fresh:
                    self.world.data, self.world.queues = Data(), Queues()
                self._use(self._loaded(plugins))
                if check:
                    check()
            except BaseException:
                for each in (*self._main, *self._worker) if self._worker is not before[1] else ():
                    each.stop()
                self._use(before)
                self.world.data, self.world.queues = kept
                raise
            now = self.world.data, self.world.queues
            self.world.data, self.world.queues = kept
            self._retired += before[0] + before[1]
            self._end_retired()
            self.world.data, self.world.queues = now

    def end_test(self) -> None:
        """Have the upstream forget the answers that a test wanted, and close the port that it asked for."""
        self.origin.forget_answers()
        self._port.close()
        self._url = ""

    def close(self) -> None:
        """End the plugins."""
        self._port.close()
        with self._lock:
            for session in self._sessions:
                session.down.close(flush=False)
                session.is_over = True
            self._retired += self._main + self._worker
            self._end_retired()

    def _end_retired(self) -> None:
        """Shut down the plugins that have been replaced, once no connection goes through them."""
        self._sessions = [each for each in self._sessions if not each.is_over]
        used = {id(each.of) for session in self._sessions for each in session.filters}
        for each in [each for each in self._retired if id(each) not in used]:
            self._retired.remove(each)
            each.shut_down()

    def _use(self, loaded: tuple[list[PluginVm], list[PluginVm]]) -> None:
        self._main, self._worker = loaded

    def _loaded(self, plugins: Sequence[Plugin]) -> tuple[list[PluginVm], list[PluginVm]]:
        """Start plugins as Envoy does: in a VM to try them, then for the main thread and for a worker.

        A service has no worker, and starts before those that have.
        """
        if len({plugin.type for plugin in plugins} - {SERVICE}) > 1:
            raise Unsupported("network plugins before HTTP plugins in one chain")
        main: dict[int, PluginVm] = {}
        worker: list[PluginVm] = []
        for place, plugin in sorted(enumerate(plugins), key=lambda each: not each[1].is_service):
            mark = self.log.size()
            why = load.refusal(plugin.module, self.version)
            if why:
                raise self._refused(plugin, why, mark)
            try:
                PluginVm(plugin, self.world, live=False).stop()
                trial = PluginVm(plugin, self.world, live=True)
                trial.start()
                trial.stop()
                main[place] = trial.successor = self._begun(plugin)
                if not plugin.is_service:
                    worker.append(self._begun(plugin))
            except BaseException as error:
                for begun in (*main.values(), *worker):
                    begun.stop()
                if isinstance(error, Refused):
                    raise self._refused(plugin, str(error), mark) from error
                raise
        return [main[place] for place in sorted(main)], worker

    def _begun(self, plugin: Plugin) -> PluginVm:
        """A plugin in a VM of its own, which has started."""
        made = PluginVm(plugin, self.world)
        made.start()
        return made

    def _refused(self, plugin: Plugin, why: str, mark: int) -> ModuleError:
        words = [line.text for line in self.log.since(mark) if line.serious and line.logger == "wasm"]
        return ModuleError(
            "\n".join([*dict.fromkeys([*words, why]), f"Envoy refused the plugin {plugin.name}"])
        )

    def _living(self) -> list[PluginVm]:
        """The plugins that a new stream or connection goes through."""
        return [each for place in range(len(self._worker)) if (each := self._alive(place))]

    def _alive(self, place: int) -> PluginVm | None:
        """The plugin at a place of the chain; if its VM has failed, what its policy has in its place."""
        found = self._worker[place]
        policy = failure_policy(found.plugin.more, self.version) if found.vm.failed else ""
        if policy == "FAIL_OPEN":
            return None
        waited = self.world.clock.now() - found.begun >= _BACKOFF
        if policy == "FAIL_RELOAD" and found.replaceable and waited:
            try:
                made = PluginVm(found.plugin, self.world)
                made.start()
            except Refused:
                return found
            found.stop()
            found.successor = made
            self._worker[place] = found = made
        return found

    def _values(self) -> Values:
        """What metrics have now: value, and how many a histogram has recorded."""
        return {key: (each.value, len(each.recorded)) for key, each in self.world.metrics.by_name.items()}

    def changes(self, before: Values, *, every: bool = False) -> Metrics:
        """What has changed since; or every metric."""
        changed = Metrics()
        for key, each in self.world.metrics.by_name.items():
            name, (value, count) = each.name, before.get(key, (0, 0))
            if each.recorded[count:]:
                buckets = histograms.bucketed(each.recorded[count:])
                changed.update(histograms.figures(name, buckets))
            elif each.is_used and (each.value != value or every):
                changed[name] = each.value - value
        return changed


@contextmanager
def start(*plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()) -> Iterator[EmulatorHost]:
    """Run plugins in this process while the block runs."""
    check(settings)
    host = EmulatorHost(plugins, settings)
    try:
        yield host
    finally:
        host.close()


def check(settings: HostSettings) -> None:
    """Raise what would keep the emulator from running."""
    engine.engine()
    for what, name in (
        ("a bootstrap", settings.bootstrap),
        ("an upstream of your own", settings.upstream),
        ("HTTPS", settings.tls),
        ("--envoy-args", settings.envoy_args),
    ):
        if name:
            raise Unsupported(what)
    emulated(settings)


def emulated(settings: HostSettings) -> Version:
    """The Envoy that is emulated: the settings', or the latest that we know."""
    data = facts()["envoy"]
    try:
        version = Version.parse(settings.envoy or data["last"])
    except ValueError:
        version = None
    if version is None or not Version.parse(data["first"]) <= Version(version[:2]):
        raise UsageError(
            f"the emulator plays an Envoy of {data['first']} to {data['last']}, not `{settings.envoy}`",
            hint="pass a version to --envoy",
        )
    return version


def _cut(request: Request, response: Response, logs: LogLines, *, in_time: bool) -> HostError:
    """The error of an answer that isn't whole, in the words of a client."""
    announced = response.headers.get("content-length")
    of = f"of the {announced} bytes that its content-length announces" if announced else "bytes of its body"
    why = "the connection ended" if in_time else "no more came in time"
    message = (
        f"{request.method} {request.target} got no whole answer: {len(response.body)} {of} came, and {why}"
    )
    reason, hint = client.why(client.CutOff(message, response), logs) or ("", None)
    return HostError(f"{reason}: {message}", hint=hint)
