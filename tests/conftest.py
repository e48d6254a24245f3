"""What every test begins with, and how long it may take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# on a busy machine; pyproject.toml has the limit for the other folders
SECONDS = {"unit": 60, "component": 300}

# a user's Python buffers what it prints, and what it does with that at its end is ours to get right
os.environ.pop("PYTHONUNBUFFERED", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        return
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if HERE in item.path.parents else ""
        if folder in SECONDS:
            item.add_marker(pytest.mark.timeout(SECONDS[folder]))
