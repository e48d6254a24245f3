"""`push`: send a local image to a registry."""

from __future__ import annotations

from pathlib import Path

from scaffold.errors import MachineError, UsageError
from scaffold.hosts.docker import image_hint
from scaffold.hosts.source import require_hosts
from scaffold.oci.module_layer import read_verified
from scaffold.oci.reference import Reference
from scaffold.oci.registry import transfer
from scaffold.oci.registry.transfer import Transferred
from scaffold.oci.spec import TITLE, Manifest
from scaffold.oci.store import Store
from scaffold.project.cargo_toml import locate


def push(image: str, *, plain_http: bool = False) -> Transferred:
    """Send a local image to the registry in its name. The tag is set last.

    Raises `UsageError` if there is no such image or its name has no registry, `ImageError` if it holds no
    module, `ModuleError` if it is of the plugin in the current folder and a host in the plugin's settings
    doesn't load it, `RegistryError` if the registry can't be reached, refuses, or stores other bytes.
    """
    reference, store = Reference.parse(image), Store()
    with image_hint.named(image):
        manifest = _find(store, reference)
    if reference.local:
        short = f"{reference.repository.removeprefix('library/')}:{reference.tag or 'latest'}"
        raise UsageError(
            f"`{reference}` doesn't name a registry",
            hint=f"run `scaffold tag {short} REGISTRY/{short}`, then push that name",
        )
    try:
        _, contents = read_verified(manifest, store.blobs.open)
    except MachineError:
        _find(store, reference)  # another command may have removed it meanwhile, which is the better reason
        raise
    require_hosts(locate(Path()), manifest.annotations.get(TITLE, ""), contents.wasm)
    transfer.upload(reference, manifest, store, plain_http=plain_http)
    return Transferred.of(reference, manifest)


def _find(store: Store, reference: Reference) -> Manifest:
    try:
        return store.find(reference)
    except UsageError as error:
        unpushed = next((name for name in store.similar(reference) if "/" not in name), None)
        hint = f"run `scaffold tag {unpushed} {reference}`, then push again" if unpushed else error.hint
        raise UsageError(error.message, hint=hint) from error
