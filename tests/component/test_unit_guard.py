"""The guard of tests/unit: a test that starts a process, opens a socket or renders a template fails."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from support.documents import ROOT

BROKEN = """
import os, socket, subprocess

def test_run():
    subprocess.run(["true"])

def test_run_caught():
    try:
        subprocess.run(["true"])
    except BaseException:
        pass

def test_fork():
    if os.fork() == 0:
        os._exit(0)

def test_connect():
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))

def test_bind():
    socket.create_server(("127.0.0.1", 0))

def test_cookiecutter():
    from jinja2 import Environment
    Environment(autoescape=True).from_string("{{ a }}").render(a=1)
"""


@pytest.fixture
def suite(tmp_path):
    """Runs tests in a copy of tests/unit; returns what pytest prints."""
    folder = tmp_path / "unit"
    folder.mkdir()
    shutil.copy(ROOT / "tests/unit/conftest.py", folder)

    def run(tests):
        (folder / "test_it.py").write_text(tests)
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "--rootdir=."]
        path = f"pythonpath={ROOT}/tests"
        ran = subprocess.run([*words, "-o", path, "unit"], cwd=tmp_path, capture_output=True, text=True)
        return ran.returncode, ran.stdout

    return run


def test_whatever_is_forbidden_fails_the_test(suite):
    code, shown = suite(BROKEN)
    assert code == 1
    for name in ("run", "fork", "connect", "bind", "cookiecutter"):
        assert f"FAILED unit/test_it.py::test_{name} - Failed: a unit test mustn't do th" in shown
    assert "ERROR unit/test_it.py::test_run_caught - assert not" in shown


def test_what_is_allowed_passes(suite):
    code, shown = suite("def test_files(tmp_path):\n    (tmp_path / 'a').write_text('b')\n")
    assert (code, "1 passed" in shown) == (0, True), shown
