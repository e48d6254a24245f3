"""What is deployed where: one record a project, in the user's state folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold import files, process
from scaffold.events import Warned, emit
from scaffold.project import HostSettings

RECORD = "deployment.json"


@dataclass(frozen=True)
class Deployment:
    """A plugin that runs in the background.

    `root` is the project's real folder, `folder` where the host's files are. `pid` is the
    supervisor's, `started` tells it from a later process of that number (`process.start_time`).
    `options` is what was typed
    (`Options.record`). `since` is in seconds since 1970.
    """

    root: str
    target: str
    folder: str
    name: str
    module_digest: str
    port: int
    settings: HostSettings
    options: dict[str, Any]
    envoy_version: list[int]
    pid: int
    started: float
    since: float

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
    module_digest: str
    envoy_version: str
    upstream: str
    age: float
    root: str

    @classmethod
    def of(cls, deployment: Deployment, admin_port: int | None) -> Status:
        """What there is to say of a deployment now."""
        settings = deployment.settings
        return cls(
            name=deployment.name,
            url=f"http://localhost:{deployment.port}",
            admin_url=f"http://localhost:{admin_port}" if admin_port else "",
            running=deployment.alive,
            module_digest=deployment.module_digest,
            envoy_version=".".join(map(str, deployment.envoy_version)),
            upstream=settings.upstream or settings.bootstrap or "built in",
            age=max(0.0, time.time() - deployment.since),
            root=deployment.root,
        )

    def summary(self) -> str:
        """A line for what and where, and one for each detail."""
        where = (
            f"{self.url}, deployed {_ago(self.age)}" if self.running else "ended by itself: `scaffold logs`"
        )
        lines = [
            f"{self.name}: {where}",
            f"  module    {self.module_digest}",
            f"  envoy     {self.envoy_version}, admin at {self.admin_url}",
            f"  upstream  {self.upstream}",
            f"  project   {self.root}",
        ]
        return "\n".join(lines if self.running else [lines[0], *lines[4:]])


@dataclass(frozen=True)
class Ended:
    """A deployment that was ended."""

    name: str
    url: str
    root: str

    def summary(self) -> str:
        """That it is gone."""
        return f"{self.name} no longer answers at {self.url}"


def folder(root: Path) -> Path:
    """Where the deployment of the project in `root` is kept."""
    real = os.path.realpath(root)  # which takes a link to itself as it is
    digest = hashlib.sha256(str(real).encode(errors="surrogateescape")).hexdigest()[:12]
    return files.state_dir() / "deployments" / digest


def load(root: Path) -> Deployment | None:
    """The deployment of the project in `root`, alive or not."""
    return _read(folder(root) / RECORD)


def every() -> Iterator[Deployment]:
    """All of the user's deployments."""
    for path in sorted((files.state_dir() / "deployments").glob(f"*/{RECORD}")):
        found = _read(path)
        if found:
            yield found


def save(deployment: Deployment) -> None:
    """Record a deployment in the place of the project's former one."""
    path = folder(Path(deployment.root)) / RECORD
    files.write(path, json.dumps(dataclasses.asdict(deployment), indent=2), mode=0o600)


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Keep two commands from changing the deployment of one project at once."""
    place = folder(root)
    with files.lock(place.with_suffix(".lock"), doing="deploying this project"):
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o700)  # a plugin's configuration may hold secrets
        yield


def _read(path: Path) -> Deployment | None:
    try:
        record = _of_our_fields(Deployment, json.loads(path.read_text()))
        settings = _of_our_fields(HostSettings, record["settings"])
        settings["envoy_args"] = tuple(settings["envoy_args"])
        return Deployment(**record | {"settings": HostSettings(**settings)})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        emit(Warned(f"{path} is no record of a deployment: {error!r}"))
        return None


def _of_our_fields(kind: type, record: dict[str, Any]) -> dict[str, Any]:
    """What we know of in a record that another version of ours may have written."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {key: value for key, value in record.items() if key in names}


def end_unreadable(root: Path) -> None:
    """End what an unreadable record still names, so that it doesn't run on unseen."""
    try:
        record = json.loads((folder(root) / RECORD).read_text())
        pid, started = int(record["pid"]), float(record["started"])
    except (OSError, ValueError, TypeError, KeyError):
        return
    if process.start_time(pid) == started:
        process.end(pid, grace=5)


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
