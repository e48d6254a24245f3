"""An Envoy that runs a plugin, wherever it does: started, asked, its filter replaced while it runs."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scaffold import files
from scaffold.envoy_config import Address, Config, Version
from scaffold.errors import HostError, ModuleError
from scaffold.exchange import Exchange, Request
from scaffold.hosts.envoy_files import Folder
from scaffold.hosts.envoy_log import Line, Log
from scaffold.options import parse_upstream
from scaffold.project import HostSettings, Plugin

if TYPE_CHECKING:
    from scaffold.hosts.envoy_admin import Admin
    from scaffold.upstream import Origin

READY_SECONDS = 30.0
SWAP_SECONDS = 30.0  # and 2 for each MB of module: Envoy compiles about one a second
FLUSH_MILLISECONDS = 5  # of the access log, which is our sign that a request has ended
LONGEST_SOCKET = 98  # bytes; the system's limit is 104 to 108, and in a container it is 9 longer
LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%e","level":"%l","logger":"%n","message":"%j"}'


class Child(Protocol):
    """An Envoy that was started, as far as `subprocess.Popen` goes."""

    def poll(self) -> int | None:
        """Its exit code, a signal's number below zero; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it ends. Raises `subprocess.TimeoutExpired`."""
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

    `port` is the listener's, on loopback; `process` is None when another process started it.
    """

    folder: Folder
    port: int
    version: Version
    process: Child | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        from scaffold.hosts.envoy_admin import Admin  # http.client comes in when there is whom to ask

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

    def replace(self, plugin: Plugin, *, fresh: bool = False) -> None:
        """Put another plugin in the place of the one that runs, without losing a request.

        Envoy takes the new configuration when its file is replaced, and compiles the module beside
        the one that serves. Raises `ModuleError`, with Envoy's words, when it refuses it.
        """
        mark = self.log.size()
        rejected = self.admin.counter("update_rejected")
        with self.folder.restored_filter():
            version = self.folder.write_filter(plugin, self.version, fresh=fresh)
            deadline = time.monotonic() + SWAP_SECONDS + 2 * plugin.module.size / 1e6
            while self.admin.version_text() != version:
                if self.admin.counter("update_rejected") > rejected:
                    raise _refused(plugin.name, self.log.since(mark))
                if time.monotonic() > deadline:
                    raise HostError("Envoy took no new filter in all that time")
                self._check_alive(mark)
                time.sleep(0.005)
        self.folder.prune()

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
    program: Program, plugin: Plugin | None, place: Folder, settings: HostSettings
) -> Iterator[EnvoyHost]:
    """An Envoy that runs `plugin` while the block does, and its origin, unless the upstream is foreign.

    Without a plugin it goes on with the one whose files are in the folder `place`.
    Raises `HostError` when it doesn't become ready, `ModuleError` when it refuses the plugin,
    `ProjectError` when it refuses the user's bootstrap.
    """
    with ExitStack() as stack:
        address = stack.enter_context(_address(settings, place))
        origin = stack.enter_context(ExitStack())  # which ends after Envoy
        if plugin:
            place.write_filter(plugin, program.version)
        place.write_bootstrap(program.adapt(place.make_bootstrap(settings, address)))
        if settings.bootstrap:
            program.validate(place, settings.bootstrap)
        place.admin.unlink(missing_ok=True)
        mark = Log(place.log).size()
        child = stack.enter_context(program.running(place, settings))
        if address and address.pipe:  # only now: its imports and Envoy's own start take a while each
            origin.enter_context(_behind(address, place))
        yield _ready(program, child, place, plugin.name if plugin else "that runs", mark)


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


def reachable(url: str) -> Address:
    """The upstream's address. Raises `HostError` when nothing answers there."""
    address = parse_upstream(url)
    try:
        socket.create_connection((address.host, address.port), timeout=5).close()
    except OSError as error:
        why = error.strerror or error
        raise HostError(f"nothing answers at the upstream {url}: {why}", hint="start it first") from error
    return address


@contextmanager
def _address(settings: HostSettings, folder: Folder) -> Iterator[Address | None]:
    """Where the traffic goes: a foreign upstream, or the built-in one's socket; a bootstrap knows itself.

    An enclosed Envoy reaches a foreign one by a socket too: it may see another network than we do.
    """
    folder.control.unlink(missing_ok=True)
    if settings.bootstrap:
        yield None
        return
    foreign = Address() if settings.upstream is None else reachable(settings.upstream)
    if foreign.host and not folder.enclosed:
        yield foreign
        return
    if foreign.tls:
        copied = shutil.copyfile(foreign.tls, folder.authorities)
        foreign = dataclasses.replace(foreign, tls=folder.within(copied))
    with ExitStack() as stack:
        place = folder.sockets = folder.path
        if len(os.fsencode(place / "control.sock")) > LONGEST_SOCKET:
            short = [None, os.environ.get("XDG_RUNTIME_DIR"), "/tmp"]  # noqa: S108 - mkdtemp is safe there
            made = next(each for each in short if len(os.fsencode(each or tempfile.gettempdir())) < 70)
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="scaffold-", dir=made))
            place = folder.sockets = Path(made, "s")
            place.mkdir()
            place.chmod(folder.path.stat().st_mode)
        yield dataclasses.replace(foreign, pipe=folder.within(place / "origin.sock"))


@contextmanager
def _behind(address: Address, folder: Folder) -> Iterator[None]:
    """Serve at the socket of an address while the block runs: the built-in upstream, or the foreign one."""
    from scaffold import upstream

    pipe, control = folder.sockets / "origin.sock", folder.sockets / "control.sock"
    with ExitStack() as stack:
        if address.host:
            stack.enter_context(upstream.relay(pipe, address.host, address.port))
        else:
            stack.enter_context(upstream.serve(pipe=pipe, control=control))
            files.write(folder.control, str(control))
        if folder.enclosed:
            pipe.chmod(0o666)  # of whatever user Envoy is; the folder above keeps others out
        yield


def _ready(program: Program, child: Child, folder: Folder, name: str, mark: int) -> EnvoyHost:
    """Wait until the listener serves with the filter in place."""
    log = Log(folder.log)
    deadline = time.monotonic() + READY_SECONDS
    host: EnvoyHost | None = None
    while time.monotonic() < deadline:
        if (code := child.poll()) is not None:
            raise died(code, log.since(mark))
        if host is None and folder.admin_port():
            host = EnvoyHost(folder, 0, program.version, child)
        if host and host.admin.counter("update_rejected"):
            raise _refused(name, log.since(mark))
        if host and host.admin.counter("update_success") and host.admin.live():
            host.port = program.port(host.admin)
            return host
        time.sleep(0.005)
    raise HostError(f"Envoy was not ready within {READY_SECONDS:g} s")


def _refused(name: str, lines: list[Line]) -> ModuleError:
    words = [line.text for line in lines if line.serious and line.logger in ("wasm", "config", "misc")]
    return ModuleError("\n".join([*dict.fromkeys(words), f"Envoy refused the plugin {name}"]))
