"""The images that the user has here: listed, named, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaffold.core import files
from scaffold.core.events import Warned, emit
from scaffold.core.text import cut
from scaffold.errors import MachineError, UsageError
from scaffold.oci import layout as contents
from scaffold.oci.plugin_info import MODULE_DIGEST
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError, Manifest, is_digest
from scaffold.oci.store import Entry, Store

_CUT_TO = 7  # characters that are left of a name at least
_AGES = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True)
class StoredImage:
    """An image as `images` lists it.

    `name` and `tag` are "" for one that lost its name to another; `size` in bytes, all blobs together;
    `module_digest` "" where nobody wrote it down; `age` in seconds, None where it isn't known.
    """

    name: str
    tag: str
    variant: str
    size: int
    manifest_digest: str
    module_digest: str
    age: float | None

    def cells(self) -> tuple[str, ...]:
        """As a row of the table."""
        return (
            self.name or "(none)",
            self.tag or "-",
            self.variant,
            files.human(self.size),
            _short(self.manifest_digest),
            _short(self.module_digest),
            _ago(self.age),
        )


class Images(tuple[StoredImage, ...]):
    """Images, which print as a table."""

    def summary(self) -> str:
        """A line each, below a heading; digests are cut to what tells them apart."""
        return self._table([image.cells() for image in self])

    def fit(self, columns: int) -> str:
        """As `summary`, names and tags cut in their middle where a line would be wider than a terminal."""
        rows = [image.cells() for image in self]
        over = max(map(len, self._table(rows).split("\n"))) - columns
        name, tag = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
        while over > 0 and max(name, tag) > _CUT_TO:
            name, tag, over = (name - 1, tag, over - 1) if name > tag else (name, tag - 1, over - 1)
        return self._table([(cut(row[0], name), cut(row[1], tag), *row[2:]) for row in rows])

    def _table(self, rows: list[tuple[str, ...]]) -> str:
        if not rows:
            return "no images yet: `scaffold package` makes one"
        lines = [("NAME", "TAG", "VARIANT", "SIZE", "MANIFEST", "MODULE", "AGE"), *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


@dataclass(frozen=True)
class Removed:
    """What `rmi` removed; `freed` is in bytes."""

    names: tuple[str, ...]
    freed: int

    def summary(self) -> str:
        """That it is gone."""
        return f"{', '.join(self.names) or 'nothing'} removed, {files.human(self.freed)} freed"


def images(*, every: bool = False, verify: bool = False) -> Images:
    """What the local store holds, by name and age; with `every` what lost its name to another, too.

    `verify` reads every blob again, and raises `MachineError` when one isn't what it was.
    """
    store = Store()
    entries = store.entries()
    rows = Images(
        sorted(
            (row for entry in entries if (every or entry.name) and (row := _row(store, entry))),
            key=lambda row: (row.name, row.age or 0),
        )
    )
    if verify:
        bad = sum(not _sound(store, entry) for entry in entries)
        if bad:
            raise MachineError(
                f"{bad} of {len(entries)} images are damaged",
                hint="package or pull them again, or `scaffold rmi` them",
            )
    return rows


def tag(source: str, target: str) -> str:
    """Give a local image one more name; returns it."""
    new = Reference.parse(target)
    Store().tag(Reference.parse(source), new)
    return str(new)


def rmi(names: Sequence[str] = (), *, untagged: bool = False) -> Removed:
    """Remove local images by their names; what nothing refers to any more is deleted from the disk.

    `untagged` removes those that lost their name to another.
    """
    if not names and not untagged:
        raise UsageError("nothing to remove", hint="name an image, or give --untagged")
    references = list(dict.fromkeys(Reference.parse(name) for name in names))
    freed = Store().remove(references, untagged=untagged)
    return Removed(tuple(map(str, references)) + (("what had no name",) if untagged else ()), freed)


def _row(store: Store, entry: Entry) -> StoredImage | None:
    """An image as it is listed; None when it was removed meanwhile."""
    reference, digest = entry.reference, entry.descriptor.digest
    name, tag = (reference.name, reference.tag or "") if reference else (entry.name, "")
    try:
        manifest = store.manifest(entry.descriptor)
        variant, size = _variant(manifest), manifest.size
        said = manifest.annotations.get(MODULE_DIGEST)
        module = said if said and is_digest(said) else ""
        if missing := [blob for blob in manifest.blobs if not store.blobs.path(blob.digest).exists()]:
            raise MachineError(f"the blob {store.blobs.path(missing[0].digest)} is missing")
    except ImageError:  # it is what it was, and no image of ours: an index
        variant, size, module = "other", entry.descriptor.size, ""
    except MachineError as error:
        if entry not in store.entries():
            return None
        emit(Warned(f"{entry.name or digest}: {error.message}"))
        variant, size, module = "damaged", entry.descriptor.size, ""
    return StoredImage(name, tag, variant, size, digest, module, entry.age)


def _variant(manifest: Manifest) -> str:
    try:
        return contents.layout_of(manifest).variant
    except ImageError:
        return "other"


def _sound(store: Store, entry: Entry) -> bool:
    """Whether an image is what it was, or removed meanwhile."""
    try:
        for blob in store.manifest(entry.descriptor).blobs:
            with store.blobs.open(blob):
                pass
    except ImageError as error:
        emit(Warned(f"{entry.name or entry.descriptor.digest}: {error.message}, so its blobs weren't read"))
    except MachineError as error:
        if entry not in store.entries():
            return True
        emit(Warned(f"{entry.name or entry.descriptor.digest}: {error.message}"))
        return False
    return True


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "-"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in _AGES:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
