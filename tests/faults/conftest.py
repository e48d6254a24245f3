"""The fault suite: what is injected, what is seen, what is left behind; its table is printed at the end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import fault_table
from support.image_users import shop, user
from support.machines import debian, machine
from support.places import Place, a_place

__all__ = ["debian", "machine", "shop", "user"]

HERE = Path(__file__).parent

Record = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("support.crates")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            marked = item.get_closest_marker("faults")
            if not marked or not marked.args:
                raise pytest.UsageError(f"{item.nodeid} doesn't say which fault it injects")
            item.user_properties.append((fault_table.PROPERTY, [marked.args[0]]))


@pytest.fixture(scope="session", autouse=True)
def _state(state: Path) -> None:
    """Every test here has a state of our own."""


@pytest.fixture
def place() -> Iterator[Place]:
    """Where everything of a test happens; nothing may run there at its end."""
    with a_place() as place:
        yield place


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place as that of this process, too: commands run in it, quickly, by `in_this_process`."""
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CARGO_TARGET_DIR", raising=False)
    return place


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
        request.node.user_properties.append((fault_table.PROPERTY, [injected, fault_table.brief(seen), left]))

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and write it where SCAFFOLD_FAULTS_PAGE says."""
    found = fault_table.rows(terminalreporter.stats)
    if not found:
        return
    terminalreporter.section("faults")
    for line in fault_table.lines(found):
        terminalreporter.write_line(line)
    terminalreporter.write_line(fault_table.summary(found))
    if path := os.environ.get("SCAFFOLD_FAULTS_PAGE"):
        Path(path).write_text(fault_table.page(found))
