"""R22: images that nobody should have made: a registry takes them, we don't."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support import layers, wasm_asm
from support.faulty_registry import Reply, faulty
from support.image_users import INDEX, MANIFEST, TAR, User, index, manifest, offer, put, sha256
from support.layers import file, header, layer

MODULE = wasm_asm.plugin()
COMPONENT = b"\0asm\x0d\0\1\0"
WASM = "application/vnd.module.wasm.content.layer.v1+wasm"
WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
# 40 MB, and 0.2 MB when packed: once, each section was read, and all of them stayed in memory
SECTIONS = wasm_asm.HEADER + wasm_asm.imports(*[("", "", b"\2\0\1")] * 125_000) * 64
PLUGIN = layer(file("plugin.wasm", MODULE))
MANY = [file(f"{number}", b"") for number in range(1000)]
NO_DIGEST = f"sha256:{'0' * 63}"


def tar(*parts: bytes) -> tuple[str, bytes]:
    return TAR, layer(*parts)


# what the layers are, and what is said of them
IMAGES: dict[str, tuple[Callable[[], list[tuple[str, bytes]]], str]] = {
    "a symbolic link": (lambda: [tar(header("plugin.wasm", flag=b"2"))], "as a symbolic link, not as a file"),
    "a hard link": (lambda: [tar(header("plugin.wasm", flag=b"1"))], "as a hard link, not as a file"),
    "a device": (lambda: [tar(header("plugin.wasm", flag=b"3"))], "as a character device, not as a file"),
    "a fifo": (lambda: [tar(header("plugin.wasm", flag=b"6"))], "as a fifo, not as a file"),
    "a directory": (lambda: [tar(header("plugin.wasm/", flag=b"5"))], "as a directory, not as a file"),
    "a link beside it that leads out": (
        lambda: [tar(header("../../x", flag=b"2"), file("plugin.wasm", MODULE))],
        "a name that leads out of the image",
    ),
    "a name with ..": (lambda: [tar(file("../plugin.wasm", MODULE))], "a name that leads out of the image"),
    "an absolute name": (lambda: [tar(file("/plugin.wasm", MODULE))], "a name that leads out of the image"),
    "two of one name": (lambda: [tar(*[file("plugin.wasm", MODULE)] * 2)], "two files named plugin.wasm"),
    "a bomb of 257 MiB": (lambda: [(TAR, layers.zeros(257))], "unpacks to more than 256 MiB"),
    "a bomb of 9 GiB": (lambda: [(TAR, layers.zeros(9_000))], "unpacks to more than 256 MiB"),
    "a file of a terabyte": (
        lambda: [tar(header("plugin.wasm", size=b"\x80" + (10**12).to_bytes(11, "big")))],
        "256 MiB is the limit",
    ),
    "1,001 files": (lambda: [tar(*MANY, file("plugin.wasm", MODULE))], "has more than 1,000 files"),
    "a cut gzip": (lambda: [(TAR, PLUGIN[:-9])], "its gzip is cut short"),
    "no gzip": (lambda: [(TAR, b"plain")], "its last layer is not gzip"),
    "no plugin.wasm": (lambda: [tar(file("bin/sh", b"x"))], "its last layer has no plugin.wasm"),
    "an empty file": (lambda: [tar(file("plugin.wasm", b""))], "the image's module is empty"),
    "a component": (lambda: [tar(file("plugin.wasm", COMPONENT))], "is a WebAssembly component"),
    "an ELF program": (lambda: [tar(file("plugin.wasm", b"\x7fELF"))], "isn't a wasm module"),
    "an empty layer": (lambda: [(WASM, b"")], "the image's module is empty"),
    "a component in wasm-to-oci's layout": (lambda: [(WASM_TO_OCI, COMPONENT)], "is a WebAssembly component"),
    "two modules": (lambda: [(WASM, MODULE), (WASM, MODULE + b"\0\1\0")], "holds 2 wasm modules"),
    "64 import sections": (
        lambda: [tar(file("plugin.wasm", SECTIONS))],
        "its section `import` is out of place",
    ),
    "no layers": (list, "it has no layers"),
    "a chart": (
        lambda: [("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x")],
        "the image holds no wasm module: its layers are",
    ),
    "zstd": (lambda: [("application/vnd.oci.image.layer.v1.tar+zstd", b"x")], "compressed with zstd"),
}


def refused(user: User, capsys, name: str, words: str, code: int = 6) -> str:
    """Pulled, looked at, printed and deployed in vain: nothing is kept, and nothing written elsewhere."""
    for line in (
        ("pull", name),
        ("pull", name, "--json"),
        ("inspect", name),
        ("bootstrap", name),
        ("deploy", "envoy", name, "--root", user.project(), "--port", 0),
    ):
        ran = user.quickly(capsys, *line, code=code)
        assert words in ran.sentence, f"{line}: {ran.err}"
        assert ran.out == ""
        assert ran.err.replace("\n", "").isprintable()
    written = {str(path.relative_to(user.folder)) for path in user.folder.rglob("*") if path.is_file()}
    assert written <= {"c/proxy-wasm-scaffold/answers.json"}, "what programs answered, of which Envoy is one"
    return f"exit code {ran.code}: {ran.sentence}"


@pytest.mark.faults("R22")
@pytest.mark.parametrize("kind", IMAGES)
def test_an_image(user, shop, record, capsys, kind):
    make, words = IMAGES[kind]
    name = offer(shop, f"hostile/{list(IMAGES).index(kind)}", *make())
    seen = refused(user, capsys, name, words)
    record(f"pull, inspect, bootstrap, deploy: {kind}", seen)


@pytest.mark.faults("R22")
def test_a_layer_whose_size_is_another_one(user, shop, record, capsys):
    """The registry doesn't look."""
    smaller = offer(shop, "hostile/smaller", (TAR, PLUGIN), sizes={0: 7})
    larger = offer(shop, "hostile/larger", (TAR, PLUGIN), sizes={0: 2**20})
    huge = offer(shop, "hostile/huge", (TAR, PLUGIN), sizes={0: 2**40})
    refused(user, capsys, smaller, f"{len(PLUGIN)} bytes instead of 7", 7)
    refused(user, capsys, larger, f"{len(PLUGIN)} bytes instead of 1,048,576", 7)
    seen = refused(user, capsys, huge, "1,099,511,627,776 bytes: 268,435,456 is the limit")
    record("pull, inspect, bootstrap, deploy: a layer that is said to be smaller, larger, a terabyte", seen)


def child(raw: bytes, os: str, architecture: str, media_type: str = MANIFEST) -> dict[str, object]:
    """A line of an index."""
    platform = {"os": os, "architecture": architecture}
    return {"mediaType": media_type, "digest": sha256(raw), "size": len(raw), "platform": platform}


@pytest.mark.faults("R22")
def test_an_index(user, shop, record, capsys):
    """For other platforms only; of indexes; as a pin."""
    repository = "hostile/index"
    offer(shop, repository, (TAR, PLUGIN))
    raw = manifest(shop, repository, "1")
    others = [child(raw, "linux", "arm64"), child(raw, "windows", "amd64")]
    name = put(shop, repository, "others", index(others), INDEX)
    told = [refused(user, capsys, name, "no image for linux/amd64, only for linux/arm64, windows/amd64")]
    nested = index([child(index(others), "linux", "amd64", INDEX)])
    told.append(refused(user, capsys, put(shop, repository, "nested", nested, INDEX), "it isn't an image"))
    told.append(refused(user, capsys, put(shop, repository, "none", index([]), INDEX), "has no images"))
    pin = f"{shop.name}/{repository}@{sha256(index(others))}"
    refused(user, capsys, pin, "no image for linux/amd64")
    record(
        "pull, inspect, bootstrap, deploy: an index for arm64 and windows, of indexes, of nothing", told[0]
    )


@pytest.mark.faults("R22")
def test_a_manifest_list(user, shop, record, capsys):
    """Docker's own index: the image in it is taken, and its digest is no pin."""
    kind, repository = "application/vnd.docker.distribution.manifest.list.v2+json", "hostile/list"
    offer(shop, repository, (TAR, PLUGIN))
    raw = manifest(shop, repository, "1")
    children = [child(raw, "windows", "amd64"), child(raw, "linux", "amd64")]
    listed = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": children}).encode()
    name = put(shop, repository, "list", listed, kind)
    refused(user, capsys, f"{shop.name}/{repository}@{sha256(listed)}", "is the digest of an index")
    assert user.quickly(capsys, "pull", name).out == f"{name}@{sha256(raw)}\n"
    record("pull: Docker's manifest list", "the image for linux/amd64 is taken; as a pin: exit code 6")


@pytest.mark.faults("R22")
def test_an_image_of_wasm_to_ocis(user, shop, record, capsys):
    config = ("application/vnd.wasm.config.v1+json", b"{}")
    name = offer(shop, "hostile/taken", (WASM_TO_OCI, MODULE), config=config)
    user.quickly(capsys, "pull", name)
    printed = user.quickly(capsys, "bootstrap", name, "--root", user.project()).out
    assert sha256(MODULE).removeprefix("sha256:") in printed
    record("pull, bootstrap: an image in wasm-to-oci's layout", "taken")


MANIFESTS: dict[str, tuple[bytes, str, str]] = {
    "Docker's schema 1": (
        b'{"schemaVersion": 1, "name": "a", "tag": "1", "fsLayers": [], "history": [], "signatures": []}',
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "a Docker image of the old schema 1",
    ),
    "an index and an image at once": (
        b'{"schemaVersion": 2, "manifests": [], "layers": [], "config": {}}',
        MANIFEST,
        "claims to be both an image and an index",
    ),
    "a key twice": (b'{"layers": [], "Layers": []}', MANIFEST, "a key appears twice"),
    "nested deeply": (b'{"a":' * 100_000, MANIFEST, "its manifest isn't JSON"),
    "another type than it came as": (
        json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode(),
        MANIFEST,
        "but was sent as",
    ),
    "a digest that can't be verified": (
        json.dumps({"config": {"mediaType": "x", "digest": NO_DIGEST, "size": 1}, "layers": []}).encode(),
        MANIFEST,
        "no digest that can be verified",
    ),
    "a digest that leads out": (
        json.dumps(
            {"config": {"mediaType": "x", "digest": "sha256:../../x", "size": 1}, "layers": []}
        ).encode(),
        MANIFEST,
        'no digest that can be verified: "sha256:../../x"',
    ),
    "a size below nothing": (
        json.dumps({"config": {"mediaType": "x", "digest": sha256(b""), "size": -1}, "layers": []}).encode(),
        MANIFEST,
        "has no valid size: -1",
    ),
    "control characters": (
        json.dumps({"schemaVersion": 2, "mediaType": "\x1b]0;owned\x07\x1b[2J", "layers": []}).encode(),
        MANIFEST,
        "its manifest has the media type",
    ),
}


@pytest.mark.faults("R22")
@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest(user, record, capsys, kind):
    """Of a registry that takes anything."""
    raw, media_type, words = MANIFESTS[kind]
    with faulty() as server:
        server.on("GET", "/manifests/", Reply(200, raw, {"Content-Type": media_type}))
        seen = refused(user, capsys, f"{server.name}/a:1", words)
    record(f"pull, inspect, bootstrap, deploy: a manifest, {kind}", seen)
