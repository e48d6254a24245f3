from dataclasses import replace

import pytest
from support.odd_modules import build, env, wasi

from scaffold.oci import consumers, spec, variants
from scaffold.oci import module_layer as contents
from scaffold.oci.consumers import CONSUMERS, Packed
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.spec import DOCKER_MANIFEST, Descriptor, Manifest
from scaffold.oci.spec import TITLE as TITLE_ANNOTATION
from scaffold.wasm.module import WasmFile

FAMILY = ["Istio 1.16 and later", "Envoy Gateway", "Higress"]  # they share the code that fetches
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
WASM_TO_OCI = ("application/vnd.wasm.config.v1+json", ["application/vnd.wasm.content.layer.v1+wasm"])
METADATA = "application/vnd.module.wasm.spec.v1+yaml"
MODULE = build()
TITLE = {TITLE_ANNOTATION: "plugin.wasm"}


@pytest.fixture
def anatomy(tmp_path):
    """Reads bytes, by way of a file."""

    def reading(content=MODULE):
        path = tmp_path / "plugin.wasm"
        path.write_bytes(content)
        return WasmFile.read(path)

    return reading


def image(config, layers, *, titles=TITLE, media_type=None):
    """A manifest of blobs of these types."""
    parts = [Descriptor.of(kind, bytes([at]), titles) for at, kind in enumerate(layers)]
    manifest = Manifest.make(Descriptor.of(config, b"{}"), tuple(parts), {})
    return Manifest(manifest.raw, media_type or manifest.media_type, manifest.config, manifest.layers)


def made(variant):
    """The manifest of an image as we make it."""
    return variants.VARIANTS[variant](MODULE, PluginInfo("hello")).manifest


def answers(manifest, module=None, files=("plugin.wasm",), os="linux", kind="http"):
    """What each consumer says: yes, no, perhaps; and why."""
    packed = Packed(manifest, contents.layout_of(manifest), module, files, os, kind)
    words = {True: "yes", False: "no", None: "perhaps"}
    return {each.name: (words[each.loads], each.why) for each in consumers.consumers(packed)}


HYBRID = image(spec.RUNTIME_CONFIG, [spec.RUNTIME_CONFIG, spec.WASM_CONTENT, spec.TAR_GZIP])
# Istio, Envoy Gateway, Higress, Google, wasme, docker, oras, skopeo, wkg
TABLE = {
    "compat": (made("compat"), "yes yes yes yes no yes yes yes no"),
    "compat of docker": (
        image(DOCKER_CONFIG, [spec.DOCKER_TAR_GZIP], titles={}, media_type=DOCKER_MANIFEST),
        "yes yes yes yes no yes no yes no",
    ),
    "several layers": (
        image(spec.IMAGE_CONFIG, [spec.TAR_GZIP, spec.TAR_GZIP]),
        "yes yes yes perhaps no yes yes yes no",
    ),
    "metadata before the archive": (
        image(spec.IMAGE_CONFIG, [METADATA, spec.TAR_GZIP]),
        "yes yes yes no no no yes yes no",
    ),
    "oci": (made("oci"), "yes yes yes no yes no yes yes no"),
    "oci with a third layer": (
        image(spec.RUNTIME_CONFIG, [spec.RUNTIME_CONFIG, METADATA, spec.WASM_CONTENT]),
        "no no no no yes no yes yes no",
    ),
    "oci that says its configuration once": (
        image(spec.RUNTIME_CONFIG, [spec.WASM_CONTENT]),
        "no no no no yes no yes yes no",
    ),
    "cncf": (made("cncf"), "no no no no no no yes yes yes"),
    "cncf without titles": (
        image(spec.CNCF_CONFIG, [spec.CNCF_WASM], titles={}),
        "no no no no no no no yes yes",
    ),
    "wasm-to-oci": (image(*WASM_TO_OCI), "no no no no no no yes yes no"),
    "hybrid": (HYBRID, "yes yes yes perhaps yes no yes yes no"),
    "a docker layer in an OCI manifest": (
        image(spec.IMAGE_CONFIG, [spec.DOCKER_TAR_GZIP]),
        "no no no yes no yes yes yes no",
    ),
    "an OCI layer in a docker manifest": (
        image(DOCKER_CONFIG, [spec.TAR_GZIP], media_type=DOCKER_MANIFEST),
        "no no no yes no yes yes yes no",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_who_loads_what(name, anatomy):
    manifest, said = TABLE[name]
    found = answers(manifest, anatomy())
    assert {consumer: answer for consumer, (answer, _) in found.items()} == dict(
        zip(CONSUMERS, said.split(), strict=True)
    )
    assert all(why for answer, why in found.values() if answer != "yes")


@pytest.mark.parametrize(
    ("manifest", "consumer", "why"),
    [
        (made("cncf"), FAMILY[0], "without an archive it needs exactly 2 layers, not 1"),
        (
            TABLE["oci with a third layer"][0],
            FAMILY[2],
            "without an archive it needs exactly 2 layers, not 3",
        ),
        (
            image(*WASM_TO_OCI[:1], [METADATA, *WASM_TO_OCI[1]]),
            FAMILY[1],
            f"none of the layers is {spec.TAR_GZIP} or {spec.WASM_CONTENT}",
        ),
        (
            TABLE["an OCI layer in a docker manifest"][0],
            FAMILY[0],
            f"the last layer of a Docker image must be {spec.DOCKER_TAR_GZIP}",
        ),
        (made("compat"), "wasme", f"it needs a blob of type {spec.RUNTIME_CONFIG}"),
        (made("oci"), "docker pull", f"it doesn't know configurations of type {spec.RUNTIME_CONFIG}"),
        (
            TABLE["metadata before the archive"][0],
            "docker pull",
            f"it doesn't know layers of type {METADATA}",
        ),
        (made("compat"), "wkg", f"it needs a configuration of type {spec.CNCF_CONFIG}"),
        (
            image(spec.CNCF_CONFIG, [METADATA, spec.CNCF_WASM]),
            "wkg",
            f"it needs a single layer of type {spec.CNCF_WASM}",
        ),
        (TABLE["cncf without titles"][0], "oras pull", "it skips layers without a title"),
    ],
)
def test_why_not(manifest, consumer, why):
    assert answers(manifest)[consumer] == ("no", why)


@pytest.mark.parametrize(
    ("files", "family", "google"),
    [
        (("plugin.wasm",), "yes", "yes"),
        (("./plugin.wasm",), "yes", "yes"),
        (("/plugin.wasm",), "yes", "yes"),
        (("a/plugin.wasm",), "yes", "no"),
        (("plugin.wasm", "runtime-config.json"), "yes", "no"),
        (("filter.wasm",), "no", "no"),
        ((), "no", "no"),
    ],
)
def test_what_the_archive_holds_counts(files, family, google):
    found = answers(made("compat"), files=files)
    assert {found[name][0] for name in FAMILY} == {family}
    assert found["Google Service Extensions"][0] == google
    assert found["docker pull"][0] == "yes"


def test_a_module_that_no_envoy_loads_is_no_use_in_istio(anatomy):
    found = answers(made("compat"), anatomy(build(env("proxy_nope", ">-"))))
    why = "no Envoy loads the module: it imports `env.proxy_nope`, which Envoy doesn't have"
    assert {found[name] for name in FAMILY} == {("no", why)}
    assert found["docker pull"] == ("yes", "")


def test_a_module_that_some_envoys_load_says_which(anatomy):
    found = answers(made("oci"), anatomy(build(wasi("fd_sync", "i>i"))), files=())
    assert {found[name] for name in FAMILY} == {("yes", "if its Envoy is 1.39 to 1.40")}


@pytest.mark.parametrize(
    ("name", "kind", "why"), [("fd_prestat_get", "ii>i", ""), ("poll_oneoff", "iiii>i", "1.33")]
)
def test_envoys_older_than_theirs_make_no_difference(anatomy, name, kind, why):
    found = answers(made("oci"), anatomy(build(wasi(name, kind))), files=())
    assert {found[each] for each in FAMILY} == {("yes", why and f"if its Envoy is {why} to 1.40")}


def test_only_istio_has_a_place_for_network_filters(anatomy):
    found = answers(made("compat"), kind="network")
    no = ("no", "it doesn't support plugins of type network")
    assert [found[name] for name in FAMILY] == [("yes", "since Istio 1.20"), no, no]
    some = answers(made("oci"), anatomy(build(wasi("fd_sync", "i>i"))), files=(), kind="network")
    assert some[FAMILY[0]] == ("yes", "since Istio 1.20, if its Envoy is 1.39 to 1.40")
    none = answers(made("compat"), files=(), kind="network")
    assert none[FAMILY[0]] == ("no", "the archive has no plugin.wasm")


def test_none_has_a_place_for_a_service():
    found = answers(made("compat"), kind="service")
    assert {found[name] for name in FAMILY} == {("no", "it doesn't support plugins of type service")}


def test_a_module_larger_than_istio_takes(anatomy):
    module = replace(anatomy(), size=256 * 2**20 + 1)
    why = f"the module has {module.size:,} bytes, and the limit is 256 MiB"
    assert answers(made("compat"), module)[FAMILY[0]] == ("no", why)


@pytest.mark.parametrize(
    ("hostcalls", "why"),
    [
        ([("proxy_http_call", "iiiiiiiiii>i")], "its documentation doesn't list callouts"),
        (
            [("proxy_grpc_call", "iiiiiiiiiiii>i"), ("proxy_set_tick_period_milliseconds", "i>i")],
            "its documentation doesn't list callouts and timers",
        ),
    ],
)
def test_what_google_does_not_list_is_a_doubt(anatomy, hostcalls, why):
    module = anatomy(build([each for name, kind in hostcalls for each in env(name, kind)]))
    assert answers(made("compat"), module)["Google Service Extensions"] == ("perhaps", why)


@pytest.mark.parametrize(("os", "answer"), [("linux", "yes"), ("", "yes"), ("wasip1", "no")])
def test_docker_takes_images_for_linux(os, answer):
    assert answers(made("compat"), os=os)["docker pull"][0] == answer
