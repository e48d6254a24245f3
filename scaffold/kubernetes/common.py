"""What the manifests of several targets have in common."""

from __future__ import annotations

import json
from typing import Any

from scaffold.errors import UsageError
from scaffold.kubernetes.names import resource_name
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pins import Pin
from scaffold.oci.plugin_info import MODULE_DIGEST
from scaffold.oci.spec import shown

Document = dict[str, Any]

MANAGED_BY = {"app.kubernetes.io/managed-by": "scaffold"}
REFERENCE = "proxy-wasm.image/reference"
MANIFEST_DIGEST = "proxy-wasm.image/manifest-digest"
PROJECT = "proxy-wasm.scaffold/project"  # which nobody else may write over
ROOT_ID_LIMIT = 256  # characters: what a WasmPlugin takes


def metadata(pin: Pin, options: ClusterOptions, namespace: str) -> Document:
    """A resource's name, where it goes, whose it is, and what it was made from, for people to read."""
    made_from = {MODULE_DIGEST: str(pin.module_digest)}
    if pin.image and options.url is None and options.file is None:
        made_from[REFERENCE] = str(pin.image.reference)
        made_from[MANIFEST_DIGEST] = str(pin.image.manifest_digest)
    return {
        "name": options.name or resource_name(pin.name),
        "namespace": options.namespace or namespace,
        "labels": dict(MANAGED_BY),
        "annotations": {PROJECT: project(pin, options), **made_from},
    }


def project(pin: Pin, options: ClusterOptions) -> str:
    """What tells a project from another whose plugin has the same name, and stays from version to version.

    The repository that its images go to; else that of its source; else where the module itself is had.
    """
    if pin.image and not pin.image.reference.local:
        return pin.image.reference.name
    place = pin.source or options.url or options.file or ""
    return f"{place}#{pin.name}"


def require_scope(options: ClusterOptions, namespace: str) -> None:
    """Raise `UsageError`, saying what it would then apply to, unless something says where it applies."""
    if options.labels or options.refs or options.whole_namespace:
        return
    place = options.namespace or namespace
    everywhere = ", and in Istio's root namespace to the whole mesh" if place == "istio-system" else ""
    raise UsageError(
        f"nothing says where it applies: it would to every proxy in the namespace `{place}`{everywhere}",
        hint="pass --selector app=NAME or --target-ref Gateway/NAME; --whole-namespace means all of them",
    )


def check_type(pin: Pin, target: str, *types: str) -> None:
    """Raise `UsageError` for a plugin of a type that a target has no place for."""
    if pin.plugin_type not in types:
        raise UsageError(
            f"the target `{target}` takes no plugin of type `{pin.plugin_type}`",
            hint="network filters go by `istio`, `istio-envoyfilter` and `envoy`"
            if pin.plugin_type == "network"
            else "a service runs beside the filters, by Envoy's own bootstrap",
        )


def root_id(pin: Pin, options: ClusterOptions) -> str:
    """The root id that counts; "" is none. Raises `UsageError` for one that no manifest can hold."""
    found = pin.root_id if options.root_id is None else options.root_id
    if len(found) > ROOT_ID_LIMIT or not found.isprintable():
        raise UsageError(
            f"the root id {shown(found)} is no line of at most {ROOT_ID_LIMIT} characters",
            hint="pass another by --root-id",
        )
    return found


def configuration(pin: Pin, options: ClusterOptions) -> bytes:
    """The configuration that counts; empty is none."""
    return pin.configuration if options.configuration is None else options.configuration


def json_configuration(pin: Pin, options: ClusterOptions) -> Any:
    """The configuration as JSON; None where there is none.

    Raises `UsageError` for what isn't JSON, and for what YAML couldn't hand on as it is.
    """
    content = configuration(pin, options)
    if not content:
        return None
    try:
        value = json.loads(content, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no half surrogate pairs, no 1e999
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the plugin's configuration is no JSON, which the manifest could hold: {error}",
            hint="the target `istio-envoyfilter` hands over any bytes",
        ) from error
    return value


def json_object(pin: Pin, options: ClusterOptions) -> dict[str, Any] | None:
    """The configuration as a JSON object, the only one that a WasmPlugin takes. Raises as above."""
    value = json_configuration(pin, options)
    if value is None or isinstance(value, dict):
        return value
    raise UsageError(
        "the plugin's configuration is no JSON object, and a WasmPlugin takes nothing else",
        hint="write it as {...}; the target `istio-envoyfilter` hands over any bytes",
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def without_none(record: Document) -> Document:
    """A mapping without the fields that aren't set."""
    return {key: value for key, value in record.items() if value is not None}
