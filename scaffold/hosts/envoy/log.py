"""Envoy's log, and the plugin's lines in it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from scaffold.core.events import Logged

SERIOUS = ("warning", "error", "critical")
_OF_PLUGIN = re.compile(r"wasm log ([^: ]*)[^:]*: ?(.*)", re.DOTALL)  # name, root id, VM id


@dataclass(frozen=True)
class Line:
    """A line of the log: `level` is as Envoy spells it, `text` is without the prefix of a plugin's line.

    `plugin` is the name in that prefix, or "".
    """

    level: str
    logger: str
    text: str
    plugin: str = ""

    @property
    def of_plugin(self) -> bool:
        """Whether the plugin wrote it, or Envoy wrote it about the plugin."""
        return self.logger == "wasm"

    def event(self, *, by_name: bool) -> Logged:
        """The line as an event, with the plugin's name if there are several."""
        return Logged(self.level, f"{self.plugin}: {self.text}" if by_name and self.plugin else self.text)

    @property
    def serious(self) -> bool:
        """Whether it is about something that went wrong."""
        return self.level in SERIOUS


def lines_from(path: Path, position: int) -> tuple[list[bytes], int]:
    """The complete lines of a file that begin at `position` or later, and the position after them.

    `position` may be inside a line, since Envoy may write a line in two parts. A file that is shorter has
    been emptied since, and is read from its beginning.
    """
    with path.open("rb") as file:
        at = position if position <= file.seek(0, os.SEEK_END) else 0
        file.seek(max(at - 1, 0))
        content = file.read()
    if at:
        before, end, content = content.partition(b"\n")
        at += len(before + end) - 1
        if not end:
            return [], position
    whole = content[: content.rfind(b"\n") + 1]
    return whole.split(b"\n")[:-1], at + len(whole)  # splitlines() would split at other characters, too


class Log:
    """Envoy's log file, a JSON object per line; positions are in bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """The position of its end."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, position: int) -> list[Line]:
        """The lines from `position` on."""
        return self.read(position)[0]

    def read(self, position: int) -> tuple[list[Line], int]:
        """The complete lines from `position` on, and the position after them."""
        try:
            lines, position = lines_from(self._path, position)
        except FileNotFoundError:
            return [], position
        return [_line(raw.decode(errors="replace")) for raw in lines], position


def _line(raw: str) -> Line:
    try:
        record = json.loads(raw, strict=False)
        text, level, logger = record["message"], record["level"], record["logger"]
    except (ValueError, TypeError, KeyError):  # what Envoy writes when it crashes has another format
        return Line("critical", "", raw)
    written = _OF_PLUGIN.fullmatch(text) if logger == "wasm" else None
    return Line(level, logger, written[2], written[1]) if written else Line(level, logger, text)
