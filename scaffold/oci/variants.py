"""How a module becomes an image: one function a variant. The same metadata give the same bytes, always.

No clock, user or path goes in. The tar is compressed by zlib: another zlib may give other bytes, and
so another digest, for the same module.
Sources: solo-io/wasm, spec/ and tools/wasme; CNCF TAG Runtime, wasm OCI artifact; istio/istio, pkg/wasm.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from scaffold.core.files import digest
from scaffold.oci.reference import Reference
from scaffold.oci.spec import Descriptor, Image, Manifest, dump

ABI_VERSION = "module.wasm.runtime/abi_version"  # wasme's own
RUNTIME_TYPE = "module.wasm.runtime/type"
MODULE_DIGEST = "proxy-wasm.module/digest"
ROOT_IDS = "proxy-wasm.plugin/root-ids"
PLUGIN_TYPE = "proxy-wasm.plugin/type"
CONFIGURATION = "proxy-wasm.plugin/configuration"
CONFIGURATION_SCHEMA = "proxy-wasm.plugin/configuration-schema"
TITLE = "org.opencontainers.image.title"
SOURCE = "org.opencontainers.image.source"

TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
RUNTIME_CONFIG = "application/vnd.module.wasm.config.v1+json"
WASM_CONTENT = "application/vnd.module.wasm.content.layer.v1+wasm"
CNCF_CONFIG = "application/vnd.wasm.config.v0+json"
CNCF_WASM = "application/wasm"

_LEVEL = 6  # gzip's: 9 takes three times as long for one per cent
_EPOCH = "1970-01-01T00:00:00Z"


def title_of(manifest: Manifest, reference: Reference) -> str:
    """What a plugin is called: as its image says, where that is a line to show; else as the image is."""
    said = manifest.annotations.get(TITLE, "")
    return said if said and said.isprintable() else reference.repository.rpartition("/")[2]


@dataclass(frozen=True)
class Metadata:
    """What is said of a plugin in its image; empty where it isn't known.

    `abi_version` as in "0.2.1", `configuration` the default one, `schema` its JSON Schema, `revision` of
    the source at `source`.
    """

    title: str
    version: str = ""
    description: str = ""
    source: str = ""
    revision: str = ""
    licenses: str = ""
    abi_version: str = ""
    plugin_type: str = "http"
    root_ids: tuple[str, ...] = ()
    configuration: str = ""
    schema: str = ""

    def annotations(self, module: bytes) -> dict[str, str]:
        """The manifest's annotations, without those that would be empty."""
        said = {
            TITLE: self.title,
            "org.opencontainers.image.version": self.version,
            "org.opencontainers.image.description": self.description,
            SOURCE: self.source,
            "org.opencontainers.image.revision": self.revision,
            "org.opencontainers.image.licenses": self.licenses,
            RUNTIME_TYPE: "envoy_proxy",
            ABI_VERSION: f"v{self.abi_version}" if self.abi_version else "",
            MODULE_DIGEST: digest(module),
            ROOT_IDS: ",".join(self.root_ids),
            PLUGIN_TYPE: self.plugin_type,
            CONFIGURATION: self.configuration,
            CONFIGURATION_SCHEMA: self.schema,
        }
        return {key: value for key, value in sorted(said.items()) if value}

    def runtime_config(self) -> bytes:
        """wasme's `runtime-config.json`. Source: solo-io/wasm, tools/wasme/pkg/config/runtime.proto."""
        versions = [f"v{self.abi_version}"] if self.abi_version else []
        root_ids = list(self.root_ids)
        return dump({"type": "envoy_proxy", "abiVersions": versions, "config": {"rootIds": root_ids}})


def compat(module: bytes, metadata: Metadata) -> Image:
    """An ordinary container image that holds `plugin.wasm` and nothing else: what most consumers load.

    Its platform is one that every Docker takes; nothing in it runs there.
    """
    tar = _tar("plugin.wasm", module)
    layer = _gzip(tar)
    annotations = metadata.annotations(module)
    config = dump(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": annotations},
            "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
            "history": [{"created_by": "proxy-wasm-scaffold"}],
        }
    )
    return _image(
        (IMAGE_CONFIG, config, ""),
        [(TAR_GZIP, layer, "plugin.tar.gz")],
        annotations | {"module.wasm.image/variant": "compat"},
    )


def oci(module: bytes, metadata: Metadata) -> Image:
    """What wasme reads and writes: its runtime configuration, once more as a layer, and the bare module."""
    config = (RUNTIME_CONFIG, metadata.runtime_config(), "runtime-config.json")
    return _image(config, [config, (WASM_CONTENT, module, "filter.wasm")], metadata.annotations(module))


def cncf(module: bytes, metadata: Metadata) -> Image:
    """What wkg and the CNCF's own tools read: the bare module as the only layer."""
    config = dump(
        {"created": _EPOCH, "architecture": "wasm", "os": "wasip1", "layerDigests": [digest(module)]}
    )
    layer = (CNCF_WASM, module, f"{metadata.title or 'plugin'}.wasm")
    return _image((CNCF_CONFIG, config, ""), [layer], metadata.annotations(module))


# name -> how a module becomes such an image
VARIANTS: dict[str, Callable[[bytes, Metadata], Image]] = {"compat": compat, "oci": oci, "cncf": cncf}

_Part = tuple[str, bytes, str]  # media type, bytes, title


def _image(config: _Part, layers: list[_Part], annotations: dict[str, str]) -> Image:
    def describe(part: _Part) -> Descriptor:
        media_type, content, title = part
        return Descriptor.of(media_type, content, {TITLE: title} if title else None)

    manifest = Manifest.make(describe(config), tuple(describe(layer) for layer in layers), annotations)
    return Image(manifest, {digest(content): content for _, content, _ in [config, *layers]})


def _tar(name: str, content: bytes) -> bytes:
    """An archive of one regular file, with nothing in it of who made it or when."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _gzip(content: bytes) -> bytes:
    """Compressed; `gzip.compress` would write the system's number into the header on some Pythons."""
    made = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=made, compresslevel=_LEVEL, mtime=0) as file:
        file.write(content)
    return made.getvalue()
