"""Private copies of folders and archives from elsewhere: bounded, named by their content, closed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from scaffold.core.files import human
from scaffold.errors import ProjectError

MOST_FILES = 10_000
MOST_BYTES = 64_000_000
# a repository's own, and what Python makes of sources and would run in their place
_LEFT_OUT = (".git", "__pycache__")


@dataclass
class Limit:
    """How much a template may hold. Raises `ProjectError` when more is taken."""

    files: int = MOST_FILES
    size: int = MOST_BYTES

    def take(self, size: int, files: int = 1) -> None:
        """Count files of `size` bytes."""
        self.files -= files
        self.size -= size
        if self.files < 0:
            raise ProjectError(f"the template holds more than {MOST_FILES:,} files")
        if self.size < 0:
            raise ProjectError(f"the template holds more than {human(MOST_BYTES)}")


def copy(folder: Path, copied: Path) -> None:
    """Copy a folder's files and links; not what git or Python keeps beside, nor empty folders."""
    limit = Limit()
    copied.mkdir()
    for path in _files(folder):
        target = copied / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        found = path.lstat()
        limit.take(found.st_size)
        if stat.S_ISLNK(found.st_mode):
            target.symlink_to(path.readlink())
        elif stat.S_ISREG(found.st_mode):
            with path.open("rb") as source:
                _write(source, target, found.st_size, executable=bool(found.st_mode & 0o100))
        else:
            raise ProjectError(f"{path} is no file, and can't be part of a template")


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip file, but not what `copy` leaves out, too.

    Raises `ProjectError` for one that is damaged, locked, or leads out.
    """
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            Limit().take(sum(entry.file_size for entry in entries), len(entries))
            for entry in entries:
                name = _checked(entry)
                if not {*PurePosixPath(name).parts}.isdisjoint(_LEFT_OUT):
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with file.open(entry) as source:
                        executable = bool(entry.external_attr >> 16 & 0o100)
                        _write(source, target, entry.file_size, executable=executable)
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError) as error:
        raise _unreadable(archive, error) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ProjectError(f"{archive.name} holds two entries of one name") from error
    except ValueError as error:
        raise ProjectError(f"{archive.name} holds a name that no file can have") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset before the file's begin
            raise _unreadable(archive, error) from error
        raise


def _unreadable(archive: Path, error: Exception) -> ProjectError:
    return ProjectError(f"{archive.name} is no zip file that can be read: {error}")


def _checked(entry: zipfile.ZipInfo) -> str:
    """An entry's name, when it stays below and is a file's or a folder's."""
    name = entry.orig_filename
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not parts:
        raise ProjectError(f"the entry {name!r} leads out of the template")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ProjectError(
            f"the entry {name!r} is a link or a device, which a template in a zip file can't have"
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile bounds no other
        raise ProjectError(f"the entry {name!r} is compressed otherwise than by deflate")
    if entry.flag_bits & 1:
        raise ProjectError(
            f"the entry {name!r} is locked by a password", hint="unpack it, and name the folder"
        )
    return name


def _write(source: IO[bytes], target: Path, size: int, *, executable: bool) -> None:
    """The bytes that were counted, and no more; in pieces: of a lying zip file the whole may be huge."""
    with target.open("xb") as file:
        while block := source.read(min(size, 1 << 16)):
            size -= len(block)
            file.write(block)
    target.chmod(0o755 if executable else 0o644)


def digest(folder: Path) -> str:
    """What names a folder's content, "sha256:" and 64 hex digits: names, bytes, links, and who may run."""
    whole = hashlib.sha256()
    for path in _files(folder):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            kind, content = b"link", os.fsencode(path.readlink())
        else:
            kind, content = (b"program" if mode & 0o100 else b"file"), path.read_bytes()
        name = os.fsencode(path.relative_to(folder))
        whole.update(b"%s %d %d\n%s%s" % (kind, len(name), len(content), name, content))
    return f"sha256:{whole.hexdigest()}"


def check_links(folder: Path, what: str) -> None:
    """Raise `ProjectError` for a link, in a folder that is a `what`, that leads out of it or nowhere."""
    top = folder.resolve()
    for path in _files(folder):
        if path.is_symlink():
            aim = path.readlink()
            try:
                inside = path.resolve(strict=True).is_relative_to(top)
            except (OSError, RuntimeError):  # nothing there; a link to itself
                inside = False
            if aim.is_absolute() or not inside:
                name = path.relative_to(folder)
                raise ProjectError(f"{name} is a link that leads out of the {what}, or nowhere: {aim}")


def _files(folder: Path) -> Iterator[Path]:
    """What is in a folder but folders, in the order of the names."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*names, *links]):
            if name not in _LEFT_OUT:
                yield Path(parent, name)


def _raise(error: OSError) -> None:
    raise error
