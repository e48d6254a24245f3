"""Envoy's log, and what the plugin wrote into it."""

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
    """A record of the log: `level` as Envoy spells it, `text` without the prefix of the plugin's lines.

    `plugin` is the name in that prefix, of the plugin that wrote it; "" where it has none.
    """

    level: str
    logger: str
    text: str
    plugin: str = ""

    @property
    def of_plugin(self) -> bool:
        """Whether the plugin wrote it, or Envoy of the plugin."""
        return self.logger == "wasm"

    def told(self, *, by_name: bool) -> Logged:
        """The line as an event, with the name of its plugin where there are several."""
        return Logged(self.level, f"{self.plugin}: {self.text}" if by_name and self.plugin else self.text)

    @property
    def serious(self) -> bool:
        """Whether it tells of something gone wrong."""
        return self.level in SERIOUS


def lines_from(path: Path, position: int) -> tuple[list[bytes], int]:
    """The whole lines of a file that begin at `position` or after it, and where to go on from.

    Envoy may write a line in two parts, so a file may have ended in the middle of one when its size was
    taken. One that is shorter than that was begun anew.
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
    return whole.split(b"\n")[:-1], at + len(whole)  # splitlines() knows other ends of a line


class Log:
    """The file that Envoy's log goes to, a JSON object a line; positions are in bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """Where the log ends now."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, position: int) -> list[Line]:
        """What was written from `position` on."""
        return self.read(position)[0]

    def read(self, position: int) -> tuple[list[Line], int]:
        """The whole lines from `position` on, and where to go on from."""
        try:
            lines, position = lines_from(self._path, position)
        except FileNotFoundError:
            return [], position
        return [_line(raw.decode(errors="replace")) for raw in lines], position


def _line(raw: str) -> Line:
    try:
        record = json.loads(raw, strict=False)
        text, level, logger = record["message"], record["level"], record["logger"]
    except (ValueError, TypeError, KeyError):  # what Envoy says when it crashes isn't in the format
        return Line("critical", "", raw)
    written = _OF_PLUGIN.fullmatch(text) if logger == "wasm" else None
    return Line(level, logger, written[2], written[1]) if written else Line(level, logger, text)
