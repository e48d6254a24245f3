"""What is deployed where: one record a project, in the user's state folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from scaffold.core import files, process
from scaffold.core.events import Noted, Warned, emit
from scaffold.hosts.options import Options
from scaffold.project.model import HostSettings, Plugin
from scaffold.project.plugins import chained

RECORD = "deployment.json"
# the module that a supervisor runs, in the deployment's folder
SUPERVISOR = "scaffold.hosts.background.supervisor"
CONTAINER = Path("envoy", "container")  # in a deployment's folder, while it may have a container
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Deployed:
    """A plugin of a deployment; `image` as `Plugin.image`."""

    name: str
    module_digest: str
    image: str = ""

    @classmethod
    def of(cls, plugin: Plugin) -> Self:
        """What is kept of a plugin."""
        return cls(plugin.name, plugin.module.digest, plugin.image)


@dataclass(frozen=True)
class Deployment:
    """A plugin that runs in the background, or a chain of them; `plugins` in the order of the chain.

    `root` is the project's real folder, or the workspace's, `folder` where the host's files are. `pid` is the
    supervisor's, `started` tells it from a later process of that number (`process.start_time`).
    `options` is what was typed (`Options.record`). `since` is in seconds since 1970.
    """

    root: str
    target: str
    folder: str
    plugins: list[Deployed]
    port: int
    settings: HostSettings
    options: dict[str, Any]
    envoy_version: list[int]
    pid: int
    started: float
    since: float

    @property
    def name(self) -> str:
        """What it is called on screen."""
        return chained(self.plugins)

    @property
    def alive(self) -> bool:
        """Whether its supervisor still runs."""
        return process.start_time(self.pid) == self.started


@dataclass(frozen=True)
class Status:
    """A deployment as its user sees it; `age` is in seconds since the last deploy."""

    name: str
    url: str
    admin_url: str
    running: bool
    plugins: list[Deployed]
    envoy_version: str
    upstream: str
    age: float
    root: str
    envoy_image: str = ""

    @classmethod
    def of(cls, deployment: Deployment, admin_port: int | None) -> Status:
        """What there is to say of a deployment now."""
        settings = deployment.settings
        return cls(
            name=deployment.name,
            url=f"http://localhost:{deployment.port}",
            admin_url=f"http://localhost:{admin_port}" if admin_port else "",
            running=deployment.alive,
            plugins=deployment.plugins,
            envoy_version=".".join(map(str, deployment.envoy_version)),
            upstream=settings.upstream or settings.bootstrap or "built in",
            age=max(0.0, time.time() - deployment.since),
            root=deployment.root,
            envoy_image=settings.envoy_image or "",
        )

    def summary(self) -> str:
        """A line for what and where, and one for each detail."""
        where = (
            f"{self.url}, deployed {_ago(self.age)}" if self.running else "ended by itself: `scaffold logs`"
        )
        image = f" in {self.envoy_image}" if self.envoy_image else ""
        lines = [
            f"{self.name}: {where}",
            *(line for plugin in self.plugins for line in self._of(plugin)),
            f"  envoy     {self.envoy_version}{image}, admin at {self.admin_url}",
            f"  upstream  {self.upstream}",
            f"  project   {self.root}",
        ]
        return "\n".join(lines if self.running else [lines[0], lines[-1]])

    def _of(self, plugin: Deployed) -> list[str]:
        by_name = f"  ({plugin.name})" if len(self.plugins) > 1 else ""
        image = [f"  image     {plugin.image}{by_name}"] if plugin.image else []
        return [*image, f"  module    {plugin.module_digest}{by_name}"]


@dataclass(frozen=True)
class Ended:
    """A deployment that was ended."""

    name: str
    url: str
    root: str

    def summary(self) -> str:
        """That it is gone."""
        return f"{self.name} no longer answers at {self.url}"


def folder(root: Path | str) -> Path:
    """Where the deployment of the project in `root` is kept."""
    real = os.path.realpath(root)  # which takes a link to itself as it is
    return _home() / _digest(real)


def load(root: Path) -> Deployment | None:
    """The deployment of the project in `root`, alive or not."""
    return read(folder(root))


def read(place: Path) -> Deployment | None:
    """The deployment that is kept in a folder; a record that can't be read is named, and counts as none."""
    path = place / RECORD
    try:
        record = _fields(Deployment, json.loads(path.read_text()))
        if _digest(record["root"]) != place.name:
            raise ValueError("it is another project's")
        read = {
            "settings": HostSettings.of(_fields(HostSettings, record["settings"])),
            "options": _fields(Options, record["options"]),
            "plugins": [Deployed(**_fields(Deployed, each)) for each in record["plugins"]],
        }
        return Deployment(**record | read | {"folder": str(place)})
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        _warn_once(f"{path} is no record of a deployment: {error}")
        return None


@cache
def _warn_once(text: str) -> None:
    """Say something that a command meets at every look."""
    emit(Warned(text))


def every() -> Iterator[Deployment]:
    """All of the user's deployments."""
    for place in _recorded():
        found = read(place)
        if found:
            yield found


def places() -> list[Path]:
    """The folders of all deployments, those too whose record can't be read, or is gone while they run."""
    with_container = {path.parents[1] for path in _home().glob(f"*/{CONTAINER}")}
    return sorted({*_recorded(), *supervisors().values(), *with_container})


def supervisors() -> dict[int, Path]:
    """The supervisors that run, whatever the records say: by pid, the deployment's folder each works in."""
    home = os.path.realpath(_home())
    return {
        pid: _home() / place.name
        for pid, place in process.find("-m", SUPERVISOR).items()
        if str(place.parent) == home
    }


def save(deployment: Deployment) -> None:
    """Record a deployment in the place of the project's former one."""
    path = folder(deployment.root) / RECORD
    files.write(path, json.dumps(dataclasses.asdict(deployment), indent=2), mode=0o600)


def end(place: Path) -> None:
    """End what serves in a deployment's folder: the supervisor that is recorded, and any that isn't."""
    now = read(place)
    if now and now.alive:
        process.end(now.pid, STOP_SECONDS)
    for pid, at in supervisors().items():
        if at == place:
            process.end(pid, STOP_SECONDS)
            emit(Noted(f"ended a supervisor that no record names (pid {pid})"))


def forget(place: Path) -> None:
    """End a deployment, and remove all that is kept of it."""
    end(place)
    shutil.rmtree(place, ignore_errors=True)


def name_of(place: Path) -> str:
    """The name of the deployment whose host has its files in `place`; "" when it is none's."""
    parent = place.resolve().parent
    return parent.name if str(parent.parent) == os.path.realpath(_home()) else ""


@contextmanager
def lock(place: Path) -> Iterator[None]:
    """Keep two commands from changing the deployment in one folder at once."""
    with files.lock(place.with_suffix(".lock"), doing="deploying this project"):
        yield


def _home() -> Path:
    return files.state_dir() / "deployments"


def _recorded() -> list[Path]:
    try:
        return sorted(path for path in _home().iterdir() if (path / RECORD).exists())
    except FileNotFoundError:
        return []


def _digest(root: str) -> str:
    return hashlib.sha256(root.encode(errors="surrogateescape")).hexdigest()[:12]


def _fields(kind: type, record: object) -> dict[str, Any]:
    """What we know of in a record, which another version of ours may have written.

    Raises `ValueError` when a field is missing, or isn't of its kind.
    """
    if not isinstance(record, dict):
        raise ValueError("no table of values")
    kinds = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        absent = field.name not in record and default
        if not absent and not _is(record.get(field.name), kinds[field.name]):
            raise ValueError(f"its `{field.name}` can't be")
    return {name: value for name, value in record.items() if name in kinds}


def _is(value: object, kind: Any) -> bool:
    """Whether a value of JSON's stands for one of an annotated kind."""
    of = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_is(value, each) for each in of)
    if get_origin(kind) in (list, tuple):
        return isinstance(value, list) and all(_is(each, of[0]) for each in value)
    if get_origin(kind) in (dict, Mapping) or dataclasses.is_dataclass(kind):
        return isinstance(value, dict)
    stand_ins: dict[Any, Any] = {float: (float, int), Path: str}
    return isinstance(value, stand_ins.get(kind, kind)) and isinstance(value, bool) == (kind is bool)


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
