"""A supervisor as a process: which signals end it, and that it ends with a command that never commits."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import eventually

from scaffold.core import files
from scaffold.hosts.background.deployments import RESTART, SUPERVISOR


def as_in_a_terminal():
    """Let a child heed the signals, however the tests were started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, RESTART):
        signal.signal(number, signal.SIG_DFL)


def mask(pid: int, name: str) -> set[int]:
    """The signals that a process ignores (SigIgn) or handles (SigCgt)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (bits,) = [int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:")]
    return {number for number in range(1, 32) if bits >> (number - 1) & 1}


@pytest.fixture
def supervisor(tmp_path):
    """One that waits for its order, as it does while `deploy` prepares that."""
    argv = [sys.executable, "-m", SUPERVISOR]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=tmp_path, stdin=pipe, stderr=pipe, preexec_fn=as_in_a_terminal) as child:
        # RESTART is the last that it sets
        assert eventually(lambda: child.poll() is not None or RESTART in mask(child.pid, "SigIgn"), 30)
        yield child
        child.kill()


def test_ctrl_c_in_the_terminal_of_a_deploy_does_not_reach_it(supervisor, tmp_path):
    assert {signal.SIGINT, RESTART} <= mask(supervisor.pid, "SigIgn")
    for number in (signal.SIGINT, RESTART):
        supervisor.send_signal(number)
    assert files.in_use(tmp_path)
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    assert not files.in_use(tmp_path)


def test_it_ends_when_the_command_that_started_it_does(supervisor, tmp_path):
    supervisor.stdin.close()
    assert supervisor.wait(20) != 0
    assert not files.in_use(tmp_path)
