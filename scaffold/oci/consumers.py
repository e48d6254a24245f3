"""Who can load an image, and why the others can't.

Sources: solo-io/wasm, tools/wasme/pkg/pull; istio/istio, pkg/wasm/{imagefetcher,cache}.go, whose code
Envoy Gateway and Higress have, too; GoogleCloudPlatform/service-extensions, plugins/; oras-project/oras;
bytecodealliance/wasm-pkg-tools. What docker pull and skopeo copy do was tried (Docker 20.10, skopeo 1.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from scaffold.oci.layout import MODULE_NAME, Layout
from scaffold.oci.spec import BLOB_LIMIT, DOCKER_MANIFEST, Manifest
from scaffold.oci.variants import (
    CNCF_CONFIG,
    CNCF_WASM,
    DOCKER_TAR_GZIP,
    IMAGE_CONFIG,
    RUNTIME_CONFIG,
    TAR_GZIP,
    WASM_CONTENT,
)
from scaffold.wasm import check as abi
from scaffold.wasm import compat as versions
from scaffold.wasm.module import WasmFile

_IMAGE_CONFIGS = (IMAGE_CONFIG, "application/vnd.docker.container.image.v1+json")
_IMAGE_LAYERS = (TAR_GZIP, DOCKER_TAR_GZIP)
# what Google's hosts don't list among the hostcalls that they have
_NOT_LISTED = {
    "proxy_http_call": "callouts",
    "proxy_grpc_call": "callouts",
    "proxy_grpc_stream": "callouts",
    "proxy_set_tick_period_milliseconds": "timers",
}


@dataclass(frozen=True)
class Packed:
    """An image as its consumers meet it.

    `files` are the paths in the archive that holds the module, none when the layer is the bare module;
    `module` is None where it isn't known, and `os`, which the image's configuration names, "". `kind` is
    the plugin's type.
    """

    manifest: Manifest
    layout: Layout
    module: WasmFile | None = None
    files: tuple[str, ...] = ()
    os: str = ""
    kind: str = "http"


@dataclass(frozen=True)
class Consumer:
    """Who may load an image: `loads` is None where nobody knows; `why` says why not, or on what condition."""

    name: str
    loads: bool | None
    why: str = ""


_Answer = tuple[bool | None, str]  # a consumer's `loads` and `why`
_YES: _Answer = (True, "")


def consumers(image: Packed) -> tuple[Consumer, ...]:
    """What each of `CONSUMERS` does with an image."""
    return tuple(Consumer(name, *rule(image)) for name, rule in CONSUMERS.items())


def _wasme(image: Packed) -> _Answer:
    types = {blob.media_type for blob in image.manifest.blobs}
    lacking = sorted({RUNTIME_CONFIG, WASM_CONTENT} - types)
    return (False, f"it wants a blob of type {lacking[0]}") if lacking else _YES


def _istio(image: Packed) -> _Answer:
    """Istio takes network filters, too."""
    if image.kind != "network":
        return _gateway(image)
    loads, why = _gateway(replace(image, kind="http"))
    since = f"from Istio {versions.NETWORK.since} on"
    return loads, ", ".join(filter(None, [since, why])) if loads else why


def _gateway(image: Packed) -> _Answer:
    """All that have Istio's code, and a place for HTTP filters."""
    if image.kind != "http":
        return False, f"it has no place for a plugin of type {image.kind}"
    refusal = _fetching(image)
    if refusal or image.module is None:
        return not refusal, refusal
    if image.module.size > BLOB_LIMIT:
        return False, f"the module is {image.module.size:,} bytes large, and it takes 256 MiB"
    verdicts = abi.verdicts(image.module)
    loading = [verdict.envoys for verdict in verdicts if verdict.loads]
    if not loading:
        fatal = next(problem for problem in verdicts[0].problems if problem.fatal)
        return False, f"no Envoy loads the module: {fatal.message}"
    return True, "" if len(loading) == len(verdicts) else f"when its Envoy is {', or '.join(loading)}"


def _fetching(image: Packed) -> str:
    """Why Istio doesn't get the module out of the image, or ""."""
    layers = [layer.media_type for layer in image.manifest.layers]
    docker = image.manifest.media_type == DOCKER_MANIFEST
    archive = DOCKER_TAR_GZIP if docker else TAR_GZIP
    if layers[-1] == archive:
        named = any(PurePosixPath(name).name == MODULE_NAME for name in image.files)
        return "" if named else f"the archive holds no {MODULE_NAME}"
    if docker:
        return f"the last layer of a Docker image has to be {archive}"
    if len(layers) != 2:
        return f"without an archive it wants exactly 2 layers, and there {_are(len(layers))}"
    return "" if WASM_CONTENT in layers else f"none of the layers is {archive} or {WASM_CONTENT}"


def _google(image: Packed) -> _Answer:
    if image.layout.variant == "hybrid":
        return None, "it wants an ordinary container image, which this is in part"
    if refusal := _no_container_image(image):
        return False, refusal
    if len(image.manifest.layers) > 1:
        return None, f"it wants a single file {MODULE_NAME}, and the image has more layers"
    if [name.removeprefix("./").lstrip("/") for name in image.files] != [MODULE_NAME]:
        return (
            False,
            f"it wants a single file {MODULE_NAME}, and there are {', '.join(image.files) or 'none'}",
        )
    names = {each.name for each in image.module.imports} if image.module else set()
    if unlisted := {what for name, what in _NOT_LISTED.items() if name in names}:
        return None, f"its documentation lists no {' and no '.join(sorted(unlisted))}"
    return _YES


def _docker(image: Packed) -> _Answer:
    if image.os not in ("", "linux"):
        return False, f"the image is for {image.os}, and Docker runs linux"
    refusal = _no_container_image(image)
    return not refusal, refusal


def _no_container_image(image: Packed) -> str:
    """Which of the parts isn't one of a container image, or ""."""
    if image.manifest.config.media_type not in _IMAGE_CONFIGS:
        return f"it knows no configuration of type {image.manifest.config.media_type}"
    unknown = [layer for layer in image.manifest.layers if layer.media_type not in _IMAGE_LAYERS]
    return f"it knows no layer of type {unknown[0].media_type}" if unknown else ""


def _oras(image: Packed) -> _Answer:
    return _YES if image.layout.module.title else (False, "it passes over a layer without a title")


def _skopeo(image: Packed) -> _Answer:
    return _YES


def _wkg(image: Packed) -> _Answer:
    layers = [layer.media_type for layer in image.manifest.layers]
    if image.manifest.config.media_type != CNCF_CONFIG:
        return False, f"it wants a configuration of type {CNCF_CONFIG}"
    return _YES if layers == [CNCF_WASM] else (False, f"it wants one layer, of type {CNCF_WASM}")


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


# name -> whether it loads an image
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
