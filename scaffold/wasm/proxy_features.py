"""Which version of Istio or Envoy introduced what.

Sources: istio/istio, the CRDs and the release notes of each version; envoyproxy/data-plane-api,
envoy/extensions/wasm/v3/wasm.proto.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from scaffold.core.text import escaped
from scaffold.core.versions import Version
from scaffold.errors import UsageError

ISTIO = "1.30"  # the default of --istio
_ENVOY_AHEAD = 8  # Istio 1.9 runs Envoy 1.17, 1.27 runs 1.35


@dataclass(frozen=True)
class Feature:
    """Something that early versions lack; `what` is the subject of a sentence."""

    what: str
    product: str
    since: Version


ENVOY_FILTER = Feature("a wasm filter of the v3 API", "Istio", Version((1, 9)))
FILTER_PRIORITY = Feature("--priority in an EnvoyFilter", "Istio", Version((1, 11)))
WASM_PLUGIN = Feature("a WasmPlugin", "Istio", Version((1, 12)))
PLUGIN_ENVIRONMENT = Feature("--env in a WasmPlugin", "Istio", Version((1, 14)))
LAYERS = Feature("an image of several layers", "Istio", Version((1, 16)))
MATCH = Feature("--match in a WasmPlugin", "Istio", Version((1, 16)))
FAIL_STRATEGY = Feature("fail-open in a WasmPlugin", "Istio", Version((1, 19)))
NETWORK = Feature("a network filter in a WasmPlugin", "Istio", Version((1, 20)))
NETWORK_SOURCE = Feature("a network filter from an http source", "Istio", Version((1, 20)))
TARGET_REFS = Feature("--target-ref in a WasmPlugin", "Istio", Version((1, 22)))
CLOSED_FETCH = Feature("a failed download that fails closed", "Istio", Version((1, 25)))
FAIL_RELOAD = Feature("fail-reload in a WasmPlugin", "Istio", Version((1, 27)))
TRAFFIC_EXTENSION = Feature("a TrafficExtension", "Istio", Version((1, 30)))

ENVIRONMENT = Feature("--env", "Envoy", Version((1, 18)))
# a policy's name, and what Envoy calls it
FAILURE_POLICIES = {"fail-closed": "FAIL_CLOSED", "fail-open": "FAIL_OPEN", "fail-reload": "FAIL_RELOAD"}
FAILURE_POLICY = Feature("fail-reload", "Envoy", Version((1, 33)))
STOP_ITERATION = Feature("allow_on_headers_stop_iteration", "Envoy", Version((1, 35)))
PATH_SOURCE = Feature("a filter that is read from a file", "Envoy", Version((1, 22)))
NETWORK_PATH_SOURCE = Feature("a network filter that is read from a file", "Envoy", Version((1, 28)))


def parse(text: str, flag: str) -> Version:
    """Read "1.27" or "v1.27.3-rc.1". Raises `UsageError`, which names the flag, for anything else."""
    with suppress(ValueError):
        version = Version.parse(text)
        if len(version) in (2, 3):
            return version
    raise UsageError(f"{flag} {escaped(text)}: that isn't a version", hint=f"for example {flag} {ISTIO}")


def envoy_in(istio: Version) -> Version:
    """The Envoy that comes with a version of Istio."""
    return Version((1, istio[1] + _ENVOY_AHEAD))


def has(feature: Feature, version: Version) -> bool:
    """Whether a version of the feature's product has it."""
    return version >= feature.since


def require(feature: Feature, version: Version) -> None:
    """Raise `UsageError`, which names the first version with the feature, when this one lacks it."""
    if not has(feature, version):
        flag = f"--{feature.product.lower()} {feature.since}"
        raise UsageError(
            f"{feature.what} needs {feature.product} {feature.since}, and this is for {version}",
            hint=f"pass {flag} if that runs there, or leave it out",
        )
