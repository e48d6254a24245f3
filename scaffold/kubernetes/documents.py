"""Manifests for the control planes that bring plugins to their proxies: plain documents, and their YAML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from scaffold.core.text import quoted
from scaffold.errors import UsageError, choose
from scaffold.kubernetes.options import ClusterOptions, resource_name
from scaffold.kubernetes.pinned_plugin import Pin
from scaffold.oci.plugin_info import MODULE_DIGEST
from scaffold.wasm import proxy_features as versions

if TYPE_CHECKING:
    import yaml

Document = dict[str, Any]
Make = Callable[[Pin, ClusterOptions], list[Document]]

# name -> the module with its `documents`, imported when the target is chosen
MANIFESTS = {
    "istio": "scaffold.kubernetes.istio",
    "istio-envoyfilter": "scaffold.kubernetes.envoyfilter",
    "envoy-gateway": "scaffold.kubernetes.envoy_gateway",
    "higress": "scaffold.kubernetes.higress",
    "envoy": "scaffold.kubernetes.envoy",
}
MANAGED_BY = {"app.kubernetes.io/managed-by": "scaffold"}
REFERENCE = "proxy-wasm.image/reference"
MANIFEST_DIGEST = "proxy-wasm.image/manifest-digest"
PROJECT = "proxy-wasm.scaffold/project"  # only the same project may replace a resource
ROOT_ID_LIMIT = 256  # characters that a WasmPlugin accepts
# YAML 1.1 and 1.2 disagree on `y`, `1e3`, `0o7` and more: everything that isn't plainly a word is quoted
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")  # could be read as a number
_NOT_WORDS = frozenset("y n yes no on off true false null inf nan".split())


def documents(target: str, pin: Pin, options: ClusterOptions) -> list[Document]:
    """The documents that make `target` run the plugin.

    Raises `UsageError` for an unknown target, and for what the target doesn't support.
    """
    make = cast(Make, import_module(choose("target", target, MANIFESTS)).documents)
    return make(pin, options)


def warnings(target: str, options: ClusterOptions) -> list[str]:
    """How a target differs from what the user may expect, a sentence each."""
    if target == "envoy" and not options.upstream:
        return ["without --upstream this Envoy answers every request itself, with 200"]
    downloads = target.startswith("istio") and options.file is None  # by Istio's agent
    closed = options.failure_policy != "fail-open"
    if downloads and closed and not versions.has(versions.CLOSED_FETCH, options.istio_version):
        return [
            "before Istio 1.25 all traffic passes while the plugin can't be downloaded, even with"
            " --failure-policy fail-closed"
        ]
    return []


def resource_metadata(pin: Pin, options: ClusterOptions, namespace: str) -> Document:
    """A resource's metadata: its name, namespace and project, and the image and module it was made from."""
    annotations = {MODULE_DIGEST: str(pin.module_digest)}
    if pin.image and options.url is None and options.file is None:
        annotations[REFERENCE] = str(pin.image.reference)
        annotations[MANIFEST_DIGEST] = str(pin.image.manifest_digest)
    return {
        "name": options.name or resource_name(pin.info.name),
        "namespace": options.namespace or namespace,
        "labels": dict(MANAGED_BY),
        "annotations": {PROJECT: project(pin, options), **annotations},
    }


def project(pin: Pin, options: ClusterOptions) -> str:
    """An identity that differs between projects with a plugin of the same name, and is stable over versions.

    The repository of its images; else that of its source; else the place of the module.
    """
    if pin.image and not pin.image.reference.local:
        return pin.image.reference.name
    place = pin.info.source or options.url or options.file or ""
    return f"{place}#{pin.info.name}"


def require_scope(options: ClusterOptions, namespace: str) -> None:
    """Raise `UsageError`, naming what the plugin would apply to, unless the options say where it applies."""
    if options.labels or options.refs or options.whole_namespace:
        return
    place = options.namespace or namespace
    everywhere = ", and in Istio's root namespace to the whole mesh" if place == "istio-system" else ""
    raise UsageError(
        f"no option says where it applies: it would apply to every proxy in `{place}`{everywhere}",
        hint="pass --selector app=NAME or --target-ref Gateway/NAME, or --whole-namespace for all of them",
    )


def target_refs(options: ClusterOptions, kinds: tuple[str, ...], by: str) -> list[Document]:
    """What the plugin is attached to. Raises `UsageError` for a kind that `by` can't attach it to."""
    for ref in options.refs:
        if ref.kind not in kinds:
            raise UsageError(
                f"{by} can't attach a plugin to a `{ref.kind}`", hint=f"known: {', '.join(kinds)}"
            )
    return [ref.write() for ref in options.refs]


def check_type(pin: Pin, target: str, *types: str) -> None:
    """Raise `UsageError` for a plugin of a type that a target can't run."""
    if pin.info.type not in types:
        raise UsageError(
            f"`{target}` can't run a plugin of type `{pin.info.type}`",
            hint="`istio`, `istio-envoyfilter` and `envoy` run network plugins"
            if pin.info.type == "network"
            else "a service is part of Envoy's own bootstrap: `scaffold bootstrap` prints one",
        )


def refuse_reload(options: ClusterOptions, by: str) -> None:
    """Raise `UsageError` for the failure policy fail-reload, which `by` doesn't have."""
    if options.failure_policy == "fail-reload":
        raise UsageError(f"{by} has no fail-reload", hint="pass --failure-policy fail-closed or fail-open")


def root_id(pin: Pin, options: ClusterOptions) -> str:
    """The root id of the options, or else the plugin's, maybe "". Raises `UsageError` for an invalid one."""
    chosen = pin.info.root_id if options.root_id is None else options.root_id
    if len(chosen) > ROOT_ID_LIMIT or not chosen.isprintable():
        raise UsageError(
            f"the root id {quoted(chosen)} isn't one line of at most {ROOT_ID_LIMIT} characters",
            hint="pass another by --root-id",
        )
    return chosen


def configuration(pin: Pin, options: ClusterOptions) -> bytes:
    """The configuration of the options, or else the plugin's; empty is none."""
    return pin.configuration if options.configuration is None else options.configuration


def json_configuration(pin: Pin, options: ClusterOptions) -> Any:
    """The configuration as JSON; None without one.

    Raises `UsageError` for other bytes, and for JSON that doesn't survive YAML.
    """
    content = configuration(pin, options)
    if not content:
        return None
    try:
        value = json.loads(content, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no half surrogate pairs, no 1e999
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the plugin's configuration isn't JSON that a manifest can contain: {error}",
            hint="write JSON, or YAML in a .yaml file; the target `istio-envoyfilter` accepts any bytes",
        ) from error
    return value


def json_object(pin: Pin, options: ClusterOptions) -> dict[str, Any] | None:
    """The configuration as a JSON object, as a WasmPlugin needs it. Raises like `json_configuration`."""
    value = json_configuration(pin, options)
    if value is None or isinstance(value, dict):
        return value
    raise UsageError(
        "the plugin's configuration isn't a JSON object, and a WasmPlugin accepts nothing else",
        hint="write it like {...}; the target `istio-envoyfilter` accepts any bytes",
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} isn't JSON")


def without_none(record: Document) -> Document:
    """The mapping without its None values."""
    return {key: value for key, value in record.items() if value is not None}


def render(documents: Iterable[Document]) -> str:
    """The documents as YAML, separated by `---`, with their keys in order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes by our rule, and uses no aliases."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        plain = _WORD.fullmatch(text) and not _DIGEST.fullmatch(text) and text.lower() not in _NOT_WORDS
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    Dumper.add_representer(str, write_text)
    return "---\n".join(
        yaml.dump(each, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
        for each in documents
    )
