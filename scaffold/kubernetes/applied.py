"""Which resources are applied to which cluster: one record per project, in the user's state folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, locks, records
from scaffold.kubernetes.kubectl import Resource


@dataclass(frozen=True)
class Applied:
    """An applied resource. `uid` is the cluster's, "" until it is known; `since` is in seconds since 1970.

    `server` distinguishes the cluster from another that the same context may be later. `checked` says how
    the resource was accepted; the record doesn't keep it.
    """

    root: str
    target: str
    context: str
    server: str
    api: str
    kind: str
    namespace: str
    name: str
    source: str
    module_digest: str
    manifest_digest: str = ""
    uid: str = ""
    since: float = 0.0
    dry_run: bool = False
    checked: str = dataclasses.field(default="", compare=False)

    @property
    def resource(self) -> Resource:
        """Its identity in the cluster."""
        return Resource(self.api, self.kind, self.namespace, self.name)

    @property
    def place(self) -> tuple[str, str, Resource]:
        """Its identity among all clusters."""
        return self.context, self.server, self.resource

    def summary(self) -> str:
        """The resource, its context, and a line for each digest."""
        how = "would be applied" if self.dry_run else "applied"
        lines = [
            f"{self.resource}: {how} to the context {self.context}",
            f"  source           {self.source}",
            f"  manifest digest  {self.manifest_digest or '-'}",
            f"  module digest    {self.module_digest}",
        ]
        return "\n".join([*lines, *([f"  checked          {self.checked}"] if self.checked else [])])


@dataclass(frozen=True)
class ClusterStatus:
    """The present state of an applied resource, in one word.

    "accepted" is what its control plane reports; "applied" means that it reports nothing.
    """

    applied: Applied
    state: str
    why: str = ""

    def summary(self) -> str:
        """The resource and its state, its source, context and project."""
        because = f": {self.why}" if self.why else ""
        lines = [
            f"{self.applied.resource}: {self.state}{because}",
            f"  source           {self.applied.source}",
            f"  context          {self.applied.context}, {self.applied.server}",
            f"  project          {self.applied.root}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Removed:
    """A removed resource."""

    resource: str
    context: str
    root: str

    def summary(self) -> str:
        """The resource and its context."""
        return f"{self.resource} removed from the context {self.context}"


def load(root: Path) -> list[Applied]:
    """What the project in `root` has applied; a damaged record is named in a warning, and counts as none."""
    return records.read_or_warn(path(root), list[Applied]) or []


def roots() -> Iterator[Path]:
    """The projects that have something applied."""
    for file in sorted(home().glob("*.json")):
        if applied := records.read_or_warn(file, list[Applied]):
            yield Path(applied[0].root)


def add(root: Path, applied: Applied) -> None:
    """Record a resource, in place of an earlier record of the same one."""
    others = [each for each in load(root) if each.place != applied.place]
    _save(root, [*others, applied])


def forget(root: Path, applied: Applied) -> None:
    """Remove a resource from the record, and the record with the last one."""
    _save(root, [each for each in load(root) if each.place != applied.place])


def _save(root: Path, applied: list[Applied]) -> None:
    if applied:
        records.write(path(root), applied)
    else:
        path(root).unlink(missing_ok=True)


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Keep two commands from changing a project's record at the same time."""
    with locks.lock(path(root).with_suffix(".lock"), doing="deploying this project"):
        yield


def home() -> Path:
    """The folder of the records; it doesn't exist before something is applied."""
    return files.state_dir() / "clusters"


def path(root: Path) -> Path:
    """The file with the record of the project in `root`."""
    return home() / f"{files.short_id(os.path.realpath(root))}.json"
