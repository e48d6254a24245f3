"""What images hold that others made: where the module is, and what is refused.

Sources: solo-io/wasm, spec/ and tools/wasme; istio/istio, pkg/wasm/imagefetcher.go; CNCF TAG Runtime,
wasm OCI artifact; engineerd/wasm-to-oci, pkg/oci; google/go-containerregistry, pkg/v1/remote/index.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from scaffold.core.files import digest
from scaffold.oci.spec import (
    BLOB_LIMIT,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    Descriptor,
    ImageError,
    Manifest,
    shown,
)
from scaffold.oci.tar import Archive, Entry
from scaffold.oci.variants import (
    CNCF_CONFIG,
    CNCF_WASM,
    DOCKER_TAR_GZIP,
    MODULE_DIGEST,
    RUNTIME_CONFIG,
    TAR_GZIP,
    WASM_CONTENT,
)
from scaffold.wasm.module import COMPONENT, CORE, MAGIC

WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
MODULE_NAME, RUNTIME_CONFIG_NAME = "plugin.wasm", "runtime-config.json"

_ARCHIVES = (TAR_GZIP, DOCKER_TAR_GZIP)
_BARE = (WASM_CONTENT, CNCF_WASM, WASM_TO_OCI)
_PACKED_OTHERWISE = {
    "application/vnd.oci.image.layer.v1.tar": "not compressed",
    "application/vnd.docker.image.rootfs.diff.tar": "not compressed",
    "application/vnd.oci.image.layer.v1.tar+zstd": "compressed with zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "compressed with zstd",
}
_PLATFORM = {"os": "linux", "architecture": "amd64"}
_UNKNOWN = {"os": "unknown", "architecture": "unknown"}


@dataclass(frozen=True)
class Layout:
    """How an image holds its module.

    `variant` is "compat", "multi-layer compat", "hybrid", "oci", "cncf", "wasm-to-oci" or "artifact";
    `module` the layer to read, `runtime_config` wasme's where it is a blob of its own; `reason` says by
    what it was told.
    """

    variant: str
    module: Descriptor
    runtime_config: Descriptor | None
    reason: str

    @property
    def packed(self) -> bool:
        """Whether the layer is an archive that holds `plugin.wasm`, and not the module itself."""
        return self.module.media_type in _ARCHIVES


@dataclass(frozen=True)
class Contents:
    """What the module's layer holds: `files` but for directories, none when the layer is the bare module."""

    module: bytes = field(repr=False)
    files: tuple[Entry, ...] = ()
    runtime_config: bytes | None = field(default=None, repr=False)


def layout_of(manifest: Manifest) -> Layout:
    """Where an image holds its module, looked for in the order in which Istio does.

    Whether an archive does hold one is told only when it is read. Raises `ImageError`, naming what the
    layers are, when nothing in it can be a module.
    """
    if not manifest.layers:
        raise ImageError("the image holds no wasm module: it has no layers")
    last = manifest.layers[-1]
    configs = (blob for blob in (manifest.config, *manifest.layers) if blob.media_type == RUNTIME_CONFIG)
    runtime_config = next(configs, None)
    bare = [blob for blob in manifest.layers if blob.media_type in _BARE]
    if last.media_type in _ARCHIVES:
        return Layout(_archive_variant(manifest, bare), last, runtime_config, _archive_reason(manifest, bare))
    if len(bare) > 1:
        raise ImageError(f"the image holds {len(bare)} wasm modules, and a plugin is one")
    if bare:
        return Layout(
            _bare_variant(manifest, bare[0]), bare[0], runtime_config, f"its layer is {bare[0].media_type}"
        )
    if last.media_type in _PACKED_OTHERWISE:
        raise ImageError(
            f"the image's last layer is {_PACKED_OTHERWISE[last.media_type]}, and consumers read only gzip",
            hint="compress the layer with gzip",
        )
    raise ImageError(f"the image holds no wasm module: its layers are {_listed(manifest.layers)}")


def _archive_variant(manifest: Manifest, bare: list[Descriptor]) -> str:
    if bare:
        return "hybrid"
    return "compat" if len(manifest.layers) == 1 else "multi-layer compat"


def _archive_reason(manifest: Manifest, bare: list[Descriptor]) -> str:
    docker = manifest.layers[-1].media_type == DOCKER_TAR_GZIP
    reason = "its last layer is a tar+gzip"
    if bare:
        reason += ", which Istio takes and not the bare module"
    if docker != (manifest.media_type == DOCKER_MANIFEST):
        reason += ", of another family than the manifest, which Istio refuses"
    return reason


def _bare_variant(manifest: Manifest, module: Descriptor) -> str:
    if module.media_type == CNCF_WASM:
        return "cncf" if manifest.config.media_type == CNCF_CONFIG else "artifact"
    return "oci" if module.media_type == WASM_CONTENT else "wasm-to-oci"


def _listed(layers: tuple[Descriptor, ...]) -> str:
    types = list(dict.fromkeys(shown(layer.media_type) for layer in layers))
    return ", ".join(types[:5]) + (", ..." if len(types) > 5 else "")


def read_module(layout: Layout, stream: BinaryIO) -> bytes:
    """The module's bytes, out of the verified blob of `layout.module`; raises as `read_contents` does."""
    return read_contents(layout, stream).module


def read_contents(layout: Layout, stream: BinaryIO) -> Contents:
    """All that the blob of `layout.module` holds; it is read to its end, and must be the verified one.

    Raises `ImageError` for an archive without a `plugin.wasm`, with two, or with one that is no regular
    file; for one that can't be read safely, or unpacks to more than 256 MiB or 1,000 files; and for what
    isn't a core module.
    """
    if layout.module.size > BLOB_LIMIT:
        raise ImageError(f"its module's layer is {layout.module.size:,} bytes large: 256 MiB is the most")
    contents = _unpacked(Archive(stream)) if layout.packed else Contents(stream.read(layout.module.size))
    _check_module(contents.module)
    return contents


def _unpacked(archive: Archive) -> Contents:
    files, found = [], dict[str, bytes]()
    for entry in archive.entries():
        path = PurePosixPath(entry.name)
        # a plugin may be in any folder, as Istio has it; wasme puts its configuration beside it, at the top
        name = path.name if path.name == MODULE_NAME else str(path)
        if name in (MODULE_NAME, RUNTIME_CONFIG_NAME):
            if entry.kind != "file":
                raise ImageError(f"its last layer holds {shown(entry.name)} as a {entry.kind}, not as a file")
            if name in found:
                raise ImageError(f"its last layer holds two files named {name}")
            if name == RUNTIME_CONFIG_NAME and entry.size > MANIFEST_LIMIT:
                raise ImageError(f"its {name} is {entry.size:,} bytes large")
            found[name] = archive.read()
        if entry.kind != "directory":
            files.append(entry)
    if MODULE_NAME not in found:
        raise ImageError(f"the image is no plugin: its last layer has no {MODULE_NAME}")
    return Contents(found[MODULE_NAME], tuple(files), found.get(RUNTIME_CONFIG_NAME))


def _check_module(content: bytes) -> None:
    if not content:
        raise ImageError("the image's module is empty")
    if content[:4] != MAGIC:
        raise ImageError(f"the image's module is not a wasm module (it begins with {content[:4]!r})")
    if content[4:8] == COMPONENT:
        raise ImageError(
            "the image's module is a WebAssembly component; proxy-wasm hosts load core modules",
            hint="compile for wasm32-wasip1, not wasm32-wasip2",
        )
    if content[4:8] != CORE:
        raise ImageError(f"the image's module has an unknown wasm version ({content[4:8].hex()})")


def verify(manifest: Manifest, module: bytes) -> None:
    """Hold a module against the digest that the image's annotations give, where they do.

    Raises `ImageError` when it is another one.
    """
    said, read = manifest.annotations.get(MODULE_DIGEST), digest(module)
    if said is not None and said != read:
        raise ImageError(f"the image says that its module is {shown(said)}, and holds {read}")


def choose_child(index: Mapping[str, Any]) -> Descriptor:
    """The image in an index that is meant: the first for linux/amd64, or the only one.

    That is the one that Istio takes, on any node; one without a platform counts as such. What tells of
    another image (BuildKit's attestations) is no image. Raises `ImageError`, naming the platforms.
    """
    records = index.get("manifests")
    if not isinstance(records, list):
        raise ImageError("the index has no list of images")
    children = [(Descriptor.read(one, f"image {at} of the index"), one) for at, one in enumerate(records)]
    images = [(child, _platform(one)) for child, one in children if not _attests(child, one)]
    for child, platform in images:
        if _PLATFORM.items() <= platform.items():
            return child
    if len(images) == 1:
        return images[0][0]
    if not images:
        raise ImageError("the index holds no image")
    platforms = [f"{platform.get('os', '?')}/{platform.get('architecture', '?')}" for _, platform in images]
    raise ImageError(f"the index holds no image for linux/amd64, only for {shown(', '.join(platforms))}")


def _platform(record: Mapping[str, Any]) -> Mapping[str, str]:
    platform = record.get("platform")
    if not isinstance(platform, dict):
        return _PLATFORM
    return {key: value for key, value in platform.items() if isinstance(value, str)}


def _attests(child: Descriptor, record: Mapping[str, Any]) -> bool:
    return "vnd.docker.reference.type" in child.annotations or _UNKNOWN.items() <= _platform(record).items()
