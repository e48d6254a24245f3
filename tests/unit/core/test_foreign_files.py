"""Files that others give us: regular ones are read, up to a limit; anything else is refused, and at once."""

import os
import stat
import time
from pathlib import Path

import pytest

from scaffold.core import foreign_files
from scaffold.core.foreign_files import open_regular, read_bytes, read_text
from scaffold.errors import of_os_error


@pytest.fixture
def made(tmp_path):
    """Something of each kind that isn't a regular file."""
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "itself").symlink_to("itself")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pipe", "it is a pipe, not a regular file"),
        ("socket", "it is a socket, not a regular file"),
        ("folder", "Is a directory"),
        ("zero", "it is a device, not a regular file"),
        ("/dev/zero", "it is a device, not a regular file"),
        ("/dev/tty", "it is a device, not a regular file"),
        ("itself", "Too many levels of symbolic links"),
        ("nothing", "No such file or directory"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(made, name, why):
    begun = time.monotonic()
    for read in (open_regular, read_bytes, read_text):
        with pytest.raises(OSError) as caught:
            read(made / name)
        assert (caught.value.strerror, caught.value.filename) == (why, str(made / name))
    assert time.monotonic() - begun < 5
    if name != "nothing":
        assert of_os_error(caught.value).message == f"{made / name}: {why}"


def test_the_kinds_that_callers_tell_apart_are_the_systems(made):
    with pytest.raises(FileNotFoundError):
        read_bytes(made / "nothing")
    with pytest.raises(IsADirectoryError):
        read_bytes(made / "folder")


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_file_is_read_up_to_the_limit(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert read_bytes(path, 1000) == b"x" * size


def test_a_larger_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError) as caught:
        read_bytes(path)
    assert caught.value.strerror == "it is larger than 4 MB"


def test_a_file_that_says_that_it_is_empty_is_read_to_the_limit_all_the_same():
    """As those of /proc do: `maps` has many lines."""
    path = Path("/proc/self/maps")
    if not path.exists():
        pytest.skip("no /proc here")
    assert path.stat().st_size == 0
    assert b"python" in read_bytes(path)
    with pytest.raises(OSError) as caught:
        read_bytes(path, 1000)
    assert caught.value.strerror == "it is larger than 1 kB"


def test_a_file_that_arrives_too_slowly_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_files, "SECONDS", -1.0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError) as caught:
        read_bytes(tmp_path / "file")
    assert caught.value.strerror == "reading it takes longer than -1 s"


def test_a_link_is_followed_only_where_that_is_allowed(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"x"
    with pytest.raises(OSError) as caught:
        read_bytes(tmp_path / "link", follow=False)
    assert caught.value.strerror == "it is a link, not a regular file"


def test_text_is_utf_8_and_nothing_is_changed_in_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes("é\r\n".encode())
    assert read_text(path) == "é\r\n"
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(path)


def test_a_file_that_becomes_a_pipe_once_it_was_looked_at_is_refused(tmp_path, monkeypatch):
    path, opens = tmp_path / "file", os.open
    path.write_text("regular")

    def swapped(name, flags):
        path.unlink()
        os.mkfifo(path)
        return opens(name, flags)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(foreign_files.Unreadable, match="it is a pipe, not a regular file"):
        foreign_files.open_regular(path)
