"""Blobs as files: named by their digest, verified whenever they are opened, and moved in whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from scaffold.core import files
from scaffold.core.files import digest
from scaffold.errors import MachineError
from scaffold.oci.spec import Descriptor


class Blobs:
    """The blobs below `folder`, as an OCI image layout has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where a blob lies, if it does."""
        algorithm, _, hexadecimal = digest.partition(":")
        return self.folder / algorithm / hexadecimal

    def open(self, descriptor: Descriptor) -> AbstractContextManager[BufferedReader]:
        """A blob to read, verified. Raises `MachineError`, naming the file, when it is missing or damaged."""
        return _opened(self.path(descriptor.digest), descriptor)

    def read(self, descriptor: Descriptor) -> bytes:
        """A blob's bytes, verified."""
        with self.open(descriptor) as blob:
            return blob.read()

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is here, and sound."""
        try:
            with self.open(descriptor):
                return True
        except MachineError:
            return False


class Ingest:
    """Blobs on their way to `blobs`, in a folder that vanishes: each verified by whoever put it here."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder, self._blobs = folder, blobs

    def put(self, content: bytes) -> None:
        """Take in some bytes."""
        name = digest(content)
        with files.named(self._blobs.path(name)), self._come(name).open("wb") as file:
            file.write(content)
            files.settle(file)

    @contextmanager
    def file(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """A file to write a blob into; the block ends well only when what was written is that blob."""
        path = self._come(descriptor.digest)
        try:
            with files.named(self._blobs.path(descriptor.digest)), path.open("wb") as file:
                yield file
                files.settle(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def keep(self, descriptor: Descriptor) -> bool:
        """Hold on to a blob that is there, whatever is removed meanwhile; False when none is, or sound."""
        if not self._blobs.has(descriptor):
            return False
        try:
            self._come(descriptor.digest).hardlink_to(self._blobs.path(descriptor.digest))
        except OSError:  # gone by now, or a file system without links
            return False
        return True

    def open(self, descriptor: Descriptor) -> AbstractContextManager[BufferedReader]:
        """A blob to read: one that came, or one that was there already and is verified."""
        come = self._come(descriptor.digest)
        return come.open("rb") if come.exists() else self._blobs.open(descriptor)

    def move(self, descriptor: Descriptor) -> None:
        """Put a blob where it belongs. Raises `MachineError` when it neither came nor is there, sound."""
        come, target = self._come(descriptor.digest), self._blobs.path(descriptor.digest)
        if not come.exists():
            with self._blobs.open(descriptor):
                return
        come.chmod(0o644)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        come.replace(target)

    def _come(self, digest: str) -> Path:
        return self._folder / digest.partition(":")[2]


@contextmanager
def _opened(path: Path, descriptor: Descriptor) -> Iterator[BufferedReader]:
    try:
        blob = path.open("rb")
    except FileNotFoundError:
        raise _damaged(path, "it is missing") from None
    with blob:
        if (why := _differs(blob, descriptor)) is not None:
            raise _damaged(path, why)
        blob.seek(0)
        yield blob


def _differs(blob: BufferedReader, descriptor: Descriptor) -> str | None:
    """In what a blob isn't the one that is described."""
    size = blob.seek(0, 2)
    if size != descriptor.size:
        return f"it has {size:,} bytes instead of {descriptor.size:,}"
    blob.seek(0)
    found = hashlib.file_digest(blob, "sha256").hexdigest()
    return None if descriptor.digest == f"sha256:{found}" else f"its bytes have the digest sha256:{found}"


def _damaged(path: Path, why: str) -> MachineError:
    return MachineError(
        f"the blob {path} is damaged: {why}", hint="package or pull the image again, which replaces it"
    )
