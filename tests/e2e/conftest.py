"""Real cargo, real Envoy: one crate built once, and every deployment kept out of the user's state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deployments import processes
from support.documents import ROOT
from support.ports import free_port

import scaffold


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("support.crates")
    config.pluginmanager.import_plugin("support.containers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`--dist loadgroup`) run files, and pages of the documentation."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            name = item.path.stem
            item.add_marker(pytest.mark.xdist_group(item.name if name == "test_docs" else name))


@pytest.fixture(scope="session", autouse=True)
def _state(state: Path) -> Iterator[None]:
    """Every test here has a state and a port of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCAFFOLD_PORT", str(free_port()))
        yield


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of scaffold as it is here."""
    folder = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder to deploy from; what is deployed ends with the test."""
    root = tmp_path / "project"
    root.mkdir()
    yield root
    scaffold.undeploy(root)
    assert not processes(root)
