"""What exactly to run: an image by its manifest's digest, a module by its own. The two never mix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NewType

from scaffold.core.events import Noted, Warned, emit
from scaffold.core.versions import Version
from scaffold.errors import RegistryError, UsageError
from scaffold.kubernetes.options import ClusterOptions
from scaffold.oci.module_layer import Layout, unpack
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import DOCKER_MANIFEST, ImageError, Manifest
from scaffold.oci.store import Blobs, Ingest, Store
from scaffold.oci.variants import DOCKER_TAR_GZIP
from scaffold.wasm import envoy_versions as versions

ManifestDigest = NewType("ManifestDigest", str)  # "sha256:" and 64 hexadecimal digits, as is the other
ModuleDigest = NewType("ModuleDigest", str)

LOADABLE = ("compat", "oci")  # the variants that every consumer loads
MULTI_LAYER = ("multi-layer compat", "hybrid")


@dataclass(frozen=True)
class PinnedImage:
    """An image by digest, wherever its tag moves; `variant` says how it contains its module."""

    reference: Reference
    manifest_digest: ManifestDigest
    variant: str

    @property
    def url(self) -> str:
        """Where to pull it from, by digest and with the registry's full name."""
        return f"{self.reference.registry}/{self.reference.repository}@{self.manifest_digest}"


@dataclass(frozen=True)
class Pin:
    """A plugin to deploy: its module, and the image that contains it, if any.

    `configuration` is the user's, or else the plugin's own.
    """

    info: PluginInfo
    module_digest: ModuleDigest
    configuration: bytes = b""
    image: PinnedImage | None = None


@dataclass(frozen=True)
class ImageSource:
    """The control plane pulls the image, and checks the manifest's digest."""

    url: str
    digest: ManifestDigest


@dataclass(frozen=True)
class HttpSource:
    """The module is downloaded, and its digest checked."""

    url: str
    digest: ModuleDigest


@dataclass(frozen=True)
class FileSource:
    """The module is a file in the proxy's container; its digest isn't checked."""

    path: str
    digest: ModuleDigest


def image_source(pin: Pin, options: ClusterOptions, target: str) -> ImageSource | HttpSource:
    """Where a control plane gets the plugin from: the image, or the URL that replaces it.

    Raises `UsageError` when there is neither, `ImageError` for an image that the target can't load.
    """
    if options.url is not None:
        return HttpSource(options.url, pin.module_digest)
    if pin.image is None:
        raise UsageError(
            f"`{target}` gets plugins from a registry, and no image is named",
            hint="`scaffold package`, `scaffold push`, then name the image; or pass --url",
        )
    if pin.image.reference.local:
        name = str(pin.image.reference)
        raise UsageError(
            f"`{name}` doesn't name a registry, so no cluster can pull it",
            hint=f"`scaffold tag {name} REGISTRY/{name}`, then `scaffold push` that",
        )
    version = options.istio_version if target == "istio" else None
    _check_variant(pin.image, target, version)
    return ImageSource(pin.image.url, pin.image.manifest_digest)


def module_source(pin: Pin, options: ClusterOptions, target: str) -> HttpSource | FileSource:
    """Where Envoy itself gets the module from. Raises `UsageError` when neither URL nor file is named."""
    if options.url is not None:
        return HttpSource(options.url, pin.module_digest)
    if options.file is not None:
        return FileSource(options.file, pin.module_digest)
    raise UsageError(
        f"`{target}` gets the module from a URL or a mounted file, and neither is named",
        hint="pass --url https://host/plugin.wasm, or --file PATH in the proxy's container",
    )


def hexadecimal(digest: ManifestDigest | ModuleDigest) -> str:
    """A digest without its algorithm, as Istio's and Envoy's fields want it."""
    return digest.removeprefix("sha256:")


def _check_variant(image: PinnedImage, target: str, istio: Version | None) -> None:
    if image.variant in MULTI_LAYER:
        if istio:
            versions.require(versions.LAYERS, istio)
    elif image.variant not in LOADABLE:
        raise ImageError(
            f"{image.reference} is of the variant `{image.variant}`, which `{target}` can't load",
            hint="run `scaffold package --variant compat`, then push that image",
        )


def resolve(name: str, *, pushed: bool, plain_http: bool = False, configuration: bytes | None = None) -> Pin:
    """Read and verify the image of that name: the registry's, or else, unless `pushed`, the local one.

    Which one is announced. `configuration` replaces the image's own. Raises `UsageError` when the tag no
    longer has the digest beside it, `ImageError` for an image without a plugin; and as
    `PluginInfo.configured` does.
    """
    reference, store = Reference.parse(name), Store()
    if reference.local:
        return _local(reference, store.find(reference), store, configuration)
    try:
        pin = _remote(reference, store, plain_http, configuration)
    except RegistryError as error:
        local = store.get(reference)
        if local is None:
            raise
        if pushed:
            if getattr(error, "status", None) == 404:
                error.hint = f"`scaffold push {replace(reference, digest=None)}`"
            raise
        emit(
            Warned(
                f"{error.message}; the manifest has the local image's digest: push it before you apply this"
            )
        )
        return _local(reference, local, store, configuration)
    _warn_if_stale(reference, store, pin)
    return pin


def _remote(reference: Reference, store: Store, plain_http: bool, configuration: bytes | None) -> Pin:
    from scaffold.oci.registry import transfer

    tagged = replace(reference, digest=None) if reference.tag else reference
    with transfer.fetched(tagged, store, plain_http=plain_http) as (manifest, blobs):
        if reference.digest and reference.digest != manifest.digest:
            raise UsageError(
                f"`{tagged}` has moved since it was pinned: it is {manifest.digest} now",
                hint=f"`{tagged.name}@{reference.digest}` is the pinned image, `{tagged}` the current one",
            )
        pin = _read(tagged, manifest, blobs, configuration)
    emit(Noted(f"{tagged} is {manifest.digest} in the registry"))
    return pin


def _local(reference: Reference, manifest: Manifest, store: Store, configuration: bytes | None) -> Pin:
    emit(Noted(f"{reference} is {manifest.digest} in the local store"))
    return _read(replace(reference, digest=None), manifest, store.blobs, configuration)


def _warn_if_stale(reference: Reference, store: Store, pin: Pin) -> None:
    """Warn when the local image of that name is another than the registry's: a push may be missing."""
    named = replace(reference, digest=None)
    local = None if reference.digest else store.get(named)
    if local and pin.image and local.digest != pin.image.manifest_digest:
        emit(
            Warned(f"the local {named} is another image ({local.digest}) than the registry's: was it pushed?")
        )


def _read(
    reference: Reference, manifest: Manifest, blobs: Blobs | Ingest, configuration: bytes | None
) -> Pin:
    unpacked = unpack(manifest, reference, blobs.open)
    unpacked.wasm.require_plugin()
    image = PinnedImage(reference, ManifestDigest(manifest.digest), _variant(unpacked.layout, manifest))
    content = unpacked.info.configured(configuration)
    return Pin(unpacked.info, ModuleDigest(unpacked.wasm.digest), content, image)


def _variant(layout: Layout, manifest: Manifest) -> str:
    """The image's variant, with what keeps the loaders of Istio and Envoy Gateway from accepting it.

    Source: istio/istio, pkg/wasm/imagefetcher.go.
    """
    if layout.packed and (layout.module.media_type == DOCKER_TAR_GZIP) != (
        manifest.media_type == DOCKER_MANIFEST
    ):
        return f"{layout.variant}, mixing Docker's and OCI's media types"
    if layout.variant == "oci" and len(manifest.layers) != 2:
        return f"oci, with {len(manifest.layers)} layers"
    return layout.variant
