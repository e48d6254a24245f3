"""What the manifests have Envoy do, read and run by a real Envoy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support import wasm_asm
from support.pins import HTTP, NETWORK

from scaffold.core.files import digest
from scaffold.errors import ProjectError
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy import local as envoy
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.kubernetes import documents as kubernetes
from scaffold.kubernetes import envoy as fleet
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pinned_plugin import ModuleDigest
from scaffold.project.envoy_clusters import Address

URL = "http://modules.example/plugin.wasm"
EVERY_FIELD = {
    "env": ("LEVEL=1", "HOSTNAME"),
    "config": b'{"greeting": "\xc3\xb6"}',
    "failure_policy": "fail-reload",
    "envoy": "1.36",
}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.wasm"
    path.write_bytes(wasm_asm.plugin())
    return path


@pytest.fixture
def taken(tmp_path: Path):
    """Let Envoy read a whole configuration. Raises `ProjectError` when it refuses it."""

    def read(config: envoy_config.Config) -> None:
        path = tmp_path / "envoy.json"
        path.write_text(json.dumps(config))
        assert envoy.validate(envoys.find(), path, "of the test") is None

    return read


def around(document: dict, kind: str) -> envoy_config.Config:
    """The configuration that an EnvoyFilter's patches make of an Envoy with one listener."""
    values = [patch["patch"]["value"] for patch in document["spec"]["configPatches"]]
    (config,) = (value["typed_config"] for value in values if "typed_config" in value)
    slot = {"name": values[-1]["name"], "typed_config": config}
    listener = envoy_config.listener(
        host="127.0.0.1", port=0, filters=[slot] if kind == "http" else [], answer="ok"
    )
    if kind == "network":
        listener["filter_chains"][0]["filters"].insert(0, slot)
    return envoy_config.bootstrap(listeners=[listener], clusters=[])


@pytest.mark.parametrize("pin", [HTTP, NETWORK], ids=["http", "network"])
@pytest.mark.parametrize("source", ["url", "file"])
@pytest.mark.parametrize("more", [{}, {"istio": "1.20"}, EVERY_FIELD], ids=["plain", "old", "every field"])
def test_envoy_takes_what_an_envoyfilter_puts_into_it(taken, module, pin, source, more):
    where = {"url": URL} if source == "url" else {"file": str(module)}
    options = ClusterOptions(whole_namespace=True, **where, **more)
    if pin is HTTP and more is EVERY_FIELD:
        options = replace(options, allow_stop_iteration=True)
    (document,) = kubernetes.documents("istio-envoyfilter", pin, options)
    taken(around(document, pin.info.type))


def test_envoy_refuses_what_is_wrong(taken, module):
    """So a yes above means something."""
    (document,) = kubernetes.documents(
        "istio-envoyfilter", HTTP, ClusterOptions(whole_namespace=True, file=str(module))
    )
    config = document["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["config"]
    config["fail_policy"] = "FAIL_CLOSED"
    with pytest.raises(ProjectError, match="fail_policy"):
        taken(around(document, "http"))
    del config["fail_policy"]
    module.unlink()
    with pytest.raises(ProjectError, match=re.escape(module.name)):
        taken(around(document, "http"))


def test_a_slot_that_waits_for_its_filter_is_one_that_envoy_knows(taken):
    """Its `ads` is the mesh's, which isn't here: a source of another kind stands in for it."""
    (document,) = kubernetes.documents(
        "istio-envoyfilter", HTTP, ClusterOptions(whole_namespace=True, url=URL)
    )
    resource, insertion = document["spec"]["configPatches"]
    slot = insertion["patch"]["value"]
    assert slot["name"] == resource["patch"]["value"]["name"]
    assert slot["config_discovery"]["type_urls"] == [resource["patch"]["value"]["typed_config"]["@type"]]
    bootstrap = envoy_config.bootstrap(
        listeners=[envoy_config.listener(host="127.0.0.1", port=0, filters=[slot], answer="ok")], clusters=[]
    )
    server = {"envoy_grpc": {"cluster_name": "mesh"}}
    bootstrap["dynamic_resources"] = {
        "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [server]}
    }
    bootstrap["static_resources"]["clusters"] = [envoy_config.cluster("mesh", Address("127.0.0.1", 1))]
    taken(bootstrap)


@pytest.mark.parametrize("pin", [HTTP, NETWORK], ids=["http", "network"])
@pytest.mark.parametrize("more", [{}, {"envoy": "1.32"}, EVERY_FIELD], ids=["plain", "old", "every field"])
def test_envoy_takes_a_fleets_bootstrap_with_its_resource(taken, module, tmp_path, pin, more):
    """But for the resource's path, which is one of the fleet's machines."""
    pin = replace(pin, module_digest=ModuleDigest(digest(module.read_bytes())))
    options = ClusterOptions(file=str(module), upstream="http://web:3000", **more)
    bootstrap, resource = kubernetes.documents("envoy", pin, options)
    local = tmp_path / "filter.yaml"
    local.write_text(json.dumps(resource))
    text = json.dumps(bootstrap)
    assert fleet.RESOURCE in text
    taken(json.loads(text.replace(fleet.RESOURCE, str(local))))
    (found,) = resource["resources"]
    static = {"name": found["name"], "typed_config": found["typed_config"]}
    if pin.info.type == "network":
        listener = envoy_config.tcp_listener(host="127.0.0.1", port=0, filters=[static], echo=True)
    else:
        listener = envoy_config.listener(host="127.0.0.1", port=0, filters=[static], answer="ok")
    taken(envoy_config.bootstrap(listeners=[listener], clusters=[]))


@pytest.mark.skipif(not Path(fleet.AUTHORITIES).exists(), reason="no such authorities here")
def test_envoy_takes_a_fleet_that_downloads_over_tls(taken, tmp_path):
    bootstrap, resource = kubernetes.documents(
        "envoy", HTTP, ClusterOptions(url=URL.replace("http:", "https:"))
    )
    local = tmp_path / "filter.yaml"
    local.write_text(json.dumps(resource))
    taken(json.loads(json.dumps(bootstrap).replace(fleet.RESOURCE, str(local))))
