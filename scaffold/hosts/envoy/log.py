"""Envoy's log, and the plugin's lines in it."""

from __future__ import annotations

import json
import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

from scaffold.core.events import Logged, Noted
from scaffold.hosts.options import LEVELS
from scaffold.wasm.symbols import explained

BLOCK = 1 << 20  # bytes that are read at once; more than the longest line
_HOSTCALLS = ("[host->vm]", "[vm->host]", "[host<-vm]", "[vm<-host]")
# Envoy's counts of VMs, when one has begun or ended at a moment of its own
_COUNTS = ("~Wasm ", "Base Wasm created ", "Thread-Local Wasm created ")
OURS = "scaffold"  # the logger of our own lines
SERIOUS = ("warning", "error", "critical")
# "wasm log NAME ROOT-ID VM-ID: …"; without the name when no request is served, and without ids that are empty
_OF_PLUGIN = re.compile(r"wasm log(?: ([^: ]*)[^:]*)?: ?(.*)", re.DOTALL)


def set_aside(path: Path) -> Path:
    """Where the older part of a log is."""
    return path.with_suffix(".old")


@dataclass(frozen=True)
class Line:
    """A line of the log: `level` is as Envoy spells it, `text` is without the prefix of a plugin's line.

    `plugin` is the name in that prefix, "" if it has none, and None if the plugin didn't write the line.
    `time` is as Envoy writes it, or "". `memory` is what lay in the plugin's memory where a call of the host
    points, by address and size; only the emulator knows it.
    """

    level: str
    logger: str
    text: str
    plugin: str | None = None
    time: str = ""
    memory: Mapping[tuple[int, int], bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def of_plugin(self) -> bool:
        """Whether the plugin wrote it, or Envoy wrote it about the plugin; trace and counts of VMs aside."""
        of_envoy = self.plugin is None and self.text.startswith((*_HOSTCALLS, *_COUNTS))
        return self.logger == "wasm" and not of_envoy

    @property
    def is_shown(self) -> bool:
        """Whether it is for the plugin's author: of the plugin, or ours."""
        return self.of_plugin or self.logger == OURS

    def event(self, *, by_name: bool) -> Logged:
        """The line as an event; with `by_name` there are several plugins."""
        if self.plugin is None:
            return Logged(self.level, self.text, self.moment, OURS if self.logger == OURS else "envoy")
        by_name = by_name and self.plugin != ""
        return Logged(self.level, self.text, self.moment, self.plugin or "plugin", by_name)

    @property
    def moment(self) -> float | None:
        """When it was written, in seconds since 1970; None if that isn't known."""
        try:
            return datetime.fromisoformat(self.time).timestamp()
        except (ValueError, OverflowError):
            return None

    @property
    def serious(self) -> bool:
        """Whether it is about something that went wrong; of a crash, only the line that says what it was."""
        return self.level in SERIOUS and (self.logger != "backtrace" or self.text.startswith("Caught "))


@dataclass(frozen=True)
class Wanted:
    """Which lines of a log to show: those for the plugin's author that fit, the last `tail` of them.

    `since` is in seconds since 1970; a line whose time isn't known fits. `level` is the lowest.
    """

    since: float | None = None
    level: str = LEVELS[0]
    pattern: re.Pattern[str] | None = None
    tail: int | None = None

    def __call__(self, line: Line) -> bool:
        """Whether a line fits."""
        return (
            line.is_shown
            and (self.since is None or (line.moment or math.inf) >= self.since)
            and (line.level not in LEVELS or LEVELS.index(line.level) >= LEVELS.index(self.level))
            and (self.pattern is None or self.pattern.search(line.text) is not None)
        )

    def of(self, lines: Iterable[Line]) -> Iterable[Line]:
        """Those of a log's lines that are to be shown."""
        fitting = filter(self, lines)
        return fitting if self.tail is None else deque(fitting, maxlen=self.tail)


def nothing_logged(command: str) -> Noted:
    """What may be the reason that the log is empty, for a plugin that a command runs."""
    return Noted(
        "the plugin has logged nothing yet; if it should have: the SDK logs nothing without"
        " `proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);` in `proxy_wasm::main!`,"
        f" and `scaffold {command} --log-level debug` shows more"
    )


def lines_from(path: Path, position: int) -> tuple[list[bytes], int]:
    """Some complete lines of a log that begin at `position` or later, and the position after them.

    There are more unless the list is empty. `position` may be inside a line, since a line may be written in
    two parts. Where the file is shorter, it was set aside since; then the rest of that part comes first.
    """
    with path.open("rb") as file:
        if position > file.seek(0, os.SEEK_END):
            lines, after = _lines_of_part(set_aside(path), position)
            return (lines, after) if lines else _lines_in(file, 0)
        return _lines_in(file, position)


def lines_since(path: Path, position: int) -> Iterator[bytes]:
    """The complete lines of a log from `position` on."""
    while True:
        lines, position = lines_from(path, position)
        if not lines:
            return
        yield from lines


def lines_backwards(path: Path, until: int | None = None) -> Iterator[bytes]:
    """The complete lines of a log, the last one first, as they are now; those that were set aside too.

    With `until` only those before that position.
    """
    with ExitStack() as stack:
        parts: list[IO[bytes]] = []
        for each in (path, set_aside(path)):
            with suppress(FileNotFoundError):
                parts.append(stack.enter_context(each.open("rb")))
        if len(parts) > 1 and os.path.samestat(*(os.fstat(part.fileno()) for part in parts)):
            del parts[0]  # it was set aside in between
        for part in parts:
            yield from _part_backwards(part, until)
            until = None


def _part_backwards(file: IO[bytes], until: int | None) -> Iterator[bytes]:
    size = file.seek(0, os.SEEK_END)
    at = size if until is None else min(size, until)
    rest = b""
    is_complete = False  # the last line may still be being written
    while at:
        size = min(BLOCK, at)
        at -= size
        file.seek(at)
        first, *lines = (file.read(size) + rest).split(b"\n")
        if lines and not is_complete:
            lines.pop()
            is_complete = True
        yield from reversed(lines)
        rest = first
    if is_complete:
        yield rest


def _lines_of_part(path: Path, position: int) -> tuple[list[bytes], int]:
    try:
        with path.open("rb") as file:
            return _lines_in(file, position)
    except FileNotFoundError:
        return [], position


def _lines_in(file: IO[bytes], position: int) -> tuple[list[bytes], int]:
    file.seek(max(position - 1, 0))
    content, at = file.read(BLOCK), position
    if at:
        before, end, content = content.partition(b"\n")
        at += len(before + end) - 1
        if not end:
            return [], position
    whole = content[: content.rfind(b"\n") + 1]
    return whole.split(b"\n")[:-1], at + len(whole)  # splitlines() would split at other characters, too


class Log:
    """Envoy's log file, which `log_files` writes: a JSON object per line; positions are in bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """The position of its end."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, position: int, end: float = math.inf) -> Iterator[Line]:
        """The lines from `position` on; up to `end`, if the plugin may write faster than we read."""
        while position < end:
            lines, position = self.read(position)
            if not lines:
                return
            yield from lines

    def read(self, position: int) -> tuple[list[Line], int]:
        """Some lines from `position` on, none if there are no more yet, and the position after them."""
        try:
            lines, position = lines_from(self._path, position)
        except FileNotFoundError:
            return [], position
        return [_line(raw.decode(errors="replace")) for raw in lines], position

    def older(self) -> Iterator[Line]:
        """The lines of the part that was set aside."""
        yield from Log(set_aside(self._path)).since(0)

    def backwards(self) -> Iterator[Line]:
        """All lines, the last one first."""
        return (_line(raw.decode(errors="replace")) for raw in lines_backwards(self._path))

    def until(self, end: int) -> Iterator[Line]:
        """All lines up to the position `end`."""
        yield from self.older()
        yield from self.since(0, end)


class Logs(NamedTuple):
    """The logs of one Envoy."""

    log: Log
    access_log: Path


def _line(raw: str) -> Line:
    try:
        record = json.loads(raw, strict=False)
        text, level, logger = record["message"], record["level"], record["logger"]
        time = str(record.get("time", ""))
    except (ValueError, TypeError, KeyError):  # what Envoy writes when it crashes has another format
        return Line("critical", "", raw)
    text = explained(text) if logger == "wasm" else text
    written = _OF_PLUGIN.fullmatch(text) if logger == "wasm" else None
    if not written:
        return Line(level, logger, text, None, time)
    return Line(level, logger, written[2], written[1] or "", time)
