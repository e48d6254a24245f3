"""Real cargo, real Envoy: one crate built once, and every deployment kept out of the user's state."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("crates")
    config.pluginmanager.import_plugin("containers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session", autouse=True)
def _state(state: Path) -> None:
    """Every test here has a state of our own."""
