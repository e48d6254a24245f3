"""The host `docker`: the Envoy of an image, in a container that only reads the files it gets from here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from scaffold.core import files, process
from scaffold.core.events import Warned, emit
from scaffold.core.versions import Version
from scaffold.errors import ProjectError, ScaffoldError
from scaffold.hosts.background import record as deployments
from scaffold.hosts.docker import args as docker_args
from scaffold.hosts.docker import image as envoy_images
from scaffold.hosts.docker.daemon import DEPLOYMENT, Daemon
from scaffold.hosts.docker.image import EnvoyImage
from scaffold.hosts.envoy import bootstrap as envoy_bootstrap
from scaffold.hosts.envoy.config import Config
from scaffold.hosts.envoy.folder import Folder
from scaffold.hosts.envoy.local import VALIDATE, check_accepted, check_free
from scaffold.hosts.envoy.running import Child, EnvoyHost, arguments, serve
from scaffold.project.model import HostSettings, Plugin

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin

_LOOPBACK = "127.0.0.1"
_WAIT_SECONDS = 5.0  # for the last words of a container that is gone


def files_in(folder: Path) -> Folder:
    """The files of the container that runs with `folder` as its own."""
    return Folder(folder.resolve() / "shared", enclosed=True)


def check(settings: HostSettings) -> tuple[Daemon, EnvoyImage]:
    """The daemon and the image that the settings ask for, pulled if need be."""
    docker_args.parse(settings.docker_args)
    daemon = Daemon()
    return daemon, envoy_images.find(daemon, settings.envoy_image)


def sweep(place: Path) -> None:
    """Remove the container that outlived its deployment, whose folder `place` is."""
    try:
        Daemon((place / deployments.CONTAINER).read_text()).sweep(place.name)
    except ScaffoldError as error:
        them = f"`docker ps --filter label={DEPLOYMENT}={place.name}`"
        emit(Warned(f"a container may be left, as {them} would show: {error.message}"))


@contextmanager
def start(*plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()) -> Iterator[EnvoyHost]:
    """An Envoy in a container that runs `plugins` while the block does: see `envoy_host.serve`.

    Its ports are published on loopback only. What a killed one of ours left behind is removed first.
    Raises `MachineError` without a Docker daemon, or an Envoy in the image; `RegistryError` without that.
    """
    daemon, image = check(settings)
    deployment = deployments.name_of(folder)
    daemon.sweep(deployment)
    folder.chmod(0o700)  # for what is below it may be read by all
    place = files_in(folder)
    place.path.mkdir(exist_ok=True)
    place.path.chmod(0o755)
    mark = folder / deployments.CONTAINER.name
    files.write(mark, daemon.place)  # before there is one, and until there is none
    try:
        with serve(_Contained(daemon, image, deployment, settings), plugins, place, settings) as host:
            yield host
    finally:
        with suppress(ScaffoldError):  # the daemon is gone: what it still has is left to `sweep`
            daemon.sweep(deployment)
            mark.unlink(missing_ok=True)
        daemon.close()


@dataclass
class _Contained:
    daemon: Daemon
    image: EnvoyImage
    deployment: str
    settings: HostSettings
    asked: dict[int, int] = field(default_factory=dict)  # port within -> the one to publish it on, 0 for any
    published: dict[int, int] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        return self.image.version

    def adapt(self, bootstrap: Config) -> Config:
        opened, self.asked = envoy_bootstrap.open_up(bootstrap)
        admin = opened.get("admin") or {}
        if len(self.asked) < 2 or "socket_address" not in admin.get("address", {}):
            raise ProjectError(
                f"{self.settings.bootstrap} needs a listener and an admin interface, each on its own port"
            )
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
            folder.log.open("ab", buffering=0) as log,
            folder.access_log.open("ab", buffering=0) as access_log,
            self.daemon.created(
                self.image.image,
                [self.image.program, *arguments(folder, settings)],
                mounts=list({folder.path, folder.sockets}),
                deployment=self.deployment,
                ports={f"{within}/tcp": (_LOOPBACK, port) for within, port in self.asked.items()},
                init=True,  # what is first in a container isn't ended by its own abort, the watchdog's
                auto_remove=True,
                **docker_args.parse(settings.docker_args),
            ) as container,
        ):
            running = _Running(container, log, access_log)
            try:
                self.published = self.daemon.start(container)
                if self.published:
                    admin = self.published[list(self.asked)[-1]]
                    files.write(folder.admin, f"{_LOOPBACK}:{admin}")
                yield running
            finally:
                self.daemon.remove(container.name)
                with suppress(process.TimeoutExpired):
                    running.wait(_WAIT_SECONDS)

    def port(self, admin: Admin) -> int:
        return self.published[next(iter(self.asked))]


class _Running:
    """A container's process, as far as `process.Child` goes; what it says goes to the two logs.

    It says all on one stream, so that a request's own lines are there before the line of its end.
    """

    def __init__(self, container: Any, log: IO[bytes], access_log: IO[bytes]) -> None:
        self._container = container
        self._said = container.attach(stream=True, logs=True)  # before it starts: no word is lost
        self._log, self._access_log = log, access_log
        self._code: int | None = None
        self._ended = threading.Event()
        self._copying = threading.Thread(target=self._copy, name="container's words", daemon=True)
        self._copying.start()
        threading.Thread(target=self._watch, name="container's end", daemon=True).start()

    def poll(self) -> int | None:
        """Its exit code once it has ended, a signal's number below zero."""
        return self._code if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `process.TimeoutExpired`."""
        if not self._ended.wait(timeout) or self._code is None:
            raise process.TimeoutExpired("envoy", timeout or 0)
        return self._code

    def _watch(self) -> None:
        from docker.errors import DockerException

        try:
            code = self._container.wait(timeout=None, condition="next-exit")["StatusCode"]
        except (DockerException, OSError):  # the daemon is gone, or was quicker with the removal
            code = 255
        self._copying.join(_WAIT_SECONDS)
        self._code = 128 - code if 128 < code < 160 else code
        self._ended.set()

    def _copy(self) -> None:
        rest = b""
        with suppress(OSError):  # the daemon went away
            for part in self._said:
                *lines, rest = (rest + part).split(b"\n")
                self._write(lines)
        self._write([rest] if rest else [])

    def _write(self, lines: list[bytes]) -> None:
        ends = [line for line in lines if _is_end(line)]
        rest = [line for line in lines if not _is_end(line)]
        for file, some in ((self._log, rest), (self._access_log, ends)):
            with suppress(OSError):  # a full disk: Envoy must not be held up by it
                file.write(b"".join(line + b"\n" for line in some))


def _is_end(line: bytes) -> bool:
    """Whether a line is of the access log, which begins a request's end."""
    return b'"request_id":' in line and not line.startswith(b'{"time":')
