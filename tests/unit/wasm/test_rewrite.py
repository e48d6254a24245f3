"""Modules made of others: they load, and only what was to change has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from scaffold.wasm.code import bodies, instructions
from scaffold.wasm.module import WasmFile
from scaffold.wasm.rewrite import (
    PAGE,
    Edit,
    edited,
    next_global,
    next_memory,
    types,
    with_bodies,
    with_parts,
    with_trap,
)

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


def test_parts_are_added_even_where_there_was_no_such_section():
    file = WasmFile.parse(
        bytes(wasmtime.wat2wasm('(module (func (export "f") (result i32) i32.const 3))')), Path()
    )
    made = with_parts(file, types=[b"\x60\x01\x7f\x00"], memory=("counted", PAGE + 1), switch="played")
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, made), []).exports(store)
    assert exports["counted"].data_len(store) == 2 * PAGE
    exports["played"].set_value(store, 5)
    assert (exports["played"].value(store), exports["f"](store)) == (5, 3)
    assert types(WasmFile.parse(made, Path()))[-1] == b"\x60\x01\x7f\x00"


def test_parts_come_after_what_was_there(file):
    made = with_parts(file, memory=("counted", 4), switch="played")
    assert run(made, "one", 4) == 5
    assert next_memory(WasmFile.parse(made, Path())) == next_memory(file) + 1
    assert next_global(WasmFile.parse(made, Path())) == 1


def test_instructions_are_replaced_and_put_before_others(file):
    code = next(each.body(file.content) for each in file.sections if each.kind == "code")
    begin, end = next(bodies(code))
    get, constant, add, _ = instructions(code, begin, end)
    edits = [
        Edit(constant[0], 0, constant[1], b"\x41\x0a"),  # i32.const 10
        Edit(add[0], 1, add[0], b"\x6a\x41\x05"),  # i32.add, i32.const 5
        Edit(get[0], 0, get[0], b"\x01"),  # nop
    ]
    assert run(with_bodies(file, edited(file, edits)), "one", 4) == 19


def test_edits_that_overlap_are_an_error(file):
    code = next(each.body(file.content) for each in file.sections if each.kind == "code")
    begin, end = next(bodies(code))
    at = instructions(code, begin, end)[0][0]
    with pytest.raises(ValueError, match="edits overlap"):
        edited(file, [Edit(at, 0, at + 2, b""), Edit(at + 1, 0, at + 2, b"")])
