"""Manifests for the control planes that bring plugins to their proxies, as plain documents."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from scaffold.errors import choose
from scaffold.kubernetes.common import Document
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pins import Pin
from scaffold.wasm import compat as versions

Make = Callable[[Pin, ClusterOptions], list[Document]]

# name -> the module whose `documents` it is, which comes in when it is chosen
MANIFESTS = {
    "istio": "scaffold.kubernetes.istio",
    "istio-envoyfilter": "scaffold.kubernetes.envoyfilter",
    "envoy-gateway": "scaffold.kubernetes.envoy_gateway",
    "higress": "scaffold.kubernetes.higress",
    "envoy": "scaffold.kubernetes.fleet",
}
CLUSTERS = tuple(name for name in MANIFESTS if name != "envoy")  # what `deploy` applies to
PULLING = ("istio", "envoy-gateway", "higress")  # whose control plane takes a plugin from a registry


def documents(target: str, pin: Pin, options: ClusterOptions) -> list[Document]:
    """What to give `target` so that it runs the plugin, each document held against its schema.

    Raises `UsageError` for a target that there isn't, and for what it can't take.
    """
    from scaffold.kubernetes.validate import check

    made = cast(Make, import_module(choose("target", target, MANIFESTS)).documents)(pin, options)
    if target != "envoy":  # which has no schema: Envoy itself reads that
        for document in made:
            check(document)
    return made


def warnings(target: str, options: ClusterOptions) -> list[str]:
    """What a target does otherwise than one may think, a sentence each."""
    if target == "envoy" and not options.upstream:
        return ["without --upstream there is no origin: this Envoy answers every request by itself, with 200"]
    downloads = target.startswith("istio") and options.file is None  # by Istio's agent
    closed = options.failure_policy != "fail-open"
    if downloads and closed and not versions.has(versions.CLOSED_FETCH, options.istio_version):
        return [
            "before Istio 1.25 all traffic passes while the plugin can't be downloaded, whatever the"
            " failure policy"
        ]
    return []
