"""The targets on this machine: a host of the same name that keeps running in the background."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import process
from scaffold.core.events import Noted, emit
from scaffold.core.versions import Version
from scaffold.errors import TargetError
from scaffold.hosts import host as hosts
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import STOP_SECONDS, Record
from scaffold.hosts.options import HostSettings

if TYPE_CHECKING:
    from scaffold.hosts.envoy.log import Line
    from scaffold.hosts.envoy.run_folder import Folder


@dataclass(frozen=True)
class Target:
    """A target that keeps the host of its name running."""

    name: str

    def check(self, settings: HostSettings) -> None:
        """Install or pull what the settings ask for. Raises what would keep the host from starting."""
        hosts.load(self.name).check(settings)

    def attach(self, record: Record) -> hosts.Running:
        """The host of a deployment."""
        from scaffold.hosts.envoy.running import EnvoyHost

        return EnvoyHost(self._files(record), record.port, Version(record.envoy_version))

    def admin_port(self, record: Record) -> int | None:
        """The port of the admin interface, which changes when the host restarts."""
        return self._files(record).admin_port()

    def log_lines(self, record: Record, follow: bool) -> Iterator[Line]:
        """What the plugin has logged since the host started; with `follow`, until the deployment ends."""
        log, at = self.attach(record).log, 0
        while True:
            alive = record.alive
            lines, at = log.read(at)
            yield from (line for line in lines if line.of_plugin or line.logger == "scaffold")
            if not follow:
                return
            if not alive:
                raise TargetError("the deployment has ended", hint="run `scaffold deploy`")
            time.sleep(0.05)

    def _files(self, record: Record) -> Folder:
        return hosts.load(self.name).files_in(Path(record.folder) / "envoy")


TARGETS = {name: Target(name) for name in ("envoy", "docker")}


def end(folder: Path, record: Record | None) -> None:
    """End what runs in a deployment's folder: any supervisor, and a container that outlived it."""
    if record and record.alive:
        process.end(record.pid, STOP_SECONDS)
    for pid, place in deployments.supervisors().items():
        if place == folder:
            process.end(pid, STOP_SECONDS)
            emit(Noted(f"ended a supervisor that no record names (pid {pid})"))
    if (folder / deployments.CONTAINER).exists():
        from scaffold.hosts.docker import host as container

        container.sweep(folder)


def forget(folder: Path, record: Record | None) -> None:
    """End a deployment, and remove its files, even without a readable record."""
    end(folder, record)
    shutil.rmtree(folder, ignore_errors=True)
