"""`images`, `tag` and `rmi`: list, name and remove the local images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaffold.core.events import Warned, emit
from scaffold.core.text import age, cut, human
from scaffold.errors import MachineError, UsageError
from scaffold.oci.module_layer import layout_of
from scaffold.oci.plugin_info import MODULE_DIGEST
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError, Manifest, is_digest
from scaffold.oci.store import Entry, Store

_SHORTEST = 7  # characters that are left of a name that is cut


@dataclass(frozen=True)
class StoredImage:
    """An image in the list.

    `name` and `tag` are "" once another image has taken the name. `size` in bytes is that of all blobs.
    `module_digest` is "" and `age`, in seconds, None if unknown.
    """

    name: str
    tag: str
    variant: str
    size: int
    manifest_digest: str
    module_digest: str
    age: float | None

    def cells(self) -> tuple[str, ...]:
        """Its row in the table."""
        return (
            self.name or "(none)",
            self.tag or "-",
            self.variant,
            human(self.size),
            _short(self.manifest_digest),
            _short(self.module_digest),
            "-" if self.age is None else age(self.age),
        )


class Images(tuple[StoredImage, ...]):
    """Local images, which print as a table."""

    def summary(self) -> str:
        """A table with a heading, and shortened digests."""
        return self._table([image.cells() for image in self])

    def fit(self, columns: int) -> str:
        """Like `summary`, with names and tags cut in the middle if a line is wider than the terminal."""
        rows = [image.cells() for image in self]
        over = max(map(len, self._table(rows).split("\n"))) - columns
        name, tag = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
        while over > 0 and max(name, tag) > _SHORTEST:
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
    """The result of `rmi`; `freed` is in bytes."""

    names: tuple[str, ...]
    freed: int

    def summary(self) -> str:
        """The names, and the freed space."""
        return f"removed {', '.join(self.names) or 'nothing'}, freed {human(self.freed)}"


def images(*, every: bool = False, verify: bool = False) -> Images:
    """List the local images by name and age; with `every`, the untagged ones too.

    `verify` reads every blob, and raises `MachineError` if one is damaged.
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
        damaged = sum(not _is_intact(store, entry) for entry in entries)
        if damaged:
            raise MachineError(
                f"{damaged} of {len(entries)} images are damaged",
                hint="package or pull them again, or remove them with `scaffold rmi`",
            )
    return rows


def tag(source: str, target: str) -> str:
    """Give a local image another name, and return that."""
    new = Reference.parse(target)
    Store().tag(Reference.parse(source), new)
    return str(new)


def rmi(names: Sequence[str] = (), *, untagged: bool = False) -> Removed:
    """Remove local images by name, and delete the blobs that nothing refers to any more.

    `untagged` removes the images without a name.
    """
    if not names and not untagged:
        raise UsageError("nothing to remove", hint="name an image, or pass --untagged")
    references = list(dict.fromkeys(Reference.parse(name) for name in names))
    freed = Store().remove(references, untagged=untagged)
    return Removed(tuple(map(str, references)) + (("the untagged images",) if untagged else ()), freed)


def _row(store: Store, entry: Entry) -> StoredImage | None:
    """An image's row; None if it has just been removed."""
    reference, digest = entry.reference, entry.descriptor.digest
    name, tag = (reference.name, reference.tag or "") if reference else (entry.name, "")
    try:
        manifest = store.manifest(entry.descriptor)
        variant, size = _variant(manifest), manifest.size
        annotation = manifest.annotations.get(MODULE_DIGEST, "")
        module = annotation if is_digest(annotation) else ""
        if missing := [blob for blob in manifest.blobs if not store.blobs.path(blob.digest).exists()]:
            raise MachineError(f"the blob {store.blobs.path(missing[0].digest)} is missing")
    except ImageError:  # intact, but another tool's: an index
        variant, size, module = "other", entry.descriptor.size, ""
    except MachineError as error:
        if entry not in store.entries():
            return None
        emit(Warned(f"{entry.name or digest}: {error.message}"))
        variant, size, module = "damaged", entry.descriptor.size, ""
    return StoredImage(name, tag, variant, size, digest, module, entry.age)


def _variant(manifest: Manifest) -> str:
    try:
        return layout_of(manifest).variant
    except ImageError:
        return "other"


def _is_intact(store: Store, entry: Entry) -> bool:
    """Whether an image is intact, or has just been removed."""
    try:
        for blob in store.manifest(entry.descriptor).blobs:
            with store.blobs.open(blob):
                pass
    except ImageError as error:
        emit(Warned(f"{entry.name or entry.descriptor.digest}: {error.message}, so its blobs were not read"))
    except MachineError as error:
        if entry not in store.entries():
            return True
        emit(Warned(f"{entry.name or entry.descriptor.digest}: {error.message}"))
        return False
    return True


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "-"
