"""The records of what is deployed: read whole, or not at all."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.deployments import edited, recorded

from scaffold.core import process
from scaffold.errors import HostError
from scaffold.hosts.background import deployments
from scaffold.hosts.background.target import attach, forget


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


@pytest.fixture
def stranger():
    """A process that has got the number of a supervisor that ended."""
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as child:
        yield child
        child.kill()


def test_a_process_that_has_got_a_supervisors_number_is_left_alone(tmp_path, stranger):
    saved = recorded(tmp_path, pid=stranger.pid, started=1.0, restarts=True)
    assert not saved.alive
    attach(saved).restart()  # which would end it
    forget(Path(saved.folder), saved)
    assert stranger.poll() is None
    assert process.start_time(stranger.pid) is not None


def test_a_supervisor_of_an_earlier_version_is_not_sent_what_would_end_it(tmp_path, stranger):
    saved = recorded(tmp_path, pid=stranger.pid, started=process.start_time(stranger.pid), restarts=False)
    assert saved.alive
    attach(saved).restart()
    forget(Path(saved.folder), saved)
    assert stranger.wait(20) == -signal.SIGTERM, "and no earlier signal"


def test_a_supervisor_in_another_home_is_not_ours(tmp_path):
    """Its folder is called like one of ours."""
    saved = recorded(tmp_path, pid=0)
    other = tmp_path / "other/deployments" / Path(saved.folder).name
    other.mkdir(parents=True)
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m", deployments.SUPERVISOR]
    with subprocess.Popen(words, cwd=other, stdin=subprocess.PIPE) as theirs:
        assert deployments.supervisors() == {}
        forget(Path(saved.folder), None)
        assert theirs.poll() is None


def test_two_commands_do_not_change_a_deployment_at_once(tmp_path):
    place = deployments.folder(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from scaffold.core.events import listening; from scaffold.hosts.background import deployments\n"
        "with listening(lambda event: print(event.text, flush=True)), deployments.lock(Path(sys.argv[1])):\n"
        "    print('locked', flush=True)"
    )
    with deployments.lock(place):
        other = subprocess.Popen([sys.executable, "-c", code, place], stdout=subprocess.PIPE)
        assert b"waiting for another scaffold that is deploying" in other.stdout.readline()
    assert other.communicate(timeout=30)[0] == b"locked\n"


def test_a_port_that_another_program_has_is_not_free(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert not deployments.is_free(port)
        with pytest.raises(HostError, match=f"port {port} is taken by ") as caught:
            deployments.check_free(port)
        assert caught.value.hint == "--port 0 takes any free one"
        recorded(tmp_path, port=port)
        with pytest.raises(HostError, match=f"port {port} is taken by the deployment of {tmp_path}"):
            deployments.check_free(port)
    assert deployments.is_free(port)
