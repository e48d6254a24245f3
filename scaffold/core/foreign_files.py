"""Read files that others give us: only regular ones, never more than a limit, and without waiting for ever.

A path on the command line, in a setting or in somebody's folder may lead to a device without an end, to a
pipe that nobody writes to, or to gigabytes. What can't be read raises `OSError`; its `strerror` says why.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from io import FileIO
from pathlib import Path

from scaffold.core.text import human

LIMIT = 4_000_000  # bytes of a file that people write: a manifest, a configuration, a schema
SECONDS = 30.0  # for a whole file: some file systems are a network away
_BLOCK = 2**20
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}


class Unreadable(OSError):
    """It isn't a regular file, or it is too large or too slow."""


def open_regular(path: Path, *, follow: bool = True) -> FileIO:
    """Open a regular file, without a buffer. A link is followed if you allow it. Raises `OSError`."""
    _check(path.stat(follow_symlinks=follow).st_mode, path)  # to open a device may already do something
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    file = FileIO(os.open(path, flags), "rb")
    try:
        _check(os.fstat(file.fileno()).st_mode, path)  # it may be another by now
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path, limit: int = LIMIT, *, follow: bool = True) -> bytes:
    """A regular file's content, at most `limit` bytes. Raises `OSError`."""
    with open_regular(path, follow=follow) as file:
        return read_opened(file, path, limit)


def read_opened(file: FileIO, path: Path, limit: int = LIMIT) -> bytes:
    """The same of a file that `open_regular` has opened."""
    content = bytearray()
    deadline = time.monotonic() + SECONDS
    if os.fstat(file.fileno()).st_size > limit:
        raise _too_large(path, limit)
    while block := file.read(_BLOCK):  # None where reading would wait
        content += block
        if len(content) > limit:  # it grows, or its system doesn't know its size
            raise _too_large(path, limit)
        if time.monotonic() > deadline:
            raise Unreadable(errno.EIO, f"reading it takes longer than {SECONDS:g} s", str(path))
    return bytes(content)


def read_text(path: Path, limit: int = LIMIT, *, encoding: str = "utf-8") -> str:
    """The same as text. Raises `OSError`, and `UnicodeDecodeError` for what isn't text."""
    return read_bytes(path, limit).decode(encoding)


def remedy(error: OSError) -> str | None:
    """What who named the file may do about it, as a hint."""
    if isinstance(error, IsADirectoryError):
        return "name a file in it"
    if isinstance(error, Unreadable) and error.errno == errno.ESPIPE:
        return "save what comes out of it in a file, and name that"
    return None


def _check(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        number = errno.ESPIPE if stat.S_ISFIFO(mode) else errno.ENOTSUP
        raise Unreadable(number, f"it is {kind}, not a regular file", str(path))


def _too_large(path: Path, limit: int) -> Unreadable:
    return Unreadable(errno.EFBIG, f"it is larger than {human(limit)}", str(path))
