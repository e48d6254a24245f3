"""Images that others made: every layout is read, and what holds no plugin is refused by name."""

import io
import re
from dataclasses import replace

import pytest
from support import wasm_asm
from support.layers import file, header, layer

from scaffold.oci.module_layer import choose_child, layout_of, read_contents, verify
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.spec import (
    BLOB_LIMIT,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Descriptor,
    ImageError,
    Manifest,
    digest,
    dump,
)
from scaffold.oci.tar import Entry
from scaffold.oci.variants import VARIANTS

MODULE = wasm_asm.plugin()
OTHER = MODULE + wasm_asm.custom("other")
PLUGIN = layer(file("plugin.wasm", MODULE))

TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_CONFIG = ("application/vnd.oci.image.config.v1+json", b"{}")
DOCKER_CONFIG = ("application/vnd.docker.container.image.v1+json", b"{}")
EMPTY_CONFIG = ("application/vnd.oci.empty.v1+json", b"{}")
RUNTIME_CONFIG = (
    "application/vnd.module.wasm.config.v1+json",
    b'{"type":"envoy_proxy","abiVersions":["v0.2.1"],"config":{"rootIds":["hello"]}}',
)
WASM = ("application/vnd.module.wasm.content.layer.v1+wasm", MODULE)
CNCF_CONFIG = ("application/vnd.wasm.config.v0+json", b'{"architecture":"wasm","os":"wasip1"}')
CNCF_WASM = ("application/wasm", MODULE)
WASM_TO_OCI_CONFIG = ("application/vnd.wasm.config.v1+json", b"{}")
WASM_TO_OCI = ("application/vnd.wasm.content.layer.v1+wasm", MODULE)
SPEC = ("application/vnd.module.wasm.spec.v1+yaml", b"apiVersion: 1.0.0")
README = ("application/vnd.module.wasm.doc.v1+markdown", b"# hello")


def image(*parts, config=OCI_CONFIG, media_type=MANIFEST, annotations=None):
    """A manifest of these layers, each a media type and bytes, and the bytes by digest."""
    record = {
        "schemaVersion": 2,
        "config": Descriptor.of(*config).write(),
        "layers": [Descriptor.of(*part).write() for part in parts],
        "annotations": annotations or {},
    }
    manifest = Manifest.read(dump(record | ({"mediaType": media_type} if media_type else {})))
    return manifest, {digest(content): content for _, content in (config, *parts)}


def contents_of(manifest, blobs):
    layout = layout_of(manifest)
    return read_contents(layout, io.BytesIO(blobs[layout.module.digest]))


# layouts

LAYOUTS = {
    "compat": ("compat", image((TAR_GZIP, PLUGIN))),
    "compat without a media type": ("compat", image((TAR_GZIP, PLUGIN), media_type="")),
    "docker": ("compat", image((DOCKER_TAR_GZIP, PLUGIN), config=DOCKER_CONFIG, media_type=DOCKER_MANIFEST)),
    "docker's layer in an OCI image": ("compat", image((DOCKER_TAR_GZIP, PLUGIN))),
    "layers below": ("multi-layer compat", image((TAR_GZIP, layer(file("etc/x", b"1"))), (TAR_GZIP, PLUGIN))),
    "higress": ("multi-layer compat", image(SPEC, README, (TAR_GZIP, PLUGIN), config=EMPTY_CONFIG)),
    "wasme": ("oci", image(RUNTIME_CONFIG, WASM, config=RUNTIME_CONFIG, media_type="")),
    "wasme's config only once": ("oci", image(WASM, config=RUNTIME_CONFIG)),
    "wasme's layers and more": ("oci", image(WASM, README, RUNTIME_CONFIG)),
    "cncf": ("cncf", image(CNCF_WASM, config=CNCF_CONFIG)),
    "an artifact": ("artifact", image(CNCF_WASM, config=EMPTY_CONFIG)),
    "wasm-to-oci": ("wasm-to-oci", image(WASM_TO_OCI, config=WASM_TO_OCI_CONFIG)),
    "hybrid": ("hybrid", image(RUNTIME_CONFIG, (WASM[0], OTHER), (TAR_GZIP, PLUGIN), config=RUNTIME_CONFIG)),
}


@pytest.mark.parametrize(("variant", "made"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_told_and_read(variant, made):
    assert layout_of(made[0]).variant == variant
    assert contents_of(*made).module == MODULE


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_own_images_are_read(variant):
    made = VARIANTS[variant](MODULE, PluginInfo(name="hello"))
    assert layout_of(made.manifest).variant == variant
    assert contents_of(made.manifest, made.blobs).module == MODULE


def test_a_module_that_stands_twice_is_refused_like_two():
    made, _ = image(CNCF_WASM, CNCF_WASM, config=CNCF_CONFIG)
    with pytest.raises(ImageError, match="the image holds 2 wasm modules instead of one"):
        layout_of(made)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("compat", "its last layer is a tar+gzip"),
        ("docker", "its last layer is a tar+gzip"),
        (
            "docker's layer in an OCI image",
            "its last layer is a tar+gzip, but of another family than the manifest, which Istio refuses",
        ),
        ("hybrid", "its last layer is a tar+gzip, which Istio prefers to the bare module"),
        ("cncf", "its layer is application/wasm"),
    ],
)
def test_a_layout_says_what_told_it(name, reason):
    assert layout_of(LAYOUTS[name][1][0]).reason == reason


@pytest.mark.parametrize("name", ["wasme", "wasme's config only once", "wasme's layers and more", "hybrid"])
def test_wasmes_runtime_configuration_is_found(name):
    assert layout_of(LAYOUTS[name][1][0]).runtime_config == Descriptor.of(*RUNTIME_CONFIG)


@pytest.mark.parametrize("name", ["compat", "cncf", "wasm-to-oci"])
def test_other_layouts_have_no_blob_for_it(name):
    assert layout_of(LAYOUTS[name][1][0]).runtime_config is None


HELM = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x")


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (image(), "the image holds no wasm module: it has no layers"),
        (
            image(HELM, config=("application/vnd.cncf.helm.config.v1+json", b"{}")),
            f'the image holds no wasm module: its layers are "{HELM[0]}"',
        ),
        (image(README, SPEC), f'its layers are "{README[0]}", "{SPEC[0]}"'),
        (image((TAR_GZIP, PLUGIN), README), f'its layers are "{TAR_GZIP}", "{README[0]}"'),
        (image(*((f"text/{at}", b"x") for at in range(9))), '"text/3", "text/4", ...'),
        (image(("\x1b[31m", b"x")), r'its layers are "\u001b[31m"'),
        (image(WASM, (WASM[0], OTHER)), "the image holds 2 wasm modules instead of one"),
        (image(CNCF_WASM, WASM), "the image holds 2 wasm modules"),
        (image((TAR_GZIP.replace("gzip", "zstd"), b"x")), "the image's last layer is compressed with zstd"),
        (image(("application/vnd.oci.image.layer.v1.tar", b"x")), "the image's last layer is not compressed"),
    ],
)
def test_what_holds_no_module_is_refused_by_what_it_is(made, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        layout_of(made[0])


# what a layer holds


def unpacked(*parts):
    return contents_of(*image((TAR_GZIP, layer(*parts))))


@pytest.mark.parametrize("name", ["plugin.wasm", "./plugin.wasm", "a/plugin.wasm", "./a/b/plugin.wasm"])
def test_the_module_may_be_in_any_folder(name):
    assert unpacked(file("other.wasm", OTHER), file(name, MODULE)).module == MODULE


def test_whatever_else_is_there_is_named_with_its_size_and_not_read():
    found = unpacked(
        header("etc/", flag=b"5"),
        header("etc/link", flag=b"2"),
        file("plugin.wasm", MODULE),
        file("etc/x", b"12345"),
    )
    assert found.files == (
        Entry("etc/link", 0, "symbolic link"),
        Entry("plugin.wasm", len(MODULE)),
        Entry("etc/x", 5),
    )
    assert found.runtime_config is None


@pytest.mark.parametrize("name", ["runtime-config.json", "./runtime-config.json"])
def test_wasmes_runtime_configuration_is_read_from_beside_the_module(name):
    assert unpacked(file("plugin.wasm", MODULE), file(name, b"{}")).runtime_config == b"{}"


def test_one_in_another_folder_is_another_programs():
    assert (
        unpacked(file("plugin.wasm", MODULE), file("etc/runtime-config.json", b"{}")).runtime_config is None
    )


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "the image holds no plugin: its last layer has no plugin.wasm"),
        ([file("bin/sh", b"x"), header("lib", flag=b"2")], "its last layer has no plugin.wasm"),
        ([file("plugin.wasm.txt", b"x"), file("Plugin.wasm", b"x")], "its last layer has no plugin.wasm"),
        ([file("..\\plugin.wasm", MODULE)], "its last layer has no plugin.wasm"),
        ([file("plugin.wasm", MODULE)] * 2, "two files named plugin.wasm"),
        ([file("plugin.wasm", MODULE), file("a/plugin.wasm", OTHER)], "two files named plugin.wasm"),
        (
            [file("plugin.wasm", MODULE), header("plugin.wasm", flag=b"2")],
            "as a symbolic link, not as a file",
        ),
        ([header("plugin.wasm", flag=b"1")], '"plugin.wasm" as a hard link, not as a file'),
        ([header("a/plugin.wasm", flag=b"2")], '"a/plugin.wasm" as a symbolic link, not as a file'),
        ([header("plugin.wasm", flag=b"3")], '"plugin.wasm" as a character device, not as a file'),
        ([header("plugin.wasm", flag=b"4")], '"plugin.wasm" as a block device, not as a file'),
        ([header("plugin.wasm/", flag=b"5")], '"plugin.wasm/" as a directory, not as a file'),
        ([header("plugin.wasm", flag=b"6")], '"plugin.wasm" as a fifo, not as a file'),
        ([header("plugin.wasm", flag=b"S")], '"plugin.wasm", an entry of the unknown kind'),
        ([file("../plugin.wasm", MODULE)], '"../plugin.wasm", a name that leads out of the image'),
        ([file("/plugin.wasm", MODULE)], '"/plugin.wasm", a name that leads out of the image'),
        ([file("plugin.wasm", b"")], "the image's module is empty"),
        ([file("plugin.wasm", b"#!/bin/sh")], "isn't a wasm module (it begins with b'#!/b')"),
        ([file("plugin.wasm", wasm_asm.HEADER[:6])], "an unknown wasm version (0100)"),
        ([file("plugin.wasm", b"\0asm\2\0\0\0")], "an unknown wasm version (02000000)"),
        ([file("plugin.wasm", b"\0asm\x0d\0\1\0")], "is a WebAssembly component"),
        ([file("runtime-config.json", bytes(5 * 2**20))], "its runtime-config.json has 5,242,880 bytes"),
        ([header("runtime-config.json", flag=b"2")], "as a symbolic link, not as a file"),
    ],
)
def test_what_is_no_plugin_is_refused_by_what_it_is(parts, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        unpacked(*parts)


@pytest.mark.parametrize("media_type", [TAR_GZIP, DOCKER_TAR_GZIP])
@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", "its last layer is empty"),
        (MODULE, "its last layer is not gzip"),
        (
            b"\x28\xb5\x2f\xfd" + PLUGIN,
            "its last layer is compressed with zstd, but has the media type of a tar+gzip",
        ),
        (file("plugin.wasm", MODULE), "its last layer is a plain tar, but has the media type of a tar+gzip"),
        (PLUGIN[:-1], "its gzip is cut short"),
        (PLUGIN + b"x", "there is more after its end"),
    ],
)
def test_what_is_no_archive_is_refused_though_its_type_says_so(media_type, blob, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        contents_of(*image((media_type, blob)))


@pytest.mark.parametrize("media_type", [WASM[0], CNCF_WASM[0], WASM_TO_OCI[0]])
@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", "the image's module is empty"),
        (PLUGIN, "the image's module isn't a wasm module"),
        (b"\0asm\x0d\0\1\0", "the image's module is a WebAssembly component"),
    ],
)
def test_a_bare_layer_that_is_no_core_module_is_refused(media_type, blob, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        contents_of(*image((media_type, blob), config=CNCF_CONFIG))


@pytest.mark.parametrize("media_type", [TAR_GZIP, WASM[0]])
def test_a_layer_that_no_consumer_takes_is_not_even_begun(media_type):
    large = Descriptor(media_type, digest(b""), BLOB_LIMIT + 1)
    manifest = Manifest.make(Descriptor.of(*OCI_CONFIG), (large,), {})
    stream = io.BytesIO(MODULE)
    with pytest.raises(ImageError, match=r"has 268,435,457 bytes: 256 MiB is the limit"):
        read_contents(layout_of(manifest), stream)
    assert stream.tell() == 0


# what an image says


def test_a_module_is_the_one_that_the_annotations_promise():
    manifest, _ = image(WASM, annotations={"proxy-wasm.module/digest": digest(MODULE)})
    verify(manifest, digest(MODULE))
    says = f'the image states the module digest "{digest(MODULE)}", but its module has {digest(OTHER)}'
    with pytest.raises(ImageError, match=re.escape(says)):
        verify(manifest, digest(OTHER))


@pytest.mark.parametrize("said", ["", "x", digest(MODULE).upper(), digest(MODULE)[7:]])
def test_a_promise_that_is_no_digest_is_not_kept(said):
    with pytest.raises(ImageError, match="the image states the module digest"):
        verify(image(WASM, annotations={"proxy-wasm.module/digest": said})[0], digest(MODULE))


def test_nothing_promised_is_nothing_to_hold_a_module_against():
    bare, _ = image(WASM)
    assert not bare.annotations
    assert verify(bare, digest(OTHER)) is None


# indexes


def child(content, platform=None, **annotations):
    """An image in an index; `platform` as in "linux/amd64"."""
    record = Descriptor.of(MANIFEST, content, annotations).write()
    if platform:
        os, architecture = platform.split("/")
        record["platform"] = {"os": os, "architecture": architecture}
    return record


V2 = {"os": "linux", "architecture": "amd64", "variant": "v2"}
ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


@pytest.mark.parametrize(
    "children",
    [
        [child(b"x", "linux/amd64")],
        [child(b"x")],
        [child(b"x", "linux/arm64")],
        [child(b"x", "wasip1/wasm")],
        [child(b"1", "linux/arm64"), child(b"x", "linux/amd64")],
        [child(b"1", "linux/arm64"), child(b"x")],
        [child(b"1", "linux/arm64"), child(b"x") | {"platform": None}],
        [child(b"x", "linux/amd64"), child(b"1", "linux/amd64")],
        [child(b"1", "linux/arm64"), child(b"x", "linux/amd64") | {"platform": V2}],
        [child(b"x", "linux/arm64"), child(b"1", "unknown/unknown", **ATTESTATION)],
        [child(b"1", "unknown/unknown"), child(b"x", "linux/arm64")],
        [child(b"1", "linux/amd64", **ATTESTATION), child(b"x", "linux/arm64")],
    ],
)
def test_the_image_that_istio_would_take_is_chosen_or_the_only_one(children):
    assert choose_child({"mediaType": INDEX, "manifests": children}).digest == digest(b"x")


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({}, "the index has no list of images"),
        ({"manifests": {}}, "the index has no list of images"),
        ({"manifests": []}, "the index has no images"),
        ({"manifests": [child(b"x", "unknown/unknown")]}, "the index has no images"),
        ({"manifests": [1]}, "image 0 of the index isn't a descriptor"),
        ({"manifests": [child(b"x"), {}]}, "image 1 of the index has no media type"),
        (
            {"manifests": [child(b"1", "linux/arm64"), child(b"2", "wasip1/wasm")]},
            "the index has no image for linux/amd64, only for linux/arm64, wasip1/wasm",
        ),
        (
            {"manifests": [child(b"1") | {"platform": {"os": 1}}, child(b"2", "\x1b/x")]},
            "only for ?/?, /x",
        ),
    ],
)
def test_an_index_without_such_an_image_names_what_it_has(index, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        choose_child(index)


def test_a_modules_layer_may_have_exactly_256_mib():
    """The sizes that a manifest states; the blobs are small."""
    for size, says in ((2**28, "its last layer is not gzip"), (2**28 + 1, "268,435,457 bytes: 256 MiB is")):
        manifest, _ = image((TAR_GZIP, MODULE))
        layout = layout_of(manifest)
        layout = replace(layout, module=replace(layout.module, size=size))
        with pytest.raises(ImageError, match=says):
            read_contents(layout, io.BytesIO(MODULE))
