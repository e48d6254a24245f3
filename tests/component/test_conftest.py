"""What tests/conftest.py gives to every test: a time-out, and signals as they are in a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CTRL_C = "tests/component/core/test_process.py::test_a_second_ctrl_c_waits_for_no_grace"
OWN = """
def test_own(request):
    print("time-out", request.node.get_closest_marker("timeout").args[0])
"""


def test_every_test_has_a_time_out(request, tmp_path):
    assert 0 < float(request.config.getini("timeout")) <= 1800
    for folder in ("unit", "component"):
        place = tmp_path / folder
        place.mkdir(parents=True)
        (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
        (place / "test_own.py").write_text(OWN)
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(place)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
            capture_output=True,
            text=True,
        )
        assert "time-out 600\n" in ran.stdout or "time-out 60\n" in ran.stdout, ran.stdout + ran.stderr


def test_ctrl_c_reaches_what_a_test_starts_even_if_who_started_the_tests_ignores_it():
    """As in a shell's background."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CTRL_C],
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
    )
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize("turn", [1, 2])
def test_what_a_command_ignored_is_heeded_by_the_next_test(turn):
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
