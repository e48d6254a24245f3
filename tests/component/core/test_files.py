import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from scaffold.core import files
from scaffold.core.events import Noted, listening


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A user's cache of our own, on the file system of tmp_path."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def open_folder():
    """A folder that every user can reach, which those of tmp_path are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def script(body, *arguments):
    begin = "import sys\nfrom pathlib import Path\nfrom scaffold.core import files\n"
    return [sys.executable, "-c", begin + body, *map(str, arguments)]


@contextmanager
def running(body, *arguments):
    """A process of ours that has said a first word; killed when the block ends."""
    with subprocess.Popen(script(body, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline(), child.stderr.read().decode()
            yield child
        finally:
            child.kill()


def finished(body, *arguments):
    """What a process of ours prints to its end."""
    ran = subprocess.run(script(body, *arguments), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


AS_ANOTHER_USER = """
import os, tempfile, errno
if os.getuid() == 0:  # permissions don't bind root
    os.setgid(65534); os.setuid(65534)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def staged(cache):
    return names(cache / files.APP / "staging")


def test_a_folder_that_may_not_be_written_leaves_the_old_file(open_folder):
    path = open_folder / "file"
    path.write_text("old")
    open_folder.chmod(0o555)
    said = finished(
        AS_ANOTHER_USER + "try: files.write(Path(sys.argv[1]), 'new')\n"
        "except OSError as error: print(error.errno)",
        path,
    )
    open_folder.chmod(0o755)
    assert said == str(errno.EACCES)
    assert (path.read_text(), names(open_folder)) == ("old", ["file"])


@pytest.mark.faults("R5", injected="files.write: RLIMIT_FSIZE", seen="the old file stays")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    ran = subprocess.run(
        script("try: files.write(Path(sys.argv[1]), 'x' * 5000)\nexcept OSError as e: print(e.errno)", path),
        capture_output=True,
        text=True,
        preexec_fn=full,
    )
    assert ran.stdout.strip() == str(errno.EFBIG), ran.stderr
    assert (path.read_text(), names(tmp_path)) == ("old", ["file"])


REWRITE = """
path = Path(sys.argv[1])
whole = [letter * 100_000 for letter in "abc"]
files.write(path, whole[0])
print("ready", flush=True)
while True:
    for content in whole:
        files.write(path, content)
"""
WHOLE = {letter * 100_000 for letter in "abc"}


def test_whenever_it_is_killed_the_file_is_whole(tmp_path):
    """What a kill leaves beside the file is at most the hidden one that was being written.

    Nobody sweeps it: it is told apart from the one that another process is writing by nothing.
    """
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    path = tmp_path / "file"
    for kills in range(1, 21):
        with running(REWRITE, path) as child:
            time.sleep(moments.uniform(0, 0.02))
            child.kill()
            child.wait()
        assert path.read_text() in WHOLE
        left = [name for name in names(tmp_path) if name != "file"]
        assert all(name.startswith(".file.") for name in left)
        assert len(left) <= kills


def test_whoever_reads_while_two_write_reads_a_whole_file(tmp_path):
    path = tmp_path / "file"
    with running(REWRITE, path), running(REWRITE, path):
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert path.read_text() in WHOLE


PLANT = """
with files.tree(Path(sys.argv[1])) as folder:
    for number in range(100):
        (folder / str(number)).write_text("x" * 1000)
    print("ready", flush=True)
    while True:
        (folder / "one more").write_text("x")
"""


def test_a_ctrl_c_leaves_nothing(tmp_path, cache):
    with running(PLANT, tmp_path / "target") as child:
        child.send_signal(signal.SIGINT)
        child.wait(5)
    assert (names(tmp_path), staged(cache)) == ([], [])


def test_a_kill_leaves_nothing_beside_the_target_and_the_next_sweeps_the_cache(tmp_path, cache):
    with running(PLANT, tmp_path / "target") as dead, running(PLANT, tmp_path / "other") as alive:
        dead.kill()
        dead.wait()
        assert names(tmp_path) == []
        assert len(staged(cache)) == 2
        with files.tree(tmp_path / "target") as folder:
            (folder / "file").touch()
        (left,) = staged(cache)
        assert f"-{alive.pid}-" in left  # the living one's is not swept
    assert names(tmp_path) == ["target"]


@pytest.mark.faults("R2", injected="files.write, files.tree: killed at random", seen="whole or absent")
def test_whenever_it_is_killed_the_tree_is_whole_or_absent(tmp_path, cache):
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    again = """
print("ready", flush=True)
number = 0
while True:
    number += 1
    with files.tree(Path(sys.argv[1]) / f"{sys.argv[2]}-{number}") as folder:
        for name in "abcde":
            (folder / name).write_text(name)
"""
    for kills in range(5):
        with running(again, tmp_path, kills) as child:
            time.sleep(moments.uniform(0, 0.03))
            child.kill()
            child.wait()
        for name in names(tmp_path):
            assert not name.startswith(".")
            assert names(tmp_path / name) == list("abcde")
    with files.tree(tmp_path / "last"):
        pass
    assert staged(cache) == []


def unwritable_cache(folder):
    (folder / "file").touch()
    return folder / "file"


def other_file_system(_):
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("no second file system at hand")
    return Path(tempfile.mkdtemp(dir=shared))


@pytest.mark.parametrize("place", [unwritable_cache, other_file_system])
def test_without_a_fitting_cache_the_tree_is_staged_beside_its_target(tmp_path, cache, monkeypatch, place):
    elsewhere = place(cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere))
    try:
        with running(PLANT, tmp_path / "target") as child:
            (beside,) = names(tmp_path)
            assert beside.startswith(f".scaffold-{child.pid}-")
            child.kill()
            child.wait()
        assert names(tmp_path) == [beside]
        with files.tree(tmp_path / "target") as folder:  # sweeps it
            (folder / "file").touch()
        assert names(tmp_path) == ["target"]
        with pytest.raises(RuntimeError), files.tree(tmp_path / "next"):
            raise RuntimeError
        assert names(tmp_path) == ["target"]
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


def test_a_home_that_may_not_be_written_is_done_without(open_folder):
    """As in a container that runs as a user whose home is root's."""
    work, home = open_folder / "work", open_folder / "home"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    home.mkdir()
    home.chmod(0o555)
    said = finished(
        AS_ANOTHER_USER + "os.environ.pop('XDG_CACHE_HOME'); os.environ['HOME'] = sys.argv[2]\n"
        "with files.tree(Path(sys.argv[1]) / 'target') as folder: (folder / 'file').touch()\n"
        "print('done')",
        work,
        home,
    )
    assert said == "done"
    assert (names(work), names(work / "target"), names(home)) == (["target"], ["file"], [])


def mounted(folder, argv, options="bind"):
    """Run a process of ours that sees `folder` as a mount of its own; skips where that isn't allowed."""
    if not shutil.which("unshare") or os.getuid() != 0:
        pytest.skip("mounts are root's")
    mount = 'mount -o bind "$1" "$1"; mount -o "remount,$2" "$1"; shift 2; exec "$@"'
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", mount, "sh", folder, options, *argv],
        capture_output=True,
        text=True,
    )
    if "permission denied" in ran.stderr or "not permitted" in ran.stderr:
        pytest.skip("mounts aren't allowed here")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_one_device_mounted_twice_is_crossed_by_a_copy(tmp_path, cache):
    """As in a container with two volumes of one disk: rename is refused, though the devices are one."""
    volume = tmp_path / "volume"
    volume.mkdir()
    crossing = (
        "with files.tree(Path(sys.argv[1]) / 'target') as folder:\n"
        "    (folder / 'file').write_text('x'); (folder / 'link').symlink_to('file')\n"
        "assert Path(sys.argv[1]).stat().st_dev == Path(sys.argv[2]).stat().st_dev"
    )
    mounted(volume, script(crossing, volume, cache))
    assert (names(volume), staged(cache)) == (["target"], [])
    assert (volume / "target/link").is_symlink()
    assert (volume / "target/link").read_text() == "x"


def test_a_cache_on_a_read_only_disk_is_done_without(tmp_path, cache):
    planting = "with files.tree(Path(sys.argv[1])) as folder: (folder / 'file').touch()"
    mounted(cache, script(planting, tmp_path / "target"), "bind,ro")
    assert (names(tmp_path), names(tmp_path / "target"), names(cache)) == (["target"], ["file"], [])


# --- lock


HOLD = """
with files.lock(Path(sys.argv[1]), doing="a thing"):
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

        with listening(kills), files.lock(path, doing="something else"):
            assert holder.wait(5) == -signal.SIGKILL
    waiting = f"waiting for another scaffold that is something else (pid {holder.pid}, {path})"
    assert heard == [Noted(waiting)]


@pytest.mark.parametrize("content", ["", "who knows", "9" * 40, "-1"])
def test_a_lock_whose_holder_left_no_number_is_waited_for_all_the_same(tmp_path, content):
    path = tmp_path / "lock"
    heard = []
    with running(HOLD, path) as holder:
        path.write_text(content)

        def kills(event):
            heard.append(event)
            holder.kill()

        with listening(kills), files.lock(path, doing="something else"):
            assert path.read_text() == str(os.getpid())
    assert (len(heard), "waiting for another scaffold" in heard[0].text) == (1, True)


def test_a_lock_on_a_full_disk_holds(tmp_path):
    """There is no room for the holder's number, and none is needed."""
    said = finished(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with files.lock(Path(sys.argv[1]), doing='a thing'): print('held')",
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
    with files.lock(Path(sys.argv[1]), doing="adding"):
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
        "try:\n    with files.lock(Path(sys.argv[1]), doing='a thing'): print('held')\n"
        "except MachineError as error: print(error.message, error.hint, sep='|')",
        open_folder / lock,
    )
    assert said == f"cannot lock {open_folder / lock}: Permission denied|does it belong to another user?"


@pytest.mark.faults(
    "R6", injected="files.lock: a read-only disk, another user's folder", seen="exit code 4, named"
)
def test_a_lock_on_a_read_only_disk_is_the_machines_fault(tmp_path):
    locking = (
        "from scaffold.errors import MachineError\n"
        "try:\n    with files.lock(Path(sys.argv[1]), doing='a thing'): print('held')\n"
        "except MachineError as error: print(error.message, error.hint, sep='|')"
    )
    said = mounted(tmp_path, script(locking, tmp_path / "lock"), "bind,ro")
    assert said == f"cannot lock {tmp_path / 'lock'}: Read-only file system|None"
