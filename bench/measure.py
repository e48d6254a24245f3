"""Interleaved rounds, medians, and the table they end in."""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "cookiecutters"
TEMPLATE = TEMPLATES / "http"


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: medians in `unit`; `goal` is what the ratio (or `ours`) should be at most."""

    name: str
    ours: float
    theirs: float | None
    goal: float | None
    unit: str = "s"
    goal_of: str = "ratio"  # or "ours", "difference"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    @property
    def reached(self) -> bool | None:
        if self.goal is None:
            return None
        if self.goal_of == "ratio":
            return self.ratio is not None and self.ratio <= self.goal
        return (self.ours - (self.theirs or 0) if self.goal_of == "difference" else self.ours) <= self.goal


def run(*words: object, cwd: Path | None = None, **env: str) -> None:
    """Run a command to its end; its words go nowhere, unless it fails."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | {"PATH": path} | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ran.returncode:
        raise SystemExit(f"{words} ended with {ran.returncode}:\n{ran.stdout}")


def timed(work: Callable[[], object]) -> float:
    """How long it takes, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def interleaved(sides: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, float]:
    """The medians of what each side measures, in rounds that go round all of them."""
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            seen[name].append(measure(number))
    return {name: statistics.median(values) for name, values in seen.items()}


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what | scaffold | the other way | ratio | goal | reached |", "|---|---|---|---|---|---|"]
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:.3g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        goals = {"ratio": "ratio ≤ {}", "ours": "≤ {} " + row.unit, "difference": "+ ≤ {} " + row.unit}
        goal = "" if row.goal is None else goals[row.goal_of].format(row.goal)
        reached = "" if row.reached is None else "yes" if row.reached else "no"
        name = f"{row.name} ({row.note})" if row.note else row.name
        lines.append(f"| {name} | {row.ours:.3g} {row.unit} | {theirs} | {ratio} | {goal} | {reached} |")
    return "\n".join(lines)
