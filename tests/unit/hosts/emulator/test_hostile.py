"""Modules that would hurt their host, plugins that are replaced, clients of several threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from scaffold.errors import ModuleError, UsageError
from scaffold.hosts.emulator.host import EmulatorHost
from scaffold.hosts.emulator.vm import Limits
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.unsupported import Unsupported
from scaffold.wasm.module import WasmModule

WHOLE = """(module {imports} (memory (export "memory") 2) {more}
  (data (i32.const 16) "name") (data (i32.const 32) "value") (data (i32.const 48) ":status")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 70000)) {functions})"""
ALL = {
    "proxy_set_shared_data": "i32 i32 i32 i32 i32",
    "proxy_get_shared_data": "i32 i32 i32 i32 i32",
    "proxy_replace_header_map_value": "i32 i32 i32 i32 i32",
    "proxy_get_header_map_value": "i32 i32 i32 i32 i32",
    "proxy_set_tick_period_milliseconds": "i32",
    "proxy_log": "i32 i32 i32",
}
REQUEST = Request("GET", "/status/200", Headers({"host": "example.com"}))


def plugin(
    place: Path, functions: str = "", more: str = "", imports: str = "", configuration: bytes = b""
) -> Plugin:
    for name, parameters in ALL.items():
        if f"${name} " in functions.replace("\n", " "):
            imports += f'(import "env" "{name}" (func ${name} (param {parameters}) (result i32)))'
    path = place / f"{abs(hash((functions, more, imports)))}.wasm"
    path.write_bytes(wasmtime.wat2wasm(WHOLE.format(imports=imports, more=more, functions=functions)))
    return Plugin("hostile", "", WasmModule.read(path), configuration)


def host(*plugins: Plugin, **limits: Any) -> EmulatorHost:
    return EmulatorHost(plugins, HostSettings(), Limits(**limits))


def test_an_imported_table_of_another_type_is_refused_and_ends_nothing(tmp_path):
    imports = '(type $f (func)) (import "env" "t" (table 1 (ref null $f)))'
    with pytest.raises(Unsupported, match="an imported table that isn't of functions"):
        host(plugin(tmp_path, imports=imports))


@pytest.mark.parametrize(
    ("imports", "more"),
    [
        ('(import "env" "t" (table 4294967295 funcref))', ""),
        ("", "(table 100000000 funcref)"),
        ("", "(memory 1) (memory 1) (memory 1) (memory 1) (memory 1)"),
    ],
)
def test_what_is_huge_from_the_start_is_refused(tmp_path, imports, more):
    with pytest.raises(ModuleError, match="Failed to create new Wasm instance"):
        host(plugin(tmp_path, imports=imports, more=more))


def test_shared_data_can_not_grow_without_end(tmp_path):
    functions = """(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $at i32)
      (loop $again
        (i32.store (i32.const 100) (local.get $at))
        (drop (call $proxy_set_shared_data
          (i32.const 100) (i32.const 4) (i32.const 0) (i32.const 10000) (i32.const 0)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $at) (i32.const 100000))))
      (i32.const 0))"""
    running = host(plugin(tmp_path, functions), kept=1_000_000)
    exchange = running.play(REQUEST)
    assert (exchange.status, exchange.trapped) == (503, True)
    assert "more than 1,000,000 bytes of shared data and queues" in exchange.logs
    assert running.world.data.size <= 1_000_000


def test_what_a_callback_copies_is_bounded(tmp_path):
    functions = """(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (loop $again (drop (call $proxy_log (i32.const 0) (i32.const 0) (i32.const 60000))) (br $again))
      (i32.const 0))"""
    exchange = host(plugin(tmp_path, functions), copied=1_000_000).play(REQUEST)
    assert exchange.status == 503
    assert "more than 1,000,000 bytes copied in one callback" in exchange.logs


def test_a_status_that_is_none_is_envoys_502(tmp_path):
    functions = """(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (drop (call $proxy_replace_header_map_value
        (i32.const 2) (i32.const 48) (i32.const 7) (i32.const 32) (i32.const 5)))
      (i32.const 0))"""
    exchange = host(plugin(tmp_path, functions)).play(REQUEST)
    assert (exchange.status, exchange.response.body) == (502, b"missing required header: :status")


TICKS = """(func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $proxy_set_tick_period_milliseconds (i32.const 1000)))
    (drop (call $proxy_set_shared_data
      (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5) (i32.const 0)))
    (i32.eqz (local.get 1)))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $proxy_log (i32.const 2) (i32.const 16) (i32.const 4))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $proxy_get_shared_data
      (i32.const 16) (i32.const 4) (i32.const 100) (i32.const 104) (i32.const 108)))
    (drop (call $proxy_replace_header_map_value (i32.const 0) (i32.const 16) (i32.const 4)
      (i32.load (i32.const 100)) (i32.load (i32.const 104))))
    (i32.const 0))"""


def test_a_fresh_plugin_keeps_what_it_shared_when_it_started(tmp_path):
    one = plugin(tmp_path, TICKS)
    running = host(one)
    running.replace(one, fresh=True)
    upstream = running.play(REQUEST).upstream
    assert upstream is not None and upstream.headers["name"] == "value"


def test_a_refused_plugin_ticks_no_more_and_the_previous_one_serves_on(tmp_path):
    good, bad = plugin(tmp_path, TICKS), plugin(tmp_path, TICKS, configuration=b"refused")
    running = host(good)
    for _ in range(3):
        with pytest.raises(ModuleError):
            running.replace(bad, fresh=True)
    mark = running.log.size()
    running.clock.advance(10)
    ticks = [line for line in running.log.since(mark) if line.text == "name"]
    assert len(ticks) == 20  # ten on the main thread, ten on the worker
    assert running.play(REQUEST).status == 200


def test_a_client_of_another_thread_and_a_clock_that_moves_do_not_meet_in_the_vm(tmp_path):
    running = host(plugin(tmp_path, TICKS))
    statuses: list[int] = []

    def play() -> None:
        for _ in range(100):
            exchange = running.play(REQUEST)
            statuses.append(
                exchange.status if exchange.upstream and "name" in exchange.upstream.headers else 0
            )

    thread = threading.Thread(target=play)
    thread.start()
    while thread.is_alive():
        running.clock.advance(1)
    thread.join()
    assert statuses == [200] * 100


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Request("GET", "/", Headers({"x": "\u20ac"})), "the header 'x' isn't a valid one"),
        (Request("GET", "/", Headers({"a b": "1"})), "the header 'a b' isn't a valid one"),
        (Request("GET", "/", Headers({"x": "1\n2"})), "the header 'x' isn't a valid one"),
        (Request("G\xc9T", "/"), "its method or its path"),
        (Request("GET", "/a b"), "its method or its path"),
        (Request("POST", "/", body=b"x", pieces=(0,)), "a piece of its body"),
        (
            Request("POST", "/", Headers({"transfer-encoding": "chunked"}), b"hello"),
            "the chunked body isn't framed",
        ),
    ],
)
def test_a_request_that_http_can_not_carry_is_refused(tmp_path, request_, why):
    with pytest.raises(UsageError, match=why):
        host(plugin(tmp_path)).play(request_)
