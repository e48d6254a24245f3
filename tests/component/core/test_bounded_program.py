"""A program that takes more than it may: of memory, of the disk, or of time."""

from __future__ import annotations

import sys

import pytest

from scaffold.core import bounded_program, process
from scaffold.core.bounded_program import Exceeded, Limits

PLENTY = Limits(disk=10**9, memory=10**10, seconds=60)
HOGS = "import time; x = b'x' * 300_000_000; print('full', flush=True); time.sleep(60)"
FILLS = "import time; open('file', 'wb').write(b'x' * 30_000_000); print('full', flush=True); time.sleep(60)"


def output(tmp_path, limits, *argv):
    with process.spawn(argv, cwd=tmp_path, stdout=process.PIPE) as child:
        return b"".join(bounded_program.output(child, child.stdout, tmp_path, limits))


def test_what_stays_within_its_limits_is_read_to_its_end(tmp_path):
    assert output(tmp_path, PLENTY, "sh", "-c", "echo a; echo b") == b"a\nb\n"


ITSELF = (sys.executable, "-c", HOGS)
BELOW = ("sh", "-c", '"$@"; :', "sh", *ITSELF)


@pytest.mark.parametrize("argv", [ITSELF, BELOW], ids=["itself", "below"])
def test_memory_is_that_of_all_that_it_started(tmp_path, argv):
    with pytest.raises(Exceeded, match="it needs more than 200 MB of memory") as caught:
        output(tmp_path, Limits(disk=10**9, memory=200_000_000, seconds=60), *argv)
    assert caught.value.limit == "memory"


def test_the_disk_is_its_folder(tmp_path):
    with pytest.raises(Exceeded, match="more than 20 MB arrived") as caught:
        output(tmp_path, Limits(disk=20_000_000, memory=10**10, seconds=60), sys.executable, "-c", FILLS)
    assert caught.value.limit == "disk"


def test_time_has_an_end_even_if_it_prints_all_the_while(tmp_path):
    with pytest.raises(Exceeded, match=r"it takes longer than 0\.5 s") as caught:
        output(tmp_path, Limits(disk=10**9, memory=10**10, seconds=0.5), "yes")
    assert caught.value.limit == "seconds"
