"""What API servers check of our documents: a schema for each kind, and the rules that no schema can express.

The schemas contain only the fields that we write; a test compares them with the projects' own CRDs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from scaffold.kubernetes.documents import Document
from scaffold.project.config_validation import sentences

SCHEMAS = Path(__file__).parent / "schemas"
_SCHEMES = ("http", "https", "file", "oci")


def faults(document: Document) -> list[str]:
    """Why an API server would refuse a document, a sentence each, naming the field."""
    validator = Draft202012Validator(schema(document["apiVersion"], document["kind"]))
    return sentences(validator, document) or list(broken_rules(document))


@cache
def schema(api: str, kind: str) -> dict[str, Any]:
    """Our schema of a kind; `api` is "group/version"."""
    name = f"{kind.lower()}.{api.partition('/')[0]}.json"
    read: dict[str, Any] = json.loads((SCHEMAS / name).read_text())
    return read


def broken_rules(document: Document) -> Iterator[str]:
    """The rules in the CRDs' `x-kubernetes-validations` that a document breaks, a sentence each.

    Source: istio/api, kubernetes/customresourcedefinitions.gen.yaml; envoyproxy/gateway, charts/crds.
    """
    spec = document["spec"]
    if document["kind"] == "EnvoyExtensionPolicy":
        yield from _policy(spec)
        return
    if sum(key in spec for key in ("selector", "targetRef", "targetRefs")) > 1:
        yield "only one of selector and targetRefs can be set"
    plugin = spec.get("wasm", spec)
    if "url" in plugin and urlsplit(plugin["url"]).scheme not in _SCHEMES:
        yield "the url's scheme is none of http, https, file, oci"
    for variable in plugin.get("vmConfig", {}).get("env", []):
        if variable.get("valueFrom") == "HOST" and "value" in variable:
            yield f"{variable['name']} is the host's, and has a value"


def _policy(spec: Document) -> Iterator[str]:
    if ("targetRef" in spec) == ("targetRefs" in spec):
        yield "either targetRef or targetRefs must be used"
    for plugin in spec.get("wasm", []):
        code = plugin["code"]
        if (code["type"] == "HTTP") != ("http" in code) or (code["type"] == "Image") != ("image" in code):
            yield f"code is of type {code['type']}, and another's field is set"
