"""Programs side by side: how many at once, whose words, and what is left of them."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from scaffold.core import process
from scaffold.core.process import Program

MEETS = """
import os, sys, time
here, wanted = sys.argv[1], int(sys.argv[2])
open(f"{here}/{os.getpid()}", "w").close()
deadline = time.monotonic() + 20
while len(os.listdir(here)) < wanted:
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""  # ends when as many are there


def python(code: str, *words: object, cwd: Path = Path()) -> Program:
    return Program([sys.executable, "-c", code, *map(str, words)], cwd)


def test_each_ones_words_stay_together_and_its_exit_code_is_its_own(tmp_path):
    code = "import os, sys; [os.write(n % 2 + 1, f'{sys.argv[1]} {n}\\n'.encode()) for n in range(200)]"
    programs = [python(f"{code}; sys.exit({number})", number, cwd=tmp_path) for number in range(5)]
    ended = sorted(process.run_many(programs, env=os.environ, limit=3), key=lambda each: each.index)
    assert [each.code for each in ended] == [0, 1, 2, 3, 4]
    for each in ended:
        assert each.output == "".join(f"{each.index} {line}\n" for line in range(200))
        assert 0 < each.seconds < 60


def test_they_run_at_once(tmp_path):
    programs = [python(MEETS, tmp_path, 3)] * 3
    assert [each.code for each in process.run_many(programs, env=os.environ, limit=3)] == [0, 0, 0]


def test_never_more_than_the_limit(tmp_path):
    """Each finds itself among two at the most."""
    code = (
        "import os, sys, time; here = sys.argv[1]; mine = f'{here}/{os.getpid()}'; open(mine, 'w').close();"
        "time.sleep(0.05); print(len(os.listdir(here))); os.remove(mine)"
    )
    programs = [python(code, tmp_path)] * 6
    seen = [int(each.output) for each in process.run_many(programs, env=os.environ, limit=2)]
    assert len(seen) == 6
    assert max(seen) <= 2


def test_the_first_to_end_is_the_first_to_be_told(tmp_path):
    waits = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    programs = [python(waits, tmp_path / "go"), python("pass")]
    run = process.run_many(programs, env=os.environ, limit=2)
    assert next(run).index == 1
    (tmp_path / "go").touch()
    assert [each.index for each in run] == [0]


def test_what_still_runs_ends_with_the_loop(tmp_path):
    """And what it has started, too."""
    code = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '100']);"
        "open(f'{sys.argv[1]}/{child.pid}', 'w').close(); time.sleep(100)"
    )
    run = process.run_many([python(code, tmp_path), python(MEETS, tmp_path, 2)], env=os.environ, limit=2)
    assert next(run).index == 1
    (pid,) = [int(path.name) for path in tmp_path.iterdir() if is_sleep(int(path.name))]
    run.close()
    deadline = time.monotonic() + 10
    while is_sleep(pid):
        assert time.monotonic() < deadline


def is_sleep(pid: int) -> bool:
    with suppress(psutil.Error):
        return process.start_time(pid) is not None and psutil.Process(pid).name() == "sleep"
    return False


def test_a_program_that_cannot_start_ends_the_rest(tmp_path):
    from scaffold.errors import MachineError

    with pytest.raises(MachineError, match="cannot run /nowhere"):
        list(process.run_many([python("import time; time.sleep(100)"), Program(["/nowhere"], tmp_path)],
                          env=os.environ, limit=2))  # fmt: skip


def test_this_machine_has_a_core():
    assert 1 <= process.cores() <= (os.cpu_count() or 1)
