"""`templates`: list the bundled templates, and the other templates that the user trusts."""

from __future__ import annotations

from dataclasses import dataclass

from scaffold.project.templates import render, trust
from scaffold.project.templates.source import bundled
from scaffold.project.templates.trust import Trusted


@dataclass(frozen=True)
class Bundled:
    """A bundled template, with a one-line summary."""

    name: str
    about: str


@dataclass(frozen=True)
class Catalogue:
    """The bundled templates, and the versions of other templates that need no `--trust`."""

    bundled: tuple[Bundled, ...]
    trusted: tuple[Trusted, ...]

    def summary(self) -> str:
        """One line per template."""
        width = max(len(each.name) for each in self.bundled)
        lines = [f"{each.name:{width}}  {each.about}" for each in self.bundled]
        if self.trusted:
            lines += ["", "trusted:"]
        for each in self.trusted:
            where = f"{each.source} ({each.directory})" if each.directory else each.source
            lines.append(f"{each.pin}  {where}, since {each.since[:10]}")
        return "\n".join(lines)


def templates(*, forget: str | None = None) -> Catalogue:
    """List the templates; first stop trusting the commit or digest that starts with `forget`.

    Raises `UsageError` if none or several start with it.
    """
    trusted = trust.forget(forget) if forget else trust.trusted()
    ours = [Bundled(name, _about(render.variables(folder))) for name, folder in bundled().items()]
    return Catalogue(tuple(ours), tuple(trusted))


def _about(variables: dict[str, object]) -> str:
    return str(variables.get("_summary") or variables.get("description") or "")
