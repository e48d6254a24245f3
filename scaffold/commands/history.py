"""`history`: list what was deployed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scaffold.commands.deploy_targets import roots_of
from scaffold.core.events import Noted, emit
from scaffold.core.option_fields import flag
from scaffold.core.text import escaped
from scaffold.core.times import shown
from scaffold.core.versions import Version
from scaffold.hosts.background import deployments, target
from scaffold.hosts.background import history as past
from scaffold.hosts.background.deployments import DeployedPlugin
from scaffold.hosts.background.history import Deployed
from scaffold.project.projects import chained


@dataclass(frozen=True)
class Entry:
    """A deploy; `live` says whether it is what is deployed now. `since` is in seconds since 1970.

    `options` are its other options, without the values of environment variables. `config` says where the
    configurations came from, and has their digest, or is "" if there were none. `commit` ends with a `+` if
    something had changed since it. `again` is the number of the deploy that a rollback brought back, or 0.
    """

    number: int
    live: bool
    since: float
    target: str
    plugins: list[DeployedPlugin]
    options: str
    config: str
    envoy_version: str
    commit: str
    again: int
    said: str

    @classmethod
    def of(cls, deployed: Deployed, *, live: bool) -> Self:
        """What users see of a deploy: not the configuration itself, which may hold a secret."""
        return cls(
            number=deployed.number,
            live=live,
            since=deployed.since,
            target=deployed.target,
            plugins=list(map(DeployedPlugin.of, deployed.chain)),
            options=_options(deployed),
            config=deployments.config_source(deployed.options, deployed.chain),
            envoy_version=str(Version(deployed.envoy_version)),
            commit=deployed.commit,
            again=deployed.again,
            said=deployed.said,
        )

    def summary(self) -> str:
        """A line, and a line for each detail."""
        notes = [*([f"rollback to {self.again}"] if self.again else []), *["live"] * self.live]
        details = {
            "module": ", ".join(each.module_digest for each in self.plugins),
            "image": ", ".join(each.image for each in self.plugins if each.image),
            "options": self.options,
            "config": self.config,
            "envoy": f"{self.envoy_version}{'' if self.target == 'envoy' else f', {self.target}'}",
            "commit": self.commit,
            "problem": self.said,
        }
        name = chained(self.plugins) + (f" ({', '.join(notes)})" if notes else "")
        lines = [f"{self.number}  {shown(self.since)}  {name}"]
        return "\n".join([*lines, *(f"     {name:<8}{value}" for name, value in details.items() if value)])


def _options(deployed: Deployed) -> str:
    """How its options are typed, apart from the configuration, and from the port that each has."""
    words = []
    for name, value in deployed.options.items():
        for each in value if isinstance(value, list) else [value]:
            text = str(each).partition("=")[0] if name == "env" else str(each)
            if name not in ("config", "vm_config", "port") and each is not False:
                words.append(flag(name) if each is True else f"{flag(name)} {escaped(text)}")
    return " ".join(words)


def history(root: Path = Path()) -> list[Entry]:
    """What was deployed from the project on this machine, the last one first."""
    where = root_with_history(root)
    entries = past.read(where) if where else []
    record = deployments.load(where) if where else None
    if not entries:
        emit(Noted(f"nothing was deployed from {root.resolve()}"))
    live = record.number if record and record.alive else 0
    return [Entry.of(each, live=each.number == live) for each in reversed(entries)]


def root_with_history(root: Path) -> Path | None:
    """The project's folder, or of a workspace that of what is or was deployed; None if nothing was.

    Raises `UsageError` if that is several plugins.
    """
    roots = roots_of(root)
    record = target.chosen(roots)
    places = [Path(record.root)] if record else roots
    return target.the_one([each for each in places if past.folder(each).is_dir()], roots[0], "were")
