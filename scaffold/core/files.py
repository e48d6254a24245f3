"""Files and folders that appear whole or not at all, folders of ours, and whether a process uses one."""

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

from scaffold.errors import UsageError

APP = "proxy-wasm-scaffold"
_LINKS = 40  # that lead to each other; the system follows no more either
_DEVICES = (Path("/dev"), Path("/dev/fd"))  # but not /dev/shm, which is a folder for files
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, or of what a user may write


def cache_dir() -> Path:
    """The folder for what can be made again (XDG_CACHE_HOME)."""
    return Path(platformdirs.user_cache_dir(APP, appauthor=False))


def data_dir() -> Path:
    """The folder for what is expensive to make (XDG_DATA_HOME): toolchains, Envoys."""
    return Path(platformdirs.user_data_dir(APP, appauthor=False))


def state_dir() -> Path:
    """The folder for records of what is running (XDG_STATE_HOME)."""
    return Path(platformdirs.user_state_dir(APP, appauthor=False))


def private(folder: Path) -> None:
    """Make a folder, with those above it. In our own folders no other user may enter, look or lock anything.

    One that is open to others, such as an earlier version made it, is closed to them.
    """
    own = [each for each in (folder, *folder.parents) if _is_ours(each)]
    (own[-1].parent if own else folder).mkdir(parents=True, exist_ok=True)
    for each in reversed(own):
        each.mkdir(mode=0o700, exist_ok=True)
        only_ours(each)


def _is_ours(path: Path) -> bool:
    return any(map(path.is_relative_to, (cache_dir(), data_dir(), state_dir())))


def only_ours(path: Path) -> None:
    """Take the permissions of others from a file or folder, unless that is another user's, or can't be."""
    mode = path.stat().st_mode & 0o7777
    if mode & 0o077:
        with suppress(OSError):
            path.chmod(mode & 0o700)


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
    parent = Path(os.path.realpath(out)).parent if out.is_symlink() else out.parent
    if out.is_dir() or not parent.is_dir():
        missing = parent if out.is_symlink() else out.parent
        why = "it is a folder" if out.is_dir() else f"there is no folder {missing}"
        raise UsageError(f"cannot write {out}: {why}", hint="--out takes the name of a file")
    # which the file would replace, as root even /dev/null
    if (out.exists() and not out.is_file()) or _leads_into_dev_or_proc(out):
        raise UsageError(f"cannot write {out}: it isn't a regular file", hint="`--out -` is standard output")


def _leads_into_dev_or_proc(path: Path) -> bool:
    """Whether a path, or a link that it leads through, is a device's, or stands for an open file."""
    for _ in range(_LINKS):
        path = path.parent.resolve() / path.name
        if path.parent in _DEVICES or path.is_relative_to("/proc"):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return True


def write_out(text: str, out: Path) -> str | Path:
    """Do as `--out` says: return the text for standard output, or write it to a file and return its path."""
    if out == Path("-"):
        return text.removesuffix("\n")
    write(Path(os.path.realpath(out)), text)  # not in the place of a link
    return out


def write(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Replace the content of `path` at once: a reader sees the old bytes or the new ones, never a part.

    Envoy, which watches for renames, notices the change. In a folder of the user's, not even a SIGKILL leaves
    anything beside the file, if the user's cache is on the same file system; otherwise the next write to that
    folder removes what is left, see `staging`.
    """
    data = content.encode() if isinstance(content, str) else content
    with naming(path):
        if _is_ours(path):
            _write(path, data, mode)
            return
        with staging(path.parent) as aside:
            _write(aside / path.name, data, mode)
            move(aside / path.name, path)


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
        if error.filename is None or error.errno in FULL:
            error.filename = str(path)
        raise


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the folders above `target`; the new ones are removed again when the block fails."""
    missing = [folder for folder in target.absolute().parents if not folder.exists()]
    try:
        try:
            private(target.parent)
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
        private(parent)
        with tempfile.TemporaryFile(dir=parent, buffering=0) as trial:
            trial.write(b"x")
    except OSError:  # the home is read-only, or full
        parent = Path(tempfile.gettempdir())
    with temporary(parent) as folder:
        try:
            yield folder
        except OSError as error:
            if error.filename is None:  # as of a write: those that aren't to this folder are `naming` theirs
                error.filename = str(folder)
            raise


def move(made: Path, target: Path) -> None:
    """Replace the file `target` by `made` at once, even from another mount."""
    try:
        made.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            error.filename, error.filename2 = str(target), None  # not the temporary one
            raise
        with naming(target), temporary(target.parent) as beside:
            shutil.copy2(made, beside / target.name, follow_symlinks=False)
            (beside / target.name).replace(target)


@contextmanager
def staging(near: Path) -> Iterator[Path]:
    """A folder for files that will be renamed to somewhere below `near`: in the user's cache if possible."""
    cache = cache_dir() / "staging"
    try:
        private(cache)
        fits = cache.stat().st_dev == near.stat().st_dev and os.access(cache, os.W_OK)
    except OSError:
        fits = False
    with temporary(cache if fits else near) as folder:
        yield folder


@contextmanager
def temporary(parent: Path) -> Iterator[Path]:
    """A private folder while the block runs; those that no process uses any more are removed first.

    The pid in its name is for people: another container may have a process of the same number.
    """
    for stale in temporaries(parent):
        with _unused(stale) as unused:
            if unused:
                shutil.rmtree(stale, ignore_errors=True)
    folder, handle = _claimed(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def temporaries(parent: Path) -> list[Path]:
    """The folders that `temporary` made in `parent`, in use or not."""
    return sorted(parent.glob(".scaffold-*-*"))


def _claimed(parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor by which we use it: made again if a sweep came between the two."""
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=f".scaffold-{os.getpid()}-", dir=parent))
        except OSError as error:
            error.filename = str(parent)  # not a name that nobody knows
            raise
        with suppress(FileNotFoundError):
            handle = _claim(folder)
            try:
                if os.path.samestat(os.fstat(handle), folder.stat()):
                    return folder, handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


@contextmanager
def using(folder: Path) -> Iterator[None]:
    """Let `in_use` be true of the folder, until the block or this process ends, however it ends."""
    handle = _claim(folder)
    try:
        yield
    finally:
        os.close(handle)


def in_use(folder: Path) -> bool:
    """Whether a process uses the folder, be it one that this container can't see, as others have pids too."""
    with _unused(folder) as unused:
        return folder.is_dir() and not unused


def _claim(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    _locked(handle, fcntl.LOCK_EX)  # not on a disk without locks, where nothing counts as unused
    return handle


@contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Whether no process uses a folder of ours; while the block runs, none can begin to."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, or gone
        yield False
        return
    try:
        yield os.fstat(handle).st_uid == os.geteuid() and _locked(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(handle)


def _locked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how)
    except OSError:
        return False
    return True


def size(folder: Path) -> int:
    """The total size of the files in a folder, in bytes; links don't count."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
