"""Files and trees that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from scaffold.errors import MachineError
from scaffold.events import Noted, emit

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


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `content` at once: a reader sees the old bytes or the new, never a part.

    The rename is what Envoy's file watch takes as a change, too.
    """
    data = content.encode() if isinstance(content, str) else content
    with _named(path):
        _write(path, data, mode)


def _write(path: Path, data: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def tree(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well, and vanishes when it doesn't.

    Staged in the user's cache where that is the same file system, so that not even kill -9 leaves
    anything beside `target`; what an earlier kill left in the cache is swept first.
    Raises `FileExistsError` when `target` is there already, or comes to be meanwhile.
    """
    if target.exists() or target.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with _named(target), _parents(target), _staging(target.parent) as staging:
        made = staging / target.name
        made.mkdir()
        yield made
        try:
            made.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
            if error.errno != errno.EXDEV:  # one device, two mounts: rename is refused all the same
                raise
            with _folder(target.parent) as beside:
                shutil.copytree(made, beside / target.name, symlinks=True)
                (beside / target.name).rename(target)


@contextmanager
def _named(path: Path) -> Iterator[None]:
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
        fits = os.access(parent, os.W_OK)
    except OSError:  # a home that is read-only
        fits = False
    with _folder(parent if fits else Path(tempfile.gettempdir())) as folder:
        folder.chmod(0o700)
        yield folder


@contextmanager
def _staging(near: Path) -> Iterator[Path]:
    cache = cache_dir() / "staging"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fits = cache.stat().st_dev == near.stat().st_dev and os.access(cache, os.W_OK)
    except OSError:
        fits = False
    with _folder(cache if fits else near) as folder:
        yield folder


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
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
    """Hold `path` against other processes of ours; says what it waits for when another holds it.

    The system frees it when the holder dies, however it dies.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        try:
            held.acquire(timeout=0)
        except Timeout:
            emit(Noted(f"waiting for another scaffold that is {doing} ({path})"))
            held.acquire()
    except OSError as error:
        hint = "is the folder another user's?" if isinstance(error, PermissionError) else None
        raise MachineError(f"cannot lock {path}: {error.strerror}", hint=hint) from error
    try:
        yield
    finally:
        held.release()
