"""The templates that there are: those that come with us, and the foreign ones that are trusted."""

from __future__ import annotations

from dataclasses import dataclass

from scaffold.project.templates import render, trust
from scaffold.project.templates.source import bundled
from scaffold.project.templates.trust import Trusted


@dataclass(frozen=True)
class Bundled:
    """A template that comes with us, and what it makes, in a line."""

    name: str
    about: str


@dataclass(frozen=True)
class Catalogue:
    """What `--template` takes by name, and which states of others it takes without `--trust`."""

    bundled: tuple[Bundled, ...]
    trusted: tuple[Trusted, ...]

    def summary(self) -> str:
        """A line for each."""
        width = max(len(each.name) for each in self.bundled)
        lines = [f"{each.name:{width}}  {each.about}" for each in self.bundled]
        if self.trusted:
            lines += ["", "trusted:"]
        for each in self.trusted:
            where = f"{each.source} ({each.directory})" if each.directory else each.source
            lines.append(f"{each.pin}  {where}, since {each.since[:10]}")
        return "\n".join(lines)


def templates(*, forget: str | None = None) -> Catalogue:
    """The templates; `forget` is a commit or digest, or how it begins, that is to be trusted no more.

    Raises `UsageError` when none, or several, begin so.
    """
    known = trust.forget(forget) if forget else trust.trusted()
    ours = [Bundled(name, _about(render.variables(folder))) for name, folder in bundled().items()]
    return Catalogue(tuple(ours), tuple(known))


def _about(variables: dict[str, object]) -> str:
    return str(variables.get("_summary") or variables.get("description") or "")
