"""The target `istio-envoyfilter`: patches of Envoy's configuration, for what a WasmPlugin can't say.

A module from an http source goes by ECDS: Istio's agent downloads it, compares its digest and hands
Envoy a file. One that is mounted stands in the listener itself.
Sources: istio/api, networking/v1alpha3/envoy_filter.proto; istio/istio, pkg/wasm/convert.go and
pilot/pkg/networking/core/envoyfilter/listener_patch.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from scaffold.errors import UsageError
from scaffold.kubernetes import common
from scaffold.kubernetes import filter_config as wasm
from scaffold.kubernetes.common import Document
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pins import FileSource, HttpSource, Pin, fetched
from scaffold.wasm import compat as versions

TARGET = "istio-envoyfilter"
NAMESPACE = "default"
API = "networking.istio.io/v1alpha3"
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"

_TAKES = frozenset(
    "name namespace selector whole_namespace priority match failure_policy configuration root_id env istio"
    " envoy allow_stop_iteration url file".split()
)
_INSTEAD = {
    "target_ref": "a Gateway's proxies have a label: --selector gateway.networking.k8s.io/gateway-name=NAME",
    # Istio heeds no `filterClass`: what is added by one lands behind the router, which Envoy refuses
    "phase": "the filter comes right before the router; use the target `istio`, which has phases",
    "pull_secret": "no image is pulled: leave it out",
    "traffic_extension": "that is for the target `istio`",
}
# by a mode of --match, where in the mesh a proxy handles such traffic
_CONTEXTS = {"client": ("SIDECAR_OUTBOUND", "GATEWAY"), "server": ("SIDECAR_INBOUND",), "both": ("ANY",)}
_AGENT = "_"  # a cluster that isn't one: Istio's agent downloads, and Envoy never asks it


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The EnvoyFilter that puts the plugin into Istio's proxies.

    Raises `UsageError` for what this Istio, or its Envoy, can't take.
    """
    options.only(TARGET, _TAKES, _INSTEAD)
    common.check_type(pin, TARGET, "http", "network")
    common.require_scope(options, NAMESPACE)
    if pin.plugin_type == "network" and options.allow_stop_iteration:
        raise UsageError("--allow-stop-iteration is for HTTP filters, and this is a network filter")
    source = fetched(pin, options, TARGET)
    versions.require(versions.ENVOY_FILTER, options.istio_version)
    if pin.plugin_type == "network" and isinstance(source, HttpSource):
        versions.require(versions.NETWORK_SOURCE, options.istio_version)
    metadata = common.metadata(pin, options, NAMESPACE)
    name = f"{metadata['namespace']}.{metadata['name']}"
    spec: Document = {}
    if options.labels:
        spec["workloadSelector"] = {"labels": options.labels}
    if options.priority is not None:
        versions.require(versions.FILTER_PRIORITY, options.istio_version)
        # the lowest is applied first: the next one stands behind it before the router, but before it as first
        spec["priority"] = options.priority if pin.plugin_type == "network" else -options.priority
    spec["configPatches"] = list(_patches(pin, options, source, name))
    return [{"apiVersion": API, "kind": "EnvoyFilter", "metadata": metadata, "spec": spec}]


def _patches(
    pin: Pin, options: ClusterOptions, source: HttpSource | FileSource, name: str
) -> Iterator[Document]:
    config = wasm.typed_config(pin, options, source, name=name, cluster=_AGENT)
    slot: Document = {"name": name}
    if isinstance(source, FileSource):
        slot["typed_config"] = config
    else:
        resource = {"name": name, "typed_config": config}
        yield {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "ADD", "value": resource}}
        # no timeout: a listener waits for its filter rather than to go on without it
        discovery = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
        slot["config_discovery"] = {"config_source": discovery, "type_urls": [config["@type"]]}
    for context, port in _places(options):
        yield _insertion(pin, slot, context, port)


def _places(options: ClusterOptions) -> Iterator[tuple[str, int | None]]:
    """Contexts and ports, each once; a port None is all of them."""
    places = [
        (context, port)
        for one in options.matches
        for context in _CONTEXTS[one.mode]
        for port in one.ports or (None,)
    ]
    yield from dict.fromkeys(places or [("ANY", None)])


def _insertion(pin: Pin, slot: Document, context: str, port: int | None) -> Document:
    listener: Document = {} if port is None else {"portNumber": port}
    if pin.plugin_type == "network":
        match = {"context": context} | ({"listener": listener} if listener else {})
        patch = {"operation": "INSERT_FIRST", "value": slot}
        return {"applyTo": "NETWORK_FILTER", "match": match, "patch": patch}
    listener["filterChain"] = {"filter": {"name": MANAGER, "subFilter": {"name": ROUTER}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": listener},
        "patch": {"operation": "INSERT_BEFORE", "value": slot},
    }
