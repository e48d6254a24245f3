"""What came of a case, and of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field

NOTHING = "nothing"


@dataclass(frozen=True)
class Failure:
    """An expectation that doesn't hold: of which phase, what is expected there, and the lines that came."""

    phase: str
    what: str
    wanted: str
    got: tuple[str, ...]

    def lines(self) -> list[str]:
        """It as text."""
        first, *more = self.got or (NOTHING,)
        head = [f"{self.phase}: {self.what}", f"  wanted  {self.wanted}", f"  got     {first}"]
        return head + [f"          {line}" for line in more]


@dataclass
class Played:
    """What came of a case. `skipped` is why it wasn't played, "" if it was; `logs` are the plugin's."""

    case: str
    failures: list[Failure] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def outcome(self) -> str:
        """In a word."""
        return "skipped" if self.skipped else "failed" if self.failures else "passed"


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark costs each time, the median of some; `memory` is the VM's in bytes, at the end.

    `error` is why there is no cost: the plugin failed.
    """

    name: str
    fuel: int = 0
    crossings: int = 0
    copied_bytes: int = 0
    memory: int = 0
    error: str = ""
