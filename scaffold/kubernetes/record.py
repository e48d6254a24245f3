"""What is applied to which cluster: one record a project, in the user's state folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Warned, emit
from scaffold.kubernetes.kubectl import Resource


@dataclass(frozen=True)
class Applied:
    """A resource that was applied. `uid` is the cluster's, "" until it was seen there; `since` as of 1970.

    `server` tells the cluster from another that a context of the same name may mean later. `checked` is
    what was seen of it when it was applied; nobody keeps that.
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
        """What finds it in its cluster."""
        return Resource(self.api, self.kind, self.namespace, self.name)

    @property
    def place(self) -> tuple[str, str, Resource]:
        """What no two of them share."""
        return self.context, self.server, self.resource

    def summary(self) -> str:
        """What and where, and a line for each digest."""
        how = "would be applied" if self.dry_run else "applied"
        lines = [
            f"{self.resource}: {how} by the context {self.context}",
            f"  source           {self.source}",
            f"  manifest digest  {self.manifest_digest or '-'}",
            f"  module digest    {self.module_digest}",
        ]
        return "\n".join([*lines, *([f"  checked          {self.checked}"] if self.checked else [])])


@dataclass(frozen=True)
class ClusterStatus:
    """A resource that was applied, as it is now; `state` is one word.

    "accepted" where its control plane says so, "applied" where that says nothing and nobody objects.
    """

    applied: Applied
    state: str
    why: str = ""

    def summary(self) -> str:
        """What and where, and how it is."""
        because = f": {self.why}" if self.why else ""
        return "\n".join([f"{self.applied.resource}: {self.state}{because}", *self._details()])

    def _details(self) -> list[str]:
        one = self.applied
        return [
            f"  source           {one.source}",
            f"  context          {one.context}, {one.server}",
            f"  project          {one.root}",
        ]


@dataclass(frozen=True)
class Removed:
    """A resource that was taken away."""

    resource: str
    context: str
    root: str

    def summary(self) -> str:
        """That it is gone."""
        return f"{self.resource} removed from the context {self.context}"


def load(root: Path) -> list[Applied]:
    """What the project in `root` has applied; of a record that can't be read it is said, and nothing is."""
    kept = path(root)
    try:
        records = json.loads(kept.read_text())
        if not isinstance(records, list):
            raise ValueError("no list of them")
        known = {field.name: field.type for field in dataclasses.fields(Applied)}
        found = [Applied(**{key: value for key, value in one.items() if key in known}) for one in records]
        if any(not isinstance(value, str) for one in found for value in (*one.resource.words, one.context)):
            raise ValueError("a name in it is no text")
        return found
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        emit(Warned(f"{kept} is no record of what was applied: {error}"))
        return []


def roots() -> Iterator[Path]:
    """The projects that have something applied."""
    for kept in sorted(_home().glob("*.json")):
        try:
            yield Path(json.loads(kept.read_text())[0]["root"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            emit(Warned(f"{kept} is no record of what was applied"))


def add(root: Path, applied: Applied) -> None:
    """Record one, in the place of an earlier one of the same resource."""
    others = [one for one in load(root) if one.place != applied.place]
    _save(root, [*others, applied])


def forget(root: Path, applied: Applied) -> None:
    """Drop one from the record, and the record with the last."""
    _save(root, [one for one in load(root) if one.place != applied.place])


def _save(root: Path, found: list[Applied]) -> None:
    if found:
        _home().mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path(root), json.dumps([dataclasses.asdict(one) for one in found], indent=2), mode=0o600)
    else:
        path(root).unlink(missing_ok=True)


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Keep two commands from changing a project's record at once."""
    with files.lock(path(root).with_suffix(".lock"), doing="deploying this project"):
        yield


def _home() -> Path:
    return files.state_dir() / "clusters"


def path(root: Path) -> Path:
    """The file with the record of the project in `root`."""
    real = os.path.realpath(root)
    name = hashlib.sha256(real.encode(errors="surrogateescape")).hexdigest()[:12]
    return _home() / f"{name}.json"
