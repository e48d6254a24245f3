"""The operation `manifest`: from what was typed to the text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from support import wasm_asm
from support.faulty_registry import faulty

from scaffold.commands.deploy import deploy
from scaffold.commands.manifest import manifest
from scaffold.commands.push import push
from scaffold.errors import UsageError
from scaffold.hosts.options import RunOptions
from scaffold.kubernetes.options import ClusterOptions
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS

pytestmark = pytest.mark.usefixtures("home")
MODULE = wasm_asm.plugin()
CRATE = '[package]\nname = "{}"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'


@pytest.fixture
def pushed():
    """An image that is in a registry: its name, and its manifest's digest."""
    with faulty() as registry:
        name = f"{registry.name}/acme/hello:1"
        Store().add(VARIANTS["compat"](MODULE, PluginInfo("hello_world")), Reference.parse(name))
        yield name, push(name).manifest_digest


def test_of_an_image(pushed):
    name, pinned = pushed
    document = yaml.safe_load(
        manifest("istio", name, options=ClusterOptions(selector=("app=web",), namespace="shop"))
    )
    assert document["metadata"]["namespace"] == "shop"
    assert document["spec"]["sha256"] == pinned.removeprefix("sha256:")


def test_the_project_of_an_image_says_which_failure_policies_suit_it(pushed, tmp_path):
    table = '[package.metadata.proxy-wasm]\nfailure-policies = ["fail-open"]\n'
    options = ClusterOptions(selector=("app=web",))
    for package, refused in (("hello_world", True), ("another", False)):
        (tmp_path / "Cargo.toml").write_text(CRATE.format(package) + table)
        if refused:
            with pytest.raises(UsageError, match="fail-closed isn't among the"):
                manifest("istio", pushed[0], options=options, root=tmp_path)
        else:
            assert "FAIL_CLOSE" in manifest("istio", pushed[0], options=options, root=tmp_path)


def test_what_does_not_fit_the_schema_of_an_image_in_a_registry_is_never_applied(here):
    with faulty() as registry:
        name = f"{registry.name}/acme/hello:1"
        metadata = PluginInfo(
            "hello", configuration='{"a": 1}', schema='{"properties": {"a": {"type": "null"}}}'
        )
        Store().add(VARIANTS["compat"](MODULE, metadata), Reference.parse(name))
        push(name)
        with pytest.raises(
            ImageError, match=r"the image's configuration does not match config\.schema\.json: a: 1"
        ):
            deploy(target="istio", module=name, cluster=ClusterOptions(selector=("app=web",)))
        with pytest.raises(UsageError, match=r"--config does not match config\.schema\.json: a: 2"):
            deploy(
                target="istio",
                module=name,
                cluster=ClusterOptions(selector=("app=web",)),
                run=RunOptions(config='{"a": 2}'),
            )
        assert here.changes() == []
        deploy(
            target="istio",
            module=name,
            cluster=ClusterOptions(selector=("app=web",), wait=0),
            run=RunOptions(config='{"a": null}'),
        )
    assert here.named("hello")["spec"]["pluginConfig"] == {"a": None}


def test_a_registry_on_this_machine_is_none_for_a_cluster(pushed, said):
    name, _ = pushed
    sentence = f"{name.partition('/')[0]} is a registry on this machine: in a cluster that name means"
    manifest(
        "istio", name, options=ClusterOptions(selector=("app=web",), url="https://modules.example/a.wasm")
    )
    assert not [text for text in said if "a registry on this machine" in text]
    manifest("istio", name, options=ClusterOptions(selector=("app=web",)))
    assert [text for text in said if text.startswith(sentence)]


def test_it_is_deployed_as_it_is_printed(here, pushed, tmp_path):
    name, pinned = pushed
    options = ClusterOptions(selector=("app=web",), namespace="shop")
    made = deploy(tmp_path, target="istio", module=name, cluster=replace(options, wait=0))
    assert made.manifest_digest == pinned
    printed = yaml.safe_load(
        manifest("istio", name, options=ClusterOptions(selector=("app=web",), namespace="shop"))
    )
    assert yaml.safe_load(here.changes()[0].body) == printed


def test_nothing_is_applied_that_was_not_pushed(here, tmp_path):
    with faulty() as registry:
        name = f"{registry.name}/acme/hello:1"
        Store().add(VARIANTS["compat"](MODULE, PluginInfo("hello_world")), Reference.parse(name))
        options = ClusterOptions(selector=("app=web",))
        with pytest.raises(Exception, match="has no acme/hello:1") as caught:
            deploy(tmp_path, target="istio", module=name, cluster=options)
        assert "scaffold push" in caught.value.hint
        assert here.changes() == []
        dry = replace(options, dry_run=True)
        assert deploy(tmp_path, target="istio", module=name, cluster=dry).dry_run
