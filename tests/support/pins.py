"""Plugins to make manifests of: no module behind them, but digests that can be told apart."""

from __future__ import annotations

from dataclasses import replace

from scaffold.kubernetes.pinned_plugin import ManifestDigest, ModuleDigest, Pin, PinnedImage
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference

MODULE = ModuleDigest("sha256:" + "1e" * 32)
MANIFEST = ManifestDigest("sha256:" + "2" * 64)  # as YAML, both would be numbers without quotes


def image(variant: str = "compat", name: str = "registry.example/acme/hello_world:0.1.0") -> PinnedImage:
    return PinnedImage(Reference.parse(name), MANIFEST, variant)


INFO = PluginInfo("hello_world", root_ids=("hello_root",))
HTTP = Pin(INFO, MODULE, b'{"greeting": "hello"}', image())
NETWORK = Pin(PluginInfo("tcp_tap", type="network"), MODULE, image=image())
SERVICE = replace(HTTP, info=replace(INFO, type="service"))
