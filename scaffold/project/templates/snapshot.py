"""A snapshot of a foreign template: its files, counted, named by their digest, without links out of it."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from scaffold.core import foreign_files
from scaffold.core.text import human
from scaffold.errors import ProjectError

FILE_LIMIT = 10_000
SIZE_LIMIT = 64_000_000
# git's own files, and what Python compiles and would run instead of the sources
_EXCLUDED = (".git", "__pycache__")
_ENTRY = b"PK\x01\x02"  # begins every entry in a zip file's directory


@dataclass
class Limit:
    """How much a template may contain. Raises `ProjectError` when more is counted."""

    files: int = FILE_LIMIT
    size: int = SIZE_LIMIT

    def take(self, size: int, files: int = 1) -> None:
        """Count files of `size` bytes."""
        self.files -= files
        self.size -= size
        if self.files < 0:
            raise ProjectError(f"the template contains more than {FILE_LIMIT:,} files")
        if self.size < 0:
            raise ProjectError(f"the template contains more than {human(SIZE_LIMIT)}")


def copy(folder: Path, copied: Path) -> None:
    """Copy a folder's files and links, without git's own files, Python's caches and empty folders."""
    limit = Limit()
    copied.mkdir()
    for path in _files(folder):
        target = copied / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        status = path.lstat()
        limit.take(status.st_size)
        if stat.S_ISLNK(status.st_mode):
            target.symlink_to(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            with foreign_files.open_regular(path, follow=False) as source:
                _write(source, target, status.st_size, executable=bool(status.st_mode & 0o100))
        else:
            raise ProjectError(f"{path} isn't a regular file, so no template can contain it")


def unzip(archive: bytes, called: str, folder: Path) -> None:
    """Unpack a zip file, `called` so in errors, without what `copy` excludes.

    Raises `ProjectError` when it is damaged or encrypted, or an entry leads out of `folder`.
    """
    Limit().take(0, archive.count(_ENTRY))  # before zipfile makes an object of each
    folder.mkdir()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            entries = file.infolist()
            Limit().take(sum(entry.file_size for entry in entries), len(entries))
            for entry in entries:
                name = _checked(entry)
                if not {*PurePosixPath(name).parts}.isdisjoint(_EXCLUDED):
                    continue
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with file.open(entry) as source:
                        executable = bool(entry.external_attr >> 16 & 0o100)
                        _write(source, target, entry.file_size, executable=executable)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ProjectError(f"{called} contains two entries with the same name") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError, ValueError) as error:
        raise ProjectError(f"{called} isn't a readable zip file: {error}") from error


def _checked(entry: zipfile.ZipInfo) -> str:
    """The name of an entry. Raises `ProjectError` unless it is a file or folder that stays below the top."""
    name = entry.orig_filename
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not parts:
        raise ProjectError(f"the entry {name!r} leads out of the template")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ProjectError(
            f"the entry {name!r} is a link or a device, which a template in a zip file can't have"
        )
    if entry.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # zipfile limits the memory of no other
        raise ProjectError(f"the entry {name!r} uses a compression other than deflate")
    if entry.flag_bits & 1:
        raise ProjectError(f"the entry {name!r} is encrypted", hint="unpack it yourself, and pass the folder")
    return name


def _write(source: IO[bytes], target: Path, size: int, *, executable: bool) -> None:
    """Write at most `size` bytes, in pieces: a zip file may lie about the size, and the content be huge."""
    with target.open("xb") as file:
        while block := source.read(min(size, 1 << 16)):
            size -= len(block)
            file.write(block)
    target.chmod(0o755 if executable else 0o644)


def digest(folder: Path) -> str:
    """The digest of a folder's content: names, bytes, links, and which files are executable."""
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
    """Raise `ProjectError` for a link that leads out of the folder or nowhere; `what` names the folder."""
    top = folder.resolve()
    for path in _files(folder):
        if path.is_symlink():
            target = path.readlink()
            try:
                inside = path.resolve(strict=True).is_relative_to(top)
            except (OSError, RuntimeError):  # it leads nowhere, or to itself
                inside = False
            if target.is_absolute() or not inside:
                name = path.relative_to(folder)
                raise ProjectError(f"{name} is a link that leads out of the {what}, or nowhere: {target}")


def _files(folder: Path) -> Iterator[Path]:
    """The files and links in a folder, in the order of their names."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if name not in _EXCLUDED)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*names, *links]):
            if name not in _EXCLUDED:
                yield Path(parent, name)


def _raise(error: OSError) -> None:
    raise error
