"""What is deployed where: one record a project, in the user's state folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold import files, process
from scaffold.events import Warned, emit

RECORD = "deployment.json"


@dataclass(frozen=True)
class Deployment:
    """A plugin that runs in the background.

    `root` is the project's real folder, `folder` where the host's files are. `pid` is the
    supervisor's, `started` tells it from a later process of that number (`process.start_time`).
    `upstream` is the foreign one's URL; without it, `control` is the built-in one's control socket.
    `since` is in seconds since 1970.
    """

    root: str
    target: str
    folder: str
    name: str
    module_digest: str
    port: int
    admin_port: int
    envoy: str | None
    envoy_version: list[int]
    upstream: str | None
    control: str | None
    log_level: str
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
    def of(cls, deployment: Deployment) -> Status:
        """What there is to say of a deployment now."""
        return cls(
            name=deployment.name,
            url=f"http://localhost:{deployment.port}",
            admin_url=f"http://localhost:{deployment.admin_port}",
            running=deployment.alive,
            module_digest=deployment.module_digest,
            envoy_version=".".join(map(str, deployment.envoy_version)),
            upstream=deployment.upstream or "built in",
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


def folder(root: Path) -> Path:
    """Where the deployment of the project in `root` is kept."""
    real = root.resolve()
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
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield


def _read(path: Path) -> Deployment | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        return Deployment(**record)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        emit(Warned(f"{path} is no record of a deployment, and left alone: {error}"))
        return None


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
