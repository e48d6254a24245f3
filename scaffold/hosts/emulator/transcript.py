"""What happens between host and module, in the words of Envoy's log at level `trace`; and the log itself.

Source: proxy-wasm-cpp-host, src/v8/v8.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

from scaffold.hosts.envoy.log import Line

_MOST = 100_000  # lines that are kept


class Transcript:
    """The log of one emulator. `on` says whether callbacks and hostcalls are written, too."""

    def __init__(self, *, on: bool = False) -> None:
        self.on = on
        self.lines: list[Line] = []
        self.dropped = 0  # how many of the oldest lines are gone

    def callback(self, name: str, arguments: Sequence[int]) -> None:
        """The host calls the module."""
        self._trace(f"[host->vm] {name}({', '.join(map(str, arguments))})")

    def ended(self, name: str, result: int | None) -> None:
        """The module returns."""
        self._trace(f"[host<-vm] {name} return: {'void' if result is None else result & 0xFFFFFFFF}")

    def hostcall(self, name: str, arguments: Sequence[int]) -> None:
        """The module calls the host."""
        self._trace(f"[vm->host] {name}({', '.join(map(str, arguments))})")

    def returned(self, name: str, result: int | None) -> None:
        """The host returns."""
        self._trace(f"[vm<-host] {name} return: {'void' if result is None else result}")

    def log(self, level: str, text: str, plugin: str | None = None) -> None:
        """A line of the host's, or of a plugin's."""
        self.lines.append(Line(level, "wasm", text, plugin))
        if len(self.lines) > 2 * _MOST:
            del self.lines[:_MOST]
            self.dropped += _MOST

    def _trace(self, text: str) -> None:
        self.log("trace", text)

    # like `scaffold.hosts.envoy.log.Log`

    def size(self) -> int:
        """The position after the last line."""
        return self.dropped + len(self.lines)

    def since(self, position: int) -> list[Line]:
        """The lines from a position on."""
        return self.lines[max(0, position - self.dropped) :]
