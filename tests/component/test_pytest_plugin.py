"""What pytest shows of a failed test whose plugin, or host, said something odd."""

from __future__ import annotations

import re
import sys

from support.commands import run

FAILS = r"""
from scaffold.errors import HostError
from scaffold.hosts.exchange import LogLines

HOSTILE = "\x1b[2J\x1b]0;x\x07\nerror: forged"


def test_an_error():
    try:
        raise HostError(HOSTILE, hint=HOSTILE)
    except HostError as error:
        raise HostError("another") from error


def test_a_line():
    assert "another word" in LogLines([HOSTILE])
"""


def test_a_report_commands_no_terminal_and_forges_no_line(tmp_path):
    (tmp_path / "test_it.py").write_text(FAILS)
    words = ("-m", "pytest", "-p", "scaffold.pytest_plugin", "-p", "no:cacheprovider", "--color=no")
    ran = run(sys.executable, *words, cwd=tmp_path)
    assert ran.code == 1
    assert ran.out.count("forged") >= 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ran.out)
    assert not re.search(r"^E? ?error: forged", ran.out, re.MULTILINE)


def test_an_error_that_is_its_own_cause_ends_the_test_and_no_more(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def test_it():\n    error = ValueError('round')\n    raise error from error\n"
    )
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "scaffold.pytest_plugin", tmp_path]
    ran = run(*argv)
    assert (ran.code, "1 failed" in ran.out) == (1, True)
