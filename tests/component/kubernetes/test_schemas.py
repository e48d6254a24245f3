"""Our schemas against the projects' own CRDs, where they are at hand: an API server takes what we write."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support import resource_schemas
from support.pins import HTTP, NETWORK

from scaffold.kubernetes import documents as kubernetes
from scaffold.kubernetes import options as kubernetes_options
from scaffold.kubernetes.documents import render
from scaffold.kubernetes.options import ClusterOptions

CRDS = Path(__file__).parents[4] / "shared" / "crds"
# our schema -> the CRD
KINDS = {
    ("extensions.istio.io/v1alpha1", "WasmPlugin"): "wasmplugins.extensions.istio.io",
    ("extensions.istio.io/v1alpha1", "TrafficExtension"): "trafficextensions.extensions.istio.io",
    ("networking.istio.io/v1alpha3", "EnvoyFilter"): "envoyfilters.networking.istio.io",
    (
        "gateway.envoyproxy.io/v1alpha1",
        "EnvoyExtensionPolicy",
    ): "envoyextensionpolicies.gateway.envoyproxy.io",
    ("extensions.higress.io/v1alpha1", "WasmPlugin"): "wasmplugins.extensions.higress.io",
}
needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason="the CRDs aren't here")


def crd(kind):
    """The CRD's schema as an API server reads it that refuses unknown fields."""
    document = yaml.safe_load((CRDS / f"{KINDS[kind]}.yaml").read_text())
    (version,) = document["spec"]["versions"]
    assert f"{document['spec']['group']}/{version['name']}" == kind[0]
    assert document["spec"]["names"]["kind"] == kind[1]
    schema = version["schema"]["openAPIV3Schema"]
    for field in ("apiVersion", "kind", "metadata"):
        schema["properties"][field] = {}
    return strict(schema)


def strict(schema):
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if (
        isinstance(schema.get("properties"), dict)
        and "type" in schema
        and "additionalProperties" not in schema
    ):
        made.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return made


def faults(schema, document):
    return [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)
    ]


# --- field by field


def differences(ours, theirs, root, path="spec"):
    """What our schema allows that the CRD doesn't have, or has otherwise."""
    if theirs.get("x-kubernetes-preserve-unknown-fields"):
        return
    while "$ref" in ours:
        ours = root["$defs"][ours["$ref"].rpartition("/")[2]]
    values = ours.get("enum", [ours["const"]] if "const" in ours else None)
    if values is not None:
        yield from (f"{path} may be {value!r}" for value in values if faults(theirs, value))
        return
    if ours.get("type") != theirs.get("type"):
        yield f"{path} is {ours.get('type')}, and not {theirs.get('type')}"
    for limit, looser in (("maxLength", max), ("maxItems", max), ("maximum", max), ("minimum", min)):
        if limit in theirs and (limit not in ours or looser(ours[limit], theirs[limit]) != theirs[limit]):
            yield f"{path} has {limit} {ours.get(limit)}, and theirs is {theirs[limit]}"
    if "minLength" in theirs and "pattern" not in ours and ours.get("minLength", 0) < theirs["minLength"]:
        yield f"{path} may be empty"
    for name in theirs.get("required", ()):
        if name not in ours.get("required", ()):
            yield f"{path} may lack {name}"
    for name, field in ours.get("properties", {}).items():
        if name not in theirs.get("properties", {}):
            yield f"{path} has no {name}"
        else:
            yield from differences(field, theirs["properties"][name], root, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(ours.get(key), dict):
            yield from differences(ours[key], theirs[key], root, f"{path}[]")


@needs_crds
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_every_field_of_ours_is_the_projects_own(kind):
    ours = resource_schemas.schema(*kind)
    assert not list(differences(ours["properties"]["spec"], crd(kind)["properties"]["spec"], ours))


@needs_crds
def test_a_field_that_is_not_theirs_would_be_seen():
    """The check itself: it would be worth nothing if it saw nothing."""
    kind = ("extensions.istio.io/v1alpha1", "WasmPlugin")
    theirs = crd(kind)["properties"]["spec"]
    for change, said in (
        (lambda fields: fields.update(colour={"type": "string"}), "spec has no colour"),
        (lambda fields: fields.update(phase={"enum": ["AUTH"]}), "spec.phase may be 'AUTH'"),
        (
            lambda fields: fields.update(priority={"type": "string"}),
            "spec.priority is string, and not integer",
        ),
        (
            lambda fields: fields["pluginName"].update(maxLength=257),
            "spec.pluginName has maxLength 257, and theirs",
        ),
    ):
        ours = copy.deepcopy(resource_schemas.schema(*kind))
        change(ours["properties"]["spec"]["properties"])
        assert any(each.startswith(said) for each in differences(ours["properties"]["spec"], theirs, ours)), (
            said
        )


def test_every_schema_is_one_and_is_used():
    files = {path.name for path in resource_schemas.SCHEMAS.glob("*.json")}
    assert files == {f"{kind.lower()}.{api.partition('/')[0]}.json" for api, kind in KINDS}
    for kind in KINDS:
        Draft202012Validator.check_schema(resource_schemas.schema(*kind))


# --- whatever may be typed

name = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
label = st.from_regex(
    r"([a-z]{1,9}\.io/)?[A-Za-z]([A-Za-z0-9_.-]{0,20}[a-z0-9])?=([A-Z0-9]{0,9})", fullmatch=True
)
labels = st.lists(label, min_size=1, max_size=4, unique_by=lambda pair: pair.partition("=")[0]).map(tuple)
port = st.integers(1, 65535)
match = st.builds(
    lambda mode, ports: mode + (":" + ",".join(map(str, ports)) if ports else ""),
    st.sampled_from(["client", "server", "both"]),
    st.lists(port, max_size=3),
)
variable = st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}(=[ -~]{0,20})?", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
printable = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=256)
url = st.just("https://modules.example:8443/a/b.wasm?c=d")


def as_json(value):
    return json.dumps(value).encode()


def refs(kinds, most=5):
    return st.lists(st.builds("{}/{}".format, st.sampled_from(kinds), name), min_size=1, max_size=most).map(
        tuple
    )


def options(scope, **more):
    """Options of a target that are right, any of them left out."""
    usual = {
        "name": name,
        "namespace": name,
        "root_id": printable,
        "env": st.lists(variable, max_size=3, unique_by=lambda one: one.partition("=")[0]).map(tuple),
        "failure_policy": st.sampled_from(["fail-closed", "fail-open"]),
    }
    return st.builds(
        lambda where, what: ClusterOptions(**where, **what),
        scope,
        st.fixed_dictionaries({}, optional=usual | more),
    )


def of(selector=None, refs=None):
    ways = [{"whole_namespace": True}]
    found = st.sampled_from(ways)
    if selector is not None:
        found |= selector.map(lambda pairs: {"selector": pairs})
    if refs is not None:
        found |= refs.map(lambda pairs: {"target_ref": pairs})
    return found


order = {
    "phase": st.sampled_from(["authn", "authz", "stats"]),
    "priority": st.integers(-(2**31) + 1, 2**31 - 1),
}
matches = {"match": st.lists(match, max_size=3).map(tuple)}
objects = st.dictionaries(text, value, max_size=3).map(as_json)
istio = options(
    of(labels, refs(["Gateway", "GatewayClass", "Service", "ServiceEntry"])),
    **order,
    **matches,
    config=objects,
    pull_secret=name,
    istio=st.sampled_from(["1.30", "1.31.2"]),
    traffic_extension=st.booleans(),
    failure_policy=st.sampled_from(["fail-closed", "fail-open", "fail-reload"]),
)
gateway = options(
    refs(["Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute"], 20).map(lambda pairs: {"target_ref": pairs}),
    config=value.map(as_json),
    pull_secret=name,
    env=st.lists(st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), max_size=3, unique=True).map(tuple),
)
higress = options(of(), **order, config=objects, pull_secret=name)
where = st.fixed_dictionaries({"url": url}) | st.fixed_dictionaries({"file": st.just("/etc/a.wasm")})
envoyfilter = options(
    st.builds(dict.__or__, of(labels), where),
    **matches,
    priority=order["priority"],
    config=st.binary(max_size=50),
    istio=st.sampled_from(["1.27", "1.30"]),
    failure_policy=st.sampled_from(["fail-closed", "fail-open", "fail-reload"]),
)
ways = st.one_of(
    st.tuples(st.just("istio"), st.sampled_from([HTTP, NETWORK]), istio),
    st.tuples(st.just("envoy-gateway"), st.just(HTTP), gateway),
    st.tuples(st.just("higress"), st.just(HTTP), higress),
    st.tuples(st.just("istio-envoyfilter"), st.sampled_from([HTTP, NETWORK]), envoyfilter),
)


@given(ways)
def test_whatever_may_be_typed_the_projects_take_what_comes_of_it(way):
    (document,) = kubernetes.documents(*way)
    assert not resource_schemas.faults(document)
    if CRDS.is_dir():
        assert not faults(crd_of(document), document)
    assert list(yaml.safe_load_all(render([document]))) == [document]
    kubernetes_options.check_name(document["metadata"]["name"], "name")


_read = {}


def crd_of(document):
    kind = document["apiVersion"], document["kind"]
    return _read.setdefault(kind, crd(kind)) if kind not in _read else _read[kind]


# --- what neither takes


def istio_document():
    (made,) = kubernetes.documents(
        "istio", HTTP, ClusterOptions(selector=("app=web",), env=("A=1",), match=("server:80",))
    )
    return made


def policy_document():
    (made,) = kubernetes.documents("envoy-gateway", HTTP, ClusterOptions(target_ref=("Gateway/a",)))
    return made


def filter_document():
    (made,) = kubernetes.documents(
        "istio-envoyfilter", HTTP, ClusterOptions(selector=("app=web",), file="/a")
    )
    return made


def put(path, value):
    """A change of a document: the field at a path of keys gets that value."""

    def change(document):
        *before, last = path
        for key in before:
            document = document[key]
        document[last] = value

    return change


BROKEN = [
    (istio_document, put(("spec", "sha256"), "sha256:" + "2" * 64)),
    (istio_document, put(("spec", "sha256"), 2)),
    (istio_document, put(("spec", "phase"), "AUTH")),
    (istio_document, put(("spec", "failStrategy"), "FAIL_CLOSED")),
    (istio_document, put(("spec", "priority"), "7")),
    (istio_document, put(("spec", "match", 0, "ports", 0, "number"), 65536)),
    (istio_document, put(("spec", "pluginName"), "")),
    (istio_document, put(("spec", "pluginConfig"), [])),
    (istio_document, put(("spec", "vmConfig", "env", 0, "valueFrom"), "FILE")),
    (istio_document, put(("spec", "selector", "matchLabels", "app"), "a" * 64)),
    (istio_document, put(("spec", "colour"), "red")),
    (policy_document, put(("spec", "targetRefs", 0, "name"), "")),
    (policy_document, put(("spec", "wasm", 0, "failOpen"), "no")),
    (policy_document, put(("spec", "wasm", 0, "code", "type"), "ConfigFile")),
    (policy_document, put(("spec", "wasm", 0, "code", "image"), {})),
    (policy_document, put(("spec", "wasm"), [{}] * 17)),
    (filter_document, put(("spec", "configPatches", 0, "applyTo"), "FILTER")),
    (filter_document, put(("spec", "configPatches", 0, "patch", "operation"), "INSERT")),
    (filter_document, put(("spec", "configPatches", 0, "match", "listener", "portNumber"), -1)),
]


@pytest.mark.parametrize(("make", "change"), BROKEN)
def test_a_broken_document_is_refused_by_both(make, change):
    document = make()
    assert not resource_schemas.faults(document)
    change(document)
    assert resource_schemas.faults(document)
    if CRDS.is_dir():
        assert faults(crd_of(document), document)


RULES = [
    (istio_document, put(("spec", "targetRefs"), [{"kind": "Gateway", "name": "a"}]), "only one of selector"),
    (istio_document, put(("spec", "url"), "ftp://a/b"), "the url's scheme"),
    (istio_document, put(("spec", "url"), "registry.example:5000/a/b"), "the url's scheme"),
    (
        istio_document,
        put(("spec", "vmConfig", "env", 0, "valueFrom"), "HOST"),
        "A is the host's, and has a value",
    ),
    (policy_document, put(("spec", "targetRef"), {}), "either targetRef or targetRefs"),
    (policy_document, put(("spec", "wasm", 0, "code", "type"), "HTTP"), "code is of type HTTP"),
    (policy_document, put(("spec", "wasm", 0, "code", "http"), {}), "code is of type Image"),
]


@pytest.mark.parametrize(("make", "change", "said"), RULES)
def test_the_rules_that_no_schema_can_say(make, change, said):
    document = make()
    assert not list(resource_schemas.broken_rules(document))
    change(document)
    assert any(rule.startswith(said) for rule in resource_schemas.broken_rules(document))
