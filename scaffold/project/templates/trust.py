"""Remember which foreign templates the user trusts, by exact state: rendering one can run any code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scaffold.core import files, locks, records
from scaffold.core.events import Noted, emit
from scaffold.core.text import escaped
from scaffold.errors import UsageError
from scaffold.project.templates import render
from scaffold.project.templates.source import Template

_SHORTEST = 7  # characters of an abbreviated pin
_LONGEST = 1000  # characters of a line


@dataclass(frozen=True)
class Trusted:
    """A trusted state of a template: its `pin`, where it came from, and since when (ISO 8601).

    `directory` is the template's folder, for people. `place` is that in the commit: the others in it aren't
    trusted. It is None in the records of earlier versions, which trusted all folders, or another by mistake:
    such a commit isn't trusted any more.
    """

    pin: str
    name: str
    source: str
    directory: str | None
    since: str
    place: str | None = None


def require(template: Template, trust: bool = False) -> None:
    """Raise `UsageError` for a foreign template whose state isn't trusted; with `trust`, trust it.

    Announces where the template comes from, and its state.
    """
    if not template.foreign or template.pin is None:
        return
    where = f" ({template.directory})" if template.directory else ""
    state = escaped(f"{template.source}{where} at {template.pin}", _LONGEST)
    if any(_covers(each, template) for each in trusted()):
        emit(Noted(f"trusted: {state}"))
    elif trust:
        _remember(template, template.pin)
        emit(Noted(f"trusted from now on: {state}"))
    else:
        emit(Noted(f"template: {state}"))
        for line in _runs(template.folder):
            emit(Noted(line))
        raise UsageError(
            f"the template {template.name} is not trusted, and rendering it can run any code as you",
            hint=f"read it, then add `--checkout {template.pin} --trust`: that trusts only this state"
            f"{' of this folder' if template.place else ''}",
        )


def trusted() -> list[Trusted]:
    """The trusted states, the oldest first. Raises `DamagedRecord`, a `MachineError`."""
    return records.read(_path(), list[Trusted]) or []


def forget(pin: str) -> list[Trusted]:
    """Stop trusting a state, named by its pin or the beginning of that; returns the remaining ones."""
    with _lock():
        known = trusted()
        matching = {each.pin for each in known if each.pin == pin or _begins(each.pin, pin)}
        if len(matching) != 1:
            why = "matches several trusted templates" if matching else "isn't a trusted template"
            raise UsageError(f"`{pin}` {why}", hint="`scaffold templates` lists them")
        left = [each for each in known if each.pin not in matching]
        records.write(_path(), left)
    return left


def _begins(pin: str, part: str) -> bool:
    return len(part.removeprefix("sha256:")) >= _SHORTEST and pin.removeprefix("sha256:").startswith(
        part.removeprefix("sha256:")
    )


def _remember(template: Template, pin: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    directory, place = template.place or template.directory, template.place
    new = Trusted(pin, template.name, template.source, directory, since, place)
    with _lock():
        left = [each for each in trusted() if each.pin != pin or each.place not in (None, place)]
        records.write(_path(), [*left, new])


def _covers(trusted: Trusted, template: Template) -> bool:
    """Whether it is the same content: a digest is that of the folder alone, a commit that of all folders."""
    alone = trusted.pin.startswith("sha256:")
    return trusted.pin == template.pin and (alone or trusted.place == template.place)


def _runs(folder: Path) -> Iterator[str]:
    """What a template obviously runs. Its text can run code, too: Jinja reaches all of Python."""
    for hook in sorted((folder / "hooks").glob("*")):
        if hook.stem in render.HOOKS and hook.is_file():
            yield escaped(f"it runs {hook.relative_to(folder)}", _LONGEST)
    extensions = render.variables(folder).get("_extensions", [])
    for extension in extensions if isinstance(extensions, list) else [extensions]:
        yield escaped(f"it loads {extension}", _LONGEST)


def _path() -> Path:
    return files.data_dir() / "trusted-templates.json"


def _lock() -> AbstractContextManager[None]:
    return locks.lock(_path().with_suffix(".lock"), doing="recording which templates are trusted")
