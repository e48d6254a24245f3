"""The emulator and a real Envoy: plugins made at random play the same requests and connections on both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import wasmtime
from support import random_network
from support.agreement import differences
from support.random_plugins import case

from scaffold.hosts import host as hosts
from scaffold.hosts.exchange import Request
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule

DEEP = """(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func $down (param i32)
    (if (i32.eqz (local.get 0)) (then unreachable))
    (call $down (i32.sub (local.get 0) (i32.const 1))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $down (i32.const 12))
    (i32.const 0)))"""
SEEDS = int(os.environ.get("EMULATOR_SEEDS", "12"))  # plugins
FIRST = int(os.environ.get("EMULATOR_FIRST_SEED", "0"))
NETWORK_SEEDS = int(os.environ.get("EMULATOR_NETWORK_SEEDS", "10"))  # network plugins
REQUESTS, CONNECTIONS = 12, 6  # through each
ONCE_APART = () if "EMULATOR_FIRST_SEED" in os.environ else (9031, 9039, 9096, 20019, 20146, 20344)


@pytest.mark.parametrize("seed", [*range(FIRST, FIRST + SEEDS), *ONCE_APART])
def test_does_what_envoy_does(seed: int, tmp_path: Path) -> None:
    found = differences(case(seed, REQUESTS, tmp_path))
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + NETWORK_SEEDS))
def test_does_what_envoy_does_with_a_connection(seed: int, tmp_path: Path) -> None:
    found = differences(random_network.case(seed, CONNECTIONS, tmp_path))
    assert not found, "\n\n".join(found)


def test_a_crash_many_calls_deep_has_the_same_backtrace(tmp_path: Path) -> None:
    path = tmp_path / "deep.wasm"
    path.write_bytes(wasmtime.wat2wasm(DEEP))
    plugin, settings = Plugin("deep", "", WasmModule.read(path)), RunOptions(port=0).settings
    seen: list[list[str]] = []
    for name in ("emulator", "envoy"):
        folder = tmp_path / name
        folder.mkdir()
        with hosts.player(name)(plugin, folder=folder, settings=settings) as host:
            host.play(Request("GET", "/"))
            host.clock.run(lambda host=host: bool(_traces(host)), 10)
            seen.append(_traces(host))
    assert seen[0] == seen[1]
    assert "\n  9:  down\n 10:  down" in seen[0][0]


def _traces(host: hosts.Played) -> list[str]:
    """Those that are complete: Envoy writes its log in pieces."""
    return [each.text for each in host.log.since(0) if "backtrace" in each.text and "\n 13:" in each.text]
