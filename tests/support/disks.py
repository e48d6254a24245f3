"""Disks that are full, read-only or damaged."""

from __future__ import annotations

import resource
from pathlib import Path

from support.places import Place

FULL = ("No space left on device", "File too large")
SMALL_DISK = 'mount -t tmpfs -o "size=$2" none "$1"; chmod 755 "$1"'


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill a disk to the last byte but some."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    return filler


def one_line(err: str) -> str:
    """What went wrong, which must be one line that names a path."""
    said = err[err.index("error: ") :].strip()
    assert "\n" not in said, said
    assert any(why in said for why in FULL), said
    assert "/" in said, said
    return said


def limited(place: Place, limit: int, *words: object):
    """Run a command that may write no file longer than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        child = place.start(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return place.end(child)


def read_only(folder: Path) -> None:
    for path in (folder, *(path for path in folder.rglob("*") if not path.is_symlink())):
        path.chmod(0o500 if path.is_dir() else 0o400)


def writable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def damages(path: Path, chance) -> list[tuple[str, bytes]]:
    """What may have become of a file: nothing, half of it, one bit turned."""
    whole = path.read_bytes()
    found = [("emptied", b"")]
    if whole:
        at = chance.randrange(len(whole))
        turned = whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(7)]) + whole[at + 1 :]
        found += [("cut", whole[: len(whole) // 2]), ("bit turned", turned)]
    return found
