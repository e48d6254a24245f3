"""What was deployed from a project before, with everything that is needed to deploy it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scaffold.core import files, git, records
from scaffold.core.foreign_files import read_bytes
from scaffold.errors import ModuleError, ProjectError, ScaffoldError
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.host import HOSTS
from scaffold.hosts.options import HostSettings, RunOptions
from scaffold.hosts.plugin import Plugin

_OTHERS = "`scaffold history` lists the other deploys"
MOST = 20  # deploys that are remembered
_MODULES, _BOOTSTRAPS = "modules", "bootstraps"


@dataclass(frozen=True)
class Deployed:
    """One deploy. `number` counts them; `since` is in seconds since 1970.

    `plugins` are as `Plugin.to_json` makes them, with modules of ours; `options` are the user's, completed.
    `commit` is the repository's, with a `+` if something had changed since. `again` is the number of the
    deploy that a rollback brought back, or 0; `said` is what was wrong with it. `bootstrap` is a copy of the
    user's, or ""; `tls_digest` is that of the certificate and its key.
    """

    number: int
    since: float
    target: str
    plugins: list[dict[str, Any]]
    options: dict[str, Any]
    envoy_version: list[int]
    commit: str = ""
    again: int = 0
    said: str = ""
    bootstrap: str = ""
    tls_digest: str | None = None

    @cached_property
    def chain(self) -> list[Plugin]:
        """The plugins in their order."""
        return [Plugin.from_json(dict(each)) for each in self.plugins]

    def check(self) -> None:
        """Raise `ModuleError` if a module isn't there any more as it was, `ProjectError` for a bootstrap."""
        for plugin in self.chain:
            path = plugin.module.path
            if not path.is_file() or files.digest(path.read_bytes()) != plugin.module.digest:
                message = f"the module of deploy {self.number} is gone, or was changed: {path}"
                raise ModuleError(message, hint=_OTHERS)
        kept = Path(self.bootstrap)
        if self.bootstrap and not (kept.is_file() and files.digest(kept.read_bytes()).endswith(kept.stem)):
            message = f"the bootstrap of deploy {self.number} is gone, or was changed: {kept}"
            raise ProjectError(message, hint=_OTHERS)

    @property
    def what(self) -> tuple[object, ...]:
        """What tells it from another deploy."""
        return self.target, self.plugins, self.options, self.bootstrap, self.envoy_version, self.said


def folder(root: Path) -> Path:
    """Where the history of the project in `root` is."""
    return files.state_dir() / "history" / deployments.folder(root).name


def read(root: Path) -> list[Deployed]:
    """What was deployed from a project, the oldest first."""
    found = (_read(path) for path in folder(root).glob("*.json"))
    return sorted(filter(None, found), key=lambda each: each.number)


def _read(path: Path) -> Deployed | None:
    """One deploy; a damaged one, and one that only another version understands, counts as none."""
    try:
        made = records.read(path, Deployed)
        if made and made.target not in HOSTS:
            raise records.DamagedRecord(path, "its `target` isn't valid")
        if made:
            _ = made.chain, RunOptions(**records.fields(RunOptions, made.options))
        return made
    except records.DamagedRecord as error:
        records.warn(error)
    except (ValueError, ScaffoldError) as error:
        records.warn(records.DamagedRecord(path, error))
    except (LookupError, TypeError):
        records.warn(records.DamagedRecord(path, "its `plugins` aren't valid"))
    return None


def add(record: Record, plugins: Sequence[Plugin], *, again: int = 0) -> int:
    """Remember a deploy, unless it is the last one once more; returns its number.

    The caller holds the deployment's lock.
    """
    root = Path(record.root)
    place = folder(root)
    before = read(root)
    # those that another version wrote, too
    numbers = [int(path.stem) for path in place.glob("*.json") if path.stem.isdecimal()]
    made = Deployed(
        number=max(numbers, default=0) + 1,
        since=record.since,
        target=record.target,
        plugins=[_kept(plugin, place / _MODULES).to_json() for plugin in plugins],
        options=record.options,
        envoy_version=record.envoy_version,
        again=again,
        said=record.said,
        bootstrap=_kept_bootstrap(record.settings, place / _BOOTSTRAPS),
        tls_digest=record.settings.tls_digest,
    )
    made = records.parse(Deployed, json.loads(json.dumps(asdict(made))))  # as it will be read
    if before and not again and before[-1].what == made.what:
        return before[-1].number
    if head := git.head(root):
        made = replace(made, commit=f"{head.commit[:12]}{'+' * head.changed}")
    records.write(place / f"{made.number}.json", made)
    forget_old()
    _prune(place, [*before, made])
    return made.number


def forget_old() -> None:
    """Remove the histories and logs of all projects that weren't deployed for long."""
    for kind in ("history", "logs"):
        deployments.forget_old(files.state_dir() / kind)


def forget(root: Path) -> None:
    """Remove the history of a project."""
    shutil.rmtree(folder(root), ignore_errors=True)


def _kept(plugin: Plugin, place: Path) -> Plugin:
    """The plugin, with a copy of its module that stays: a build replaces the file."""
    path = place / f"{plugin.module.digest.removeprefix('sha256:')}.wasm"
    if not path.exists():
        files.private(place)
        files.write(path, plugin.module.content, mode=0o600)
    return replace(plugin, module=replace(plugin.module, path=path))


def _kept_bootstrap(settings: HostSettings, place: Path) -> str:
    """A copy of the user's bootstrap that stays: they may edit it. "" if there is none, or it was edited."""
    if settings.bootstrap is None:
        return ""
    source = Path(settings.bootstrap)
    content = read_bytes(source)
    digest = files.digest(content)
    if digest != settings.bootstrap_digest:
        return ""
    path = place / f"{digest.removeprefix('sha256:')}{source.suffix}"
    if not path.exists():
        files.private(place)
        files.write(path, content, mode=0o600)
    return str(path)


def _prune(place: Path, entries: Sequence[Deployed]) -> None:
    """Remove the oldest deploys, and modules and bootstraps that no other has."""
    for each in entries[:-MOST]:
        (place / f"{each.number}.json").unlink(missing_ok=True)
    named = {plugin["module"]["path"] for each in entries[-MOST:] for plugin in each.plugins}
    named |= {each.bootstrap for each in entries[-MOST:]}
    for path in [*(place / _MODULES).glob("*.wasm"), *(place / _BOOTSTRAPS).glob("*")]:
        if str(path) not in named:
            with suppress(FileNotFoundError):
                path.unlink()
