"""What is known about a plugin, written into an image's annotations and read back."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wasm_asm

from scaffold.oci.plugin_info import PluginInfo, read_runtime_config
from scaffold.oci.reference import Reference
from scaffold.oci.spec import Descriptor, ImageError, Manifest
from scaffold.oci.variants import VARIANTS
from scaffold.project.crate import Project
from scaffold.wasm.module import WasmModule

MODULE = wasm_asm.plugin()
RUNTIME_CONFIG = b'{"type":"envoy_proxy","abiVersions":["v0.2.1"],"config":{"rootIds":["hello"]}}'


def annotated(annotations=None):
    """The manifest of an image with these annotations."""
    layer = Descriptor.of("application/vnd.module.wasm.content.layer.v1+wasm", MODULE)
    config = Descriptor.of("application/vnd.oci.image.config.v1+json", b"{}")
    return Manifest.make(config, (layer,), annotations or {})


def info_of(manifest, runtime_config=None):
    return PluginInfo.of_image(manifest, Reference.parse("acme/hello:1"), runtime_config)


SAID = {
    "proxy-wasm.plugin/root-ids": "a,b",
    "proxy-wasm.plugin/type": "network",
    "proxy-wasm.plugin/configuration": '{"a": 1}',
    "proxy-wasm.plugin/configuration-schema": "{}",
    "module.wasm.runtime/abi_version": "v0.2.0,v0.2.1",
}


def test_annotations_come_before_wasmes_configuration():
    manifest = annotated(SAID)
    expected = PluginInfo(
        "hello",
        root_ids=("a", "b"),
        type="network",
        abi_versions=("v0.2.0", "v0.2.1"),
        configuration='{"a": 1}',
        schema="{}",
    )
    assert info_of(manifest) == info_of(manifest, RUNTIME_CONFIG) == expected


def test_wasmes_configuration_fills_the_gaps():
    assert info_of(annotated(), RUNTIME_CONFIG) == PluginInfo(
        "hello", root_ids=("hello",), type="http", abi_versions=("v0.2.1",), configuration=""
    )


def test_an_image_that_says_nothing_holds_an_http_plugin():
    assert info_of(annotated()) == PluginInfo(
        "hello", root_ids=(), type="http", abi_versions=(), configuration=""
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_packaging_says_comes_back(variant):
    info = PluginInfo(
        "a name of its own",
        version="1.2.3",
        description="Says hello",
        source="https://example.com/acme/hello",
        revision="0123",
        licenses="MIT",
        abi_versions=("v0.2.1",),
        root_ids=("a", "b"),
        configuration="x\n",
        schema="true",
        type="service",
    )
    assert info_of(VARIANTS[variant](MODULE, info).manifest) == info


def test_a_type_of_plugin_that_there_isnt_is_refused():
    manifest = annotated({"proxy-wasm.plugin/type": "tcp"})
    with pytest.raises(ImageError, match='has the unknown type "tcp"') as caught:
        info_of(manifest)
    assert caught.value.hint == "known: http, network, service"


@pytest.mark.parametrize(
    ("record", "root_ids", "abi_versions"),
    [
        ({}, (), ()),
        ({"type": "envoy_proxy", "more": [1], "config": None, "abiVersions": None}, (), ()),
        (
            {"abiVersions": ["v0.2.1", "v0-4689a303"], "config": {"rootIds": ["a"]}},
            ("a",),
            ("v0.2.1", "v0-4689a303"),
        ),
        ({"abi_versions": ["v0.2.1"], "config": {"root_ids": ["a", ""]}}, ("a", ""), ("v0.2.1",)),
        ({"abi_version": "v0.2.1", "config": {"root_ids": "a, b"}}, ("a", "b"), ("v0.2.1",)),
        ({"abiVersion": "v0.2.1"}, (), ("v0.2.1",)),
        ({"abiVersions": ["new"], "abi_version": "old"}, (), ("new",)),
    ],
)
def test_both_ways_of_writing_wasmes_configuration_are_read(record, root_ids, abi_versions):
    assert read_runtime_config(json.dumps(record).encode()) == (root_ids, abi_versions)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "its runtime-config.json isn't JSON"),
        (b"\xff", "its runtime-config.json isn't JSON"),
        (b"[]", "its runtime-config.json isn't a JSON object"),
        (b'{"config": 1}', "its runtime-config.json has a `config` that isn't an object: 1"),
        (b'{"config": {"rootIds": 1}}', "has a `rootIds` that isn't a list of strings: 1"),
        (b'{"config": {"root_ids": [1]}}', "has a `root_ids` that isn't a list of strings: [1]"),
        (b'{"abiVersions": {"a": 1}}', 'has a `abiVersions` that isn\'t a list of strings: {"a": 1}'),
    ],
)
def test_a_broken_configuration_is_refused_by_what_is_broken(content, says):
    with pytest.raises(ImageError, match=re.escape(says)):
        read_runtime_config(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["config", "rootIds", "root_ids", "abiVersions", "abi_version"]), inner
        )
    ),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_configuration_is_names_or_an_image_error(content):
    try:
        root_ids, abi_versions = read_runtime_config(content)
    except ImageError as error:
        assert "\n" not in error.message
        return
    assert all(isinstance(name, str) for name in (*root_ids, *abi_versions))


def test_a_projects_plugin_comes_back_from_its_image(tmp_path):
    """All that Cargo.toml, the configuration and its schema say."""
    (tmp_path / "Cargo.toml").write_text(
        """
        [package]
        name = "hello"
        version = "1.2.3"
        description = "Says hello"
        repository = "https://example.com/acme/hello"
        license = "MIT"
        [lib]
        crate-type = ["cdylib"]
        [package.metadata.proxy-wasm]
        type = "network"
        root-id = "hello_root"
        configuration = "config.json"
        """
    )
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "config.schema.json").write_text('{ "type": "object" }')
    (tmp_path / "hello.wasm").write_bytes(MODULE)
    module = WasmModule.read(tmp_path / "hello.wasm")
    info = PluginInfo.of_project(Project.load(tmp_path), module, revision="0123")
    assert info == PluginInfo(
        "hello",
        version="1.2.3",
        description="Says hello",
        source="https://example.com/acme/hello",
        revision="0123",
        licenses="MIT",
        abi_versions=("v0.2.1",),
        type="network",
        root_ids=("hello_root",),
        configuration='{"a": 1}',
        schema='{"type":"object"}',
    )
    assert info_of(annotated(info.annotations(module.digest))) == info


def test_a_module_without_a_project_is_named_after_its_file(tmp_path):
    (tmp_path / "a.wasm").write_bytes(MODULE)
    info = PluginInfo.of_module(WasmModule.read(tmp_path / "a.wasm"))
    assert info == PluginInfo("a", abi_versions=("v0.2.1",))
