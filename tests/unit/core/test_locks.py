"""Locks, within one process."""

import threading
import time

import pytest

from scaffold.core import locks
from scaffold.core.events import listening
from scaffold.errors import MachineError


def test_a_lock_that_is_free_is_taken_without_a_word(tmp_path):
    heard = []
    with listening(heard.append):
        for _ in range(2):
            with locks.lock(tmp_path / "lock", doing="a thing"):
                pass
        with pytest.raises(RuntimeError), locks.lock(tmp_path / "lock", doing="a thing"):
            raise RuntimeError
        with locks.lock(tmp_path / "lock", doing="a thing"):
            pass
    assert heard == []


def test_threads_exclude_each_other_too(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(3):
            with locks.lock(tmp_path / "lock", doing="a thing"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 9


def test_a_lock_below_a_file_is_the_machines_fault(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(MachineError, match="cannot lock"),
        locks.lock(tmp_path / "file/lock", doing="a thing"),
    ):
        pytest.fail("the block ran")


def test_a_lock_is_a_private_file_that_names_its_holder_only_while_it_is_held(tmp_path):
    path = tmp_path / "lock"
    path.touch(0o644)
    with locks.lock(path, doing="a thing"):
        assert path.read_text().split()[0].isdecimal()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("", 0o600)


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MachineError, match="cannot lock"), locks.lock(tmp_path / "lock", doing="a thing"):
        pytest.fail("the block ran")
    assert not (tmp_path / "elsewhere").exists()
