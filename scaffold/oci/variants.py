"""How a module becomes an image: one function per variant. Equal input gives equal bytes.

No clock, user or path goes in. The tar is compressed by zlib; another version of zlib may give other bytes,
and so another digest, for the same module.
Sources: solo-io/wasm, spec/ and tools/wasme; CNCF TAG Runtime, wasm OCI artifact; istio/istio, pkg/wasm.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

from scaffold.core.files import digest
from scaffold.oci.plugin_info import RUNTIME_CONFIG_NAME, PluginInfo
from scaffold.oci.spec import (
    CNCF_CONFIG,
    CNCF_WASM,
    IMAGE_CONFIG,
    RUNTIME_CONFIG,
    TAR_GZIP,
    TITLE,
    WASM_CONTENT,
    Descriptor,
    Image,
    Manifest,
    dump,
)

_LEVEL = 6  # of gzip: 9 takes three times as long and saves one per cent
_EPOCH = "1970-01-01T00:00:00Z"


def compat(module: bytes, info: PluginInfo) -> Image:
    """An ordinary container image that holds only `plugin.wasm`, which most consumers load.

    It has a platform that every Docker accepts, though nothing in it runs there.
    """
    tar = _tar("plugin.wasm", module)
    annotations = info.annotations(digest(module))
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
        _blob(IMAGE_CONFIG, config),
        [_blob(TAR_GZIP, _gzip(tar), "plugin.tar.gz")],
        annotations | {"module.wasm.image/variant": "compat"},
    )


def oci(module: bytes, info: PluginInfo) -> Image:
    """What wasme reads and writes: its runtime configuration, as config and as a layer, and the module."""
    config = _blob(RUNTIME_CONFIG, info.runtime_config(), RUNTIME_CONFIG_NAME)
    layer = _blob(WASM_CONTENT, module, "filter.wasm")
    return _image(config, [config, layer], info.annotations(layer[0].digest))


def cncf(module: bytes, info: PluginInfo) -> Image:
    """What wkg and the CNCF's own tools read: the bare module as the only layer."""
    layer = _blob(CNCF_WASM, module, f"{info.name or 'plugin'}.wasm")
    module_digest = layer[0].digest
    config = {"created": _EPOCH, "architecture": "wasm", "os": "wasip1", "layerDigests": [module_digest]}
    return _image(_blob(CNCF_CONFIG, dump(config)), [layer], info.annotations(module_digest))


# name -> how a module becomes such an image
VARIANTS: dict[str, Callable[[bytes, PluginInfo], Image]] = {"compat": compat, "oci": oci, "cncf": cncf}

_Blob = tuple[Descriptor, bytes]


def _blob(media_type: str, content: bytes, title: str = "") -> _Blob:
    return Descriptor.of(media_type, content, {TITLE: title} if title else None), content


def _image(config: _Blob, layers: list[_Blob], annotations: dict[str, str]) -> Image:
    manifest = Manifest.make(config[0], tuple(descriptor for descriptor, _ in layers), annotations)
    return Image(manifest, {descriptor.digest: content for descriptor, content in [config, *layers]})


def _tar(name: str, content: bytes) -> bytes:
    """An archive of one regular file, which doesn't say who made it or when."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _gzip(content: bytes) -> bytes:
    """Compress; `gzip.compress` writes the operating system into the header on some Pythons."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=_LEVEL, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()
