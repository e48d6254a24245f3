"""What is deployed: one record per project, in the user's state folder."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from scaffold.core import files, locks, process, records
from scaffold.core.text import age
from scaffold.core.versions import Version
from scaffold.errors import HostError
from scaffold.hosts.host import HOSTS
from scaffold.hosts.options import HostSettings, RunOptions, url_at
from scaffold.hosts.plugin import SERVICE, Plugin
from scaffold.project.projects import chained

RECORD = "deployment.json"
SUPERVISOR = "scaffold.hosts.background.supervisor"  # the module that runs in a deployment's folder
STOP_SECONDS = 5.0
KEPT = 30 * 86400.0  # seconds for which the log and the history of an ended deployment are kept
RESTART = signal.SIGUSR1  # has a supervisor restart its host
FORMER_SUPERVISOR = "scaffold.targets.supervisor"  # what it was called; one may still run
CONTAINER = Path("envoy", "container")  # exists in a deployment's folder while it may have a container


@dataclass(frozen=True)
class DeployedPlugin:
    """A plugin of a deployment; `image` is as in `Plugin`."""

    name: str
    module_digest: str
    image: str = ""

    @classmethod
    def of(cls, plugin: Plugin) -> Self:
        """What the record says of a plugin."""
        return cls(plugin.name, plugin.module.digest, plugin.image)


@dataclass(frozen=True)
class Record:
    """A plugin that runs in the background, or a chain of them in its order.

    `root` is the real folder of the project or workspace; `folder` is the deployment's own. `pid` is the
    supervisor's; `started` tells it from a later process with that pid (`process.start_time`).
    `options` is what the user typed (`RunOptions.record`). `since` is in seconds since 1970. `restarts` says
    whether the supervisor understands `RESTART`; those of earlier versions would end. `config` says where the
    plugins' configuration came from, `said` what the last deploy complained about, `number` is its place in
    the history, or 0.
    """

    root: str
    target: str
    folder: str
    plugins: list[DeployedPlugin]
    port: int
    settings: HostSettings
    options: dict[str, Any]
    envoy_version: list[int]
    pid: int
    started: float
    since: float
    restarts: bool = False
    config: str = ""
    said: str = ""
    number: int = 0

    @property
    def name(self) -> str:
        """Its name on screen."""
        return chained(self.plugins)

    @property
    def url(self) -> str:
        """Where it answers."""
        return url_at(self.port, tls=bool(self.settings.tls))

    @property
    def alive(self) -> bool:
        """Whether its supervisor runs, be it in another container that shares the user's folders."""
        if self.is_visible:
            return True
        seen = [pid for pid, folder in supervisors().items() if str(folder) == self.folder]
        if not seen:
            return files.in_use(Path(self.folder))
        return any(self.pid in process.numbers(pid) and self._began(pid) for pid in seen)

    def _began(self, pid: int) -> bool:
        return process.start_time(pid) == self.started

    @property
    def is_visible(self) -> bool:
        """Whether this container sees the process that has the supervisor's pid."""
        return self._began(self.pid)


@dataclass(frozen=True)
class Status:
    """A deployment as the user sees it; `age` is in seconds since the last deploy.

    `running` is about its supervisor, `answers` about Envoy; `reverted` says that the version before
    `plugins` runs, since they ended Envoy again and again. `is_service` says that no traffic meets them;
    `authority` is the file of the certificate that clients have to trust, or "". `admin_address` is a
    socket's path or `HOST:PORT`. `config` says where the configuration came from, `said` what the last deploy
    complained about; of `env` there are the names. `trouble` is the last line of the log if Envoy is silent.
    """

    name: str
    url: str
    admin_address: str
    running: bool
    answers: bool
    reverted: bool
    plugins: list[DeployedPlugin]
    envoy_version: str
    upstream: str
    age: float
    root: str
    envoy_image: str = ""
    is_service: bool = False
    authority: str = ""
    config: str = ""
    log_level: str = ""
    env: list[str] = field(default_factory=list)
    envoy_args: list[str] = field(default_factory=list)
    said: str = ""
    trouble: str = ""

    @classmethod
    def of(
        cls,
        record: Record,
        admin_address: str,
        *,
        answers: bool = True,
        reverted: bool = False,
        trouble: str = "",
    ) -> Status:
        """The deployment's status now."""
        settings = record.settings
        return cls(
            name=record.name,
            url=record.url,
            admin_address=admin_address,
            running=record.alive,
            answers=answers,
            reverted=reverted,
            plugins=record.plugins,
            envoy_version=str(Version(record.envoy_version)),
            upstream=settings.upstream or settings.bootstrap or "built in",
            age=max(0.0, time.time() - record.since),
            root=record.root,
            envoy_image=settings.envoy_image or "",
            is_service=set(settings.types) == {SERVICE},
            authority=settings.authority,
            config=record.config,
            log_level=settings.log_level,
            env=[str(each).partition("=")[0] for each in record.options.get("env", ())],
            envoy_args=list(settings.envoy_args),
            said=record.said,
            trouble=trouble,
        )

    def summary(self) -> str:
        """A line with its name and URL, and a line for each detail."""
        ended = "it ended by itself; `scaffold logs` may say why"
        place = f"beside the listener at {self.url}" if self.is_service else self.url
        where = f"{place}, deployed {age(self.age)} ago" if self.running else ended
        image = f" in {self.envoy_image}" if self.envoy_image else ""
        trouble = f": {self.trouble}" if self.trouble else "; `scaffold logs` may say why"
        silent = [] if self.answers else [f"  Envoy doesn't answer now{trouble}"]
        if self.reverted:
            silent.append("  the previous version runs instead: this one ended Envoy again and again")
        details = {
            "config": self.config,
            "log level": "" if self.log_level == "info" else self.log_level,
            "env": ", ".join(self.env),
            "arguments": " ".join(self.envoy_args),
            "trust": self.authority,
            "problem": self.said,
        }
        lines = [
            f"{self.name}: {where}",
            *silent,
            *(line for plugin in self.plugins for line in self._lines(plugin)),
            f"  envoy     {self.envoy_version}{image}; ask it with `scaffold admin`",
            f"  upstream  {self.upstream}",
            *(f"  {name:<10}{value}" for name, value in details.items() if value),
            f"  project   {self.root}",
        ]
        return "\n".join(lines if self.running else [lines[0], lines[-1]])

    def _lines(self, plugin: DeployedPlugin) -> list[str]:
        by_name = f"  ({plugin.name})" if len(self.plugins) > 1 else ""
        image = [f"  image     {plugin.image}{by_name}"] if plugin.image else []
        return [*image, f"  module    {plugin.module_digest}{by_name}"]


@dataclass(frozen=True)
class Stopped:
    """A deployment that was stopped."""

    name: str
    url: str
    root: str

    def summary(self) -> str:
        """What was stopped, and where it answered."""
        return f"Stopped {self.name} (was at {self.url})"


def folder(root: Path | str) -> Path:
    """The folder of the deployment of the project in `root`."""
    real = os.path.realpath(root)  # unlike Path.resolve, it accepts a link to itself
    return _home() / files.short_id(real)


def logs(folder: Path, *, make: bool = False) -> Path:
    """Where the logs of the deployment in `folder` are: they outlive it."""
    place = files.state_dir() / "logs" / folder.name
    if make:
        files.private(place)
        forget_old(place.parent)
    return place


def forget_old(home: Path) -> None:
    """Remove the folders in `home` whose deployment ended, and to which nothing was written for long."""
    for place in home.iterdir() if home.is_dir() else ():
        with suppress(OSError):  # what isn't a folder, or is being changed: no reason not to deploy
            newest = max(each.stat().st_mtime for each in [place, *place.iterdir()])
            if time.time() - newest > KEPT and not (_home() / place.name).exists():
                shutil.rmtree(place, ignore_errors=True)


def shown_config(options: Mapping[str, Any]) -> str:
    """The --config of recorded options: its file, but never a text, which may hold a secret; "" for none."""
    config = str(options.get("config", ""))
    return config if config.startswith(os.sep) or not config else "(given as text)"


def config_source(options: Mapping[str, Any], plugins: Sequence[Plugin], *, earlier: bool = False) -> str:
    """Where the configuration of plugins came from, and its digest: it may hold secrets. "" without one.

    `earlier` says that the recorded `options` have it of an earlier deploy.
    """
    content = b"\n".join(plugin.configuration for plugin in plugins)
    if config := shown_config(options):
        source = f"--config {config}{', of an earlier deploy' if earlier else ''}"
    elif content.strip():
        source = "the image's" if any(plugin.image for plugin in plugins) else "Cargo.toml's"
    else:
        return ""
    return f"{source}, digest {files.digest(content)[:19]}" if content.strip() else source


def load(root: Path) -> Record | None:
    """The deployment of the project in `root`, whether it runs or not."""
    return read(folder(root))


def read(folder: Path) -> Record | None:
    """The record in a deployment's folder; a damaged one is named in a warning, and counts as none."""
    path = folder / RECORD
    try:
        record = records.read(path, Record)
        if record is None:
            return None
        if files.short_id(record.root) != folder.name:
            raise records.DamagedRecord(path, "it belongs to another project")
        if record.target not in HOSTS:
            raise records.DamagedRecord(path, "its `target` isn't valid")
        options = _known_options(path, record.options)
    except records.DamagedRecord as error:
        records.warn(error)
        return None
    return dataclasses.replace(record, folder=str(folder), options=options)


def _known_options(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The options that this version has, as they are recorded."""
    try:
        return {name: options[name] for name in records.fields(RunOptions, options)}
    except ValueError as error:
        raise records.DamagedRecord(path, error) from error


def development(root: Path) -> Path:
    """The record of what `scaffold dev` runs from a project's folder; its lock is beside it."""
    key = files.digest(str(root.resolve()).encode()).removeprefix("sha256:")[:16]
    return files.state_dir() / "dev" / f"{key}.json"


def developed(root: Path) -> Record | None:
    """What `scaffold dev` runs from a project's folder now, as if it were deployed."""
    record = records.read_or_warn(development(root), Record)
    return record if record and record.is_visible else None


def every() -> Iterator[Record]:
    """All deployments of the user."""
    yield from filter(None, map(read, _recorded()))


def places() -> list[Path]:
    """The folders of all deployments, even those whose record can't be read, or is gone while they run."""
    with_container = {path.parents[1] for path in _home().glob(f"*/{CONTAINER}")}
    return sorted({*_recorded(), *supervisors().values(), *with_container})


def supervisors() -> dict[int, Path]:
    """The running supervisors, whatever the records say: pid -> the deployment's folder."""
    home = os.path.realpath(_home())
    folders = process.find("-m", SUPERVISOR) | process.find("-m", FORMER_SUPERVISOR)
    return {pid: _home() / folder.name for pid, folder in folders.items() if str(folder.parent) == home}


def save(record: Record) -> None:
    """Write the record of a project's deployment."""
    records.write(folder(record.root) / RECORD, record)


def name_of(folder: Path) -> str:
    """The name of the deployment whose host has its files in `folder`; "" if that isn't a deployment's."""
    parent = folder.resolve().parent
    return parent.name if str(parent.parent) == os.path.realpath(_home()) else ""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other commands from changing the deployment in this folder."""
    with locks.lock(folder.with_suffix(".lock"), doing="deploying this project"):
        yield


def _home() -> Path:
    return files.state_dir() / "deployments"


def _recorded() -> list[Path]:
    try:
        return sorted(path for path in _home().iterdir() if (path / RECORD).exists())
    except FileNotFoundError:
        return []


def at(port: int) -> Record | None:
    """The running deployment that answers at a port."""
    return next((record for record in every() if record.port == port and record.alive), None)


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of loopback. Raises `HostError` if the user may not listen on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise HostError(f"you may not listen on port {port}", hint="choose one above 1023") from error
        except OSError:
            return False
    return True


def check_free(port: int) -> None:
    """Raise `HostError`, with the owner, if a port of loopback is taken; Envoy would notice late."""
    if is_free(port):
        return
    if deployment := at(port):
        end = f"scaffold undeploy --root {shlex.quote(deployment.root)}"
        hint = f"--port 0 takes any free one; `{end}` ends that deployment"
        raise HostError(f"port {port} is taken by the deployment of {deployment.root}", hint=hint)
    owner = process.port_owner(port) or "another process"
    raise HostError(f"port {port} is taken by {owner}", hint="--port 0 takes any free one")
