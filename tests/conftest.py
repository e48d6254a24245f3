"""What every test begins with, how long it may take, and how many examples Hypothesis makes up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("support")

HERE = Path(__file__).parent
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=500, deadline=None, print_blob=True)
settings.load_profile(PROFILE)

# on a busy machine; pyproject.toml has the limit for the other folders
SECONDS = {"unit": 60 if PROFILE == "dev" else 600, "component": 600}

# a user's Python buffers what it prints, and what it does with that at its end is ours to get right
os.environ.pop("PYTHONUNBUFFERED", None)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signals_again() -> Iterator[None]:
    """A command that a signal ends ignores more of them: here, only until its test has ended."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        return
    for item in items:
        folder = item.path.relative_to(HERE).parts[0] if HERE in item.path.parents else ""
        if folder in SECONDS:
            item.add_marker(pytest.mark.timeout(SECONDS[folder]))
