"""Calls and features in a module's code, whatever lies between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wasm_asm as asm

from scaffold.wasm.code import Code, instructions

LOCALS = b"\x02\x03\x7f\x01\x7e"  # three i32, one i64
OTHERS = {
    "a block of a type by number": b"\x02\x85\x01\x0b",
    "a table of branches": b"\x0e\x02\x00\x81\x00\x01",
    "constants that look like calls": asm.const(0x10)
    + b"\x42\x90\x20"
    + b"\x43\x10\x07\x10\x07"
    + b"\x44"
    + b"\x10" * 8,
    "a load with a large offset": b"\x28\x02\x90\x90\x01",
    "a load of another memory": b"\x28\x42\x01\x90\x01",
    "select of a type": b"\x1c\x01\x7f",
    "memory": b"\x3f\x00\x40\x00\xfc\x0b\x00\xfc\x0a\x00\x00\xfc\x08\x10\x00\xfc\x09\x10",
    "a table": b"\x25\x10\x26\x10\xfc\x10\x10\xfc\x0e\x10\x10",
    "a shuffle": b"\xfd\x0d" + b"\x10" * 16,
    "a constant vector": b"\xfd\x0c" + b"\x10" * 16,
    "a vector from memory": b"\xfd\x00\x00\x10",
    "a lane of memory": b"\xfd\x54\x00\x10\x10",
    "a lane": b"\xfd\x15\x10",
    "arithmetic of vectors": b"\xfd\xae\x01",
    "a try with its catches": b"\x06\x40\x07\x10\x08\x10\x18\x10\x19\x0b",
    "a table of catches": b"\x1f\x40\x02\x00\x10\x10\x02\x10\x0b",
    "atomics": b"\xfe\x10\x02\x10\xfe\x03\x00",
}


def read(*functions):
    section = asm.vector(asm.number(len(each)) + each for each in functions)
    return Code.read(section, 2)


@pytest.mark.parametrize("name", OTHERS)
def test_an_instruction_is_passed_with_its_operands(name):
    code = read(LOCALS + OTHERS[name] + b"\x10\x01\x0b")
    assert code.callers == {1: {2}}


@pytest.mark.parametrize("name", OTHERS)
def test_each_instruction_has_a_beginning_and_an_end(name):
    body = LOCALS + OTHERS[name] + b"\x10\x01\x0b"
    begins, ends = zip(*instructions(body, 0, len(body)), strict=True)
    assert begins[0] == len(LOCALS)
    assert begins[1:] == ends[:-1]
    assert {len(LOCALS + OTHERS[name]), len(body) - 1} <= {*begins}
    assert ends[-1] == len(body)


def test_an_unknown_instruction_has_no_end():
    with pytest.raises(ValueError, match="an instruction at 2 isn't known"):
        instructions(b"\x00\x01\xff\x0b", 0, 4)


def test_calls_of_every_kind_are_seen():
    code = read(b"\x00\x10\x80\x80\x80\x80\x00\x0b", b"\x00\x12\x01\x0b", b"\x00\xd2\x02\x1a\x10\x00\x0b")
    assert code.callers == {0: {2, 4}, 1: {3}, 2: {4}}


def test_a_function_with_an_unknown_instruction_does_not_hide_the_next():
    code = read(b"\x00\x10\x00\xff\x10\x01\x0b", b"\x00\x10\x01\x0b")
    assert code.callers == {0: {2}, 1: {3}}


@given(st.binary(max_size=60))
def test_a_damaged_section_is_read_up_to_there(section):
    assert all(called >= 0 for called in Code.read(section, 2).callers)
    assert Code.read(b"\x02\x02\x00\x0b\x04", 2) == Code()


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_the_bytes_are_reading_ends(functions):
    assert read(*functions) is not None
