"""The host `docker`: the Envoy of an image, in a container that can only read the files it is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaffold.core import files, process
from scaffold.core.events import Warned, emit
from scaffold.core.versions import Version
from scaffold.errors import ProjectError, ScaffoldError
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import check_free
from scaffold.hosts.docker import args as docker_args
from scaffold.hosts.docker import image as envoy_images
from scaffold.hosts.docker.daemon import DEPLOYMENT, Daemon
from scaffold.hosts.docker.image import EnvoyImage
from scaffold.hosts.envoy import hung_callback
from scaffold.hosts.envoy import user_bootstrap as envoy_bootstrap
from scaffold.hosts.envoy.log_files import Lines, LogFile
from scaffold.hosts.envoy.resources import Config
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.envoy.running import VALIDATE, Child, EnvoyHost, Loop, arguments, check_accepted, serve
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin

_LOOPBACK = "127.0.0.1"
_WAIT_SECONDS = 5.0  # for the last output of a container


def files_in(folder: Path) -> Folder:
    """The files of the Envoy that was started with `folder`."""
    return Folder(folder.resolve() / "shared", enclosed=True)


def check(settings: HostSettings) -> tuple[Daemon, EnvoyImage]:
    """The daemon, and the image that the settings ask for, pulled if need be."""
    docker_args.parse(settings.docker_args)
    daemon = Daemon()
    return daemon, envoy_images.find(daemon, settings.envoy_image)


def sweep(folder: Path) -> None:
    """Remove the container that outlived the deployment in `folder`."""
    try:
        Daemon((folder / deployments.CONTAINER).read_text()).sweep(folder.name)
    except ScaffoldError as error:
        command = f"`docker ps --filter label={DEPLOYMENT}={folder.name}`"
        emit(Warned(f"a container may be left, see {command}: {error.message}"))


@contextmanager
def start(*plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()) -> Iterator[EnvoyHost]:
    """Run `plugins` in an Envoy in a container while the block runs: see `running.serve`.

    Its ports are published on loopback only. A container that a killed command left is removed first.
    Raises `MachineError` without a Docker daemon or an Envoy in the image, `RegistryError` without the
    image.
    """
    daemon, image = check(settings)
    deployment = deployments.name_of(folder)
    daemon.sweep(deployment)
    place = _made(folder)
    mark = folder / deployments.CONTAINER.name
    files.write(mark, daemon.place)  # exists whenever there may be a container
    looping = partial(find_loop, settings=settings)
    try:
        container = _Container(daemon, image, deployment, settings)
        with serve(container, plugins, place, settings, looping) as host:
            yield host
    finally:
        with suppress(ScaffoldError):  # the daemon is gone: `sweep` removes the container later
            daemon.sweep(deployment)
            mark.unlink(missing_ok=True)
        daemon.close()


def find_loop(plugins: Sequence[Plugin], settings: HostSettings) -> Loop | None:
    """The first plugin that doesn't return from a callback when it starts."""
    daemon, image = check(settings)
    try:
        container = _Container(daemon, image, "", replace(settings, port=0))
        return hung_callback.find(container, plugins, _made, settings)
    finally:
        daemon.close()


def _made(folder: Path) -> Folder:
    """The files of an Envoy in `folder`. Everyone may read what is below, so others may not enter it."""
    folder.chmod(0o700)
    place = files_in(folder)
    place.path.mkdir(exist_ok=True)
    place.path.chmod(0o755)
    return place


@dataclass
class _Container:
    daemon: Daemon
    image: EnvoyImage
    deployment: str
    settings: HostSettings
    asked: dict[int, int] = field(default_factory=dict)  # port within -> the one to publish it at, or 0
    published: dict[int, int] = field(default_factory=dict)
    admin: int | None = None  # the port of the user's own admin interface

    @property
    def version(self) -> Version:
        return self.image.version

    def adapt(self, bootstrap: Config, folder: Folder) -> Config:
        opened, self.asked = envoy_bootstrap.open_up(bootstrap)
        address = opened["admin"]["address"]
        own_port = address.get("socket_address", {}).get("port_value")
        ours = address.get("pipe", {}).get("path") == folder.within(folder.admin_socket)
        if next(iter(self.asked), own_port) == own_port:
            raise ProjectError(f"{self.settings.bootstrap} needs a listener on a port")
        if not (own_port or ours):
            raise ProjectError(
                f"{self.settings.bootstrap} has an admin interface that can't be reached in a container",
                hint="put it on a port, or leave it out",
            )
        self.admin = None if ours else own_port
        if self.settings.port:
            self.asked[next(iter(self.asked))] = self.settings.port
        return opened

    def validate(self, folder: Folder, name: str) -> None:
        words = [self.image.program, *VALIDATE, "-c", folder.within(folder.bootstrap)]
        check_accepted(self.daemon.run(self.image.image, words, folder.path), name)

    @contextmanager
    def running(self, folder: Folder, settings: HostSettings) -> Iterator[Child]:
        for port in self.asked.values():
            check_free(port)
        with (
            closing(LogFile(folder.log)) as log,
            closing(LogFile(folder.access_log)) as access_log,
            self.daemon.created(
                self.image.image,
                [self.image.program, *arguments(folder, settings)],
                mounts=list({folder.path, folder.sockets}),
                writable=folder.admin_socket.parent,
                deployment=self.deployment,
                ports={f"{within}/tcp": (_LOOPBACK, port) for within, port in self.asked.items()},
                init=True,  # otherwise Envoy, as pid 1, would survive the abort of its own watchdog
                auto_remove=True,
                **docker_args.parse(settings.docker_args),
            ) as container,
        ):
            running = _Child(container, log, access_log)
            try:
                self.published = self.daemon.start(container)
                if self.published:
                    own = f"{_LOOPBACK}:{self.published[self.admin]}" if self.admin else ""
                    files.write(folder.admin, own or str(folder.admin_socket))
                yield running
            finally:
                self.daemon.remove(container.name)
                with suppress(process.TimeoutExpired):
                    running.wait(_WAIT_SECONDS)

    def port(self, admin: Admin) -> int:
        return self.published[next(iter(self.asked))]


class _Child:
    """A container's process, with the part of `process.Child` that we need; its output goes to the two logs.

    Everything comes on one stream, so a request's own lines arrive before the line of its end.
    """

    def __init__(self, container: Any, log: LogFile, access_log: LogFile) -> None:
        self._container = container
        self._output = container.attach(stream=True, logs=True)  # before it starts, so nothing is lost
        self._log, self._access_log = log, access_log
        self._code: int | None = None
        self._ended = threading.Event()
        self._copying = threading.Thread(target=self._copy, name="container's output", daemon=True)
        self._copying.start()
        threading.Thread(target=self._watch, name="container's end", daemon=True).start()

    def poll(self) -> int | None:
        """Its exit code once it has ended, negative for a signal."""
        return self._code if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `process.TimeoutExpired`."""
        if not self._ended.wait(timeout) or self._code is None:
            raise process.TimeoutExpired("envoy", timeout or 0)
        return self._code

    def kill(self) -> None:
        """End it at once."""
        from docker.errors import DockerException

        with suppress(DockerException):  # it has ended
            self._container.kill()

    def cpu_seconds(self) -> float | None:
        """The processor time that it has taken, if its processes can be seen from here."""
        pid = self._container.attrs.get("State", {}).get("Pid")
        return process.cpu_seconds(pid) if pid else None

    def memory(self) -> int | None:
        """The bytes of main memory that it holds; None if Docker's processes aren't in sight."""
        pid = self._container.attrs.get("State", {}).get("Pid")
        return process.memory(pid) if pid else None

    def _watch(self) -> None:
        from docker.errors import DockerException

        try:
            code = self._container.wait(timeout=None, condition="next-exit")["StatusCode"]
        except (DockerException, OSError):  # the daemon is gone, or has removed it already
            code = 255
        self._copying.join(_WAIT_SECONDS)
        self._code = 128 - code if 128 < code < 160 else code
        self._ended.set()

    def _copy(self) -> None:
        lines = Lines()
        with suppress(OSError):  # the daemon went away
            for part in self._output:
                self._write(lines.feed(part))
        self._write(lines.end())

    def _write(self, lines: bytes) -> None:
        by_file: dict[bool, list[bytes]] = {False: [], True: []}
        for line in lines.splitlines(keepends=True):
            by_file[_is_end(line)].append(line)
        self._log.append(b"".join(by_file[False]))
        self._access_log.append(b"".join(by_file[True]))


def _is_end(line: bytes) -> bool:
    """Whether a line belongs to the access log."""
    return b'"request_id":' in line and not line.startswith(b'{"time":')
