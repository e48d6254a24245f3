"""The manifests of every target: whole ones against golden files, and what a version can't take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.pins import HTTP, INFO, MANIFEST, MODULE, NETWORK, SERVICE, image

from scaffold.errors import UsageError
from scaffold.kubernetes import documents as kubernetes
from scaffold.kubernetes.documents import render
from scaffold.kubernetes.options import ClusterOptions
from scaffold.oci.spec import ImageError

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests"
URL = "https://modules.example/hello.wasm"
APP = ("app=web",)
EVERY_FIELD = {
    "name": "greeter",
    "namespace": "shop",
    "phase": "authz",
    "priority": 7,
    "match": ("server:8080,8443", "client"),
    "pull_secret": "registry",
    "env": ("LEVEL=1", "HOSTNAME"),
}
# a target and the first version that takes all of it -> the plugin, and what is said of it
CASES = {
    "istio-1.12": (HTTP, {"istio": "1.12", "selector": APP}),
    "istio-1.16": (HTTP, {"istio": "1.16", "selector": APP, **EVERY_FIELD}),
    "istio-1.19": (HTTP, {"istio": "1.19", "selector": APP, "failure_policy": "fail-open"}),
    "istio-1.20": (NETWORK, {"istio": "1.20", "whole_namespace": True, "match": ("server:9000",)}),
    "istio-1.22": (HTTP, {"istio": "1.22", "target_ref": ("Gateway/public", "Service/web")}),
    "istio-1.27": (HTTP, {"istio": "1.27", "selector": APP, "failure_policy": "fail-reload"}),
    "istio-1.30": (HTTP, {"istio": "1.30", "selector": APP, "traffic_extension": True, **EVERY_FIELD}),
    "istio-url-1.30": (HTTP, {"istio": "1.30", "selector": APP, "url": URL}),
    "istio-envoyfilter-1.9": (HTTP, {"istio": "1.9", "selector": APP, "file": "/var/hello.wasm"}),
    "istio-envoyfilter-1.20": (NETWORK, {"istio": "1.20", "selector": APP, "url": URL, "priority": 7}),
    "istio-envoyfilter-1.25": (
        HTTP,
        {
            "istio": "1.25",
            "selector": APP,
            "url": URL,
            "failure_policy": "fail-reload",
            "env": ("LEVEL=1", "HOSTNAME"),
        },
    ),
    "istio-envoyfilter-1.27": (
        HTTP,
        {
            "istio": "1.27",
            "selector": APP,
            "url": URL,
            "allow_stop_iteration": True,
            "match": ("client:80",),
        },
    ),
    "envoy-gateway-1.3": (
        HTTP,
        {"target_ref": ("Gateway/public", "HTTPRoute/web"), "pull_secret": "registry", "env": ("HOSTNAME",)},
    ),
    "envoy-gateway-url-1.1": (
        HTTP,
        {"target_ref": ("HTTPRoute/web",), "url": URL, "failure_policy": "fail-open"},
    ),
    "higress-2.2": (HTTP, {"whole_namespace": True, "phase": "authn", "priority": 7, "env": ("LEVEL=1",)}),
    "envoy-1.22": (HTTP, {"envoy": "1.22", "file": "/etc/envoy/hello.wasm"}),
    "envoy-1.35": (
        HTTP,
        {
            "envoy": "1.35",
            "url": URL,
            "upstream": "http://web:3000",
            "allow_stop_iteration": True,
            "failure_policy": "fail-reload",
        },
    ),
}


def target_of(case):
    return case.rpartition("-")[0].removesuffix("-url")


def made(case):
    pin, options = CASES[case]
    return kubernetes.documents(target_of(case), pin, ClusterOptions(**options))


def plugin(document):
    spec = document["spec"]
    return spec["wasm"] if document["kind"] == "TrafficExtension" else spec


@pytest.mark.parametrize("case", CASES)
def test_the_manifest_is_the_golden_one(case):
    assert render(made(case)) == (GOLDEN / f"{case}.yaml").read_text()


def test_every_golden_manifest_is_a_case():
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)
    assert {target_of(case) for case in CASES} == set(kubernetes.MANIFESTS)


@pytest.mark.parametrize("case", CASES)
def test_yaml_reads_back_as_what_was_meant(case):
    """By YAML 1.1 here; that 1.2 agrees, the quotes see to."""
    assert list(yaml.safe_load_all(render(made(case)))) == made(case)


# --- whose it is

BARE = replace(HTTP, image=None)
SOURCE = "https://git.example/acme/hello"


@pytest.mark.parametrize(
    ("pin", "options", "project"),
    [
        (HTTP, {}, "registry.example/acme/hello_world"),
        (HTTP, {"url": URL}, "registry.example/acme/hello_world"),
        (replace(HTTP, info=replace(INFO, source=SOURCE)), {"url": URL}, "registry.example/acme/hello_world"),
        (replace(HTTP, image=image(name="hello_world:1")), {"url": URL}, f"{URL}#hello_world"),
        (BARE, {"url": URL}, f"{URL}#hello_world"),
        (replace(BARE, info=replace(INFO, source=SOURCE)), {"url": URL}, f"{SOURCE}#hello_world"),
    ],
)
def test_a_resource_says_whose_it_is_and_goes_on_to_in_the_next_version(pin, options, project):
    (document,) = kubernetes.documents("istio", pin, ClusterOptions(selector=APP, **options))
    assert document["metadata"]["annotations"]["proxy-wasm.scaffold/project"] == project


def test_a_fleets_upstream_may_speak_grpc():
    bootstrap, _ = kubernetes.documents("envoy", HTTP, ClusterOptions(file="/a", upstream="grpc://web:50051"))
    (cluster,) = bootstrap["static_resources"]["clusters"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"] == {"http2_protocol_options": {}}


def test_a_fleets_upstream_may_have_a_name_beyond_ascii():
    bootstrap, _ = kubernetes.documents(
        "envoy", HTTP, ClusterOptions(file="/a", upstream="https://bücher.example")
    )
    assert '"address": "xn--bcher-kva.example", "port_value": 443' in json.dumps(bootstrap)


# --- the two digests


@pytest.mark.parametrize("case", [case for case in CASES if "pull_secret" in CASES[case][1]])
def test_an_image_is_pinned_by_its_manifest(case):
    (document,) = made(case)
    text = json.dumps(document["spec"])
    assert MANIFEST.removeprefix("sha256:") in text
    assert f"registry.example/acme/hello_world@{MANIFEST}" in text
    assert ":0.1.0" not in text, "a tag can move"
    assert MODULE.removeprefix("sha256:") not in text


@pytest.mark.parametrize("case", [case for case in CASES if "url" in CASES[case][1]])
def test_an_http_source_is_pinned_by_the_module(case):
    documents = made(case)
    text = json.dumps([document.get("spec", document) for document in documents])
    assert MODULE.removeprefix("sha256:") in text
    assert MANIFEST.removeprefix("sha256:") not in text


def test_digests_are_quoted():
    text = render(made("istio-1.12"))
    assert f'\n  sha256: "{"2" * 64}"\n' in text
    assert f'sha256: "{"1e" * 32}"\n' in render(made("istio-envoyfilter-1.27"))


@pytest.mark.parametrize(
    "word", ["y", "No", "on", "1e3", "0o17", "~", "", "a: b", "- a", "é", "\x07", "123", "null"]
)
def test_a_text_that_a_reader_may_take_for_something_else_is_quoted(word):
    text = render([{"key": word, word: "value"}])
    assert text.startswith('key: "')
    assert text.splitlines()[1].removeprefix("? ").startswith('"')
    assert yaml.safe_load(text) == {"key": word, word: "value"}


def test_docker_hub_is_spelt_out():
    pin = replace(HTTP, image=image(name="acme/hello:1"))
    (document,) = kubernetes.documents("istio", pin, ClusterOptions(selector=APP))
    assert document["spec"]["url"] == f"oci://docker.io/acme/hello@{MANIFEST}"


# --- what counts where nothing is said, and where something is


def test_what_is_said_comes_before_what_the_image_says():
    options = ClusterOptions(selector=APP, config=b'{"a": 1}', root_id="other")
    (document,) = kubernetes.documents("istio", HTTP, options)
    assert (document["spec"]["pluginConfig"], document["spec"]["pluginName"]) == ({"a": 1}, "other")
    options = ClusterOptions(selector=APP, config=b"", root_id="")
    (document,) = kubernetes.documents("istio", HTTP, options)
    assert not {"pluginConfig", "pluginName"} & set(document["spec"])


@pytest.mark.parametrize(
    ("target", "options", "field", "policies"),
    [
        ("istio", {"selector": APP}, "failStrategy", ("FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD")),
        ("higress", {"whole_namespace": True}, "failStrategy", ("FAIL_CLOSE", "FAIL_OPEN")),
        ("envoy-gateway", {"target_ref": ("Gateway/a",)}, "failOpen", (False, True)),
        (
            "istio-envoyfilter",
            {"selector": APP, "file": "/a.wasm"},
            "failure_policy",
            ("FAIL_CLOSED", "FAIL_OPEN", "FAIL_RELOAD"),
        ),
        (
            "istio-envoyfilter",
            {"selector": APP, "file": "/a.wasm", "istio": "1.24"},
            "fail_open",
            (False, True),
        ),
    ],
)
def test_what_happens_on_failure_is_always_stated(target, options, field, policies):
    for said, written in zip(("fail-closed", "fail-open", "fail-reload"), policies, strict=False):
        text = render(kubernetes.documents(target, HTTP, ClusterOptions(**options, failure_policy=said)))
        assert f"{field}: {str(written).lower() if isinstance(written, bool) else written}\n" in text


@pytest.mark.parametrize("pin", [HTTP, NETWORK], ids=["http", "network"])
@pytest.mark.parametrize("source", [{"url": URL}, {"file": "/a.wasm"}], ids=["url", "file"])
def test_the_highest_priority_comes_first_in_an_envoyfilter_too_and_the_last_filter_stays_last(pin, source):
    """Envoy refuses a listener whose router, or TCP proxy, isn't the last."""
    filters = [
        document
        for name, priority in (("one", 1), ("nine", 9), ("five", 5), ("none", None))
        for document in kubernetes.documents(
            "istio-envoyfilter",
            pin,
            ClusterOptions(name=name, namespace="a", selector=APP, priority=priority, **source),
        )
    ]
    chain = ["envoy.filters.http.rbac", "envoy.filters.http.router"]
    if pin is NETWORK:
        chain = ["envoy.filters.network.tcp_proxy"]
    found = patched(chain, filters)
    assert [name for name in found if name.startswith("a.")] == ["a.nine", "a.five", "a.one", "a.none"]
    assert found[-1] == chain[-1]


def patched(chain, envoy_filters):
    """A chain of filters as Istio patches it: pilot/pkg/networking/core/envoyfilter/listener_patch.go."""
    for document in sorted(envoy_filters, key=lambda each: each["spec"].get("priority", 0)):
        for one in document["spec"]["configPatches"]:
            name = one["patch"]["value"]["name"]
            if one["applyTo"] == "EXTENSION_CONFIG":
                continue
            match one["patch"]["operation"]:
                case "ADD":  # whatever the filter class
                    chain = [*chain, name]
                case "INSERT_FIRST":
                    chain = [name, *chain]
                case "INSERT_BEFORE":
                    before = one["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
                    place = chain.index(before)
                    chain = [*chain[:place], name, *chain[place:]]
    return chain


def test_another_module_at_the_same_path_is_another_vm():
    """Envoy would not read the file again."""

    def vm_id(pin):
        options = ClusterOptions(selector=APP, file="/var/hello.wasm")
        (document,) = kubernetes.documents("istio-envoyfilter", pin, options)
        value = document["spec"]["configPatches"][0]["patch"]["value"]
        return value["typed_config"]["config"]["vm_config"]["vm_id"]

    assert vm_id(HTTP) != vm_id(replace(HTTP, module_digest=MANIFEST))


@pytest.mark.parametrize(("upstream", "last"), [("http://web:3000", "tcp_proxy"), (None, "echo")])
def test_a_fleet_has_a_network_filter_before_the_end_of_its_chain(upstream, last):
    bootstrap, resource = kubernetes.documents(
        "envoy", NETWORK, ClusterOptions(file="/a.wasm", upstream=upstream)
    )
    (listener,) = bootstrap["static_resources"]["listeners"]
    ours, end = listener["filter_chains"][0]["filters"]
    kind = resource["resources"][0]["typed_config"]["@type"]
    assert ours["config_discovery"]["type_urls"] == [kind]
    assert kind.endswith("/envoy.extensions.filters.network.wasm.v3.Wasm")
    assert end["name"] == f"envoy.filters.network.{last}"


def test_a_fleet_sees_a_change_of_the_configuration():
    """By `version_info`."""

    def version(**options):
        made = kubernetes.documents("envoy", HTTP, ClusterOptions(file="/a.wasm", **options))
        return made[1]["version_info"]

    assert version() == version() != version(config=b"other")


def test_old_istio_lets_traffic_pass_while_it_cannot_download():
    assert kubernetes.warnings("istio", ClusterOptions(istio="1.24"))
    assert not kubernetes.warnings("istio", ClusterOptions(istio="1.24", failure_policy="fail-open"))
    assert not kubernetes.warnings("istio", ClusterOptions(istio="1.25"))
    assert kubernetes.warnings("istio-envoyfilter", ClusterOptions(istio="1.24", url=URL))
    assert not kubernetes.warnings("istio-envoyfilter", ClusterOptions(istio="1.24", file="/a.wasm"))
    assert not kubernetes.warnings("higress", ClusterOptions())


# --- what can't be

ANY = {"selector": APP}
FILE = {"selector": APP, "file": "/a.wasm"}
TOO_OLD = [
    ("istio", HTTP, {**ANY, "istio": "1.11"}, "a WasmPlugin needs Istio 1.12"),
    (
        "istio",
        HTTP,
        {**ANY, "istio": "1.15", "match": ("server",)},
        "--match in a WasmPlugin needs Istio 1.16",
    ),
    ("istio", HTTP, {**ANY, "istio": "1.13", "env": ("A=1",)}, "--env in a WasmPlugin needs Istio 1.14"),
    (
        "istio",
        HTTP,
        {**ANY, "istio": "1.18", "failure_policy": "fail-open"},
        "fail-open in a WasmPlugin needs Istio 1.19",
    ),
    ("istio", NETWORK, {**ANY, "istio": "1.19"}, "a network filter in a WasmPlugin needs Istio 1.20"),
    (
        "istio",
        HTTP,
        {"target_ref": ("Gateway/a",), "istio": "1.21"},
        "--target-ref in a WasmPlugin needs Istio 1.22",
    ),
    (
        "istio",
        HTTP,
        {**ANY, "istio": "1.26", "failure_policy": "fail-reload"},
        "fail-reload in a WasmPlugin needs Istio 1.27",
    ),
    (
        "istio",
        HTTP,
        {**ANY, "istio": "1.29", "traffic_extension": True},
        "a TrafficExtension needs Istio 1.30",
    ),
    ("istio-envoyfilter", HTTP, {**FILE, "istio": "1.8"}, "a wasm filter of the v3 API needs Istio 1.9"),
    (
        "istio-envoyfilter",
        HTTP,
        {**FILE, "istio": "1.10", "priority": 7},
        "--priority in an EnvoyFilter needs Istio 1.11",
    ),
    (
        "istio-envoyfilter",
        NETWORK,
        {**ANY, "url": URL, "istio": "1.19"},
        "a network filter from an http source needs Istio 1.20",
    ),
    ("istio-envoyfilter", HTTP, {**FILE, "istio": "1.9", "env": ("A=1",)}, "--env needs Envoy 1.18"),
    (
        "istio-envoyfilter",
        HTTP,
        {**FILE, "istio": "1.24", "failure_policy": "fail-reload"},
        "fail-reload needs Envoy 1.33",
    ),
    (
        "istio-envoyfilter",
        HTTP,
        {**FILE, "istio": "1.26", "allow_stop_iteration": True},
        "allow_on_headers_stop_iteration needs Envoy 1.35",
    ),
    (
        "envoy",
        HTTP,
        {"file": "/a.wasm", "envoy": "1.21"},
        "a filter that is read from a file needs Envoy 1.22",
    ),
    (
        "envoy",
        NETWORK,
        {"file": "/a.wasm", "envoy": "1.27"},
        "a network filter that is read from a file needs Envoy 1.28",
    ),
]


@pytest.mark.parametrize(("target", "pin", "options", "message"), TOO_OLD, ids=[case[3] for case in TOO_OLD])
def test_what_a_version_cannot_take_names_the_version_that_can(target, pin, options, message):
    with pytest.raises(UsageError) as caught:
        kubernetes.documents(target, pin, ClusterOptions(**options))
    product, version = message.split()[-2:]
    assert caught.value.message.startswith(f"{message}, and this is for 1.")
    assert f"--{product.lower()} {version}" in caught.value.hint
    named = {"istio": version} if product == "Istio" else {"envoy": version}
    assert kubernetes.documents(target, pin, ClusterOptions(**{**options, **named}))


def test_the_envoy_that_runs_counts_and_not_the_one_that_comes_with_istio():
    options = ClusterOptions(**FILE, istio="1.27", envoy="1.34", allow_stop_iteration=True)
    with pytest.raises(UsageError, match=r"needs Envoy 1\.35, and this is for 1\.34"):
        kubernetes.documents("istio-envoyfilter", HTTP, options)


REFUSED = [
    ("istio", HTTP, {}, "it would apply to every proxy in `default`", "--whole-namespace"),
    ("istio", HTTP, {"namespace": "istio-system"}, "to the whole mesh", "--selector"),
    (
        "istio-envoyfilter",
        HTTP,
        {"file": "/a"},
        "it would apply to every proxy in `default`",
        "--sel",
    ),
    ("envoy-gateway", HTTP, {}, "Envoy Gateway needs a target", "--target-ref"),
    ("higress", HTTP, {}, "Higress has no selector", "--whole-namespace"),
    ("envoy-gateway", HTTP, {"selector": APP}, "--selector isn't supported for", "--target-ref"),
    (
        "istio",
        HTTP,
        {**ANY, "allow_stop_iteration": True},
        "--allow-stop-iteration isn't supported",
        "istio-envoyfilter",
    ),
    ("istio", HTTP, {**ANY, "file": "/a"}, "--file isn't supported", "istio-envoyfilter"),
    (
        "istio-envoyfilter",
        HTTP,
        {"target_ref": ("Gateway/a",), "file": "/a"},
        "--target-ref",
        "gateway-name=NAME",
    ),
    ("istio-envoyfilter", HTTP, ANY, "from a URL or a mounted file", "--url"),
    ("istio-envoyfilter", HTTP, {**FILE, "phase": "authn"}, "--phase isn't supported", "target `istio`"),
    ("istio-envoyfilter", NETWORK, {**FILE, "allow_stop_iteration": True}, "for HTTP plugins", None),
    (
        "envoy-gateway",
        HTTP,
        {"target_ref": ("Service/a",)},
        "attach a plugin to a `Service`",
        "HTTPRoute",
    ),
    ("istio", HTTP, {"target_ref": ("HTTPRoute/a",)}, "can't attach a plugin to a `HTTPRoute`", "Gateway"),
    ("istio", HTTP, {"target_ref": tuple(f"Service/s{n}" for n in range(17))}, "17 target references", "16"),
    ("envoy-gateway", HTTP, {"target_ref": ("Gateway/a",), "env": ("A=1",)}, "can't set A", "--env A"),
    (
        "envoy-gateway",
        HTTP,
        {"target_ref": ("Gateway/a",), "failure_policy": "fail-reload"},
        "no fail-reload",
        "fail-closed",
    ),
    (
        "higress",
        HTTP,
        {"whole_namespace": True, "failure_policy": "fail-reload"},
        "no fail-reload",
        "fail-closed",
    ),
    (
        "envoy-gateway",
        NETWORK,
        {"target_ref": ("Gateway/a",)},
        "run a plugin of type `network`",
        "istio",
    ),
    ("higress", NETWORK, {"whole_namespace": True}, "run a plugin of type `network`", "istio"),
    ("istio", SERVICE, ANY, "can't run a plugin of type `service`", "bootstrap"),
    ("envoy", HTTP, {"selector": APP, "file": "/a"}, "--selector isn't supported", "for Kubernetes"),
    ("istio", HTTP, {**ANY, "config": b"[1]"}, "isn't a JSON object", "{...}"),
    ("istio", HTTP, {**ANY, "config": b"\xff"}, "isn't JSON", "istio-envoyfilter"),
    ("istio", HTTP, {**ANY, "config": b'{"a": NaN}'}, "isn't JSON", "istio-envoyfilter"),
    ("istio", HTTP, {**ANY, "config": b'{"a": 1e999}'}, "isn't JSON", "istio-envoyfilter"),
    ("istio", HTTP, {**ANY, "config": b'{"a": "\\ud800"}'}, "isn't JSON", "istio-envoyfilter"),
    ("istio", HTTP, {**ANY, "config": b"[" * 100_000}, "isn't JSON", "istio-envoyfilter"),
    ("istio", HTTP, {**ANY, "env": tuple(f"V{n}=1" for n in range(257))}, "257 environment variables", "256"),
    (
        "istio-envoyfilter",
        HTTP,
        {"selector": tuple(f"l{n}=a" for n in range(257)), "file": "/a"},
        "a selector of 257 labels",
        "256",
    ),
    ("istio", HTTP, {**ANY, "root_id": "a\nb"}, "isn't one line of at most 256 characters", "--root-id"),
    ("istio", HTTP, {**ANY, "root_id": "a" * 257}, "isn't one line of at most 256 characters", "--root-id"),
    ("istio", replace(HTTP, image=None), ANY, "no image is named", "scaffold push"),
    (
        "istio",
        replace(HTTP, image=image(name="hello:1")),
        ANY,
        "doesn't name a registry",
        "scaffold tag hello:1",
    ),
    ("istoi", HTTP, ANY, "no target named `istoi`", "`istio`"),
]


@pytest.mark.parametrize(("target", "pin", "options", "message", "hint"), REFUSED)
def test_what_a_target_cannot_express_is_refused_with_what_to_do_instead(target, pin, options, message, hint):
    with pytest.raises(UsageError) as caught:
        kubernetes.documents(target, pin, ClusterOptions(**options))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint is None or hint in caught.value.hint


@pytest.mark.parametrize("target", ["istio", "envoy-gateway", "higress"])
@pytest.mark.parametrize("variant", ["cncf", "wasm-to-oci", "artifact", "oci, with 3 layers"])
def test_an_image_that_a_target_cannot_load_says_its_layout_and_the_remedy(target, variant):
    scope = {
        "istio": ANY,
        "envoy-gateway": {"target_ref": ("Gateway/a",)},
        "higress": {"whole_namespace": True},
    }
    pin = replace(HTTP, image=image(variant))
    with pytest.raises(ImageError) as caught:
        kubernetes.documents(target, pin, ClusterOptions(**scope[target]))
    assert f"is of the variant `{variant}`, which `{target}` can't load" in caught.value.message
    assert "scaffold package --variant compat" in caught.value.hint
    assert kubernetes.documents(target, pin, ClusterOptions(**scope[target], url=URL)), (
        "the image isn't needed"
    )


@pytest.mark.parametrize("variant", ["multi-layer compat", "hybrid"])
def test_several_layers_load_since_istio_1_16(variant):
    pin = replace(HTTP, image=image(variant))
    with pytest.raises(UsageError, match=r"an image of several layers needs Istio 1\.16"):
        kubernetes.documents("istio", pin, ClusterOptions(selector=APP, istio="1.15"))
    assert kubernetes.documents("istio", pin, ClusterOptions(selector=APP, istio="1.16"))
    assert kubernetes.documents("envoy-gateway", pin, ClusterOptions(target_ref=("Gateway/a",)))


# --- limits, and directions


def test_a_root_id_may_have_256_characters():
    kept = {"istio": "1.30", "selector": APP}
    (made,) = kubernetes.documents("istio", HTTP, ClusterOptions(root_id="r" * 256, **kept))
    assert made["spec"]["pluginName"] == "r" * 256
    with pytest.raises(UsageError, match="isn't one line of at most 256 characters"):
        kubernetes.documents("istio", HTTP, ClusterOptions(root_id="r" * 257, **kept))


def test_a_wasm_plugin_may_have_16_target_references():
    refs = tuple(f"Gateway/g{number}" for number in range(17))
    (made,) = kubernetes.documents("istio", HTTP, ClusterOptions(target_ref=refs[:16]))
    assert len(made["spec"]["targetRefs"]) == 16
    with pytest.raises(UsageError, match="17 target references are too many"):
        kubernetes.documents("istio", HTTP, ClusterOptions(target_ref=refs))


def test_traffic_to_a_server_comes_in_and_that_of_a_client_goes_out():
    kept = {"istio": "1.30", "selector": APP, "url": URL}
    for mode, contexts in (
        ("server", ["SIDECAR_INBOUND"]),
        ("client", ["SIDECAR_OUTBOUND", "GATEWAY"]),
        ("both", ["ANY"]),
    ):
        options = ClusterOptions(match=(f"{mode}:80",), **kept)
        (made,) = kubernetes.documents("istio-envoyfilter", HTTP, options)
        matches = [each["match"] for each in made["spec"]["configPatches"] if "match" in each]
        assert [each["context"] for each in matches] == contexts


@pytest.mark.parametrize(("policy", "opens"), [("fail-closed", False), ("fail-open", True)])
def test_a_plugin_that_fails_lets_traffic_pass_only_where_that_is_asked_for(policy, opens):
    gateway = ClusterOptions(target_ref=("Gateway/public",), failure_policy=policy)
    (made,) = kubernetes.documents("envoy-gateway", HTTP, gateway)
    assert made["spec"]["wasm"][0]["failOpen"] is opens
    early = ClusterOptions(istio="1.20", selector=APP, file="/a.wasm", failure_policy=policy)
    (made,) = kubernetes.documents("istio-envoyfilter", HTTP, early)
    (patch,) = made["spec"]["configPatches"]
    assert patch["patch"]["value"]["typed_config"]["config"]["fail_open"] is opens
