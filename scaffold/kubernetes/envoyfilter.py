"""The target `istio-envoyfilter`: patches of Envoy's configuration, for what a WasmPlugin can't express.

A module from a URL comes by ECDS: Istio's agent downloads it, checks its digest and passes a file to Envoy.
A mounted module is configured in the listener itself.
Sources: istio/api, networking/v1alpha3/envoy_filter.proto; istio/istio, pkg/wasm/convert.go and
pilot/pkg/networking/core/envoyfilter/listener_patch.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from scaffold.core.option_fields import check_target
from scaffold.kubernetes import wasm_filter as wasm
from scaffold.kubernetes.documents import Document, check_type, require_scope, resource_metadata
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pinned_plugin import FileSource, HttpSource, Pin, module_source
from scaffold.wasm import proxy_features as versions

TARGET = "istio-envoyfilter"
NAMESPACE = "default"
API = "networking.istio.io/v1alpha3"
MANAGER = "envoy.filters.network.http_connection_manager"
ROUTER = "envoy.filters.http.router"

_INSTEAD = {
    "target_ref": "a Gateway's proxies have a label: --selector gateway.networking.k8s.io/gateway-name=NAME",
    # Istio ignores `filterClass`, and adds such a filter behind the router, which Envoy refuses
    "phase": "use the target `istio`, which has phases; here the filter comes right before the router",
    "pull_secret": "leave it out: no image is pulled",
    "traffic_extension": "use the target `istio`",
}
# by mode of --match: the contexts in which a proxy handles such traffic
_CONTEXTS = {"client": ("SIDECAR_OUTBOUND", "GATEWAY"), "server": ("SIDECAR_INBOUND",), "both": ("ANY",)}
_AGENT = "_"  # no real cluster: Istio's agent downloads, so Envoy never uses it


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The EnvoyFilter that adds the plugin to Istio's proxies.

    Raises `UsageError` for what this version of Istio, or its Envoy, doesn't support.
    """
    check_target(options, TARGET, instead=_INSTEAD)
    check_type(pin, TARGET, "http", "network")
    require_scope(options, NAMESPACE)
    source = module_source(pin, options, TARGET)
    versions.require(versions.ENVOY_FILTER, options.istio_version)
    if pin.info.type == "network" and isinstance(source, HttpSource):
        versions.require(versions.NETWORK_SOURCE, options.istio_version)
    metadata = resource_metadata(pin, options, NAMESPACE)
    name = f"{metadata['namespace']}.{metadata['name']}"
    spec: Document = {}
    if options.labels:
        spec["workloadSelector"] = {"labels": options.labels}
    if options.priority is not None:
        versions.require(versions.FILTER_PRIORITY, options.istio_version)
        # Istio applies the lowest first. Later HTTP filters come after it, later network filters before it
        spec["priority"] = options.priority if pin.info.type == "network" else -options.priority
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
        # without a timeout the listener waits for its filter instead of starting without it
        discovery = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
        slot["config_discovery"] = {"config_source": discovery, "type_urls": [config["@type"]]}
    for context, port in _places(options):
        yield _insertion(pin, slot, context, port)


def _places(options: ClusterOptions) -> Iterator[tuple[str, int | None]]:
    """Contexts and ports, each once; the port None means all ports."""
    places = [
        (context, port)
        for one in options.matches
        for context in _CONTEXTS[one.mode]
        for port in one.ports or (None,)
    ]
    yield from dict.fromkeys(places or [("ANY", None)])


def _insertion(pin: Pin, slot: Document, context: str, port: int | None) -> Document:
    listener: Document = {} if port is None else {"portNumber": port}
    if pin.info.type == "network":
        match = {"context": context} | ({"listener": listener} if listener else {})
        patch = {"operation": "INSERT_FIRST", "value": slot}
        return {"applyTo": "NETWORK_FILTER", "match": match, "patch": patch}
    listener["filterChain"] = {"filter": {"name": MANAGER, "subFilter": {"name": ROUTER}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": listener},
        "patch": {"operation": "INSERT_BEFORE", "value": slot},
    }
