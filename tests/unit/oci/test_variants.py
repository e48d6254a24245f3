"""What an image of each variant is, to the byte."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from support import wasm_asm

from scaffold.core.files import digest
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.spec import Manifest
from scaffold.oci.variants import VARIANTS

GOLDEN = Path(__file__).parents[2] / "golden"
MODULE = wasm_asm.plugin()
METADATA = PluginInfo(
    name="hello_world",
    version="0.1.0",
    description="Says hello",
    source="https://example.com/acme/hello_world",
    revision="0123456789abcdef0123456789abcdef01234567",
    licenses="Apache-2.0",
    abi_versions=("v0.2.1",),
    root_ids=("hello_world",),
    configuration='{"greeting": "hello"}',
)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_manifest_is_the_golden_one(name):
    """But for the compressed layer: its bytes, and so what names them, are the machine's zlib's."""
    image = VARIANTS[name](MODULE, METADATA)
    record = json.loads(image.manifest.raw)
    for layer in record["layers"]:
        if layer["mediaType"].endswith("gzip"):
            layer |= {"digest": "sha256:" + "0" * 64, "size": 0}
    assert record == json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_manifest_reads_back_as_it_was_written(name):
    manifest = VARIANTS[name](MODULE, METADATA).manifest
    assert Manifest.read(manifest.raw) == manifest


@pytest.mark.parametrize("name", VARIANTS)
def test_blobs_are_what_the_manifest_says_of_them(name):
    image = VARIANTS[name](MODULE, METADATA)
    assert {blob.digest: blob.size for blob in image.manifest.blobs} == {
        digest(content): len(content) for content in image.blobs.values()
    }
    assert all(digest(content) == key for key, content in image.blobs.items())


def test_another_module_is_another_image():
    other = MODULE + wasm_asm.custom("more", b"x")
    for make in VARIANTS.values():
        assert make(MODULE, METADATA).manifest.digest != make(other, METADATA).manifest.digest


def test_the_compat_layer_holds_the_module_and_nothing_else():
    image = VARIANTS["compat"](MODULE, METADATA)
    (layer,) = image.manifest.layers
    content = image.blobs[layer.digest]
    assert content[:10] == b"\x1f\x8b\x08\x00\0\0\0\0\x00\xff", "no name, no time, no system"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        (entry,) = archive.getmembers()
        assert (entry.name, entry.isreg(), entry.mode) == ("plugin.wasm", True, 0o644)
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
        assert archive.extractfile(entry).read() == MODULE
    config = json.loads(image.blobs[image.manifest.config.digest])
    assert config["rootfs"]["diff_ids"] == [digest(gzip.decompress(content))]


def test_wasmes_variant_has_its_configuration_twice_and_the_bare_module():
    image = VARIANTS["oci"](MODULE, METADATA)
    config, module = image.manifest.layers
    assert config == image.manifest.config
    assert image.blobs[module.digest] == MODULE
    assert json.loads(image.blobs[config.digest]) == {
        "type": "envoy_proxy",
        "abiVersions": ["v0.2.1"],
        "config": {"rootIds": ["hello_world"]},
    }


def test_what_isnt_known_is_left_out():
    annotations = PluginInfo("hello").annotations(MODULE)
    assert annotations.keys() == {
        "module.wasm.runtime/type",
        "org.opencontainers.image.title",
        "proxy-wasm.module/digest",
        "proxy-wasm.plugin/type",
    }
