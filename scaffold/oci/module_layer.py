"""How images, including those made by other tools, hold their module; and which images we refuse.

Sources: solo-io/wasm, spec/ and tools/wasme; istio/istio, pkg/wasm/imagefetcher.go; CNCF TAG Runtime,
wasm OCI artifact; engineerd/wasm-to-oci, pkg/oci; google/go-containerregistry, pkg/v1/remote/index.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from scaffold.core.text import one_line, quoted
from scaffold.oci.plugin_info import MODULE_DIGEST, RUNTIME_CONFIG_NAME, PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import (
    BLOB_LIMIT,
    CNCF_CONFIG,
    CNCF_WASM,
    DOCKER_MANIFEST,
    DOCKER_TAR_GZIP,
    MANIFEST_LIMIT,
    RUNTIME_CONFIG,
    TAR_GZIP,
    WASM_CONTENT,
    Descriptor,
    ImageError,
    Manifest,
)
from scaffold.oci.tar import Archive, Entry
from scaffold.wasm.module import NotAPlugin, WasmFile

WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
MODULE_NAME = "plugin.wasm"

_ARCHIVES = (TAR_GZIP, DOCKER_TAR_GZIP)
_BARE = (WASM_CONTENT, CNCF_WASM, WASM_TO_OCI)
_UNREADABLE = {
    "application/vnd.oci.image.layer.v1.tar": "not compressed",
    "application/vnd.docker.image.rootfs.diff.tar": "not compressed",
    "application/vnd.oci.image.layer.v1.tar+zstd": "compressed with zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "compressed with zstd",
}
_PLATFORM = {"os": "linux", "architecture": "amd64"}
_UNKNOWN = {"os": "unknown", "architecture": "unknown"}

OpenBlob = Callable[[Descriptor], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class Layout:
    """How an image holds its module.

    `variant` is "compat", "multi-layer compat", "hybrid", "oci", "cncf", "wasm-to-oci" or "artifact", and
    `reason` explains why. `module` is the layer to read, `runtime_config` wasme's configuration if it is a
    blob of its own.
    """

    variant: str
    module: Descriptor
    runtime_config: Descriptor | None
    reason: str

    @property
    def packed(self) -> bool:
        """Whether the layer is an archive that holds `plugin.wasm`, rather than the module itself."""
        return self.module.media_type in _ARCHIVES


@dataclass(frozen=True)
class Contents:
    """The content of the module's layer: `files`, without directories, are empty for a bare module.

    `wasm` is what `module` turned out to be.
    """

    module: bytes = field(repr=False)
    wasm: WasmFile = field(repr=False)
    files: tuple[Entry, ...] = ()
    runtime_config: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Unpacked:
    """An image that was read. `files` are the paths in the module's layer, empty if it is the bare module."""

    layout: Layout
    info: PluginInfo
    module: bytes = field(repr=False)
    wasm: WasmFile = field(repr=False)
    files: tuple[str, ...]


def unpack(manifest: Manifest, reference: Reference, open_blob: OpenBlob) -> Unpacked:
    """Read an image, whose verified blobs `open_blob` opens. Raises `ImageError` if it holds no plugin."""
    layout, contents = read_verified(manifest, open_blob)
    runtime_config = contents.runtime_config
    if layout.runtime_config:
        with open_blob(layout.runtime_config) as blob:
            runtime_config = blob.read()
    info = PluginInfo.of_image(manifest, reference, runtime_config)
    files = tuple(entry.name for entry in contents.files)
    return Unpacked(layout, info, contents.module, contents.wasm, files)


def read_verified(manifest: Manifest, open_blob: OpenBlob) -> tuple[Layout, Contents]:
    """An image's layout, and the content of the module's layer; raises like `unpack`."""
    layout = layout_of(manifest)
    with open_blob(layout.module) as blob:
        contents = read_contents(layout, blob)
    verify(manifest, contents.wasm.digest)
    return layout, contents


def layout_of(manifest: Manifest) -> Layout:
    """Where an image holds its module; the layers are tried in the same order as in Istio.

    Whether an archive really holds a module shows only when it is read. Raises `ImageError`, which lists the
    layers' types, if none can hold a module.
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
        raise ImageError(f"the image holds {len(bare)} wasm modules instead of one")
    if bare:
        return Layout(
            _bare_variant(manifest, bare[0]), bare[0], runtime_config, f"its layer is {bare[0].media_type}"
        )
    if last.media_type in _UNREADABLE:
        raise ImageError(
            f"the image's last layer is {_UNREADABLE[last.media_type]}, but consumers read only gzip",
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
        reason += ", which Istio prefers to the bare module"
    if docker != (manifest.media_type == DOCKER_MANIFEST):
        reason += ", but of another family than the manifest, which Istio refuses"
    return reason


def _bare_variant(manifest: Manifest, module: Descriptor) -> str:
    if module.media_type == CNCF_WASM:
        return "cncf" if manifest.config.media_type == CNCF_CONFIG else "artifact"
    return "oci" if module.media_type == WASM_CONTENT else "wasm-to-oci"


def _listed(layers: tuple[Descriptor, ...]) -> str:
    types = list(dict.fromkeys(quoted(layer.media_type) for layer in layers))
    return ", ".join(types[:5]) + (", ..." if len(types) > 5 else "")


def read_contents(layout: Layout, stream: BinaryIO) -> Contents:
    """The content of the verified blob of `layout.module`, which is read to its end.

    Raises `ImageError` for an archive without a `plugin.wasm`, with two, or with one that isn't a regular
    file; for an archive that can't be read safely, or unpacks to more than 256 MiB or 1,000 files; and for
    anything but a core module that can be read.
    """
    if layout.module.size > BLOB_LIMIT:
        raise ImageError(f"its module's layer has {layout.module.size:,} bytes: 256 MiB is the limit")
    if layout.packed:
        return _unpacked(Archive(stream))
    module = stream.read(layout.module.size)
    return Contents(module, _parsed(module))


def _unpacked(archive: Archive) -> Contents:
    files, contents = [], dict[str, bytes]()
    for entry in archive.entries():
        path = PurePosixPath(entry.name)
        # like Istio, take a plugin in any folder; wasme's configuration is at the top
        name = path.name if path.name == MODULE_NAME else str(path)
        if name in (MODULE_NAME, RUNTIME_CONFIG_NAME):
            if entry.kind != "file":
                raise ImageError(f"its last layer has {quoted(entry.name)} as a {entry.kind}, not as a file")
            if name in contents:
                raise ImageError(f"its last layer has two files named {name}")
            if name == RUNTIME_CONFIG_NAME and entry.size > MANIFEST_LIMIT:
                raise ImageError(f"its {name} has {entry.size:,} bytes")
            contents[name] = archive.read()
        if entry.kind != "directory":
            files.append(entry)
    if MODULE_NAME not in contents:
        raise ImageError(f"the image holds no plugin: its last layer has no {MODULE_NAME}")
    module = contents[MODULE_NAME]
    return Contents(module, _parsed(module), tuple(files), contents.get(RUNTIME_CONFIG_NAME))


def _parsed(content: bytes) -> WasmFile:
    """A module as the one parser reads it: no command may find an image better or worse than another."""
    try:
        wasm = WasmFile.parse(content, Path("the image's module"))
        wasm.require_core()
    except NotAPlugin as error:
        raise ImageError(error.message, hint=error.hint) from error
    return wasm


def verify(manifest: Manifest, module_digest: str) -> None:
    """Raise `ImageError` if the image's annotations state another digest than its module has."""
    stated = manifest.annotations.get(MODULE_DIGEST)
    if stated is not None and stated != module_digest:
        raise ImageError(
            f"the image states the module digest {quoted(stated, 100)}, but its module has {module_digest}"
        )


def choose_child(index: Mapping[str, Any]) -> Descriptor:
    """The image that an index stands for: the first one for linux/amd64, or the only one.

    Istio takes the same one, on any node. An image without a platform counts as linux/amd64, and BuildKit's
    attestations don't count as images. Raises `ImageError`, which lists the platforms, if there is none.
    """
    records = index.get("manifests")
    if not isinstance(records, list):
        raise ImageError("the index has no list of images")
    children = [
        (Descriptor.read(record, f"image {at} of the index"), record) for at, record in enumerate(records)
    ]
    images = [(child, _platform(record)) for child, record in children if not _is_attestation(child, record)]
    for child, platform in images:
        if _PLATFORM.items() <= platform.items():
            return child
    if len(images) == 1:
        return images[0][0]
    if not images:
        raise ImageError("the index has no images")
    platforms = [f"{platform.get('os', '?')}/{platform.get('architecture', '?')}" for _, platform in images]
    raise ImageError(f"the index has no image for linux/amd64, only for {one_line(', '.join(platforms))}")


def _platform(record: Mapping[str, Any]) -> Mapping[str, str]:
    platform = record.get("platform")
    if not isinstance(platform, dict):
        return _PLATFORM
    return {key: value for key, value in platform.items() if isinstance(value, str)}


def _is_attestation(child: Descriptor, record: Mapping[str, Any]) -> bool:
    return "vnd.docker.reference.type" in child.annotations or _UNKNOWN.items() <= _platform(record).items()
