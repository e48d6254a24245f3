"""What a program writes gets into the logs, all of it: here one in Python, in the place of Envoy."""

from __future__ import annotations

import sys
from pathlib import Path

from scaffold.hosts.envoy import log_files

ACCESS = "import os, sys; pipe = open('pipe', 'w', buffering=1)\n"


def run(folder: Path, program: str) -> tuple[int, str]:
    """The exit code of a Python program in a folder, and the log."""
    with log_files.spawn(
        [sys.executable, "-c", ACCESS + program],
        cwd=folder,
        log=folder / "log",
        access_log=folder / "access",
        access_pipe=folder / "pipe",
    ) as child:
        return child.wait(30), (folder / "log").read_text()


def test_once_it_has_ended_the_logs_have_all_it_wrote(tmp_path):
    writes = "os.write(1, b'out\\n'); os.write(2, b'err\\nno end'); print('done', file=pipe); os.abort()"
    for times in (1, 2):  # it is started again where it ended
        assert run(tmp_path, writes) == (-6, "out\nerr\nno end\n" * times)
        assert (tmp_path / "access").read_text() == "done\n" * times


def test_what_it_started_may_write_a_moment_longer(tmp_path):
    starts = "os.fork() and os._exit(3); import time; time.sleep(0.3); os.write(1, b'late\\n')"
    assert run(tmp_path, starts) == (3, "late\n")


def test_logs_and_pipe_are_the_users_alone(tmp_path):
    run(tmp_path, "print(oct(os.stat('pipe').st_mode & 0o777), oct(os.stat('log').st_mode & 0o777))")
    assert (tmp_path / "log").read_text() == "0o600 0o600\n"
