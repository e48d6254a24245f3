"""An Envoy that runs a plugin, wherever it does: started, asked, its filter replaced while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError, ScaffoldError
from scaffold.hosts.envoy import origins as envoy_clusters
from scaffold.hosts.envoy.config import Config
from scaffold.hosts.envoy.folder import Folder, Link
from scaffold.hosts.envoy.log import Line, Log
from scaffold.hosts.exchange import Exchange, Request
from scaffold.project.model import HostSettings, Plugin

if TYPE_CHECKING:
    from scaffold.hosts.connection import Connection
    from scaffold.hosts.envoy.admin import Admin
    from scaffold.hosts.upstream.serve import Origin

READY_SECONDS = 30.0
SWAP_SECONDS = 30.0  # and 2 for each MB of module: Envoy compiles about one a second
FLUSH_MILLISECONDS = 5  # of the access log, which is our sign that a request has ended
LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%e","level":"%l","logger":"%n","message":"%j"}'


class Child(Protocol):
    """An Envoy that was started, as far as `process.Child` goes."""

    def poll(self) -> int | None:
        """Its exit code, a signal's number below zero; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it ends. Raises `process.TimeoutExpired`."""
        ...


class Program(Protocol):
    """An Envoy that can be started."""

    @property
    def version(self) -> Version: ...  # noqa: D102 - Envoy's

    def adapt(self, bootstrap: Config) -> Config:
        """The configuration as it must be where it runs."""
        ...

    def validate(self, folder: Folder, name: str) -> None:
        """Let it read its configuration, called `name`. Raises `ProjectError` when it refuses it."""
        ...

    def running(self, folder: Folder, settings: HostSettings) -> AbstractContextManager[Child]:
        """It runs while the block does, its log goes to the folder's, and its admin's address is there."""
        ...

    def port(self, admin: Admin) -> int:
        """The port of loopback where its listener is reached."""
        ...


@dataclass
class EnvoyHost:
    """An Envoy that runs with its files in `folder`, started by this process or by another.

    `port` is the listener's, on loopback; `process` is None when another process started it. `opened` is
    how many connections this process opened to it.
    """

    folder: Folder
    port: int
    version: Version
    process: Child | None = field(default=None, repr=False)
    opened: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        from scaffold.hosts.envoy.admin import Admin  # http.client comes in when there is whom to ask

        self.admin_port = self.folder.admin_port() or 0
        self.admin = Admin(self.admin_port)
        self.origin: Origin | None = self.folder.origin()
        self.log = Log(self.folder.log)

    @property
    def url(self) -> str:
        """Where the plugin answers."""
        return f"http://localhost:{self.port}"

    @property
    def admin_url(self) -> str:
        """Where Envoy's admin interface is."""
        return f"http://localhost:{self.admin_port}"

    def play(self, request: Request, *, timeout: float = 10) -> Exchange:
        """Send a request through the plugin, and gather what came of it on every side."""
        from scaffold.hosts import client

        return client.play(self, request, timeout)

    def connect(self, *, timeout: float = 10) -> AbstractContextManager[Connection]:
        """A connection through the plugin while the block runs; then what came of it is in it."""
        from scaffold.hosts import client

        return client.connect(self, timeout)

    def replace(self, *plugins: Plugin, fresh: bool = False) -> None:
        """Put other plugins in the places of those that run, one after the other, without losing a request.

        Envoy takes a new configuration when its file is replaced, and compiles the module beside the one
        that serves. Raises `ModuleError`, with Envoy's words, when it refuses one; then all are as before.
        """
        taken: list[tuple[int, Plugin, Link]] = []
        try:
            with self.folder.staged(plugins, self.version, fresh=fresh) as links:
                for place, (plugin, link) in enumerate(zip(plugins, links, strict=True)):
                    mark = self.log.size()
                    rejected = self.admin.counter("update_rejected", place)
                    link.take()
                    self._await(link.version, plugin, place, mark, rejected)
                    taken.append((place, plugin, link))
        except Exception:
            with suppress(ScaffoldError):  # what was wrong first is what counts
                for place, plugin, link in [each for each in taken if each[2].before]:
                    self._await(link.before, plugin, place, self.log.size())
            raise
        self.folder.prune()

    def _await(self, version: str, plugin: Plugin, place: int, mark: int, rejected: float = math.inf) -> None:
        """Wait until Envoy has taken the configuration of that version for a place of the chain."""
        deadline = time.monotonic() + SWAP_SECONDS + 2 * plugin.module.size / 1e6
        while self.admin.version_text(place) != version:
            if self.admin.counter("update_rejected", place) > rejected:
                raise _refused(plugin.name, self.log.since(mark))
            if time.monotonic() > deadline:
                raise HostError("Envoy took no new filter in all that time")
            self._check_alive(mark)
            time.sleep(0.005)

    def follow(self) -> Iterator[Line]:
        """The log lines of the plugin as they come. Raises `HostError` when Envoy ends."""
        at = 0
        while True:
            lines, at = self.log.read(at)
            yield from (line for line in lines if line.of_plugin)
            if not lines:
                self._check_alive(0)
                self.folder.cap_logs()
                time.sleep(0.05)

    @property
    def alive(self) -> bool:
        """Whether Envoy runs."""
        return self.process.poll() is None if self.process else self.admin.live()

    def _check_alive(self, mark: int) -> None:
        if self.process and (code := self.process.poll()) is not None:
            raise died(code, self.log.since(mark))
        if not self.process and self.admin.gone():
            raise HostError("Envoy doesn't answer any more", hint="`scaffold logs` may say why")


@contextmanager
def serve(
    program: Program, plugins: Sequence[Plugin], place: Folder, settings: HostSettings
) -> Iterator[EnvoyHost]:
    """An Envoy that runs `plugins` while the block does, and its origin, unless the upstream is foreign.

    Traffic meets them in their order. Without any it goes on with those whose files are in `place`.
    Raises `HostError` when it doesn't become ready, `ModuleError` when it refuses the plugin,
    `ProjectError` when it refuses the user's bootstrap.
    """
    settings = settings.serving(*plugins) if plugins else settings
    with ExitStack() as stack:
        clusters = stack.enter_context(envoy_clusters.placed(settings, place))
        origin = stack.enter_context(ExitStack())  # which ends after Envoy
        if plugins:
            place.write_filters(plugins, program.version)
        place.write_bootstrap(program.adapt(place.make_bootstrap(settings, clusters)))
        if settings.bootstrap:
            program.validate(place, settings.bootstrap)
        place.admin.unlink(missing_ok=True)
        mark = Log(place.log).size()
        child = stack.enter_context(program.running(place, settings))
        # only now: its imports and Envoy's own start take a while each
        origin.enter_context(envoy_clusters.served(clusters, place))
        names = [plugin.name for plugin in plugins] or [""] * len(settings.types)
        yield _ready(program, child, place, names, mark)


def arguments(folder: Folder, settings: HostSettings) -> list[str]:
    """What Envoy is started with, wherever it runs."""
    return [
        *("-c", folder.within(folder.bootstrap), "--disable-hot-restart"),
        *("-l", "warning", "--component-log-level", f"wasm:{settings.log_level}"),
        *("--log-format", LOG_FORMAT, "--file-flush-interval-msec", str(FLUSH_MILLISECONDS)),
        # one worker, one VM: what a plugin keeps in memory is seen by all requests
        *(() if "--concurrency" in settings.envoy_args else ("--concurrency", "1")),
        *settings.envoy_args,
    ]


def died(code: int, lines: list[Line]) -> HostError:
    """What ended Envoy, with its last words."""
    how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
    words = [line.text for line in lines if line.serious][-5:]
    if code == -6:
        how += ", which its watchdog sends when a filter doesn't return (an endless loop?)"
    return HostError("\n".join([f"Envoy ended {how}", *words]))


def _ready(program: Program, child: Child, folder: Folder, names: Sequence[str], mark: int) -> EnvoyHost:
    """Wait until the listener serves with the filters in place; `names` are theirs."""
    log = Log(folder.log)
    deadline = time.monotonic() + READY_SECONDS
    host: EnvoyHost | None = None
    while time.monotonic() < deadline:
        if (code := child.poll()) is not None:
            raise died(code, log.since(mark))
        if host is None and folder.admin_port():
            host = EnvoyHost(folder, 0, program.version, child)
        if host:
            for place, name in enumerate(names):
                if host.admin.counter("update_rejected", place):
                    raise _refused(name, log.since(mark))
            taken = all(host.admin.counter("update_success", place) for place in range(len(names)))
            if taken and host.admin.live():
                host.port = program.port(host.admin)
                return host
        time.sleep(0.005)
    raise HostError(f"Envoy was not ready within {READY_SECONDS:g} s")


def _refused(name: str, lines: list[Line]) -> ModuleError:
    words = [line.text for line in lines if line.serious and line.logger in ("wasm", "config", "misc")]
    which = f"the plugin {name}" if name else "the plugin that ran"
    return ModuleError("\n".join([*dict.fromkeys(words), f"Envoy refused {which}"]))
