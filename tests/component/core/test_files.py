import errno
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from support.scripts import AS_ANOTHER_USER, finished, in_other_pids, mounted, running, script

from scaffold.core import files


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A user's cache of our own, on the file system of tmp_path."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


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


def test_whenever_it_is_killed_the_file_is_whole_and_nothing_is_beside_it(tmp_path, cache):
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    path = tmp_path / "file"
    for _ in range(20):
        with running(REWRITE, path) as child:
            time.sleep(moments.uniform(0, 0.02))
            child.kill()
            child.wait()
        assert path.read_text() in WHOLE
        assert names(tmp_path) == ["file"]
    files.write(path, "x")  # sweeps the cache
    assert staged(cache) == []


KILLED_AT = """
import os, signal
left = int(sys.argv[2])
def count(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir", "tempfile.mkstemp"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
files.write(Path(sys.argv[1]).parent / "other", "x")  # imports what it needs
sys.addaudithook(count)
files.write(Path(sys.argv[1]), "new")
"""


@pytest.mark.faults(
    "R2", injected="files.write: SIGKILL before each of its steps", seen="old or new, nothing beside it"
)
def test_whichever_step_of_a_write_a_kill_comes_before_nothing_is_beside_it(tmp_path, cache):
    path, seen = tmp_path / "folder/file", []
    path.parent.mkdir()
    for step in range(1, 100):
        path.write_text("old")
        ran = subprocess.run(script(KILLED_AT, path, step), capture_output=True, text=True)
        assert names(path.parent) == ["file", "other"]
        seen.append(path.read_text())
        if ran.returncode == 0:
            break
        assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert seen[:3] == ["old"] * 3
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == "new"
    assert staged(cache) == []


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


@pytest.mark.faults(
    "R10", injected="files.temporary: another container sweeps", seen="only what a kill left is removed"
)
def test_what_a_process_uses_is_swept_neither_within_nor_from_another_container(tmp_path, cache):
    """A pid says nothing there: it is unknown, or another process's."""
    wrapper = in_other_pids()
    sweeps = "with files.tree(Path(sys.argv[1])): pass"
    with running(PLANT, tmp_path / "here"), running(PLANT, tmp_path / "there", wrapper=wrapper) as there:
        both = staged(cache)
        assert len(both) == 2
        finished(sweeps, tmp_path / "a", wrapper=wrapper)
        finished(sweeps, tmp_path / "b")
        assert staged(cache) == both
        there.kill()
        there.wait()
        finished(sweeps, tmp_path / "c", wrapper=wrapper)
        assert len(staged(cache)) == 1
    finished(sweeps, tmp_path / "d", wrapper=wrapper)
    assert staged(cache) == []


def test_a_sweep_never_takes_a_folder_that_has_just_been_made(tmp_path):
    """It comes between the folder and its lock as often as it can."""
    makes = """
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    with files.temporary(Path(sys.argv[1])) as folder:
        (folder / "file").write_text("x")
        assert (folder / "file").read_text() == "x"
"""
    with running(makes, tmp_path, 10**6), running(makes, tmp_path, 10**6):
        finished(makes, tmp_path, 1000)


WRITES = (
    """
import os
os.environ["XDG_CACHE_HOME"] = str(Path(sys.argv[1]).parent.parent / "cache")
"""
    + AS_ANOTHER_USER
    + """
try: getattr(files, sys.argv[2])(Path(sys.argv[1]), *sys.argv[3:])
except OSError as error: print(error.filename, error.filename2)
"""
)


@pytest.mark.parametrize("cached", [True, False])
def test_an_error_names_the_file_or_its_folder_never_a_temporary_one(open_folder, cached):
    (open_folder / "folder").mkdir(mode=0o555)
    (open_folder / "cache").mkdir()
    (open_folder / "cache").chmod(0o777 if cached else 0o555)
    path = open_folder / "folder" / "file"
    assert finished(WRITES, path, "write", "x") == f"{path if cached else path.parent} None"


# another user, as root could replace /dev/stdout of the whole machine
CHECKS = (
    AS_ANOTHER_USER
    + """
from scaffold.errors import UsageError
try:
    files.check_out(Path(sys.argv[1]))
    files.write_out("new", Path(sys.argv[1]))
except UsageError as error:
    print(error.message)
"""
)


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "/dev/new-file"])
def test_out_never_replaces_a_file_that_standard_output_is_redirected_to(open_folder, out):
    (open_folder / "link").symlink_to("/dev/stdout")
    with (open_folder / "redirected").open("w") as redirected:
        argv = script(CHECKS, out)
        subprocess.run(argv, cwd=open_folder, stdout=redirected, check=True)
    assert (open_folder / "redirected").read_text() == f"cannot write {out}: it isn't a regular file\n"
    assert names(open_folder) == ["link", "redirected"]


def test_out_that_is_a_link_writes_the_file_that_it_leads_to(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/real")
    for text in ("old", "new"):
        files.check_out(tmp_path / "link")
        assert files.write_out(text, tmp_path / "link") == tmp_path / "link"
        assert (tmp_path / "folder/real").read_text() == text
    assert (tmp_path / "link").is_symlink()
