"""What came with which version of Istio and of Envoy.

Sources: istio/istio, the CRDs and the release notes of each version; envoyproxy/data-plane-api,
envoy/extensions/wasm/v3/wasm.proto.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scaffold.core.versions import Version
from scaffold.errors import UsageError

ISTIO = "1.30"  # what manifests are for, unless another is named
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:-[0-9A-Za-z.-]+)?")
_ENVOY_AHEAD = 8  # Istio 1.9 runs Envoy 1.17, 1.27 runs 1.35


@dataclass(frozen=True)
class Feature:
    """Something that not every version takes; `what` is a sentence's subject."""

    what: str
    product: str
    since: Version


ENVOY_FILTER = Feature("a wasm filter of the v3 API", "Istio", (1, 9))
FILTER_PRIORITY = Feature("--priority in an EnvoyFilter", "Istio", (1, 11))
WASM_PLUGIN = Feature("a WasmPlugin", "Istio", (1, 12))
PLUGIN_ENVIRONMENT = Feature("--env in a WasmPlugin", "Istio", (1, 14))
LAYERS = Feature("an image of several layers", "Istio", (1, 16))
MATCH = Feature("--match in a WasmPlugin", "Istio", (1, 16))
FAIL_STRATEGY = Feature("fail-open in a WasmPlugin", "Istio", (1, 19))
NETWORK = Feature("a network filter in a WasmPlugin", "Istio", (1, 20))
NETWORK_SOURCE = Feature("a network filter from an http source", "Istio", (1, 20))
TARGET_REFS = Feature("--target-ref in a WasmPlugin", "Istio", (1, 22))
CLOSED_FETCH = Feature("a failed download that fails closed", "Istio", (1, 25))
FAIL_RELOAD = Feature("fail-reload in a WasmPlugin", "Istio", (1, 27))
TRAFFIC_EXTENSION = Feature("a TrafficExtension", "Istio", (1, 30))

ENVIRONMENT = Feature("--env", "Envoy", (1, 18))
FAILURE_POLICY = Feature("fail-reload", "Envoy", (1, 33))
STOP_ITERATION = Feature("allow_on_headers_stop_iteration", "Envoy", (1, 35))
PATH_SOURCE = Feature("a filter that is read from a file", "Envoy", (1, 22))
NETWORK_PATH_SOURCE = Feature("a network filter that is read from a file", "Envoy", (1, 28))


def parse(text: str, flag: str) -> Version:
    """Read "1.27" or "v1.27.3-rc.1". Raises `UsageError`, naming the flag, for what is no version."""
    found = _VERSION.fullmatch(text)
    if not found:
        raise UsageError(f"{flag} {text}: that is no version", hint=f"for example {flag} {ISTIO}")
    return tuple(int(part) for part in found.groups() if part)


def show(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


def envoy_in(istio: Version) -> Version:
    """The Envoy that comes with a version of Istio."""
    return 1, istio[1] + _ENVOY_AHEAD


def has(feature: Feature, version: Version) -> bool:
    """Whether a version of the feature's product takes it."""
    return version >= feature.since


def require(feature: Feature, version: Version) -> None:
    """Raise `UsageError`, naming the version that can, when this one can't take the feature."""
    if not has(feature, version):
        since = show(feature.since)
        raise UsageError(
            f"{feature.what} needs {feature.product} {since}, and this is for {show(version)}",
            hint=f"pass --{feature.product.lower()} {since} if that runs there, or leave it out",
        )
