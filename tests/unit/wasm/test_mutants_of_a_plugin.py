"""Changes to a plugin's code: each does what it says while it is played, and nothing otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from support.measured import crate, with_lines

from scaffold.wasm.instrument import instrument
from scaffold.wasm.module import WasmFile
from scaffold.wasm.mutants import SWITCH

SOURCE = """fn on_http_request_headers() -> Action {
    if small(n) {
        self.set_http_request_header(a, b);
    }
    send(401)
}
fn small(n: u32) -> bool {
    n < 5
}
fn same(a: &str) -> bool {
    a == "x"
}
fn wide(n: u64) -> u64 {
    n + 3_000
}
"""
WAT = """(module
  (import "env" "log" (func $log (param i32)))
  (func $"<hello::F as proxy_wasm::traits::HttpContext>::on_http_request_headers"
    (export "headers") (param i32) (result i32)
    (block $over
      local.get 0
      i32.eqz
      br_if $over
      i32.const 7
      call $"proxy_wasm::traits::HttpContext::set_http_request_header")
    i32.const 401)
  (func $"hello::small" (export "small") (param i32) (result i32)
    local.get 0
    i32.const 5
    i32.lt_u)
  (func $"hello::same" (export "same") (param i32) (result i32)
    local.get 0
    call $"<str as core::cmp::PartialEq>::eq")
  (func $"hello::wide" (export "wide") (param i64) (result i64)
    local.get 0
    i64.const 3000
    i64.add)
  (func $"proxy_wasm::traits::HttpContext::set_http_request_header" (param i32)
    local.get 0
    call $log)
  (func $"<str as core::cmp::PartialEq>::eq" (param i32) (result i32)
    local.get 0))"""
LINES = {0: {0: 1, 1: 2, 4: 3, 7: 5}, 1: {0: 7, 1: 8}, 2: {0: 10, 1: 11}, 3: {0: 13, 1: 14}}


@pytest.fixture
def made(tmp_path):
    sources = crate(tmp_path, SOURCE)
    module = WasmFile.parse(with_lines(WAT, tmp_path, LINES), Path("hello.wasm"))
    return instrument(module, sources, with_changes=True)


def behaviour(made, number):
    """What the functions return, and the calls of the host, while a mutant is played."""
    store, logged = wasmtime.Store(), []
    log = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), logged.append)

    def called(name, argument):
        logged.clear()
        result = exports[name](store, argument)
        return (result, *logged)

    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, made.content), [log]).exports(store)
    exports[SWITCH].set_value(store, number)
    return {
        f"{name} {argument}": called(name, argument)
        for name, arguments in (("headers", (0, 1)), ("small", (4, 5)), ("same", (0, 1)), ("wide", (1,)))
        for argument in arguments
    }


def test_without_a_mutant_the_plugin_is_as_it_was(made):
    assert behaviour(made, 0) == {
        "headers 0": (401,),
        "headers 1": (401, 7),
        "small 4": (1,),
        "small 5": (0,),
        "same 0": (0,),
        "same 1": (1,),
        "wide 1": (3001,),
    }


def test_each_mutant_changes_just_what_it_says(made):
    plain = behaviour(made, 0)
    changes = {
        (each.what, each.step.line): {
            key: value for key, value in behaviour(made, number).items() if value != plain[key]
        }
        for number, each in enumerate(made.mutants, 1)
    }
    assert changes == {
        ("`on_http_request_headers` does nothing", 1): {"headers 0": (0,), "headers 1": (0,)},
        ("`set_http_request_header` isn't called", 3): {"headers 1": (401,)},
        ("a condition turned", 2): {"headers 0": (401, 7), "headers 1": (401,)},
        ("`<` became `<=`", 8): {"small 5": (1,)},
        ("`==` became `!=`", 11): {"same 0": (1,), "same 1": (0,)},
        ("`401` became 402", 5): {"headers 0": (402,), "headers 1": (402, 7)},
        ("`5` became 6", 8): {"small 5": (1,)},
        ("`3000` became 3001", 14): {"wide 1": (3002,)},
    }


def test_the_most_telling_ones_come_first(made):
    kinds = [each.kind for each in made.mutants]
    assert kinds == sorted(kinds, key=("callback", "call", "condition", "comparison", "constant").index)
    assert kinds[0] == "callback"


def test_what_the_source_does_not_say_is_not_changed(tmp_path):
    """A compiler adds comparisons, branches and constants of its own."""
    sources = crate(tmp_path, "\n".join(["// nothing"] * 20))
    module = WasmFile.parse(with_lines(WAT, tmp_path, LINES), Path("hello.wasm"))
    found = instrument(module, sources, with_changes=True).mutants
    assert {each.kind for each in found} == {"callback", "call"}
