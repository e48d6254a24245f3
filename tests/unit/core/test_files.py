import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.power import disk

from scaffold.core import files
from scaffold.errors import UsageError

__all__ = ["disk"]


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


# --- write


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.binary())
def test_what_is_written_is_read_again(tmp_path, content):
    path = tmp_path / "file"
    files.write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755])
def test_the_mode_is_what_was_asked_whatever_the_umask_and_the_old_file(tmp_path, mode):
    (tmp_path / "file").touch(0o666)
    before = os.umask(0o077)
    try:
        files.write(tmp_path / "file", "x", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o7777 == mode


def test_who_has_the_old_file_open_keeps_the_old_bytes(tmp_path):
    path = tmp_path / "file"
    files.write(path, "old")
    with path.open() as old:
        files.write(path, "new")
        assert (old.read(), path.read_text()) == ("old", "new")


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "real").write_text("real")
    (tmp_path / "link").symlink_to("real")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "real").read_text() == "real"
    assert (tmp_path / "link").read_text() == "new"


def test_a_folder_in_the_way_stays_and_nothing_is_left(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path / "file", "x")
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "none/file", "x")
    assert names(tmp_path) == []


# --- when the power fails


@pytest.mark.parametrize("content", ["x" * 100, b"\0" * 70_000], ids=["less than a buffer", "more"])
def test_what_is_written_is_on_the_disk_before_it_replaces_anything(tmp_path, disk, content):
    path = tmp_path / "file"
    path.write_text("old")
    disk.targets.add(path)
    files.write(path, content)
    assert disk.keeps(path)


def test_what_is_ours_is_on_the_disk_too(tmp_path, monkeypatch, disk):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = files.state_dir() / "record.json"
    files.private(path.parent)
    disk.targets.add(path)
    files.write(path, "new")
    assert disk.keeps(path)


def test_a_folders_names_can_be_synced(tmp_path, disk):
    (tmp_path / "before").touch()
    files.sync_folder(tmp_path)
    (tmp_path / "after").touch()
    assert (disk.knows(tmp_path / "before"), disk.knows(tmp_path / "after")) == (True, False)


# --- who may look


def test_a_scratch_folder_is_for_its_user_alone():
    before = os.umask(0)
    try:
        with files.scratch() as folder:
            modes = [each.stat().st_mode & 0o777 for each in (folder, *folder.parents[:3])]
    finally:
        os.umask(before)
    assert modes == [0o700] * 4


def test_a_folder_of_ours_that_others_may_even_enter_is_closed():
    folder = files.cache_dir() / "ours"
    files.private(folder)
    folder.chmod(0o711)
    files.private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_write_that_fails_leaves_nothing_beside_the_file(monkeypatch):
    folder = files.cache_dir() / "ours"
    files.private(folder)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(folder / "file", "x")
    assert names(folder) == []


def test_a_pipe_is_not_replaced_by_an_output(tmp_path):
    os.mkfifo(tmp_path / "out")
    with pytest.raises(UsageError, match="it isn't a regular file"):
        files.check_out(tmp_path / "out")


# --- tree


def test_a_tree_appears_when_the_block_ends_well(tmp_path, cache):
    target = tmp_path / "target"
    with files.tree(target) as folder:
        (folder / "a").mkdir()
        (folder / "a/file").write_text("x")
        (folder / "link").symlink_to("a/file")
        assert names(tmp_path) == []
    assert (target / "link").read_text() == "x"
    assert (names(tmp_path), names(target), staged(cache)) == (["target"], ["a", "link"], [])


def test_a_tree_may_be_entered_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        with files.tree(tmp_path / "target"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_tree_vanishes_when_the_block_fails(tmp_path, cache, error):
    with pytest.raises(error), files.tree(tmp_path / "target") as folder:
        (folder / "file").touch()
        raise error
    assert (names(tmp_path), staged(cache)) == ([], [])


def test_folders_above_a_tree_are_made_and_vanish_with_it(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(RuntimeError), files.tree(tmp_path / "a/b/c/target"):
        raise RuntimeError
    assert names(tmp_path / "a") == []
    with files.tree(tmp_path / "a/b/c/target"):
        pass
    assert names(tmp_path / "a/b/c") == ["target"]


def test_folders_above_a_tree_stay_when_others_have_moved_in(tmp_path):
    with pytest.raises(RuntimeError), files.tree(tmp_path / "a/b/target"):
        (tmp_path / "a/file").touch()
        raise RuntimeError
    assert names(tmp_path / "a") == ["file"]


@pytest.mark.parametrize("target", ["file/target", "file/folder/target"])
def test_a_file_above_a_tree_is_refused_as_one(tmp_path, target):
    """Not as a target that is there already."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError), files.tree(tmp_path / target):
        pytest.fail("the block ran")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    "make",
    [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")],
    ids=["file", "folder", "dangling link"],
)
def test_what_is_there_already_is_refused_and_stays(tmp_path, make):
    target = tmp_path / "target"
    make(target)
    before = target.lstat()
    with pytest.raises(FileExistsError) as caught, files.tree(target):
        pytest.fail("the block ran")
    assert caught.value.filename == str(target)
    assert target.lstat() == before
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize(
    "other",
    [lambda path: path.write_text("theirs"), lambda path: (path / "theirs").mkdir(parents=True)],
    ids=["file", "folder"],
)
def test_what_comes_to_be_meanwhile_is_refused_and_stays(tmp_path, cache, other):
    target = tmp_path / "target"
    with pytest.raises(FileExistsError), files.tree(target) as folder:
        (folder / "ours").touch()
        other(target)
    assert target.read_text() == "theirs" if target.is_file() else names(target) == ["theirs"]
    assert (names(tmp_path), staged(cache)) == (["target"], [])


def test_a_relative_tree_appears_where_we_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with files.tree(Path("target")):
        pass
    assert names(tmp_path) == ["target"]


# --- where things lie


@pytest.mark.parametrize(
    ("variable", "where"),
    [
        ("XDG_CACHE_HOME", files.cache_dir),
        ("XDG_DATA_HOME", files.data_dir),
        ("XDG_STATE_HOME", files.state_dir),
    ],
)
def test_the_users_folders_are_where_the_user_says(tmp_path, monkeypatch, variable, where):
    monkeypatch.setenv(variable, str(tmp_path))
    assert where() == tmp_path / "proxy-wasm-scaffold"


@pytest.fixture
def open_folders(tmp_path, monkeypatch):
    """Our folders as they were made before: everybody may look into them."""
    before = os.umask(0)
    try:
        for kind in ("CACHE", "DATA", "STATE"):
            monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
            (tmp_path / kind / files.APP / "inner").mkdir(parents=True, mode=0o777)
        yield tmp_path
    finally:
        os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


def test_our_folders_are_closed_to_other_users_even_if_they_were_open(open_folders):
    for where in (files.cache_dir, files.data_dir, files.state_dir):
        files.private(where() / "inner" / "new" / "newer")
        for folder in ("", "inner", "inner/new", "inner/new/newer"):
            assert mode(where() / folder) == 0o700
        assert mode(where().parent) == 0o777  # not ours
    files.private(open_folders / "elsewhere")
    assert mode(open_folders / "elsewhere") == 0o777


def test_a_folder_that_we_may_only_read_stays_so(open_folders):
    files.state_dir().chmod(0o555)
    files.private(files.state_dir())
    assert mode(files.state_dir()) == 0o500


def test_every_temporary_folder_is_private(open_folders):
    with files.scratch() as one, files.staging(open_folders) as two, files.temporary(open_folders) as three:
        assert [mode(folder) for folder in (one, two, three)] == [0o700] * 3
        assert mode(files.cache_dir()) == 0o700
        assert all(map(files.in_use, (one, two, three)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could remove another user's")
def test_another_users_folder_is_never_swept(tmp_path):
    """As in a /tmp that all share: whether somebody uses it is for that user's own commands to see."""
    (theirs := tmp_path / ".scaffold-1-theirs").mkdir()
    (mine := tmp_path / ".scaffold-1-mine").mkdir()
    os.chown(theirs, 4321, 4321)
    with files.temporary(tmp_path):
        assert (theirs.exists(), mine.exists()) == (True, False)
    assert files.in_use(theirs)


def test_a_link_in_the_place_of_a_folder_of_ours_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (link := tmp_path / ".scaffold-1-link").symlink_to("elsewhere")
    with files.temporary(tmp_path):
        assert names(tmp_path / "elsewhere") == []
    assert (link.is_symlink(), files.in_use(link)) == (True, True)


def test_a_folder_is_in_use_while_the_block_runs(tmp_path):
    assert not files.in_use(tmp_path)
    with files.using(tmp_path):
        assert files.in_use(tmp_path)
    assert not files.in_use(tmp_path)
    assert not files.in_use(tmp_path / "missing")
