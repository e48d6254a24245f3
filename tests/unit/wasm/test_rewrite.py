"""Modules made of others: they load, and only what was to change has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from scaffold.wasm.module import WasmFile
from scaffold.wasm.rewrite import with_bodies, with_trap

SOURCE = """(module
  (import "env" "log" (func $log (param i32)))
  (memory (export "memory") 1)
  (func $shared (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func $calls (result i32) (call $shared (i32.const 4)))
  (export "one" (func $shared))
  (export "same" (func $shared))
  (export "calls" (func $calls))
  (export "hostcall" (func $log))
  (data (i32.const 8) "kept"))"""


@pytest.fixture
def file():
    return WasmFile.parse(bytes(wasmtime.wat2wasm(SOURCE)), Path("it.wasm"))


def run(content, name, *arguments):
    store = wasmtime.Store()
    log = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), lambda _: None)
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, content), [log])
    return instance.exports(store)[name](store, *arguments)


def test_a_function_has_another_body(file):
    made = with_bodies(file, {1: b"\x00\x41\x2a\x0b"})  # no locals, i32.const 42
    assert (run(made, "one", 4), run(made, "calls")) == (42, 42)


def test_without_a_change_the_bytes_are_the_same(file):
    assert with_bodies(file, {}) == file.content


def test_an_export_traps_and_what_calls_the_function_inside_does_not(file):
    made = with_trap(file, "one")
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        run(made, "one", 4)
    assert (run(made, "same", 4), run(made, "calls")) == (5, 5)


def test_what_else_is_in_the_module_stays(file):
    made = WasmFile.parse(with_trap(file, "calls"), Path("it.wasm"))
    assert made.callable == file.callable
    assert b"kept" in made.content
    assert made.functions == file.functions + 1


def test_an_imported_function_cannot_trap(file):
    with pytest.raises(ValueError, match="hostcall is an imported function"):
        with_trap(file, "hostcall")
