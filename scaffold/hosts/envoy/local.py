"""The host `envoy`: an Envoy that runs as a process of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import process
from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError, ProjectError
from scaffold.hosts.background import record as deployments
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.envoy.binary import Binary
from scaffold.hosts.envoy.config import Config
from scaffold.hosts.envoy.folder import Folder
from scaffold.hosts.envoy.running import Child, EnvoyHost, arguments, serve
from scaffold.hosts.host import Plugin
from scaffold.hosts.options import HostSettings

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin

VALIDATE = ("--mode", "validate", "-l", "error", "--log-format", "%v")  # the bare messages
_REFUSED = "Unable to create Wasm"


@contextmanager
def start(*plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()) -> Iterator[EnvoyHost]:
    """Run `plugins` in an Envoy while the block runs: see `running.serve`.

    Raises `HostError` when the port is taken.
    """
    binary = check(settings)
    check_free(settings.port)
    with serve(_Local(binary), plugins, files_in(folder.resolve()), settings) as host:
        yield host


def check(settings: HostSettings) -> Binary:
    """The Envoy that the settings ask for, installed if need be."""
    return envoys.find(settings.envoy)


def files_in(folder: Path) -> Folder:
    """The files of the Envoy that was started with `folder`."""
    return Folder(folder)


@dataclass(frozen=True)
class _Local:
    binary: Binary

    @property
    def version(self) -> Version:
        return self.binary.version

    def adapt(self, bootstrap: Config) -> Config:
        return bootstrap

    def validate(self, folder: Folder, name: str) -> None:
        validate(self.binary, folder.bootstrap, name)

    @contextmanager
    def running(self, folder: Folder, settings: HostSettings) -> Iterator[Child]:
        admin = ("--admin-address-path", str(folder.admin))
        argv = [str(self.binary.path), *arguments(folder, settings), *admin]
        with (
            folder.log.open("ab") as log,
            process.spawn(argv, cwd=folder.path, stdout=log, stderr=log) as child,
        ):
            yield child

    def port(self, admin: Admin) -> int:
        return admin.listener_port()


def validate(binary: Binary, config: Path, name: str) -> None:
    """Have Envoy read a configuration. Raises like `check_accepted`."""
    ran = process.run([binary.path, *VALIDATE, "-c", config], timeout=60, guarded=True)
    check_accepted(ran, name)


def check_accepted(ran: process.Completed, name: str) -> None:
    """Raise, with Envoy's words, if it refused the configuration called `name`.

    Raises `ModuleError` if the plugin is what it refused, `ProjectError` otherwise.
    """
    if ran.code:
        words = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
        kind = ModuleError if any(_REFUSED in line for line in words) else ProjectError
        raise kind("\n".join([*words[-8:], f"Envoy refuses the configuration {name}"]))


def check_free(port: int) -> None:
    """Raise `HostError`, with the owner, if a port of loopback is taken; Envoy would notice late."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return
        except PermissionError as error:
            raise HostError(f"you may not listen on port {port}", hint="choose one above 1023") from error
        except OSError:
            pass
    deployment = next((each for each in deployments.every() if each.port == port and each.alive), None)
    if deployment:
        root = deployment.root
        hint = f"--port 0 takes any free one; `scaffold undeploy --root {root}` ends that deployment"
        raise HostError(f"port {port} is taken by the deployment of {root}", hint=hint)
    owner = process.port_owner(port) or "another process"
    raise HostError(f"port {port} is taken by {owner}", hint="--port 0 takes any free one")
