"""From an image's name to the very image that is to run: the registry's, or else the local one."""

from __future__ import annotations

from dataclasses import replace

from scaffold.core.events import Noted, Warned, emit
from scaffold.errors import RegistryError, UsageError
from scaffold.kubernetes.pins import ManifestDigest, ModuleDigest, Pin, PinnedImage
from scaffold.oci.layout import Layout, unpack
from scaffold.oci.reference import Reference
from scaffold.oci.spec import DOCKER_MANIFEST, Manifest
from scaffold.oci.store import Blobs, Ingest, Store
from scaffold.oci.variants import DOCKER_TAR_GZIP


def pin(name: str, *, pushed: bool, plain_http: bool = False, given: bytes | None = None) -> Pin:
    """The image of that name, read and verified: by its digest in the registry, or else the local one's.

    It is said which. With `pushed` only what is in the registry will do. Its configuration is the one that
    was `given`, or its own. Raises `UsageError` when the tag isn't of the digest beside it any more,
    `ImageError` for what holds no plugin; and as `PluginInfo.configured` does.
    """
    reference, store = Reference.parse(name), Store()
    if reference.local:
        return _local(reference, store, given)
    try:
        found = _remote(reference, store, plain_http, given)
    except RegistryError as error:
        if not store.holds(reference):
            raise
        if pushed:
            if getattr(error, "status", None) == 404:
                error.hint = f"`scaffold push {replace(reference, digest=None)}` sends it there"
            raise
        emit(Warned(f"{error.message}; so it is pinned as it is here: push it before it is applied"))
        return _local(reference, store, given)
    _compare(reference, store, found)
    return found


def _remote(reference: Reference, store: Store, plain_http: bool, given: bytes | None) -> Pin:
    from scaffold.oci.registry import transfer

    asked = replace(reference, digest=None) if reference.tag else reference
    with transfer.fetched(asked, store, plain_http=plain_http) as (manifest, blobs):
        if reference.digest and reference.digest != manifest.digest:
            raise UsageError(
                f"`{asked}` has moved since it was pinned: it is {manifest.digest} now",
                hint=f"`{asked.name}@{reference.digest}` is the one that was pinned, `{asked}` that of now",
            )
        found = _read(asked, manifest, blobs, given)
    emit(Noted(f"{asked} is {manifest.digest} in the registry"))
    return found


def _local(reference: Reference, store: Store, given: bytes | None) -> Pin:
    manifest = store.find(reference)
    emit(Noted(f"{reference} is {manifest.digest} here"))
    return _read(replace(reference, digest=None), manifest, store.blobs, given)


def _compare(reference: Reference, store: Store, found: Pin) -> None:
    """Say when the registry's image isn't the one that has the name here: a push may be missing."""
    named = replace(reference, digest=None)
    if not reference.digest and store.holds(named) and found.image:
        here = store.find(named).digest
        if here != found.image.manifest_digest:
            emit(Warned(f"{named} is another image here ({here}) than in the registry: was it pushed?"))


def _read(reference: Reference, manifest: Manifest, blobs: Blobs | Ingest, given: bytes | None) -> Pin:
    unpacked = unpack(manifest, reference, blobs.open)
    info = unpacked.info
    image = PinnedImage(reference, ManifestDigest(manifest.digest), _variant(unpacked.layout, manifest))
    return Pin(
        name=info.name,
        module_digest=ModuleDigest(unpacked.module_digest),
        plugin_type=info.type,
        root_id=info.root_id,
        configuration=info.configured(given),
        image=image,
        source=info.source,
    )


def _variant(layout: Layout, manifest: Manifest) -> str:
    """How the image is laid out, with what of it keeps Istio's and Envoy Gateway's loader from taking it.

    Source: istio/istio, pkg/wasm/imagefetcher.go.
    """
    if layout.packed and (layout.module.media_type == DOCKER_TAR_GZIP) != (
        manifest.media_type == DOCKER_MANIFEST
    ):
        return f"{layout.variant}, of Docker's and OCI's media types mixed"
    if layout.variant == "oci" and len(manifest.layers) != 2:
        return f"oci, of {len(manifest.layers)} layers"
    return layout.variant
