"""Which foreign templates are trusted, since rendering one can run any code: remembered by exact state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scaffold.core import files, records
from scaffold.core.events import Noted, emit
from scaffold.errors import UsageError
from scaffold.project.templates import render as rendering
from scaffold.project.templates.source import Template

_SHORTEST = 7  # of what names a state in part


@dataclass(frozen=True)
class Trusted:
    """A state of a template that is trusted: its `pin`, where it was from then, and since when (ISO 8601)."""

    pin: str
    name: str
    source: str
    directory: str | None
    since: str


def require(template: Template, trust: bool = False) -> None:
    """Raise `UsageError` for a foreign template whose state nobody trusted; with `trust`, trust it.

    Says where it comes from, and which state that is.
    """
    if not template.foreign or template.pin is None:
        return
    where = f" ({template.directory})" if template.directory else ""
    state = _in_a_line(f"{template.source}{where} at {template.pin}")
    if any(each.pin == template.pin for each in trusted()):
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
            hint=f"look at it, then add `--checkout {template.pin} --trust`: that holds for this state alone",
        )


def trusted() -> list[Trusted]:
    """The trusted states, the oldest first. Raises `DamagedRecord`, a `MachineError`."""
    return records.read(_path(), list[Trusted]) or []


def forget(pin: str) -> list[Trusted]:
    """Trust a state no more, named by its pin or how that begins; returns what is trusted still."""
    with _lock():
        known = trusted()
        found = {each.pin for each in known if each.pin == pin or _begins(each.pin, pin)}
        if len(found) != 1:
            why = "names several trusted templates" if found else "is no trusted template"
            raise UsageError(f"`{pin}` {why}", hint="`scaffold templates` lists them")
        left = [each for each in known if each.pin not in found]
        records.write(_path(), left)
    return left


def _begins(pin: str, part: str) -> bool:
    return len(part.removeprefix("sha256:")) >= _SHORTEST and pin.removeprefix("sha256:").startswith(
        part.removeprefix("sha256:")
    )


def _remember(template: Template, pin: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    new = Trusted(pin, template.name, template.source, template.directory, since)
    with _lock():
        records.write(_path(), [*(each for each in trusted() if each.pin != pin), new])


def _runs(folder: Path) -> Iterator[str]:
    """What of a template runs openly. Its text does, too: Jinja reaches all of Python."""
    for hook in sorted((folder / "hooks").glob("*")):
        if hook.stem in rendering.HOOKS and hook.is_file():
            yield _in_a_line(f"it runs {hook.relative_to(folder)}")
    settings = rendering.variables(folder)
    extensions = settings.get("_extensions", [])
    for extension in extensions if isinstance(extensions, list) else [extensions]:
        yield _in_a_line(f"it loads {extension}")


def _in_a_line(text: str) -> str:
    """A text that a template has a part in, so that it can't pretend to be another line of ours."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _path() -> Path:
    return files.data_dir() / "trusted-templates.json"


def _lock() -> AbstractContextManager[None]:
    return files.lock(_path().with_suffix(".lock"), doing="recording which templates are trusted")
