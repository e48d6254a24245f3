"""What happens between host and module, in the words of Envoy's log at level `trace`; and the log itself.

Source: proxy-wasm-cpp-host, src/v8/v8.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scaffold.hosts.envoy.log import Line
from scaffold.wasm import hostcalls
from scaffold.wasm.hostcalls import Read

_MOST = 100_000  # lines that are kept
_LARGEST = 1 << 16  # bytes of a text that are kept with a line


class _Seen:
    """Reads a module's memory, and keeps what was read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.memory: dict[tuple[int, int], bytes] = {}

    def __call__(self, pointer: int, size: int) -> bytes | None:
        content = self._read(pointer, size) if size <= _LARGEST else None
        if content is not None:
            self.memory[pointer, size] = content
        return content


class Transcript:
    """The log of one emulator. `on` says whether somebody wants callbacks and hostcalls, too.

    `watched` is everything since `watch`, calls too, which then needn't be in the log.
    """

    def __init__(self, *, on: bool = False) -> None:
        self.on = self._keeps_calls = on
        self.watched: list[Line] = []
        self._watches = False
        self.lines: list[Line] = []
        self.dropped = 0  # how many of the oldest lines are gone

    def watch(self) -> None:
        """Forget what was watched, and begin again."""
        self.on = self._watches = True
        self.watched = []

    def callback(self, name: str, arguments: Sequence[int]) -> None:
        """The host calls the module."""
        self.trace(f"[host->vm] {name}({', '.join(map(str, arguments))})")

    def ended(self, name: str, result: int | None) -> None:
        """The module returns."""
        self.trace(f"[host<-vm] {name} return: {'void' if result is None else result & 0xFFFFFFFF}")

    def hostcall(self, name: str, arguments: Sequence[int], read: Read) -> None:
        """The module calls the host; `read` reads its memory."""
        seen = _Seen(read)
        hostcalls.passed(hostcalls.short(name), arguments, seen)
        self.trace(f"[vm->host] {name}({', '.join(map(str, arguments))})", seen.memory)

    def returned(self, name: str, result: int | None, arguments: Sequence[int], read: Read) -> None:
        """The host returns."""
        seen = _Seen(read)
        if result == 0:
            hostcalls.given(hostcalls.short(name), arguments, seen)
        self.trace(f"[vm<-host] {name} return: {'void' if result is None else result}", seen.memory)

    def log(self, level: str, text: str, plugin: str | None = None) -> None:
        """A line of the host's, or of a plugin's."""
        line = Line(level, "wasm", text, plugin)
        if self._watches and len(self.watched) < _MOST:
            self.watched.append(line)
        self._append(line)

    def _append(self, line: Line) -> None:
        self.lines.append(line)
        if len(self.lines) > 2 * _MOST:
            del self.lines[:_MOST]
            self.dropped += _MOST

    def trace(self, text: str, memory: Mapping[tuple[int, int], bytes] | None = None) -> None:
        """A line about a call; `memory` is what it passes."""
        line = Line("trace", "wasm", text, memory=memory)
        if self._watches and len(self.watched) < _MOST:
            self.watched.append(line)
        if self._keeps_calls:
            self._append(line)

    # like `scaffold.hosts.envoy.log.Log`

    def size(self) -> int:
        """The position after the last line."""
        return self.dropped + len(self.lines)

    def since(self, position: int) -> list[Line]:
        """The lines from a position on."""
        return self.lines[max(0, position - self.dropped) :]
