"""Real cargo, real Envoy: one crate built once, and every deployment kept out of the user's state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import ROOT


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("support.crates")
    config.pluginmanager.import_plugin("support.containers")


FIXED_PORTS = {"test_docs", "test_install"}  # 8080, as users have it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`--dist loadgroup`) run files, but no two with a fixed port."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            name = item.path.stem
            item.add_marker(pytest.mark.xdist_group("fixed ports" if name in FIXED_PORTS else name))


@pytest.fixture(scope="session", autouse=True)
def _state(state: Path) -> None:
    """Every test here has a state of our own."""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of scaffold as it is here."""
    folder = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built
