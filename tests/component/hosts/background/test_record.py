"""The records of what is deployed: read whole, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold.core import process
from scaffold.hosts.background import record as deployments
from scaffold.hosts.background.record import DeployedPlugin, Record
from scaffold.hosts.background.target import forget
from scaffold.project.model import HostSettings


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def saved(tmp_path) -> Record:
    """A deployment whose supervisor is this process."""
    place = deployments.folder(tmp_path)
    place.mkdir(parents=True)
    made = Record(
        root=os.path.realpath(tmp_path),
        target="envoy",
        folder=str(place),
        plugins=[DeployedPlugin("hello", "sha256:0")],
        port=8080,
        settings=HostSettings(envoy_args=("-l", "info"), upstream="http://localhost:1"),
        options={"port": 8080, "bootstrap": "/somewhere/envoy.yaml"},
        envoy_version=[1, 40, 0],
        pid=os.getpid(),
        started=process.start_time(os.getpid()) or 0.0,
        since=1.0,
    )
    deployments.save(made)
    return made


def edited(saved: Record, **changes: object) -> None:
    path = Path(saved.folder) / deployments.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", [deployments.SUPERVISOR, "scaffold.targets.supervisor"])
def test_a_supervisor_is_known_by_its_folder_and_ended_whatever_the_record_says(saved, tmp_path, name):
    """Its module had another name once; one that was started then may still run."""
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
        forget(place)
        assert ours.wait(20) is not None
        assert (deployments.places(), strangers.poll()) == ([], None)
        strangers.kill()
