"""The operation `manifest`: from what was typed to the text."""

from __future__ import annotations

import pytest
import yaml
from support import wasm_asm

from scaffold.commands.deploy import deploy
from scaffold.commands.manifest import manifest
from scaffold.core.files import digest
from scaffold.errors import ProjectError, UsageError
from scaffold.kubernetes.options import ClusterOptions

pytestmark = pytest.mark.usefixtures("home")
MODULE = wasm_asm.plugin()
CARGO_TOML = """
[package]
name = "hello_world"
version = "0.1.0"
[lib]
crate-type = ["cdylib"]
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "greeter.wasm"
    path.write_bytes(MODULE)
    return path


def test_a_fleet_without_an_origin_is_said_to_answer_itself(module, said):
    manifest("envoy", str(module), options=ClusterOptions(file="/a.wasm", upstream="http://web:3000"))
    assert said == []
    manifest("envoy", str(module), options=ClusterOptions(file="/a.wasm"))
    (sentence,) = said
    assert "answers every request itself, with 200" in sentence


def test_of_a_modules_file(module):
    bootstrap, resource = yaml.safe_load_all(
        manifest("envoy", str(module), options=ClusterOptions(file="/etc/envoy/a.wasm"))
    )
    assert bootstrap["static_resources"]["listeners"]
    assert resource["resources"][0]["typed_config"]["config"]["name"] == "greeter"
    document = yaml.safe_load(
        manifest(
            "istio",
            str(module),
            options=ClusterOptions(selector=("app=web",), url="https://modules.example/a.wasm"),
        )
    )
    assert document["spec"]["sha256"] == digest(MODULE).removeprefix("sha256:")


def test_what_the_vm_gets_here_alone_is_named(module, tmp_path, said):
    table = '[package.metadata.proxy-wasm]\nenv = ["A=1"]\nvm-configuration = "vm.json"\n'
    (tmp_path / "Cargo.toml").write_text(CARGO_TOML + table)
    where = {"file": "/a.wasm", "upstream": "http://web:3000"}
    manifest("envoy", str(module), root=tmp_path, options=ClusterOptions(**where))
    why = "what the VM gets on this machine isn't in the manifest: pass"
    assert said == [f"{why} --env", f"{why} --vm-config"]
    said.clear()
    options = ClusterOptions(**where, env=("A=2",), vm_config="[1]")
    _, resource = yaml.safe_load_all(manifest("envoy", str(module), root=tmp_path, options=options))
    vm = resource["resources"][0]["typed_config"]["config"]["vm_config"]
    assert (vm["environment_variables"], vm["configuration"]["value"]) == ({"key_values": {"A": "2"}}, "[1]")
    assert said == []


def test_a_failure_policy_that_does_not_suit_the_plugin_is_refused(module, tmp_path):
    """For a module's file of the project; and for the project itself, which isn't built before."""
    table = '[package.metadata.proxy-wasm]\nfailure-policies = ["fail-closed", "fail-reload"]\n'
    (tmp_path / "Cargo.toml").write_text(CARGO_TOML + table)
    where = {"file": "/a.wasm", "upstream": "http://web:3000"}
    failing = ClusterOptions(**where, failure_policy="fail-open")
    for source in (str(module), None):
        with pytest.raises(UsageError, match="fail-open isn't among the `failure-policies` of") as raised:
            manifest("envoy", source, root=tmp_path, options=failing)
        assert (
            raised.value.hint == "pass --failure-policy fail-closed or fail-reload, or add it in Cargo.toml"
        )
    reloading = ClusterOptions(**where, failure_policy="fail-reload")
    assert "FAIL_RELOAD" in manifest("envoy", str(module), root=tmp_path, options=reloading)


WASM_PLUGIN = ("spec", "pluginConfig")
OBJECTS = {
    "istio": ({"selector": ("app=web",)}, WASM_PLUGIN),
    "higress": ({"whole_namespace": True}, WASM_PLUGIN),
    "envoy-gateway": ({"target_ref": ("Gateway/web",)}, ("spec", "wasm", 0, "config")),
}


@pytest.mark.parametrize("target", OBJECTS)
def test_a_configuration_in_yaml_is_the_object_that_a_control_plane_takes(module, tmp_path, target):
    where, place = OBJECTS[target]
    (tmp_path / "c.yaml").write_text("realm: shop  # whose keys\nkeys: [a, b]\n")
    options = ClusterOptions(**where, url="https://a.example/a.wasm", config=str(tmp_path / "c.yaml"))
    found = yaml.safe_load(manifest(target, str(module), options=options))
    for key in place:
        found = found[key]
    assert found == {"realm": "shop", "keys": ["a", "b"]}


def test_it_goes_into_a_file(module, tmp_path):
    text = manifest("envoy", str(module), options=ClusterOptions(file="/a.wasm"))
    assert (
        manifest("envoy", str(module), options=ClusterOptions(file="/a.wasm"), out=tmp_path / "all.yaml")
        == tmp_path / "all.yaml"
    )
    assert (tmp_path / "all.yaml").read_text() == f"{text}\n"


def test_options_are_judged_before_anything_is_built(tmp_path):
    """There is no source here that could be."""
    (tmp_path / "Cargo.toml").write_text(CARGO_TOML)
    with pytest.raises(UsageError, match="no image is named"):
        manifest("istio", root=tmp_path, options=ClusterOptions(selector=("app=web",)))
    with pytest.raises(UsageError, match=r"needs Envoy 1\.22"):
        manifest("envoy", root=tmp_path, options=ClusterOptions(file="/a.wasm", envoy="1.21"))


def test_neither_a_project_nor_an_image(tmp_path):
    with pytest.raises(ProjectError, match=r"no Cargo\.toml"):
        manifest("envoy", root=tmp_path, options=ClusterOptions(file="/a.wasm"))


def test_an_unknown_target_comes_before_everything_else():
    with pytest.raises(UsageError, match="no target named `isto`"):
        manifest("isto", "no such image at all")


def test_a_plain_fleet_has_no_cluster(tmp_path):
    with pytest.raises(UsageError, match="--selector isn't supported for `envoy`"):
        deploy(tmp_path, target="envoy", cluster=ClusterOptions(selector=("app=web",)))
