"""The target `envoy-gateway`: an EnvoyExtensionPolicy, whose controller downloads the plugin.

Source: envoyproxy/gateway, api/v1alpha1/{envoyextensionpolicy,wasm}_types.go.
"""

from __future__ import annotations

from scaffold.core.option_fields import check_target
from scaffold.errors import UsageError
from scaffold.kubernetes.documents import (
    Document,
    check_type,
    json_configuration,
    refuse_reload,
    resource_metadata,
    root_id,
    target_refs,
    without_none,
)
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pinned_plugin import HttpSource, Pin, hexadecimal, image_source

TARGET = "envoy-gateway"
NAMESPACE = "default"
API = "gateway.envoyproxy.io/v1alpha1"
KINDS = ("Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute")

_AIM = "pass --target-ref Gateway/NAME or --target-ref HTTPRoute/NAME"
_ORDER = "edit the policy's list of plugins, which run in that order"
_INSTEAD = {
    "selector": _AIM,
    "whole_namespace": _AIM,
    "match": _AIM,
    "phase": _ORDER,
    "priority": _ORDER,
    "file": "pass --url",
}


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The policy that makes Envoy Gateway run the plugin for the resources that it is attached to.

    Raises `UsageError` for an unsupported option, `ImageError` for an image that it can't load.
    """
    check_target(options, TARGET, instead=_INSTEAD)
    check_type(pin, TARGET, "http")
    if not options.refs:
        raise UsageError("no option says where it applies, and Envoy Gateway needs a target", hint=_AIM)
    refuse_reload(options, "Envoy Gateway")
    metadata = resource_metadata(pin, options, NAMESPACE)
    wasm = without_none(
        {
            "name": metadata["name"],
            "rootID": root_id(pin, options) or None,
            "code": _code(pin, options),
            "config": json_configuration(pin, options),
            "failOpen": options.failure_policy == "fail-open",
            "env": _environment(options),
        }
    )
    return [
        {
            "apiVersion": API,
            "kind": "EnvoyExtensionPolicy",
            "metadata": metadata,
            "spec": {"targetRefs": target_refs(options, KINDS, "Envoy Gateway"), "wasm": [wasm]},
        }
    ]


def _code(pin: Pin, options: ClusterOptions) -> Document:
    source = image_source(pin, options, TARGET)
    where: Document = {"url": source.url, "sha256": hexadecimal(source.digest)}
    if isinstance(source, HttpSource):
        return {"type": "HTTP", "http": where}
    if options.pull_secret:
        where["pullSecretRef"] = {"kind": "Secret", "name": options.pull_secret}
    return {"type": "Image", "image": where, "pullPolicy": "IfNotPresent"}


def _environment(options: ClusterOptions) -> Document | None:
    for one in options.variables:
        if one.value is not None:
            raise UsageError(
                f"Envoy Gateway can't set {one.name}, only pass on the proxy's own value",
                hint=f"pass --env {one.name}",
            )
    return {"hostKeys": [one.name for one in options.variables]} if options.variables else None
