"""The target `istio`: a WasmPlugin, or a TrafficExtension.

Source: istio/api, extensions/v1alpha1/{wasm,traffic_extension}.proto.
"""

from __future__ import annotations

from scaffold.errors import UsageError
from scaffold.kubernetes import common
from scaffold.kubernetes.common import Document, without_none
from scaffold.kubernetes.names import TargetRef
from scaffold.kubernetes.options import MODES, PHASES, ClusterOptions
from scaffold.kubernetes.pins import HttpSource, Pin, hexadecimal, pulled
from scaffold.wasm import compat as versions

TARGET = "istio"
NAMESPACE = "default"
API = "extensions.istio.io/v1alpha1"
STRATEGIES = {"fail-closed": "FAIL_CLOSE", "fail-open": "FAIL_OPEN", "fail-reload": "FAIL_RELOAD"}

_TAKES = frozenset(
    "name namespace selector target_ref whole_namespace phase priority match failure_policy configuration"
    " root_id pull_secret env istio traffic_extension url".split()
)
_INSTEAD = {
    "envoy": "a WasmPlugin depends on Istio's version: pass --istio VERSION",
    "allow_stop_iteration": "a WasmPlugin has no such field: use the target `istio-envoyfilter`",
    "file": "use the target `istio-envoyfilter`, or pass --url",
}
_KINDS = ("Gateway", "GatewayClass", "Service", "ServiceEntry")
_REFS_LIMIT = 16


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The resource that has Istio put the plugin into its proxies.

    Raises `UsageError` for what this Istio can't take, `ImageError` for an image that it can't load.
    """
    options.only(TARGET, _TAKES, _INSTEAD)
    common.check_type(pin, TARGET, "http", "network")
    common.require_scope(options, NAMESPACE)
    _check_version(pin, options)
    placement = without_none(
        {
            "phase": PHASES[options.phase] if options.phase else None,
            "priority": options.priority,
            "match": matches(options),
        }
    )
    kind = "TrafficExtension" if options.traffic_extension else "WasmPlugin"
    own = plugin(pin, options, TARGET)
    spec = {"wasm": own} if options.traffic_extension else own
    if pin.plugin_type == "network":
        own["type"] = "NETWORK"
    return [
        {
            "apiVersion": API,
            "kind": kind,
            "metadata": common.metadata(pin, options, NAMESPACE),
            "spec": _scope(options) | placement | spec,
        }
    ]


def _check_version(pin: Pin, options: ClusterOptions) -> None:
    needed = (
        (versions.WASM_PLUGIN, True),
        (versions.PLUGIN_ENVIRONMENT, bool(options.env)),
        (versions.MATCH, bool(options.match)),
        (versions.NETWORK, pin.plugin_type == "network"),
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
        return {"targetRefs": [_checked(ref).write() for ref in _limited(options.refs)]}
    return {}


def _limited(refs: tuple[TargetRef, ...]) -> tuple[TargetRef, ...]:
    if len(refs) > _REFS_LIMIT:
        raise UsageError(
            f"{len(refs)} targets are too many for one WasmPlugin",
            hint=f"deploy it by {_REFS_LIMIT} at a time, each with its --name",
        )
    return refs


def _checked(ref: TargetRef) -> TargetRef:
    if ref.kind not in _KINDS:
        raise UsageError(
            f"Istio attaches no plugin to a kind `{ref.kind}`", hint=f"known: {', '.join(_KINDS)}"
        )
    return ref


def matches(options: ClusterOptions) -> list[Document] | None:
    """Which traffic passes the plugin, as Istio writes it; None is all."""
    found = [
        {"mode": MODES[one.mode]} | ({"ports": [{"number": port} for port in one.ports]} if one.ports else {})
        for one in options.matches
    ]
    return found or None


def plugin(pin: Pin, options: ClusterOptions, target: str) -> Document:
    """The plugin itself, in the fields that Istio's and Higress's WasmPlugin share."""
    source = pulled(pin, options, target)
    image = not isinstance(source, HttpSource)
    has_strategy = versions.has(versions.FAIL_STRATEGY, options.istio_version)  # without it they fail closed
    return without_none(
        {
            "url": f"oci://{source.url}" if image else source.url,
            "sha256": hexadecimal(source.digest),
            "imagePullPolicy": "IfNotPresent" if image else None,
            "imagePullSecret": options.pull_secret,
            "pluginName": common.root_id(pin, options) or None,
            "pluginConfig": common.json_object(pin, options),
            "failStrategy": STRATEGIES[options.failure_policy] if has_strategy else None,
            "vmConfig": environment(options),
        }
    )


def environment(options: ClusterOptions) -> Document | None:
    """The VM's environment variables; None is none."""
    variables = [
        {"name": one.name, "valueFrom": "HOST"}
        if one.value is None
        else {"name": one.name, "valueFrom": "INLINE", "value": one.value}
        for one in options.variables
    ]
    return {"env": variables} if variables else None
