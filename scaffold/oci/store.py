"""The user's images: one OCI image-layout folder, which other tools read as it is.

Whoever writes puts blobs into a temporary folder of its own first; under one lock they are moved to
where they belong, and then the index is replaced. So a kill leaves at worst a blob that nothing refers
to. Source: opencontainers/image-spec, image-layout.md.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scaffold.core import files
from scaffold.core.events import Warned, emit
from scaffold.errors import MachineError, UsageError
from scaffold.oci.blobs import Blobs, Ingest
from scaffold.oci.reference import Reference
from scaffold.oci.spec import INDEX, INDEXES, Descriptor, Image, ImageError, Manifest, document

VERSION = "1.0.0"
REF_NAME = "org.opencontainers.image.ref.name"
ADDED = "org.opencontainers.image.created"  # in the index: when it came here
_YOUNG = 3600.0  # seconds: another tool may be about to refer to a blob that is no older
_AGAIN = "then package and pull the images again: their blobs are still there"


@dataclass(frozen=True)
class Entry:
    """A line of the index. `name` is "" when another image took it; `added` RFC 3339 or ""."""

    name: str
    descriptor: Descriptor
    added: str = ""

    @property
    def reference(self) -> Reference | None:
        """Its name as ours are; another tool may call an image anything."""
        try:
            return Reference.parse(self.name) if self.name else None
        except UsageError:
            return None

    @property
    def age(self) -> float | None:
        """Seconds since it came here."""
        try:
            return max(0.0, time.time() - datetime.fromisoformat(self.added).timestamp())
        except ValueError:
            return None


class Store:
    """The images below `folder`. Raises `MachineError`, naming the file, for what is damaged."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or files.data_dir() / "images"
        self.blobs = Blobs(self.folder / "blobs")

    def entries(self) -> list[Entry]:
        """Every image, in the order in which they came."""
        layout = self._document(self.folder / "oci-layout", hint="move it away: it is written anew")
        version = (layout or {}).get("imageLayoutVersion", VERSION)
        if version != VERSION:
            raise MachineError(
                f"{self.folder} is a store of version {version}, and this scaffold knows {VERSION}",
                hint="install a newer scaffold, or move the folder away",
            )
        path, hint = self.folder / "index.json", f"move it away, and oci-layout with it; {_AGAIN}"
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
            raise _damaged(path, "no JSON object", hint)
        return record

    def find(self, reference: Reference) -> Manifest:
        """The image of that name, or of that digest. Raises `UsageError` when it isn't here."""
        for entry in self.entries():
            if _answers(entry, reference):
                return self.manifest(entry.descriptor)
        raise _missing(reference, self.entries())

    def holds(self, reference: Reference) -> bool:
        """Whether there is an image of that name, or of that digest."""
        return any(_answers(entry, reference) for entry in self.entries())

    def alike(self, reference: Reference) -> list[str]:
        """The names of images that end as this one does: one of them may be meant."""
        return _alike(reference, self.entries())

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """An image's manifest, verified."""
        return Manifest.read(self.blobs.read(descriptor), descriptor.media_type)

    @contextmanager
    def receiving(self) -> Iterator[Ingest]:
        """A place to gather an image's blobs in; what isn't committed vanishes with the block."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.temporary(self.folder) as folder:
            yield Ingest(folder, self.blobs)

    def add(self, image: Image, reference: Reference) -> None:
        """Take in an image that was made here, under that name."""
        with self.receiving() as ingest:
            for descriptor in image.manifest.blobs:
                ingest.put(image.blobs[descriptor.digest])
            self.commit(ingest, reference, image.manifest)

    def commit(self, ingest: Ingest, reference: Reference, manifest: Manifest) -> None:
        """Make what came an image of the store, under that name, all at once.

        An image that had the name goes on without one. Raises `MachineError` when a blob is missing.
        """
        ingest.put(manifest.raw)
        own = Descriptor.of(manifest.media_type, manifest.raw)
        with self._changing() as entries:
            for descriptor in (*manifest.blobs, own):
                ingest.move(descriptor)
            files.settle_folder(self.blobs.path(own.digest).parent)  # before the index names them
            _name(entries, reference, own, self.blobs)
            self._write(entries)

    def tag(self, source: Reference, target: Reference) -> None:
        """Give an image one more name. Raises `UsageError` when there is none of the name `source`."""
        _refuse_digest(target)
        with self._changing() as entries:
            found = next((entry for entry in entries if _answers(entry, source)), None)
            if found is None:
                raise _missing(source, entries)
            self.manifest(found.descriptor)
            _name(entries, target, found.descriptor, self.blobs)
            self._write(entries)

    def remove(self, references: Iterable[Reference], *, untagged: bool = False) -> int:
        """Forget these names, and the images that have none any more; returns how many bytes that freed.

        By `NAME@DIGEST` all tags of that name for that image are meant, or the image that has no name.
        Raises `UsageError`, and removes nothing, when one of them isn't here.
        """
        with self._changing() as entries:
            gone = [entry for entry in entries if untagged and not entry.name]
            for reference in references:
                found = [entry for entry in entries if _named(entry, reference)]
                found = found or [entry for entry in entries if _pinned(entry, reference)]
                if not found:
                    raise _missing(reference, entries)
                gone += found
            kept = [entry for entry in entries if entry not in gone]
            self._write(kept)  # first: then a kill leaves blobs too many, and never too few
            return self._collect(kept, gone)

    def _collect(self, kept: list[Entry], gone: list[Entry]) -> int:
        """Delete the blobs that nothing refers to: those of `gone`, and old ones that a kill left."""
        try:
            live = set().union(*(self._referred(entry.descriptor) for entry in kept))
        except (MachineError, ImageError) as error:
            emit(Warned(f"no blob was deleted, for one image doesn't say which are its own: {error.message}"))
            return 0
        doomed: set[str] = set()
        for entry in gone:
            with suppress(MachineError, ImageError):
                doomed |= self._referred(entry.descriptor)
            doomed.add(entry.descriptor.digest)
        freed, old = 0, time.time() - _YOUNG
        for path in self.blobs.folder.glob("*/*"):
            name = f"{path.parent.name}:{path.name}"
            with suppress(FileNotFoundError):
                stat = path.stat()
                if name not in live and (name in doomed or stat.st_mtime < old):
                    path.unlink()
                    freed += stat.st_size
        return freed

    def _referred(self, descriptor: Descriptor) -> set[str]:
        """The digests of an image's manifest and blobs; of an index, another tool's, all below it."""
        if descriptor.media_type in INDEXES:
            children = document(self.blobs.read(descriptor)).get("manifests", [])
            below = (self._referred(Descriptor.read(child, "a manifest in an index")) for child in children)
            return {descriptor.digest}.union(*below)
        return {descriptor.digest, *(blob.digest for blob in self.manifest(descriptor).blobs)}

    @contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """The index, with nobody else changing it as long as the block runs."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.lock(self.folder.with_suffix(".lock"), doing="changing the local images"):
            yield self.entries()

    def _write(self, entries: list[Entry]) -> None:
        """Replace the index; what a kill left of an earlier one goes."""
        index, layout = self.folder / "index.json", self.folder / "oci-layout"
        for path in (index, layout):
            for stale in self.folder.glob(f".{path.name}.*"):
                stale.unlink(missing_ok=True)
        record = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_record(one) for one in entries]}
        files.write(index, json.dumps(record, indent=1))
        if not layout.exists():  # after the index, which is missing where only this one is there
            files.write(layout, json.dumps({"imageLayoutVersion": VERSION}))


def _damaged(path: Path, why: object, hint: str) -> MachineError:
    return MachineError(f"{path} is damaged: {why}", hint=hint)


def _missing(reference: Reference, entries: list[Entry]) -> UsageError:
    """That there is no such image, and which may have been meant: the nearest, or one that ends alike."""
    names = [entry.name for entry in entries if entry.name]
    near = _alike(reference, entries) or difflib.get_close_matches(str(reference), names, n=1)
    hint = f"did you mean `{near[-1]}`?" if near else "`scaffold images` lists what there is"
    return UsageError(f"no image `{reference}` here", hint=hint)


def _alike(reference: Reference, entries: list[Entry]) -> list[str]:
    """The names that end as this one does, whatever their registry and their tag."""
    last = reference.repository.rpartition("/")[2]
    return [one.name for one in entries if one.name.rpartition("/")[2].partition(":")[0] == last]


def _answers(entry: Entry, reference: Reference) -> bool:
    """Whether an image is the one meant: by its digest, whatever its name, where the reference has one."""
    if reference.digest:
        return entry.descriptor.digest == reference.digest
    return _named(entry, reference)


def _named(entry: Entry, reference: Reference) -> bool:
    return entry.reference == reference


def _pinned(entry: Entry, reference: Reference) -> bool:
    if reference.tag or entry.descriptor.digest != reference.digest:
        return False
    return not entry.name or bool(entry.reference and entry.reference.name == reference.name)


def _name(entries: list[Entry], reference: Reference, descriptor: Descriptor, blobs: Blobs) -> None:
    """Put an image under a name; one that had it goes on without, unless it has others, or isn't there."""
    fresh = Entry(str(reference), descriptor, datetime.now(UTC).isoformat(timespec="seconds"))
    former = next((entry for entry in entries if _named(entry, reference)), None)
    if former and former.descriptor.digest == descriptor.digest:
        entries[entries.index(former)] = replace(fresh, descriptor=former.descriptor)
        return
    entries[:] = [replace(entry, name="") if entry is former else entry for entry in entries]
    digests = {entry.descriptor.digest for entry in entries if entry.name} | {descriptor.digest}
    digests |= {one.descriptor.digest for one in entries if not blobs.path(one.descriptor.digest).exists()}
    entries[:] = [entry for entry in entries if entry.name or entry.descriptor.digest not in digests]
    entries.append(fresh)


def _refuse_digest(target: Reference) -> None:
    if target.digest:
        raise UsageError(f"`{target}` can't be given: a digest is the image's own", hint="name it by a tag")


def _entry(record: Any) -> Entry:
    descriptor = Descriptor.read(record, "an image in it")
    annotations = dict(descriptor.annotations)
    name, added = annotations.pop(REF_NAME, ""), annotations.pop(ADDED, "")
    return Entry(name, replace(descriptor, annotations=annotations), added)


def _record(entry: Entry) -> dict[str, Any]:
    said = {key: value for key, value in ((REF_NAME, entry.name), (ADDED, entry.added)) if value}
    return replace(entry.descriptor, annotations={**entry.descriptor.annotations, **said}).write()
