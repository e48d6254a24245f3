"""The records of what is deployed: read whole, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.deployments import edited, recorded

from scaffold.hosts.background import deployments
from scaffold.hosts.background.target import forget


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize("name", [deployments.SUPERVISOR, "scaffold.targets.supervisor"])
def test_a_supervisor_is_known_by_its_folder_and_ended_whatever_the_record_says(tmp_path, name):
    """Its module had another name once; one that was started then may still run."""
    saved = recorded(tmp_path, pid=0)
    edited(saved, pid=None)
    place, elsewhere = Path(saved.folder), tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m", name]
    with (
        subprocess.Popen(words, cwd=place, stdin=subprocess.PIPE) as ours,
        subprocess.Popen(words, cwd=elsewhere, stdin=subprocess.PIPE) as strangers,
    ):
        assert deployments.supervisors() == {ours.pid: place}
        assert deployments.places() == [place]
        forget(place, None)
        assert ours.wait(20) is not None
        assert (deployments.places(), strangers.poll()) == ([], None)
        strangers.kill()
