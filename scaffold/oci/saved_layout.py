"""An image layout in a folder, such as other tools save, where a command takes a module: where its module is.

Source: opencontainers/image-spec, image-layout.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from scaffold.errors import ScaffoldError, UsageError
from scaffold.oci.module_layer import MODULE_NAME, choose_child, read_verified
from scaffold.oci.spec import INDEXES, document
from scaffold.oci.store import Entry, Store

_FILES = ("oci-layout", "index.json")


def refuse(path: Path) -> None:
    """Raise `UsageError` for a layout's folder, or a file at its top; the hint gets the module out."""
    folder = path.parent if path.name in _FILES else path
    if (folder / _FILES[0]).is_file():
        hint = "; ".join(_ways(Store(folder))) or "pass the file of a module"
        raise UsageError(f"{folder} is an image layout, and this takes modules and named images", hint=hint)


def _ways(store: Store) -> Iterator[str]:
    """How to get the module of each image that can be read."""
    with suppress(ScaffoldError):
        for entry in store.entries():
            with suppress(ScaffoldError):
                yield _way(store, entry)


def _way(store: Store, entry: Entry) -> str:
    descriptor = entry.descriptor
    if descriptor.media_type in INDEXES:
        descriptor = choose_child(document(store.blobs.read(descriptor)))
    manifest = store.manifest(descriptor)
    layout, contents = read_verified(manifest, store.blobs.open)
    blob = shlex.quote(str(store.blobs.path(layout.module.digest)))
    name = f"the module of {entry.name}" if entry.name else "its module"
    if not layout.packed:
        return f"{name} is the file {blob}"
    file = next(each.name for each in contents.files if PurePosixPath(each.name).name == MODULE_NAME)
    return f"{name}: `tar -xzf {blob} {shlex.quote(file)}`, and pass {file}"
