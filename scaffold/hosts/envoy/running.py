"""A running Envoy, wherever it runs: started, asked, its filters replaced while it serves."""

from __future__ import annotations

import dataclasses
import math
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scaffold.core import process
from scaffold.core.events import Logged, Moved, Noted, Requested, emit
from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError, ProjectError, ScaffoldError
from scaffold.hosts.clock import RealClock
from scaffold.hosts.envoy import clusters as envoy_clusters
from scaffold.hosts.envoy import user_bootstrap
from scaffold.hosts.envoy.log import OURS, Line, Log, Logs
from scaffold.hosts.envoy.observation import Observer
from scaffold.hosts.envoy.request_changes import LUA, SINCE, WITHOUT_LUA
from scaffold.hosts.envoy.resources import Config
from scaffold.hosts.envoy.run_folder import FilterFile, Folder
from scaffold.hosts.exchange import REQUEST_ID, Exchange, Headers, Request
from scaffold.hosts.options import HostSettings, url_at
from scaffold.hosts.plugin import SERVICE, Plugin
from scaffold.wasm.check import hint_about

if TYPE_CHECKING:
    from scaffold.hosts.client import Connection
    from scaffold.hosts.envoy.admin import Admin
    from scaffold.hosts.envoy.live_view import LiveView
    from scaffold.hosts.upstream.control import Origin

VALIDATE = ("--mode", "validate", "-l", "error", "--log-format", "%v")  # the bare messages
ABORTED = -6  # the exit code of an Envoy that its watchdog has ended
RUNS_AGAIN = "Envoy runs again"  # in the supervisor's line in the log
_REFUSED = "Unable to create Wasm"
_CONFIGURING = re.compile(r"Failed to configure|proxy_on_configure")  # Envoy's words for who refused
_CONFIGURE = (
    "pass one with --config FILE, or name a file in [package.metadata.proxy-wasm] of Cargo.toml:"
    ' `configuration = "config.json"`'
)

READY_SECONDS = 30.0
REASON_SECONDS = 3.0  # that the words for a refusal may take; from a container they come by another way
SUSPICIOUS_SECONDS = 3.0  # after which we look whether a plugin that starts has got stuck
SWAP_SECONDS = 30.0  # and 2 for each MB of module: Envoy compiles about one a second
FLUSH_MILLISECONDS = 2  # of the access log, which tells us that a request has ended; 1 costs idle CPU
LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%f%z","level":"%l","logger":"%n","message":"%j"}'


class Child(Protocol):
    """The part of `process.Child` that we need of a started Envoy."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it ends. Raises `process.TimeoutExpired`."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def cpu_seconds(self) -> float | None:
        """The processor time that it has taken; None if that can't be told."""
        ...

    def memory(self) -> int | None:
        """The bytes of main memory that it holds; None if that can't be told."""
        ...


class Program(Protocol):
    """An Envoy that can be started."""

    @property
    def version(self) -> Version:
        """Envoy's version."""
        ...

    def adapt(self, bootstrap: Config, folder: Folder, /) -> Config:
        """Change the configuration to suit the place where this Envoy runs."""
        ...

    def validate(self, folder: Folder, name: str) -> None:
        """Have Envoy read its configuration, called `name`. Raises `ProjectError` when it refuses."""
        ...

    def running(self, folder: Folder, settings: HostSettings) -> AbstractContextManager[Child]:
        """Run while the block does, with the log and the admin interface's address in the folder."""
        ...

    def port(self, admin: Admin) -> int:
        """The loopback port of the listener."""
        ...


class Loop(ModuleError):
    """A plugin doesn't return from a callback, so the thread of Envoy that called it is lost.

    `restarted` says whether Envoy is restarted with the previous plugin: None if it needn't be.
    """

    restarted: bool | None = None


FindLoop = Callable[[Sequence[Plugin]], ModuleError | None]


@dataclass
class EnvoyHost:
    """An Envoy that runs with its files in `folder`; a `Running` host.

    `port` is the listener's, on loopback. `process` is None when another process started this Envoy; then
    `restart` has that one restart it. `find_loop` tries plugins out in an Envoy of their own.
    """

    folder: Folder
    port: int
    version: Version
    clock = RealClock()
    process: Child | None = field(default=None, repr=False)
    find_loop: FindLoop = field(default=lambda _: None, repr=False)
    restart: Callable[[], None] = field(default=lambda: None, repr=False)

    def __post_init__(self) -> None:
        self._meet()
        self.origin: Origin | None = self.folder.origin()
        self.log = Log(self.folder.log)
        self._observer = Observer(self.folder, self.admin, self.origin, self.log)

    def _meet(self) -> None:
        from scaffold.hosts.envoy.admin import Admin  # http.client is imported once there is someone to ask

        self.admin = Admin(self.folder.admin_address())
        self.pulse = Admin(self.admin.address, timeout=1)  # for an Envoy that may be busy

    @property
    def url(self) -> str:
        """Where the plugin answers."""
        return url_at(self.port, tls=self._certificate is not None)

    @property
    def _certificate(self) -> Path | None:
        return self.folder.certificate if self.folder.certificate.exists() else None

    @property
    def metrics(self) -> dict[str, float]:
        """Envoy's counters and gauges that were ever used, by name, and the plugin's; its histograms too."""
        return self.admin.metrics()

    @property
    def admin_address(self) -> str:
        """Envoy's admin interface: a socket's path, or `HOST:PORT`."""
        return self.admin.address

    def play(self, request: Request, *, timeout: float = 10) -> Exchange:
        """Send a request through the plugin, and gather what it did on every side."""
        from scaffold.hosts import client

        headers = Headers(request.headers)
        request_id = headers.setdefault(REQUEST_ID, uuid.uuid4().hex)  # else Envoy would set one
        sent = dataclasses.replace(request, headers=headers)
        seen = self._observer.begin()
        try:
            response, port = client.send(self.port, sent, timeout, self._certificate)
        except HostError as error:
            from scaffold.hosts.envoy.no_answer import explained

            seen.request_id = request_id
            raise explained(error, self, sent, seen) from error.__cause__
        details = seen.await_end(request_id, port)
        if seen.sent is not None and "content-length" in response.headers:
            response = dataclasses.replace(response, surplus=max(0, seen.sent - len(response.body)))
        return Exchange(sent, response, seen.logs, details, seen.trapped, seen)

    @contextmanager
    def connect(self, *, timeout: float = 10) -> Iterator[Connection]:
        """Open a TCP connection through the plugin; after the block it holds what the plugin did."""
        from scaffold.hosts import client

        seen = self._observer.begin()
        with client.connected(self.port, timeout, self._certificate) as connection:
            yield connection
        connection.details = seen.await_end(None, connection.port)
        connection.sides, connection.logs, connection.trapped = seen, seen.logs, seen.trapped

    def replace(self, *plugins: Plugin, fresh: bool = False, check: Callable[[], None] | None = None) -> None:
        """Replace the running plugins one by one, without losing a request; then call `check`.

        Envoy takes a new configuration when its file is replaced, and compiles the module while the old
        one serves. Raises `ModuleError`, with Envoy's words, when it refuses one; then, and when `check`
        fails, all are restored. After a `Loop` Envoy has to be restarted with them.
        """
        if any(plugin.is_service for plugin in plugins):
            raise HostError("Envoy replaces no service while it runs", hint="start another Envoy with it")
        self._observer.settle()
        taken: list[tuple[int, Plugin, FilterFile]] = []
        try:
            with self.folder.staged(plugins, self.version, fresh=fresh) as staged:
                for place, (plugin, file) in enumerate(zip(plugins, staged, strict=True)):
                    mark = self.log.size()
                    rejected = self.admin.counter("update_rejected", place)
                    file.take_effect()
                    self._await(file.version, plugin, place, mark, rejected)
                    taken.append((place, plugin, file))
                if check:
                    check()
        except Loop as loop:
            loop.restarted = self._recover()
            raise
        except Exception:
            with suppress(ScaffoldError):  # the first error is the one to report
                for place, plugin, file in [each for each in taken if each[2].before]:
                    self._await(file.before, plugin, place, self.log.size())
            raise
        except BaseException:  # Ctrl-C: nobody will wait for an Envoy that is stuck in the new plugin
            if self._is_lost():
                self.restart()
            raise
        self.folder.prune()

    def _is_lost(self) -> bool:
        """Whether Envoy doesn't answer any more; one that only has much to do does after a while."""
        deadline = time.monotonic() + SUSPICIOUS_SECONDS
        while not (lives := self.pulse.live()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return not lives

    def _await(self, version: str, plugin: Plugin, place: int, mark: int, rejected: float = math.inf) -> None:
        """Wait until Envoy has taken a filter's configuration of that version."""
        begun = time.monotonic()
        deadline = begun + SWAP_SECONDS + 2 * plugin.module.size / 1e6
        suspected = False
        while self.pulse.version_text(place) != version:
            if self.pulse.counter("update_rejected", place) > rejected:
                raise refused(plugin, self.log, mark, self.version)
            if time.monotonic() > deadline:
                raise HostError("Envoy didn't take the new filter in time")
            if not suspected and time.monotonic() > max(begun, self.pulse.answered) + patience([plugin]):
                suspected = True
                emit(Noted(f"Envoy is busy with {plugin.name}: looking whether one of its callbacks hangs"))
                if loop := self.find_loop([plugin]):
                    raise loop
            try:
                self.check_alive(mark)
            except HostError as gone:  # its watchdog may have ended it before we suspected anything
                if not suspected and (loop := self.find_loop([plugin])):
                    raise loop from gone
                raise
            time.sleep(0.005)

    def is_stuck(self) -> Callable[[], bool]:
        """A function that tells whether a thread of Envoy has got stuck, or Envoy has ended, since now."""
        misses = self.pulse.watchdog_misses()
        return lambda: self.pulse.watchdog_misses() > misses or not self.pulse.live()

    def _recover(self) -> bool:
        """Get rid of an Envoy that a plugin holds up for ever; whether another serves now in its place."""
        if self.process:
            self.process.kill()
            return False
        mark, deadline = self.log.size(), time.monotonic() + READY_SECONDS
        self.restart()
        while time.monotonic() < deadline:
            if any(line.logger == OURS and RUNS_AGAIN in line.text for line in self.log.since(mark)):
                self._meet()  # its socket may have moved
                return self.pulse.live()
            time.sleep(0.05)
        return False

    def end_test(self) -> None:
        """Have the upstream forget the answers that a test wanted."""
        if self.origin and self.alive:
            self.origin.forget_answers()

    def follow(self, *, by_name: bool = False) -> Iterator[Requested | Logged | Moved]:
        """What happens, from the start of the log on. Raises `HostError` when Envoy ends."""
        from scaffold.hosts.envoy.live_view import LiveView

        return self._followed(
            LiveView(Logs(self.log, self.folder.access_log), self.admin, by_name=by_name, log_at=0)
        )

    def _followed(self, view: LiveView) -> Iterator[Requested | Logged | Moved]:
        while True:
            news = list(view.look())
            yield from news
            if not news:
                if not self.alive:
                    yield from view.unowned()
                self.check_alive(0)
                time.sleep(0.05)

    @property
    def alive(self) -> bool:
        """Whether Envoy runs."""
        return self.process.poll() is None if self.process else self.pulse.live()

    def settle(self) -> None:
        """Complete the exchanges that are still in use, before Envoy and its upstream end."""
        self._observer.settle()

    def check_alive(self, mark: int) -> None:
        """Raise `HostError`, with what its log says from `mark` on, if Envoy has ended."""
        if self.process and (code := self.process.poll()) is not None:
            raise died(code, self.log.since(mark))
        if not self.process and self.admin.gone():
            raise HostError("Envoy no longer answers", hint="`scaffold logs` may say why")


@contextmanager
def serve(
    program: Program,
    plugins: Sequence[Plugin],
    folder: Folder,
    settings: HostSettings,
    find_loop: FindLoop,
) -> Iterator[EnvoyHost]:
    """Run `plugins` in an Envoy while the block runs, and the built-in upstream unless another is set.

    Traffic meets the plugins in their order. Without any, Envoy runs those whose files are in `folder`.
    Raises `HostError` when Envoy doesn't become ready, `ModuleError` when it refuses a plugin or a plugin
    doesn't return, and `ProjectError` when Envoy refuses the user's bootstrap.
    """
    with started(program, plugins, folder, settings) as (child, mark):
        host = _ready(program, child, folder, plugins or settings.types, mark, find_loop)
        try:
            yield host
        finally:
            host.settle()


@contextmanager
def started(
    program: Program, plugins: Sequence[Plugin], folder: Folder, settings: HostSettings
) -> Iterator[tuple[Child, int]]:
    """An Envoy as in `serve`, as soon as it is started, and where its log begins."""
    settings = settings.serving(*plugins) if plugins else settings
    settings = dataclasses.replace(settings, changes=settings.changes and program.version >= SINCE)
    process.allow_many_files()  # a connection is two of Envoy's, and one of the upstream
    with ExitStack() as stack:
        folder.sockets = stack.enter_context(envoy_clusters.short(folder))
        folder.make_folders()
        clusters = envoy_clusters.cluster_addresses(settings, folder)
        upstream = stack.enter_context(ExitStack())  # which ends after Envoy
        if plugins:
            folder.write_filters(plugins, program.version)
        folder.write_bootstrap(program.adapt(folder.make_bootstrap(settings, clusters), folder))
        if settings.bootstrap:
            folder.access_pipe.unlink(missing_ok=True)  # with nobody who reads it, Envoy would wait there
            program.validate(folder, settings.bootstrap)
        folder.admin.unlink(missing_ok=True)
        mark = Log(folder.log).size()
        child = stack.enter_context(program.running(folder, settings))
        # only now: importing the upstream takes a while, and so does Envoy's start
        upstream.enter_context(envoy_clusters.serve_sockets(clusters, folder))
        yield child, mark


def arguments(folder: Folder, settings: HostSettings) -> list[str]:
    """Envoy's arguments, wherever it runs."""
    return [
        *("-c", folder.within(folder.bootstrap), "--disable-hot-restart"),
        *("-l", "warning", "--component-log-level", f"wasm:{settings.log_level}"),
        *("--log-format", LOG_FORMAT, "--file-flush-interval-msec", str(FLUSH_MILLISECONDS)),
        # one worker, one VM: every request sees what the plugin keeps in memory
        *(() if "--concurrency" in settings.envoy_args else ("--concurrency", "1")),
        *settings.envoy_args,
    ]


def died(code: int, lines: Iterable[Line]) -> HostError:
    """The error that says how Envoy ended, after its last words."""
    how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
    words = deque((line.text for line in lines if line.serious), maxlen=5)
    hint = WITHOUT_LUA if any(LUA in each for each in words) else None
    if code == ABORTED:
        how += ", which its watchdog sends when a plugin doesn't return (an endless loop?)"
    return HostError("\n".join([f"Envoy ended {how}", *words]), hint=hint)


def patience(plugins: Sequence[Plugin]) -> float:
    """For how many seconds Envoy may be too busy to answer while it compiles and starts plugins."""
    return SUSPICIOUS_SECONDS + 1.5 * sum(plugin.module.size for plugin in plugins) / 1e6


def _ready(
    program: Program,
    child: Child,
    folder: Folder,
    plugins: Sequence[Plugin | str],
    mark: int,
    find_loop: FindLoop,
) -> EnvoyHost:
    """Wait until the listener serves with all filters in place: `plugins`, or unknown ones of these types."""
    log = Log(folder.log)
    begun = time.monotonic()
    known = [plugin for plugin in plugins if isinstance(plugin, Plugin)]
    types = [plugin.type if isinstance(plugin, Plugin) else plugin for plugin in plugins]
    places = [place for place, kind in enumerate(types) if kind != SERVICE]
    suspicious = begun + patience(known) if known else math.inf
    host: EnvoyHost | None = None
    while time.monotonic() < begun + READY_SECONDS:
        if (code := child.poll()) is not None:
            raise refused_service(known, log, mark, program.version) or died(code, log.since(mark))
        if host is None and folder.admin_address():
            host = EnvoyHost(folder, 0, program.version, child, find_loop)
        if host:
            for place in places:
                if host.pulse.counter("update_rejected", place):
                    raise refused(known[place] if known else None, log, mark, program.version)
            taken = all(host.pulse.counter("update_success", place) for place in places)
            if taken and host.pulse.live() and (port := program.port(host.pulse)):
                host.port = port
                return host
        if (now := time.monotonic()) > suspicious:
            suspicious = math.inf
            if loop := find_loop(known):
                child.kill()
                raise loop
            begun += time.monotonic() - now
        time.sleep(0.005)
    words = dict.fromkeys(deque((line.text for line in log.since(mark) if line.serious), maxlen=20))
    raise HostError("\n".join([*words, f"Envoy was not ready within {READY_SECONDS:g} s"]))


def refused_service(plugins: Sequence[Plugin], log: Log, mark: int, version: Version) -> ModuleError | None:
    """The error for the service that ended Envoy, which doesn't start without it; None if none did."""
    words = "\n".join(line.text for line in log.since(mark) if line.serious)
    named = re.search(rf"{_REFUSED} plugin (.+?)`", words)
    if named is None:
        return None
    plugin = next((each for each in plugins if each.name == named[1]), None)
    return refused(plugin, log, mark, version)


def refused(plugin: Plugin | None, log: Log, mark: int, version: Version) -> ModuleError:
    """The error that says why Envoy refused a plugin: its log may come later than its counters."""
    deadline = time.monotonic() + REASON_SECONDS
    while not (words := _reasons(log.since(mark))) and time.monotonic() < deadline:
        time.sleep(0.01)
    which = f"the plugin {plugin.name}" if plugin else "the plugin that ran"
    missing = plugin is not None and not plugin.configuration and any(map(_CONFIGURING.search, words))
    which += ", which has no configuration" if missing else ""
    known = hint_about([plugin.module], version) if plugin else None
    hint = _CONFIGURE if missing else known
    return ModuleError("\n".join([*dict.fromkeys(words), f"Envoy refused {which}"]), hint=hint)


def _reasons(lines: Iterable[Line]) -> deque[str]:
    ours = (line.text for line in lines if line.serious and line.logger in ("wasm", "config", "misc"))
    return deque(ours, maxlen=20)


def check_accepted(ran: process.Completed, name: str) -> None:
    """Raise, with Envoy's words, if it refused the configuration called `name`.

    Raises `ModuleError` if the plugin is what it refused, `ProjectError` otherwise.
    """
    if ran.code:
        words = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
        kind = ModuleError if any(_REFUSED in line for line in words) else ProjectError
        message = "\n".join([*words[-8:], f"Envoy refuses the configuration {name}"])
        raise kind(message, hint=_hint_about(Path(name), "\n".join(words)))


def _hint_about(path: Path, words: str) -> str | None:
    """What to change in the file of a bootstrap that Envoy refuses in these words; None if it is unknown."""
    if LUA in words:
        return WITHOUT_LUA
    missing = re.search(r"Invalid path: (\S+)", words)
    untyped = re.search(r"implementation for '(\S+)' with type URL: ''", words)
    text = next((found[1] for found in (missing, untyped) if found), "")
    line = user_bootstrap.line_of(path, text) if text else None
    if line is None:
        return None
    if missing:
        return f"line {line} names {text}, which isn't there: correct it, or take it out"
    return user_bootstrap.without_type(f"line {line}", text)
