"""Locks between processes: those that are killed, other users', and those of other containers."""

import os
import signal
import subprocess

import pytest
from support.scripts import AS_ANOTHER_USER, finished, in_other_pids, mounted, running, script

from scaffold.core import files, locks
from scaffold.core.events import Noted, listening

HOLD = """
with locks.lock(Path(sys.argv[1]), doing="a thing"):
    print("held", flush=True)
    sys.stdin.read()
    import time; time.sleep(300)
"""


@pytest.mark.faults("R7", injected="a lock's holder is killed", seen="the next command gets the lock")
def test_a_second_process_waits_says_so_and_goes_on_when_the_first_is_killed(tmp_path):
    path = tmp_path / "folder/lock"
    heard = []
    with running(HOLD, path) as holder:

        def kills(event):
            heard.append(event)
            assert holder.poll() is None
            holder.kill()

        with listening(kills), locks.lock(path, doing="something else"):
            assert holder.wait(5) == -signal.SIGKILL
    waiting = f"waiting for another scaffold that is something else (pid {holder.pid}, {path})"
    assert heard == [Noted(waiting)]


CONTENTS = ["", "who knows", "9" * 40, "-1", str(os.getpid()), f"{os.getpid()} 1.0", f"{2**22 + 1} 1.0"]


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_nobody_is_blamed_who_may_not_hold_the_lock(tmp_path, content):
    """As the file may say when the holder is another user's process, or its disk is full."""
    path = tmp_path / "lock"
    heard = []
    with running(HOLD, path) as holder:
        path.write_text(content)

        def kills(event):
            heard.append(event)
            holder.kill()

        with listening(kills), locks.lock(path, doing="something else"):
            assert path.read_text().startswith(f"{os.getpid()} ")
    assert heard == [Noted(f"waiting for another scaffold that is something else ({path})")]


@pytest.mark.faults(
    "R7", injected="a lock's holder is in another container", seen="waited for; no pid is blamed"
)
def test_a_holder_in_another_container_is_waited_for_and_nobody_blamed(tmp_path):
    """Its own number, 1, is that of another process here."""
    path = tmp_path / "lock"
    heard = []
    with running(HOLD, path, wrapper=in_other_pids()) as holder:
        assert path.read_text().startswith("1 ")

        def kills(event):
            heard.append(event)
            holder.kill()

        with listening(kills), locks.lock(path, doing="something else"):
            pass
    assert heard == [Noted(f"waiting for another scaffold that is something else ({path})")]


LOCKS = """
import fcntl
for path in map(Path, sys.argv[1:]):
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
    except PermissionError:
        print("may not", end=" ")
    else:
        print("holds it", end=" ")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.faults("R7", injected="another user locks what is ours", seen="they may not")
def test_another_user_can_lock_nothing_of_ours(open_folder, monkeypatch):
    """Not even where an earlier version left files and folders that everybody may read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(open_folder))
    path = files.state_dir() / "deployments" / "x.lock"
    path.parent.mkdir(parents=True)
    path.touch()
    assert finished(AS_ANOTHER_USER + LOCKS, path, path.parent) == "holds it holds it"
    with locks.lock(path, doing="a thing"):
        assert finished(AS_ANOTHER_USER + LOCKS, path, path.parent) == "may not may not"
    files.state_dir().chmod(0o755)
    path.parent.chmod(0o755)
    assert finished(AS_ANOTHER_USER + LOCKS, path) == "may not"


def test_a_lock_on_a_full_disk_holds(tmp_path):
    """There is no room for the holder's number, and none is needed."""
    said = finished(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with locks.lock(Path(sys.argv[1]), doing='a thing'): print('held')",
        tmp_path / "lock",
    )
    assert (said, (tmp_path / "lock").read_bytes()) == ("held", b"")


def test_processes_exclude_each_other(tmp_path):
    """Each adds one to a number, in two steps; none is lost."""
    number = tmp_path / "number"
    number.write_text("0")
    adds = """
import time
for _ in range(5):
    with locks.lock(Path(sys.argv[1]), doing="adding"):
        number = int(Path(sys.argv[2]).read_text())
        time.sleep(0.005)
        Path(sys.argv[2]).write_text(str(number + 1))
"""
    adders = [subprocess.Popen(script(adds, tmp_path / "lock", number)) for _ in range(3)]
    assert [adder.wait(20) for adder in adders] == [0, 0, 0]
    assert number.read_text() == "15"


@pytest.mark.parametrize("lock", ["lock", "folder/lock"])
def test_another_users_folder_is_the_machines_fault(open_folder, lock):
    open_folder.chmod(0o555)
    said = finished(
        AS_ANOTHER_USER + "from scaffold.errors import MachineError\n"
        "try:\n    with locks.lock(Path(sys.argv[1]), doing='a thing'): print('held')\n"
        "except MachineError as error: print(error.message, error.hint, sep='|')",
        open_folder / lock,
    )
    assert said == f"cannot lock {open_folder / lock}: Permission denied|does it belong to another user?"


@pytest.mark.faults(
    "R6", injected="locks.lock: a read-only disk, another user's folder", seen="exit code 4, named"
)
def test_a_lock_on_a_read_only_disk_is_the_machines_fault(tmp_path):
    locking = (
        "from scaffold.errors import MachineError\n"
        "try:\n    with locks.lock(Path(sys.argv[1]), doing='a thing'): print('held')\n"
        "except MachineError as error: print(error.message, error.hint, sep='|')"
    )
    said = mounted(tmp_path, script(locking, tmp_path / "lock"), "bind,ro")
    assert said == f"cannot lock {tmp_path / 'lock'}: Read-only file system|None"
