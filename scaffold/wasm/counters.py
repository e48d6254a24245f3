"""Counters in a module's own functions: how often its lines are reached.

They are in a memory of their own, which the host reads: the plugin finds everything where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scaffold.wasm.own_code import Function, Step
from scaffold.wasm.rewrite import Edit, written

MEMORY = "scaffold.counters"  # the name under which it is exported
SIZE = 4  # bytes of a counter
_BLOCK_BEGINS = {0x03, 0x04, 0x05, 0x0B, 0x0D}  # after loop, if, else, end, br_if
_NEVER_PASSED = {0x00, 0x0C, 0x0E, 0x0F}  # unreachable, br, br_table, return
_PASSABLE = {0x05, 0x0B}  # else and end: from elsewhere
_ALIGNED_WITH_MEMORY = 0x42  # by 4 bytes; the index of the memory follows


@dataclass(frozen=True)
class Point:
    """A place with a counter."""

    function: Function
    step: Step


def points(functions: Iterable[Function]) -> Iterator[Point]:
    """Where to count so that each line is counted if any part of it is reached."""
    for function in functions:
        begins, passable, counted = True, True, ("", 0)
        for step in function.steps:
            place = step.file, step.line
            if passable and step.line and (begins or (step.first and place != counted)):
                yield Point(function, step)
                counted, begins = place, False
            if step.opcode in _BLOCK_BEGINS:
                begins = passable = True
            elif step.opcode in _NEVER_PASSED:
                passable = False
            passable = passable or step.opcode in _PASSABLE


def counting(at: int, number: int, memory: int) -> Edit:
    """What adds one to a counter, before the instruction at a place."""
    where = bytes([_ALIGNED_WITH_MEMORY]) + written(memory) + written(SIZE * number)
    code = b"\x41\x00\x41\x00\x28" + where + b"\x41\x01\x6a\x36" + where
    return Edit(at, 0, at, code)
