"""`import-wasme`: copy the images in wasme's store into ours.

Source: solo-io/wasm, tools/wasme/pkg/store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import foreign_files
from scaffold.core.events import Warned, emit, step
from scaffold.errors import ScaffoldError, UsageError
from scaffold.oci.plugin_info import PluginInfo, read_runtime_config
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.oci.store import Store
from scaffold.oci.variants import oci
from scaffold.wasm.module import NotAPlugin, WasmModule

_STORE = Path("~/.wasme/store")


@dataclass(frozen=True)
class Imported:
    """An imported image, in the variant that wasme itself reads and writes."""

    reference: str
    manifest_digest: str
    module_digest: str

    def summary(self) -> str:
        """Its name."""
        return self.reference


def import_wasme(store: Path = _STORE) -> list[Imported]:
    """Copy the images in wasme's store into ours, with a warning for each that can't be imported.

    Raises `UsageError` if there is no such store, `ImageError` if none of its images can be imported.
    """
    folder = store.expanduser()
    if not folder.is_dir():
        raise UsageError(f"there is no wasme store at {folder}", hint="name another with --store FOLDER")
    imported: list[Imported] = []
    failed = 0
    with step(f"Importing from {folder}"):
        for image in sorted(path.parent for path in folder.glob("*/image_ref")):
            try:
                imported.append(_import(image))
            except (ScaffoldError, OSError) as error:
                failed += 1
                emit(Warned(f"{image} was left out: {getattr(error, 'message', error)}"))
    if failed and not imported:
        raise ImageError(f"none of the {failed} images in {folder} could be imported")
    return imported


def _import(folder: Path) -> Imported:
    reference = Reference.parse(
        foreign_files.read_bytes(folder / "image_ref").decode(errors="replace").strip()
    )
    module = _module(folder)
    root_ids, _ = read_runtime_config(foreign_files.read_bytes(folder / "runtime-config.json"))
    info = PluginInfo(
        reference.repository.rpartition("/")[2],
        abi_versions=(f"v{module.abi_version}",),
        root_ids=root_ids,
    )
    image = oci(module.content, info)
    Store().add(image, reference)
    return Imported(str(reference), image.manifest.digest, module.digest)


def _module(folder: Path) -> WasmModule:
    """The module, if it still has the digest that wasme recorded."""
    module, path = WasmModule.read(folder / "filter.wasm"), folder / "descriptor.json"
    try:
        expected = json.loads(foreign_files.read_bytes(path))["digest"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise NotAPlugin(f"{path} isn't a descriptor") from error
    if expected != module.digest:
        raise NotAPlugin(f"{module.path} has the module digest {module.digest}, not {expected}")
    return module
