"""The user's images: one OCI image layout, which other tools can read.

A writer first collects blobs in a temporary folder of its own; then, under a lock, they are moved into place
and the index is replaced. So a killed process leaves at worst a blob that nothing refers to.
Source: opencontainers/image-spec, image-layout.md.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from scaffold.core import files, locks
from scaffold.core.events import Warned, emit
from scaffold.errors import MachineError, UsageError
from scaffold.oci.reference import Reference
from scaffold.oci.spec import INDEX, INDEXES, Descriptor, Image, ImageError, Manifest, document

VERSION = "1.0.0"
REF_NAME = "org.opencontainers.image.ref.name"
ADDED = "org.opencontainers.image.created"  # in the index: when the image was added
_GRACE = 3600.0  # seconds: another tool may be about to refer to a blob that is younger
_REBUILD = "then package and pull the images again: their blobs are still there"


class Blobs:
    """The blobs below `folder`, in files named after their digests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where a blob is or would be."""
        algorithm, _, hexadecimal = digest.partition(":")
        return self.folder / algorithm / hexadecimal

    def open(self, descriptor: Descriptor) -> AbstractContextManager[BufferedReader]:
        """A blob to read, verified. Raises `MachineError` if its file is missing or damaged."""
        return _verified(self.path(descriptor.digest), descriptor)

    def read(self, descriptor: Descriptor) -> bytes:
        """A blob's bytes, verified."""
        with self.open(descriptor) as blob:
            return blob.read()

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is here and intact."""
        try:
            with self.open(descriptor):
                return True
        except MachineError:
            return False


class Ingest:
    """Blobs on their way into `blobs`, in a temporary folder. Whoever writes them verifies them first."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder, self._blobs = folder, blobs

    def put(self, name: str, content: bytes) -> None:
        """Add the blob whose digest is `name`."""
        with files.naming(self._blobs.path(name)), self._staged(name).open("wb") as file:
            file.write(content)
            files.sync(file)

    @contextmanager
    def file(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """A file to write a blob into; the block must raise if what it wrote isn't that blob."""
        path = self._staged(descriptor.digest)
        try:
            with files.naming(self._blobs.path(descriptor.digest)), path.open("wb") as file:
                yield file
                files.sync(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def keep(self, descriptor: Descriptor) -> bool:
        """Hold on to a blob even if its image is removed meanwhile; False if it isn't here or is damaged."""
        if not self._blobs.has(descriptor):
            return False
        try:
            self._staged(descriptor.digest).hardlink_to(self._blobs.path(descriptor.digest))
        except OSError:  # just removed, or a file system without links
            return False
        return True

    def open(self, descriptor: Descriptor) -> AbstractContextManager[BufferedReader]:
        """A blob to read, new or already in the store."""
        staged = self._staged(descriptor.digest)
        return staged.open("rb") if staged.exists() else self._blobs.open(descriptor)

    def move(self, descriptor: Descriptor) -> None:
        """Move a blob into the store. Raises `MachineError` if it is neither new nor intact in the store."""
        staged, target = self._staged(descriptor.digest), self._blobs.path(descriptor.digest)
        if not staged.exists():
            with self._blobs.open(descriptor):
                return
        staged.chmod(0o644)
        files.private(target.parent)
        staged.replace(target)

    def _staged(self, digest: str) -> Path:
        return self._folder / digest.partition(":")[2]


@contextmanager
def _verified(path: Path, descriptor: Descriptor) -> Iterator[BufferedReader]:
    try:
        blob = path.open("rb")
    except FileNotFoundError:
        raise _damaged_blob(path, "it is missing") from None
    with blob:
        size = blob.seek(0, 2)
        if size != descriptor.size:
            raise _damaged_blob(path, f"it has {size:,} bytes instead of {descriptor.size:,}")
        blob.seek(0)
        actual = files.digest_of(blob)
        if actual != descriptor.digest:
            raise _damaged_blob(path, f"its bytes have the digest {actual}")
        blob.seek(0)
        yield blob


def _damaged_blob(path: Path, why: str) -> MachineError:
    hint = "package or pull the image again, which replaces it"
    return MachineError(f"the blob {path} is damaged: {why}", hint=hint)


@dataclass(frozen=True)
class Entry:
    """An image in the index. `name` is "" once another image has taken it; `added` is RFC 3339 or ""."""

    name: str
    descriptor: Descriptor
    added: str = ""

    @property
    def reference(self) -> Reference | None:
        """Its name, unless another tool chose one that we can't read."""
        try:
            return Reference.parse(self.name) if self.name else None
        except UsageError:
            return None

    @property
    def age(self) -> float | None:
        """Seconds since it was added; None when unknown."""
        try:
            return max(0.0, time.time() - datetime.fromisoformat(self.added).timestamp())
        except ValueError:
            return None


class Store:
    """The images below `folder`. Raises `MachineError`, which names the file, when one is damaged."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or files.data_dir() / "images"
        self.blobs = Blobs(self.folder / "blobs")

    def entries(self) -> list[Entry]:
        """Every image, in the order in which they were added."""
        layout = self._document(self.folder / "oci-layout", hint="move it away: it will be written again")
        version = (layout or {}).get("imageLayoutVersion", VERSION)
        if version != VERSION:
            raise MachineError(
                f"{self.folder} is an image store of version {version}, but this scaffold supports {VERSION}",
                hint="install a newer scaffold, or move the folder away",
            )
        path, hint = self.folder / "index.json", f"move it and oci-layout away; {_REBUILD}"
        index = self._document(path, hint=hint)
        if index is None and layout is None:
            return []
        manifests = (index or {}).get("manifests")
        if not isinstance(manifests, list):
            why = "it is missing" if index is None else "it has no list of images"
            raise _damaged(path, why, hint)
        try:
            return [_entry(record) for record in manifests]
        except ImageError as error:
            raise _damaged(path, error.message, hint) from error

    def _document(self, path: Path, *, hint: str) -> dict[str, Any] | None:
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise _damaged(path, error, hint) from error
        if not isinstance(record, dict):
            raise _damaged(path, "it isn't a JSON object", hint)
        return record

    def find(self, reference: Reference) -> Manifest:
        """The image with that name or digest. Raises `UsageError` when there is none."""
        manifest = self.get(reference)
        if manifest is None:
            raise _missing(reference, self.entries())
        return manifest

    def get(self, reference: Reference) -> Manifest | None:
        """The image with that name or digest, if there is one."""
        entry = _lookup(self.entries(), reference)
        return self.manifest(entry.descriptor) if entry else None

    def similar(self, reference: Reference) -> list[str]:
        """The names of images that differ from this one only in registry, namespace and tag."""
        return _similar(reference, self.entries())

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """An image's manifest, verified."""
        return Manifest.read(self.blobs.read(descriptor), descriptor.media_type)

    @contextmanager
    def receiving(self) -> Iterator[Ingest]:
        """A place to collect an image's blobs; whatever isn't committed vanishes with the block."""
        files.private(self.folder)
        with files.temporary(self.folder) as folder:
            yield Ingest(folder, self.blobs)

    def add(self, image: Image, reference: Reference) -> None:
        """Store an image that was made here."""
        with self.receiving() as ingest:
            for descriptor in image.manifest.blobs:
                ingest.put(descriptor.digest, image.blobs[descriptor.digest])
            self.commit(ingest, reference, image.manifest)

    def commit(self, ingest: Ingest, reference: Reference, manifest: Manifest) -> None:
        """Make the collected blobs an image of the store under that name, atomically.

        An image that had the name keeps its blobs and loses the name. Raises `MachineError` when a blob is
        missing.
        """
        own = Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))
        ingest.put(own.digest, manifest.raw)
        with self._changing() as entries:
            for descriptor in (*manifest.blobs, own):
                ingest.move(descriptor)
            files.sync_folder(self.blobs.path(own.digest).parent)  # before the index names them
            _name(entries, reference, own, self.blobs)
            self._write(entries)

    def tag(self, source: Reference, target: Reference) -> None:
        """Give an image another name. Raises `UsageError` when there is no image `source`."""
        target.require_no_digest()
        with self._changing() as entries:
            entry = _lookup(entries, source)
            if entry is None:
                raise _missing(source, entries)
            self.manifest(entry.descriptor)
            _name(entries, target, entry.descriptor, self.blobs)
            self._write(entries)

    def remove(self, references: Iterable[Reference], *, untagged: bool = False) -> int:
        """Remove these names, and the images that are left without one; returns the number of bytes freed.

        `NAME@DIGEST` stands for all tags with which that name refers to the image, or for the untagged image.
        Raises `UsageError`, and removes nothing, when one of them doesn't exist.
        """
        with self._changing() as entries:
            removed = [entry for entry in entries if untagged and not entry.name]
            for reference in references:
                matches = [entry for entry in entries if entry.reference == reference]
                matches = matches or [entry for entry in entries if _pinned(entry, reference)]
                if not matches:
                    raise _missing(reference, entries)
                removed += matches
            kept = [entry for entry in entries if entry not in removed]
            self._write(kept)  # first: if we are killed, there are blobs too many, never too few
            return self._collect_garbage(kept, removed)

    def _collect_garbage(self, kept: list[Entry], removed: list[Entry]) -> int:
        """Delete the blobs that nothing refers to: those of `removed`, and leftovers of killed processes."""
        try:
            live = set().union(*(self._digests(entry.descriptor) for entry in kept))
        except (MachineError, ImageError) as error:
            emit(Warned(f"no blobs were deleted, as one image can't be read: {error.message}"))
            return 0
        doomed: set[str] = set()
        for entry in removed:
            with suppress(MachineError, ImageError):
                doomed |= self._digests(entry.descriptor)
            doomed.add(entry.descriptor.digest)
        freed, old = 0, time.time() - _GRACE
        for path in self.blobs.folder.glob("*/*"):
            name = f"{path.parent.name}:{path.name}"
            with suppress(FileNotFoundError):
                stat = path.stat()
                if name not in live and (name in doomed or stat.st_mtime < old):
                    path.unlink()
                    freed += stat.st_size
        return freed

    def _digests(self, descriptor: Descriptor) -> set[str]:
        """The digests of an image's manifest and blobs; of another tool's index, those of all its images."""
        if descriptor.media_type in INDEXES:
            children = document(self.blobs.read(descriptor)).get("manifests", [])
            below = (self._digests(Descriptor.read(child, "a manifest in an index")) for child in children)
            return {descriptor.digest}.union(*below)
        return {descriptor.digest, *(blob.digest for blob in self.manifest(descriptor).blobs)}

    @contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """The index, locked for the block."""
        files.private(self.folder)
        with locks.lock(self.folder.with_suffix(".lock"), doing="changing the local images"):
            yield self.entries()

    def _write(self, entries: list[Entry]) -> None:
        """Replace the index, and remove leftovers of killed processes."""
        index, layout = self.folder / "index.json", self.folder / "oci-layout"
        for path in (index, layout):
            for stale in self.folder.glob(f".{path.name}.*"):
                stale.unlink(missing_ok=True)
        record = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_record(entry) for entry in entries]}
        files.write(index, json.dumps(record, indent=1))
        if not layout.exists():  # after the index: this file without an index means a damaged store
            files.write(layout, json.dumps({"imageLayoutVersion": VERSION}))


def _damaged(path: Path, why: object, hint: str) -> MachineError:
    return MachineError(f"{path} is damaged: {why}", hint=hint)


def _missing(reference: Reference, entries: list[Entry]) -> UsageError:
    """There is no such image; the hint suggests the most similar name."""
    names = [entry.name for entry in entries if entry.name]
    near = _similar(reference, entries) or difflib.get_close_matches(str(reference), names, n=1)
    hint = f"did you mean `{near[-1]}`?" if near else "`scaffold images` lists the local images"
    return UsageError(f"there is no local image `{reference}`", hint=hint)


def _similar(reference: Reference, entries: list[Entry]) -> list[str]:
    last = reference.repository.rpartition("/")[2]
    return [entry.name for entry in entries if entry.name.rpartition("/")[2].partition(":")[0] == last]


def _lookup(entries: list[Entry], reference: Reference) -> Entry | None:
    """The image that a reference names: by its digest, whatever its name, if the reference has one."""
    for entry in entries:
        if entry.descriptor.digest == reference.digest or (
            not reference.digest and entry.reference == reference
        ):
            return entry
    return None


def _pinned(entry: Entry, reference: Reference) -> bool:
    """Whether `NAME@DIGEST` stands for an image in the index."""
    if reference.tag or entry.descriptor.digest != reference.digest:
        return False
    return not entry.name or bool(entry.reference and entry.reference.name == reference.name)


def _name(entries: list[Entry], reference: Reference, descriptor: Descriptor, blobs: Blobs) -> None:
    """Name an image. One that had the name stays in the index, unless it has other names or is gone."""
    new = Entry(str(reference), descriptor, datetime.now(UTC).isoformat(timespec="seconds"))
    former = next((entry for entry in entries if entry.reference == reference), None)
    if former and former.descriptor.digest == descriptor.digest:
        entries[entries.index(former)] = replace(new, descriptor=former.descriptor)
        return
    entries[:] = [replace(entry, name="") if entry is former else entry for entry in entries]
    named = {entry.descriptor.digest for entry in entries if entry.name} | {descriptor.digest}
    entries[:] = [
        entry
        for entry in entries
        if entry.name
        or (entry.descriptor.digest not in named and blobs.path(entry.descriptor.digest).exists())
    ]
    entries.append(new)


def _entry(record: Any) -> Entry:
    descriptor = Descriptor.read(record, "an image in it")
    annotations = dict(descriptor.annotations)
    name, added = annotations.pop(REF_NAME, ""), annotations.pop(ADDED, "")
    return Entry(name, replace(descriptor, annotations=annotations), added)


def _record(entry: Entry) -> dict[str, Any]:
    own = {key: value for key, value in ((REF_NAME, entry.name), (ADDED, entry.added)) if value}
    return replace(entry.descriptor, annotations={**entry.descriptor.annotations, **own}).write()
