"""What exactly is to run: an image by its manifest's digest, a module by its own. The two never mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from scaffold.core.versions import Version
from scaffold.errors import UsageError
from scaffold.kubernetes.options import ClusterOptions
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.wasm import compat as versions

ManifestDigest = NewType("ManifestDigest", str)  # "sha256:" and 64 hexadecimal digits, as is the other
ModuleDigest = NewType("ModuleDigest", str)

LOADED = ("compat", "oci")  # the variants that every consumer loads
LAYERED = ("multi-layer compat", "hybrid")


@dataclass(frozen=True)
class PinnedImage:
    """An image, whatever becomes of its tag; `variant` says how it holds its module."""

    reference: Reference
    manifest_digest: ManifestDigest
    variant: str

    @property
    def url(self) -> str:
        """Where to pull it, by digest and with its registry spelt out."""
        return f"{self.reference.registry}/{self.reference.repository}@{self.manifest_digest}"


@dataclass(frozen=True)
class Pin:
    """A plugin to deploy: its module, and the image that holds it, where it comes as one.

    `plugin_type` is "http", "network" or "service"; `configuration` its own, or the one that it was given;
    `source` the URL of the repository that its source is in, "" where nobody said.
    """

    name: str
    module_digest: ModuleDigest
    plugin_type: str = "http"
    root_id: str = ""
    configuration: bytes = b""
    image: PinnedImage | None = None
    source: str = ""


@dataclass(frozen=True)
class ImageSource:
    """A control plane pulls the image, and compares its manifest's digest."""

    url: str
    digest: ManifestDigest


@dataclass(frozen=True)
class HttpSource:
    """The module is downloaded, and its own digest compared."""

    url: str
    digest: ModuleDigest


@dataclass(frozen=True)
class FileSource:
    """The module is a file in the proxy's container; nobody compares its digest."""

    path: str
    digest: ModuleDigest


def pulled(pin: Pin, options: ClusterOptions, target: str) -> ImageSource | HttpSource:
    """Where a control plane gets the plugin: from the image, or from the http source that was named.

    Raises `UsageError` when there is neither, `ImageError` for an image that it couldn't load.
    """
    if options.url is not None:
        return HttpSource(options.url, pin.module_digest)
    if pin.image is None:
        raise UsageError(
            f"the target `{target}` takes a plugin from a registry, and no image is named",
            hint="`scaffold package` makes one, `scaffold push` sends it; then name it, or pass --url",
        )
    if pin.image.reference.local:
        name = str(pin.image.reference)
        raise UsageError(
            f"`{name}` names no registry, so that no cluster can pull it",
            hint=f"`scaffold tag {name} REGISTRY/{name}`, then `scaffold push` that",
        )
    version = options.istio_version if target == "istio" else None
    _check_variant(pin.image, target, version)
    return ImageSource(pin.image.url, pin.image.manifest_digest)


def fetched(pin: Pin, options: ClusterOptions, target: str) -> HttpSource | FileSource:
    """Where Envoy itself gets the module. Raises `UsageError` when that isn't said."""
    if options.url is not None:
        return HttpSource(options.url, pin.module_digest)
    if options.file is not None:
        return FileSource(options.file, pin.module_digest)
    raise UsageError(
        f"the target `{target}` takes the module from an http source or a mounted file",
        hint="pass --url https://host/plugin.wasm, or --file PATH in the proxy's container",
    )


def hexadecimal(digest: ManifestDigest | ModuleDigest) -> str:
    """A digest as Istio's and Envoy's fields have it, without its algorithm."""
    return digest.removeprefix("sha256:")


def _check_variant(image: PinnedImage, target: str, istio: Version | None) -> None:
    if image.variant in LAYERED:
        if istio:
            versions.require(versions.LAYERS, istio)
    elif image.variant not in LOADED:
        raise ImageError(
            f"{image.reference} is laid out as `{image.variant}`, which the target `{target}` can't load",
            hint="`scaffold package --variant compat`, then push that",
        )
