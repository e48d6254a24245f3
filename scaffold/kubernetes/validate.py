"""Documents against what the API servers check: a schema for each kind, and the rules no schema can say.

The schemas have what we write and no more; a test holds them against the projects' own CRDs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scaffold.errors import ScaffoldError
from scaffold.kubernetes.common import Document
from scaffold.project.misfits import sentences

SCHEMAS = Path(__file__).parent / "schemas"
_SCHEMES = ("http", "https", "file", "oci")


def check(document: Document) -> None:
    """Raise `ScaffoldError`, naming the field, for a document that an API server would refuse.

    Options are checked before: what is refused here is a bug of ours.
    """
    kind = f"{document['kind']} {document['metadata']['name']}"
    for fault in chain(_of_schema(document), broken_rules(document)):
        raise ScaffoldError(
            f"the {kind} that was made is invalid: {fault}", hint="please report it, with what you typed"
        )


def _of_schema(document: Document) -> Iterator[str]:
    from jsonschema import Draft202012Validator

    yield from sentences(Draft202012Validator(schema(document["apiVersion"], document["kind"])), document)


@cache
def schema(api: str, kind: str) -> dict[str, Any]:
    """Our schema of a kind, of the group in "group/version"."""
    name = f"{kind.lower()}.{api.partition('/')[0]}.json"
    read: dict[str, Any] = json.loads((SCHEMAS / name).read_text())
    return read


def broken_rules(document: Document) -> Iterator[str]:
    """The rules of the CRDs' `x-kubernetes-validations` that a document breaks, a sentence each.

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
