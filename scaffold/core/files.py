"""Files and folders that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

import platformdirs

from scaffold.core.events import Noted, emit
from scaffold.errors import MachineError, UsageError

APP = "proxy-wasm-scaffold"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_dir() -> Path:
    """The folder for what can be made again (XDG_CACHE_HOME)."""
    return Path(platformdirs.user_cache_dir(APP, appauthor=False))


def data_dir() -> Path:
    """The folder for what is expensive to make (XDG_DATA_HOME): toolchains, Envoys."""
    return Path(platformdirs.user_data_dir(APP, appauthor=False))


def state_dir() -> Path:
    """The folder for records of what is running (XDG_STATE_HOME)."""
    return Path(platformdirs.user_state_dir(APP, appauthor=False))


def digest(content: bytes) -> str:
    """The digest of some bytes in OCI's form: "sha256:" and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of(file: BufferedReader) -> str:
    """The same for the rest of an open file, which is read in pieces."""
    return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def short_id(path: Path | str) -> str:
    """12 hexadecimal digits that stand for a path in the name of another file."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def check_out(out: Path) -> None:
    """Raise `UsageError` if the argument of `--out` can't become a file."""
    if out.is_dir() or not out.parent.is_dir():
        why = "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise UsageError(f"cannot write {out}: {why}", hint="--out takes the name of a file")


def write_out(text: str, out: Path) -> str | Path:
    """Do as `--out` says: return the text for standard output, or write it to a file and return its path."""
    if out == Path("-"):
        return text.removesuffix("\n")
    write(out, text)
    return out


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace the content of `path` at once: a reader sees the old bytes or the new ones, never a part.

    Envoy, which watches for renames, notices the change.
    """
    data = content.encode() if isinstance(content, str) else content
    with naming(path):
        _write(path, data, mode)


def _write(path: Path, data: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            sync(file)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync(file: IO[bytes]) -> None:
    """Wait until the file's content is on the disk, so that it is complete after a rename."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def tree(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block succeeds, and is removed when it fails.

    It is made in the user's cache if that is on the same file system, so that not even a SIGKILL leaves
    anything beside `target`; what an earlier kill left in the cache is removed first.
    Raises `FileExistsError` when `target` exists, or somebody else makes it meanwhile.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with naming(target), _parents(target), staging(target.parent) as aside:
        made = aside / target.name
        made.mkdir()
        yield made
        try:
            made.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            if error.errno != errno.EXDEV:  # even on one device, between two mounts
                error.filename, error.filename2 = str(target), None  # not the temporary one
                raise
            with temporary(target.parent) as beside:
                shutil.copytree(made, beside / target.name, symlinks=True)
                (beside / target.name).rename(target)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of a full disk name `path`: the system names nothing, or a temporary part."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.errno in _FULL:
            error.filename = str(path)
        raise


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the folders above `target`; the new ones are removed again when the block fails."""
    missing = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # this one would mean that `target` exists
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)) from error
        yield
    except BaseException:
        for folder in missing:  # the innermost first
            with suppress(OSError):  # somebody else put something in it
                folder.rmdir()
        raise


@contextmanager
def scratch() -> Iterator[Path]:
    """A private folder while the block runs; if we are killed, a later call removes it."""
    parent = cache_dir() / "scratch"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent, buffering=0) as trial:
            trial.write(b"x")
    except OSError:  # the home is read-only, or full
        parent = Path(tempfile.gettempdir())
    with temporary(parent) as folder:
        folder.chmod(0o700)
        yield folder


def move(made: Path, target: Path) -> None:
    """Replace the file `target` by `made` at once, even from another mount."""
    try:
        made.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with temporary(target.parent) as beside:
            shutil.copy2(made, beside / target.name, follow_symlinks=False)
            (beside / target.name).replace(target)


@contextmanager
def staging(near: Path) -> Iterator[Path]:
    """A folder for files that will be renamed to somewhere below `near`: in the user's cache if possible."""
    cache = cache_dir() / "staging"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fits = cache.stat().st_dev == near.stat().st_dev and os.access(cache, os.W_OK)
    except OSError:
        fits = False
    with temporary(cache if fits else near) as folder:
        yield folder


@contextmanager
def temporary(parent: Path) -> Iterator[Path]:
    """A temporary folder with our pid in its name; folders of processes that have ended are removed."""
    for stale in parent.glob(".scaffold-*-*"):
        owner = stale.name.split("-")[1]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".scaffold-{os.getpid()}-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def size(folder: Path) -> int:
    """The total size of the files in a folder, in bytes; links don't count."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@contextmanager
def lock(path: Path, *, doing: str) -> Iterator[None]:
    """Lock `path` against our other processes and threads; announces which process it waits for.

    The system releases the lock when its owner dies. The file contains the pid of the last owner.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise _cannot_lock(path, error) from error
    with file:
        try:
            _acquire(file, path, doing)
        except OSError as error:
            raise _cannot_lock(path, error) from error
        yield


def _acquire(file: IO[bytes], path: Path, doing: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(file.fileno(), 20, 0)
        owner = f"pid {int(pid)}, {path}" if pid.isdigit() else path
        emit(Noted(f"waiting for another scaffold that is {doing} ({owner})"))
        fcntl.flock(file, fcntl.LOCK_EX)
    with suppress(OSError):  # a full disk: nobody will know the owner
        file.truncate(0)
        file.write(str(os.getpid()).encode())


def _cannot_lock(path: Path, error: OSError) -> MachineError:
    hint = "does it belong to another user?" if isinstance(error, PermissionError) else None
    return MachineError(f"cannot lock {path}: {error.strerror}", hint=hint)
