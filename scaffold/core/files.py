"""Files and trees that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import platformdirs

from scaffold.core.events import Noted, emit
from scaffold.errors import MachineError, UsageError

APP = "proxy-wasm-scaffold"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_dir() -> Path:
    """Where what can be made again lies (XDG_CACHE_HOME)."""
    return Path(platformdirs.user_cache_dir(APP, appauthor=False))


def data_dir() -> Path:
    """Where what is dear to make lies (XDG_DATA_HOME): toolchains, Envoys."""
    return Path(platformdirs.user_data_dir(APP, appauthor=False))


def state_dir() -> Path:
    """Where what is running now is recorded (XDG_STATE_HOME)."""
    return Path(platformdirs.user_state_dir(APP, appauthor=False))


def digest(content: bytes) -> str:
    """The digest of some bytes, as OCI writes it: "sha256:" and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def check_out(out: Path) -> None:
    """Raise `UsageError` where what `--out` names can't be a file; `-` is none, but the terminal."""
    if out.is_dir() or not out.parent.is_dir():
        why = "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise UsageError(f"cannot write {out}: {why}", hint="--out takes a file's name")


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `content` at once: a reader sees the old bytes or the new, never a part.

    The rename is what Envoy's file watch takes as a change, too.
    """
    data = content.encode() if isinstance(content, str) else content
    with named(path):
        _write(path, data, mode)


def _write(path: Path, data: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            settle(file)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def settle(file: IO[bytes]) -> None:
    """Wait until what was written is on the disk, so that a rename after it never shows less."""
    file.flush()
    os.fsync(file.fileno())


def settle_folder(folder: Path) -> None:
    """The same for the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def tree(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well, and vanishes when it doesn't.

    Staged in the user's cache where that is the same file system, so that not even kill -9 leaves
    anything beside `target`; what an earlier kill left in the cache is swept first.
    Raises `FileExistsError` when `target` is there already, or comes to be meanwhile.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with named(target), _parents(target), staging(target.parent) as aside:
        made = aside / target.name
        made.mkdir()
        yield made
        try:
            made.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            if error.errno != errno.EXDEV:  # one device, two mounts: rename is refused all the same
                error.filename, error.filename2 = str(target), None  # not ours, which it was to come from
                raise
            with temporary(target.parent) as beside:
                shutil.copytree(made, beside / target.name, symlinks=True)
                (beside / target.name).rename(target)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let the error of a full disk say what was being written: the system says nothing, or a file within."""
    try:
        yield
    except OSError as error:
        if error.filename is None or error.errno in _FULL:
            error.filename = str(path)
        raise


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """The folders above `target`; those that weren't there vanish again when the block fails."""
    missing = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # which would say that `target` is there
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)) from error
        yield
    except BaseException:
        for folder in missing:  # the innermost first
            with suppress(OSError):  # it holds what isn't ours
                folder.rmdir()
        raise


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this user's alone while the block runs; a later one sweeps it when we are killed."""
    parent = cache_dir() / "scratch"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent, buffering=0) as trial:
            trial.write(b"x")
    except OSError:  # a home that is read-only, or full
        parent = Path(tempfile.gettempdir())
    with temporary(parent) as folder:
        folder.chmod(0o700)
        yield folder


def move(made: Path, target: Path) -> None:
    """Replace the file `target` by `made` at once, from another mount too."""
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
    """A folder to make things in that are renamed to below `near`: in the user's cache where that can be."""
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
    """A temporary folder named after our process, so that a later one knows it for a dead one's."""
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
    """How many bytes the files in a folder have together; links count nothing."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def human(size: float) -> str:
    """A number of bytes as people say it, in powers of ten: "271 MB", "1.1 GB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


@contextmanager
def lock(path: Path, *, doing: str) -> Iterator[None]:
    """Hold `path` against other processes of ours, and threads; says whom it waits for when one holds it.

    The system frees it when the holder dies, however it dies. The file holds the pid of who had it last.
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
        holder = os.pread(file.fileno(), 20, 0)
        named = f"pid {int(holder)}, {path}" if holder.isdigit() else path
        emit(Noted(f"waiting for another scaffold that is {doing} ({named})"))
        fcntl.flock(file, fcntl.LOCK_EX)
    with suppress(OSError):  # a full disk: then nobody learns who holds it
        file.truncate(0)
        file.write(str(os.getpid()).encode())


def _cannot_lock(path: Path, error: OSError) -> MachineError:
    hint = "is the folder another user's?" if isinstance(error, PermissionError) else None
    return MachineError(f"cannot lock {path}: {error.strerror}", hint=hint)
