"""A disk that forgets what wasn't synced, as a real one does when the power fails."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


class Disk:
    """What would be on the disk after a power failure, at the latest sync of each file and folder."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}
        self._names: dict[int, set[str]] = {}
        self.targets: set[Path] = set()  # whose earlier content must still be there at every sync

    def sync(self, handle: int) -> None:
        """Take a file's length, or a folder's names: what was written so far."""
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            self._names[status.st_ino] = set(os.listdir(handle))
        else:
            self._bytes.setdefault(status.st_ino, status.st_size)
        for target in self.targets:
            renamed = target.exists() and target.stat().st_ino == status.st_ino
            assert not renamed, f"{target} was replaced by a file that wasn't on the disk yet"

    def keeps(self, path: Path) -> bool:
        """Whether all of a file's bytes would be there."""
        status = path.stat()
        return self._bytes.get(status.st_ino) == status.st_size

    def knows(self, path: Path) -> bool:
        """Whether the file's name would be there."""
        return path.name in self._names.get(path.parent.stat().st_ino, set())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Everything that is synced while the test runs."""
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.sync)
    return made
