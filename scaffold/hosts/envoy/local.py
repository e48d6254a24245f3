"""The host `envoy`: an Envoy that runs as a process of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import process
from scaffold.core.versions import Version
from scaffold.hosts.background.deployments import check_free
from scaffold.hosts.envoy import hung_callback, log_files
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy.binary_info import Binary
from scaffold.hosts.envoy.resources import Config
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.envoy.running import VALIDATE, Child, EnvoyHost, Loop, arguments, check_accepted, serve
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin


@contextmanager
def start(*plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()) -> Iterator[EnvoyHost]:
    """Run `plugins` in an Envoy while the block runs: see `running.serve`.

    Raises `HostError` when the port is taken.
    """
    binary = check(settings)
    check_free(settings.port)
    looping = partial(find_loop, settings=settings)
    with serve(Local(binary), plugins, files_in(folder.resolve()), settings, looping) as host:
        yield host


def find_loop(plugins: Sequence[Plugin], settings: HostSettings) -> Loop | None:
    """The first plugin that doesn't return from a callback when it starts."""
    return hung_callback.find(Local(check(settings)), plugins, files_in, settings)


def check(settings: HostSettings) -> Binary:
    """The Envoy that the settings ask for, installed if need be."""
    return envoys.find(settings.envoy)


def files_in(folder: Path) -> Folder:
    """The files of the Envoy that was started with `folder`."""
    return Folder(folder)


@dataclass(frozen=True)
class Local:
    """An Envoy on this machine, as `running.serve` starts it."""

    binary: Binary

    @property
    def version(self) -> Version:
        """Its version."""
        return self.binary.version

    def adapt(self, bootstrap: Config, _folder: Folder) -> Config:
        """Nothing has to change."""
        return bootstrap

    def validate(self, folder: Folder, name: str) -> None:
        """Have it read its configuration."""
        validate(self.binary, folder.bootstrap, name)

    @contextmanager
    def running(self, folder: Folder, settings: HostSettings) -> Iterator[Child]:
        """Run it while the block runs."""
        admin = ("--admin-address-path", str(folder.admin))
        argv = [str(self.binary.path), *arguments(folder, settings), *admin]
        logs = {"log": folder.log, "access_log": folder.access_log, "access_pipe": folder.access_pipe}
        with log_files.spawn(argv, cwd=folder.path, **logs) as child:
            yield child

    def port(self, admin: Admin) -> int:
        """Its listener's port."""
        return admin.listener_port()


def validate(binary: Binary, config: Path, name: str) -> None:
    """Have Envoy read a configuration. Raises like `check_accepted`."""
    ran = process.run([binary.path, *VALIDATE, "-c", config], timeout=60, guarded=True)
    check_accepted(ran, name)
