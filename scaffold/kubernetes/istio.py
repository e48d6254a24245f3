"""The target `istio`: a WasmPlugin, or a TrafficExtension.

Source: istio/api, extensions/v1alpha1/{wasm,traffic_extension}.proto.
"""

from __future__ import annotations

from scaffold.core.option_fields import check_target
from scaffold.errors import UsageError
from scaffold.kubernetes.documents import (
    Document,
    check_type,
    json_object,
    require_scope,
    resource_metadata,
    root_id,
    target_refs,
    without_none,
)
from scaffold.kubernetes.options import MODES, PHASES, ClusterOptions
from scaffold.kubernetes.pinned_plugin import HttpSource, Pin, hexadecimal, image_source
from scaffold.wasm import proxy_features as versions

TARGET = "istio"
NAMESPACE = "default"
API = "extensions.istio.io/v1alpha1"
STRATEGIES = {"fail-closed": "FAIL_CLOSE", "fail-open": "FAIL_OPEN", "fail-reload": "FAIL_RELOAD"}

_INSTEAD = {
    "envoy": "pass --istio VERSION, on which a WasmPlugin depends",
    "allow_stop_iteration": "use the target `istio-envoyfilter`: a WasmPlugin has no such field",
    "file": "use the target `istio-envoyfilter`, or pass --url",
}
_KINDS = ("Gateway", "GatewayClass", "Service", "ServiceEntry")
_REFS_LIMIT = 16
_VARIABLES_LIMIT = 256


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The resource that adds the plugin to Istio's proxies.

    Raises `UsageError` for what this version of Istio doesn't support, `ImageError` for an image that it
    can't load.
    """
    check_target(options, TARGET, instead=_INSTEAD)
    check_type(pin, TARGET, "http", "network")
    require_scope(options, NAMESPACE)
    _check_version(pin, options)
    placement = without_none(
        {
            "phase": PHASES[options.phase] if options.phase else None,
            "priority": options.priority,
            "match": _matches(options),
        }
    )
    kind = "TrafficExtension" if options.traffic_extension else "WasmPlugin"
    own = plugin(pin, options, TARGET)
    spec = {"wasm": own} if options.traffic_extension else own
    if pin.info.type == "network":
        own["type"] = "NETWORK"
    return [
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": resource_metadata(pin, options, NAMESPACE),
            "spec": _scope(options) | placement | spec,
        }
    ]


def _check_version(pin: Pin, options: ClusterOptions) -> None:
    needed = (
        (versions.WASM_PLUGIN, True),
        (versions.PLUGIN_ENVIRONMENT, bool(options.env)),
        (versions.MATCH, bool(options.match)),
        (versions.NETWORK, pin.info.type == "network"),
        (versions.TARGET_REFS, bool(options.refs)),
        (versions.FAIL_STRATEGY, options.failure_policy == "fail-open"),
        (versions.FAIL_RELOAD, options.failure_policy == "fail-reload"),
        (versions.TRAFFIC_EXTENSION, options.traffic_extension),
    )
    for feature, used in needed:
        if used:
            versions.require(feature, options.istio_version)


def _scope(options: ClusterOptions) -> Document:
    if options.labels:
        return {"selector": {"matchLabels": options.labels}}
    if options.refs:
        if len(options.refs) > _REFS_LIMIT:
            raise UsageError(
                f"{len(options.refs)} target references are too many for one WasmPlugin",
                hint=f"deploy it for {_REFS_LIMIT} at a time, each time with another --name",
            )
        return {"targetRefs": target_refs(options, _KINDS, "Istio")}
    return {}


def _matches(options: ClusterOptions) -> list[Document] | None:
    """Which traffic passes through the plugin, in Istio's form; None means all."""
    matches = [
        {"mode": MODES[one.mode]} | ({"ports": [{"number": port} for port in one.ports]} if one.ports else {})
        for one in options.matches
    ]
    return matches or None


def plugin(pin: Pin, options: ClusterOptions, target: str) -> Document:
    """The fields of a plugin that Istio's and Higress's WasmPlugin share."""
    source = image_source(pin, options, target)
    image = not isinstance(source, HttpSource)
    has_strategy = versions.has(
        versions.FAIL_STRATEGY, options.istio_version
    )  # older ones always fail closed
    return without_none(
        {
            "url": f"oci://{source.url}" if image else source.url,
            "sha256": hexadecimal(source.digest),
            "imagePullPolicy": "IfNotPresent" if image else None,
            "imagePullSecret": options.pull_secret,
            "pluginName": root_id(pin, options) or None,
            "pluginConfig": json_object(pin, options),
            "failStrategy": STRATEGIES[options.failure_policy] if has_strategy else None,
            "vmConfig": _environment(options),
        }
    )


def _environment(options: ClusterOptions) -> Document | None:
    """The VM's environment variables; None without any."""
    if len(options.variables) > _VARIABLES_LIMIT:
        raise UsageError(
            f"{len(options.variables)} environment variables are too many for a WasmPlugin",
            hint=f"pass --env at most {_VARIABLES_LIMIT} times, or use the plugin's configuration",
        )
    variables = [
        {"name": one.name, "valueFrom": "HOST"}
        if one.value is None
        else {"name": one.name, "valueFrom": "INLINE", "value": one.value}
        for one in options.variables
    ]
    return {"env": variables} if variables else None
