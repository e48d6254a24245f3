"""Envoy as a process of this machine: started, its filter replaced while it runs."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scaffold import deployments, files, process, upstream
from scaffold.envoy_config import Address, Version
from scaffold.errors import HostError, ModuleError, ProjectError
from scaffold.exchange import Exchange, Request
from scaffold.hosts import client, envoys
from scaffold.hosts.envoy_admin import Admin
from scaffold.hosts.envoy_binary import Binary
from scaffold.hosts.envoy_files import Folder
from scaffold.hosts.envoy_log import Line, Log
from scaffold.options import parse_upstream
from scaffold.project import HostSettings, Plugin

READY_SECONDS = 30.0
SWAP_SECONDS = 30.0  # and 2 for each MB of module: Envoy compiles about one a second
FLUSH_MILLISECONDS = 5  # of the access log, which is our sign that a request has ended
LONGEST_SOCKET = 100  # bytes; the system's limit is 104 to 108


@dataclass
class EnvoyHost:
    """An Envoy that runs with its files in `folder`, started by this process or by another.

    `port` is the listener's, on loopback; `process` is None when another process started it.
    """

    folder: Folder
    port: int
    version: Version
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.admin_port = self.folder.admin_port() or 0
        self.admin = Admin(self.admin_port)
        self.origin = self.folder.origin()
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
        if self.process and self.process.poll() is not None:
            raise died(self.process.returncode, self.log.since(mark))
        if not self.process and self.admin.gone():
            raise HostError("Envoy doesn't answer any more", hint="`scaffold logs` may say why")


@contextmanager
def start(
    plugin: Plugin | None, *, folder: Path, settings: HostSettings = HostSettings()
) -> Iterator[EnvoyHost]:
    """An Envoy that runs `plugin` while the block does, and its origin, unless the upstream is foreign.

    Without a plugin it goes on with the one whose files are in `folder`.
    Raises `HostError` when the port is taken or Envoy doesn't become ready, `ModuleError` when it
    refuses the plugin, `ProjectError` when it refuses the user's bootstrap.
    """
    binary = envoys.find(settings.envoy)
    check_free(settings.port)
    place = Folder(folder.resolve())
    with ExitStack() as stack:
        address = stack.enter_context(_upstream(settings, place))
        if plugin:
            place.write_filter(plugin, binary.version)
        place.write_bootstrap(settings, address)
        if settings.bootstrap:
            validate(binary, place.bootstrap, settings.bootstrap)
        place.admin.unlink(missing_ok=True)
        mark = Log(place.log).size()
        stderr = stack.enter_context(place.log.open("ab"))
        argv = _argv(binary.path, place, settings)
        child = stack.enter_context(process.spawn(argv, cwd=place.path, stdout=stderr, stderr=stderr))
        name = plugin.name if plugin else "that runs"
        yield _ready(child, place, name, mark, binary.version)


def validate(binary: Binary, config: Path, name: str) -> None:
    """Let Envoy itself read a configuration. Raises `ProjectError`, in its words, when it refuses it."""
    ran = process.run([binary.path, "--mode", "validate", "-c", config, "-l", "error"], timeout=60)
    if ran.code:
        words = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
        raise ProjectError("\n".join([*words[-8:], f"Envoy refuses the configuration {name}"]))


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
def _upstream(settings: HostSettings, folder: Folder) -> Iterator[Address | None]:
    """Where the traffic goes: the built-in origin, which serves while the block runs, or a foreign one."""
    folder.control.unlink(missing_ok=True)
    if settings.bootstrap:
        yield None
        return
    if settings.upstream is not None:
        yield reachable(settings.upstream)
        return
    with ExitStack() as stack:
        place = folder.path
        if len(os.fsencode(place / "control.sock")) > LONGEST_SOCKET:
            short = [None, os.environ.get("XDG_RUNTIME_DIR"), "/tmp"]  # noqa: S108 - mkdtemp is safe there
            made = next(each for each in short if len(os.fsencode(each or tempfile.gettempdir())) < 70)
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scaffold-", dir=made)))
        pipe, control = place / "origin.sock", place / "control.sock"
        stack.enter_context(upstream.serve(pipe=pipe, control=control))
        files.write(folder.control, str(control))
        yield Address(pipe=str(pipe))


def _argv(binary: Path, folder: Folder, settings: HostSettings) -> list[str | Path]:
    log_format = '{"time":"%Y-%m-%dT%T.%e","level":"%l","logger":"%n","message":"%j"}'
    return [
        *(binary, "-c", folder.bootstrap, "--disable-hot-restart", "--admin-address-path", folder.admin),
        *("-l", "warning", "--component-log-level", f"wasm:{settings.log_level}"),
        *("--log-format", log_format, "--file-flush-interval-msec", str(FLUSH_MILLISECONDS)),
        # one worker, one VM: what a plugin keeps in memory is seen by all requests
        *(() if "--concurrency" in settings.envoy_args else ("--concurrency", "1")),
        *settings.envoy_args,
    ]


def _ready(
    child: subprocess.Popen[bytes],
    folder: Folder,
    name: str,
    mark: int,
    version: Version,
) -> EnvoyHost:
    """Wait until the listener serves with the filter in place."""
    log = Log(folder.log)
    deadline = time.monotonic() + READY_SECONDS
    host: EnvoyHost | None = None
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise died(child.returncode, log.since(mark))
        if host is None and folder.admin_port():
            host = EnvoyHost(folder, 0, version, child)
        if host and host.admin.counter("update_rejected"):
            raise _refused(name, log.since(mark))
        if host and host.admin.counter("update_success") and host.admin.live():
            host.port = host.admin.listener_port()
            return host
        time.sleep(0.005)
    raise HostError(f"Envoy was not ready within {READY_SECONDS:g} s")


def _refused(name: str, lines: list[Line]) -> ModuleError:
    words = [line.text for line in lines if line.serious and line.logger in ("wasm", "config", "misc")]
    return ModuleError("\n".join([*dict.fromkeys(words), f"Envoy refused the plugin {name}"]))


def check_free(port: int) -> None:
    """Raise `HostError`, saying by whom, when a port of loopback is taken: Envoy itself says it late."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return
        except PermissionError as error:
            raise HostError(f"you may not listen on port {port}", hint="take one above 1023") from error
        except OSError:
            pass
    ours = next((each for each in deployments.every() if each.port == port and each.alive), None)
    if ours:
        raise HostError(
            f"port {port} is taken by the deployment of {ours.root}",
            hint=f"--port 0 takes any free one, `scaffold undeploy --root {ours.root}` ends that",
        )
    owner = process.port_owner(port) or "another process"
    raise HostError(f"port {port} is taken by {owner}", hint="--port 0 takes any free one")
