"""Which consumers can load an image, and why the others can't.

Sources: solo-io/wasm, tools/wasme/pkg/pull; istio/istio, pkg/wasm/{imagefetcher,cache}.go, which Envoy
Gateway and Higress have copied; GoogleCloudPlatform/service-extensions, plugins/; oras-project/oras;
bytecodealliance/wasm-pkg-tools. docker pull and skopeo copy were tested (Docker 20.10, skopeo 1.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from scaffold.core.versions import Version
from scaffold.oci.module_layer import MODULE_NAME, Layout
from scaffold.oci.spec import (
    BLOB_LIMIT,
    CNCF_CONFIG,
    CNCF_WASM,
    DOCKER_MANIFEST,
    DOCKER_TAR_GZIP,
    IMAGE_CONFIG,
    RUNTIME_CONFIG,
    TAR_GZIP,
    WASM_CONTENT,
    Manifest,
)
from scaffold.wasm import check as abi
from scaffold.wasm import proxy_features as versions
from scaffold.wasm.module import WasmFile

_IMAGE_CONFIGS = (IMAGE_CONFIG, "application/vnd.docker.container.image.v1+json")
_IMAGE_LAYERS = (TAR_GZIP, DOCKER_TAR_GZIP)


@dataclass(frozen=True)
class Packed:
    """An image as a consumer sees it.

    `files` are the paths in the archive that holds the module, empty if the layer is the bare module.
    `module` is None if unknown; `os`, from the image's configuration, is "" then. `type` is the plugin's.
    """

    manifest: Manifest
    layout: Layout
    module: WasmFile | None = None
    files: tuple[str, ...] = ()
    os: str = ""
    type: str = "http"


@dataclass(frozen=True)
class Consumer:
    """A consumer and an image; `loads` is None if unknown, `why` is the reason or the condition."""

    name: str
    loads: bool | None
    why: str = ""


_Answer = tuple[bool | None, str]  # a consumer's `loads` and `why`
_YES: _Answer = (True, "")


def consumers(image: Packed) -> tuple[Consumer, ...]:
    """Whether each of `CONSUMERS` loads an image."""
    return tuple(Consumer(name, *rule(image)) for name, rule in CONSUMERS.items())


def _wasme(image: Packed) -> _Answer:
    types = {blob.media_type for blob in image.manifest.blobs}
    missing = sorted({RUNTIME_CONFIG, WASM_CONTENT} - types)
    return (False, f"it needs a blob of type {missing[0]}") if missing else _YES


def _istio(image: Packed) -> _Answer:
    """Unlike the gateways, Istio also loads network plugins."""
    if image.type != "network":
        return _gateway(image)
    loads, why = _gateway(replace(image, type="http"))
    since = f"since Istio {versions.NETWORK.since}"
    return loads, ", ".join(filter(None, [since, why])) if loads else why


def _gateway(image: Packed) -> _Answer:
    """Consumers with Istio's code that load HTTP plugins."""
    if image.type != "http":
        return False, f"it doesn't support plugins of type {image.type}"
    refusal = _fetching(image)
    if refusal or image.module is None:
        return not refusal, refusal
    if image.module.size > BLOB_LIMIT:
        return False, f"the module has {image.module.size:,} bytes, and the limit is 256 MiB"
    oldest = versions.envoy_in(versions.LAYERS.since)  # the others' Envoys are later ones
    verdicts = [each for each in abi.verdicts(image.module) if Version.parse(each.last) >= oldest]
    loading = [verdict.envoys for verdict in verdicts if verdict.loads]
    if not loading:
        fatal = next(problem for problem in verdicts[0].problems if problem.fatal)
        return False, f"no Envoy loads the module: {fatal.message}"
    return True, "" if len(loading) == len(verdicts) else f"if its Envoy is {' or '.join(loading)}"


def _fetching(image: Packed) -> str:
    """Why Istio can't extract the module from the image, or ""."""
    layers = [layer.media_type for layer in image.manifest.layers]
    docker = image.manifest.media_type == DOCKER_MANIFEST
    archive = DOCKER_TAR_GZIP if docker else TAR_GZIP
    if layers[-1] == archive:
        named = any(PurePosixPath(name).name == MODULE_NAME for name in image.files)
        return "" if named else f"the archive has no {MODULE_NAME}"
    if docker:
        return f"the last layer of a Docker image must be {archive}"
    if len(layers) != 2:
        return f"without an archive it needs exactly 2 layers, not {len(layers)}"
    return "" if WASM_CONTENT in layers else f"none of the layers is {archive} or {WASM_CONTENT}"


def _google(image: Packed) -> _Answer:
    if image.layout.variant == "hybrid":
        return None, "it needs an ordinary container image, which this is only in part"
    if refusal := _no_container_image(image):
        return False, refusal
    if len(image.manifest.layers) > 1:
        return None, f"it needs a single file {MODULE_NAME}, but the image has more layers"
    if [name.removeprefix("./").lstrip("/") for name in image.files] != [MODULE_NAME]:
        return (
            False,
            f"it needs a single file {MODULE_NAME}, but finds {', '.join(image.files) or 'none'}",
        )
    imports = {each.name for each in image.module.imports} if image.module else set()
    listed = abi.facts()["hosts"]["gcp"]["unlisted"]
    if unlisted := {feature for name, feature in listed.items() if name in imports}:
        return None, f"its documentation doesn't list {' and '.join(sorted(unlisted))}"
    return _YES


def _docker(image: Packed) -> _Answer:
    if image.os not in ("", "linux"):
        return False, f"the image is for {image.os}, but Docker runs linux"
    refusal = _no_container_image(image)
    return not refusal, refusal


def _no_container_image(image: Packed) -> str:
    """Which part of the image doesn't belong into a container image, or ""."""
    if image.manifest.config.media_type not in _IMAGE_CONFIGS:
        return f"it doesn't know configurations of type {image.manifest.config.media_type}"
    unknown = [layer for layer in image.manifest.layers if layer.media_type not in _IMAGE_LAYERS]
    return f"it doesn't know layers of type {unknown[0].media_type}" if unknown else ""


def _oras(image: Packed) -> _Answer:
    return _YES if image.layout.module.title else (False, "it skips layers without a title")


def _skopeo(image: Packed) -> _Answer:
    return _YES


def _wkg(image: Packed) -> _Answer:
    layers = [layer.media_type for layer in image.manifest.layers]
    if image.manifest.config.media_type != CNCF_CONFIG:
        return False, f"it needs a configuration of type {CNCF_CONFIG}"
    return _YES if layers == [CNCF_WASM] else (False, f"it needs a single layer of type {CNCF_WASM}")


# name -> the rule that tells whether it loads an image
CONSUMERS: dict[str, Callable[[Packed], _Answer]] = {
    "Istio 1.16 and later": _istio,
    "Envoy Gateway": _gateway,
    "Higress": _gateway,
    "Google Service Extensions": _google,
    "wasme": _wasme,
    "docker pull": _docker,
    "oras pull": _oras,
    "skopeo copy": _skopeo,
    "wkg": _wkg,
}
