"""The fault suite: what is injected, what is seen, what is left behind; its table is printed at the end."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.elsewhere import ELSEWHERE
from faults.place import Place, a_place
from machines import debian, machine

__all__ = ["debian", "machine"]

HERE = Path(__file__).parent
PROPERTY = "fault"  # of a report: what a test recorded

Record = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("crates")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            marked = item.get_closest_marker("faults")
            if not marked or not marked.args:
                raise pytest.UsageError(f"{item.nodeid} doesn't say which fault it injects")
            item.user_properties.append((PROPERTY, [marked.args[0]]))


@pytest.fixture(scope="session", autouse=True)
def _state(state: Path) -> None:
    """Every test here has a state of our own."""


@pytest.fixture
def place() -> Iterator[Place]:
    """Where everything of a test happens; nothing may run there at its end."""
    with a_place() as place:
        yield place


@pytest.fixture
def chance() -> random.Random:
    """Chance, whose seed is printed; SCAFFOLD_SEED sets it."""
    seed = int(os.environ.get("SCAFFOLD_SEED") or random.randrange(2**32))
    print(f"SCAFFOLD_SEED={seed}")
    found = random.Random(seed)
    found.initial = seed  # type: ignore[attr-defined]
    return found


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Add a line to the suite's table: what was done to which command, what was seen, what was left."""

    def record(injected: str, seen: str, left: str = "nothing") -> None:
        request.node.user_properties.append((PROPERTY, [injected, seen, left]))

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows: list[tuple[str, ...]] = []
    for outcome, reports in terminalreporter.stats.items():
        for report in reports if outcome in ("passed", "failed", "error", "xfailed", "skipped") else ():
            properties = [value for name, value in getattr(report, "user_properties", ()) if name == PROPERTY]
            if not properties or (outcome == "passed" and report.when != "call"):
                continue
            (fault,), *recorded = properties
            if outcome != "passed":
                why = report.longrepr[2] if outcome == "skipped" else getattr(report, "wasxfail", "")
                name = report.nodeid.partition("::")[2]
                recorded = [[name, f"{outcome.upper()} {why}".strip(), "?"]]
            rows += [(fault, *line) for line in recorded]
    if not rows:
        return
    rows += [(fault, how, seen, f"{file}::{name}") for fault, how, seen, file, name in ELSEWHERE]
    rows.sort(key=lambda row: int(re.findall(r"\d+", row[0])[0]))
    terminalreporter.section("faults")
    for row in [("fault", "injected how", "seen", "left behind"), ("---",) * 4, *rows]:
        terminalreporter.write_line(f"| {' | '.join(row)} |")
