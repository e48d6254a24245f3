"""What exactly to run: an image by its manifest's digest, a module by its own. The two never mix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NewType

from scaffold.core.versions import Version
from scaffold.errors import UsageError
from scaffold.kubernetes.options import ClusterOptions
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.wasm import proxy_features as versions
from scaffold.wasm.module import WasmFile

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

    `configuration` is the user's, or else the plugin's own; `module` is what was read of an image.
    """

    info: PluginInfo
    module_digest: ModuleDigest
    configuration: bytes = b""
    image: PinnedImage | None = None
    module: WasmFile | None = field(default=None, repr=False, compare=False)


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
