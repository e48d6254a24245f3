"""What wasme left: its store of images, taken over.

Source: solo-io/wasm, tools/wasme/pkg/store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from scaffold.core.events import Warned, emit, step
from scaffold.errors import ScaffoldError, UsageError
from scaffold.oci import metadata as facts
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.oci.store import Store
from scaffold.oci.variants import Metadata, oci
from scaffold.wasm.module import NotAPlugin, WasmModule

_STORE = Path("~/.wasme/store")


@dataclass(frozen=True)
class Imported:
    """An image that was taken over, in the variant that wasme itself reads and writes."""

    reference: str
    manifest_digest: str
    module_digest: str

    def summary(self) -> str:
        """Its name."""
        return self.reference


def import_wasme(store: Path = _STORE) -> list[Imported]:
    """Take the images of wasme's store into ours; what can't be is said, and left where it is.

    Raises `UsageError` when there is no store of wasme's, `ImageError` when none of its images could be
    taken.
    """
    folder = store.expanduser()
    if not folder.is_dir():
        raise UsageError(f"there is no store of wasme's at {folder}", hint="name it: --store FOLDER")
    taken: list[Imported] = []
    refused = 0
    with step(f"Importing from {folder}"):
        for place in sorted(path.parent for path in folder.glob("*/image_ref")):
            try:
                taken.append(_take(place))
            except (ScaffoldError, OSError) as error:
                refused += 1
                emit(Warned(f"{place} was left out: {getattr(error, 'message', error)}"))
    if refused and not taken:
        raise ImageError(f"none of the {refused} images in {folder} could be taken")
    return taken


def _take(place: Path) -> Imported:
    reference = Reference.parse((place / "image_ref").read_text(errors="replace").strip())
    module = _module(place)
    said = facts.read_runtime_config((place / "runtime-config.json").read_bytes())
    content = module.content()
    title = reference.repository.rpartition("/")[2]
    metadata = Metadata(title, abi_version=module.abi_version, root_ids=said.root_ids)
    image = oci(content, metadata)
    Store().add(image, reference)
    return Imported(str(reference), image.manifest.digest, module.digest)


def _module(place: Path) -> WasmModule:
    """The module, where it is still the one that wasme wrote down."""
    module = WasmModule.read(place / "filter.wasm")
    try:
        wanted = json.loads((place / "descriptor.json").read_bytes())["digest"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise NotAPlugin(f"{place / 'descriptor.json'} is no descriptor") from error
    if wanted != module.digest:
        raise NotAPlugin(f"{module.path} has the module digest {module.digest}, not {wanted}")
    return module
