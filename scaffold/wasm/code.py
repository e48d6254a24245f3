"""What a module's code says: which function calls which, and which features of wasm it uses.

Instructions aren't checked, only passed: `re` passes those that say nothing to us, as fast as C does.
Source: WebAssembly core specification 3, 5.4 (instructions) and 5.5.13 (code section).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from scaffold.wasm.line_table import number

_N = rb"[\x80-\xff]*[\x00-\x7f]"  # a number
# the instructions that every Envoy's V8 has, but for a call
_PLAIN = (
    rb"[\x0c\x0d\x20-\x24\x41\x42]%(n)b"  # branches, variables, integers
    rb"|[\x00\x01\x05\x0b\x0f\x1a\x1b\x45-\xc4]"  # without operands
    rb"|[\x28-\x3e](?:[\x00-\x3f]|[\x80-\xbf]%(n)b)%(n)b"  # load and store, in the first memory
    rb"|[\x02-\x04](?![\x63\x64])%(n)b"  # blocks
    rb"|\x11%(n)b\x00"  # call_indirect, as it was before there were several tables
    rb"|[\x3f\x40]\x00"
    rb"|\xfc(?:[\x00-\x07]|\x08%(n)b\x00|\x09%(n)b|\x0a\x00\x00|\x0b\x00|\x0d%(n)b)"
    rb"|\x43.{4}|\x44.{8}"
)
# many of them, and after them a call or nothing; not possessive, which Python 3.11.2 gets wrong; at most so
# many, since each may cost memory
_STEP = re.compile((rb"(?:" + _PLAIN + rb"){0,1000}(?:\x10(%(n)b))?") % {b"n": _N}, re.DOTALL)
_ONE = re.compile((_PLAIN + rb"|\x10%(n)b") % {b"n": _N}, re.DOTALL)
_REFERENCES = "reference-types"
# opcode -> the feature that it is of, and its operands: n a number, f a function, b a block's type
_OTHERS = {
    0x06: ("exception-handling", "b"),
    **dict.fromkeys((0x07, 0x08, 0x09, 0x18), ("exception-handling", "n")),
    0x19: ("exception-handling", ""),
    0x0A: ("exnref", ""),
    0x0E: ("", "l"),
    0x11: (_REFERENCES, "nn"),
    0x12: ("tail-call", "f"),
    0x13: ("tail-call", "nn"),
    0x14: ("gc", "n"),
    0x15: ("gc", "n"),
    0x1C: (_REFERENCES, "t"),
    0x25: (_REFERENCES, "n"),
    0x26: (_REFERENCES, "n"),
    0x3F: ("multimemory", "n"),
    0x40: ("multimemory", "n"),
    0xD0: (_REFERENCES, "n"),
    0xD1: (_REFERENCES, ""),
    0xD2: (_REFERENCES, "f"),
    0xD3: ("gc", ""),
    0xD4: ("gc", ""),
    0xD5: ("gc", "n"),
    0xD6: ("gc", "n"),
    **dict.fromkeys((0x02, 0x03, 0x04), ("gc", "b")),
    **dict.fromkeys(range(0x28, 0x3F), ("multimemory", "nnn")),
}
_AFTER_FC = {
    0x08: ("multimemory", "nn"),
    0x0A: ("multimemory", "nn"),
    0x0B: ("multimemory", "n"),
    0x0C: ("", "nn"),
    0x0E: ("", "nn"),
    **dict.fromkeys((0x0F, 0x10, 0x11), (_REFERENCES, "n")),
}
_VECTOR_MEMORY = {*range(12), 92, 93}
_VECTOR_LANE_OF_MEMORY = range(84, 92)
_LANES = range(21, 35)
_RELAXED = 0x100


@dataclass
class Code:
    """`callers` are by the index of the called function, imported ones first; `features` those in use.

    A function with an instruction that we don't know is read up to there.
    """

    callers: dict[int, set[int]] = field(default_factory=dict)
    features: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, section: bytes, imported: int) -> Code:
        """What the body of a code section says; `imported` functions come before its own."""
        code = cls()
        for index, (begin, end) in enumerate(bodies(section), imported):
            with suppress(IndexError, KeyError):
                code._read(section, begin, end, index)
        return code

    def _read(self, section: bytes, begin: int, end: int, index: int) -> None:
        at = self._locals(section, begin)
        step, callers = _STEP.match, self.callers
        while at < end and (passed := step(section, at, end)):
            before, at = at, passed.end()
            if called := passed[1]:
                callers.setdefault(number(called, 0)[0], set()).add(index)
            elif at == before:
                at = self._other(section, at, index)

    def _locals(self, section: bytes, at: int) -> int:
        count, at = number(section, at)
        for _ in range(count):
            _, at = number(section, at)
            at = self._type(section, at)
        return at

    def _type(self, section: bytes, at: int) -> int:
        """Pass a value's type."""
        kind = section[at]
        feature = {0x7B: "simd128", 0x6F: _REFERENCES, 0x70: _REFERENCES, 0x63: "gc", 0x64: "gc"}.get(kind)
        self.features |= {feature} if feature else set()
        return number(section, at + 1)[1] if kind in (0x63, 0x64) else at + 1

    def _other(self, section: bytes, at: int, index: int) -> int:
        """Pass an instruction of some feature, or with a list of operands."""
        opcode, at = section[at], at + 1
        if opcode == 0xFD:
            return self._vector(section, at)
        if opcode == 0xFE:  # threads, which every V8 has
            kind, at = number(section, at)
            return at + 1 if kind == 3 else _numbers(section, at, 2)
        if opcode == 0x1F:
            return self._try_table(section, at)
        if opcode == 0xFC:
            kind, at = number(section, at)
            feature, operands = _AFTER_FC[kind]
        else:
            if opcode == 0xFB:
                self.features.add("gc")
            feature, operands = _OTHERS[opcode]
        self.features |= {feature} if feature else set()
        for operand in operands:
            at = self._operand(section, at, operand, index)
        return at

    def _operand(self, section: bytes, at: int, operand: str, index: int) -> int:
        if operand == "b" and section[at] in (0x63, 0x64):
            return self._type(section, at)
        value, at = number(section, at)
        if operand == "f":
            self.callers.setdefault(value, set()).add(index)
        elif operand == "l":
            return _numbers(section, at, value + 1)
        elif operand == "t":
            for _ in range(value):
                at = self._type(section, at)
        return at

    def _vector(self, section: bytes, at: int) -> int:
        kind, at = number(section, at)
        self.features.add("relaxed-simd" if kind >= _RELAXED else "simd128")
        if kind in (12, 13):
            return at + 16
        if kind in _VECTOR_MEMORY:
            return _numbers(section, at, 2)
        if kind in _VECTOR_LANE_OF_MEMORY:
            return _numbers(section, at, 2) + 1
        return at + (kind in _LANES)

    def _try_table(self, section: bytes, at: int) -> int:
        self.features.add("exnref")
        count, at = number(section, self._operand(section, at, "b", 0))
        for _ in range(count):
            at = _numbers(section, at + 1, 2 if section[at] < 2 else 1)
        return at


def instructions(section: bytes, begin: int, end: int) -> list[tuple[int, int]]:
    """Where each instruction of a function begins and ends, in the body of a code section.

    Raises `ValueError` for one that we don't know.
    """
    code, found = Code(), []
    try:
        at = code._locals(section, begin)
        while at < end:
            passed = _ONE.match(section, at, end)
            after = passed.end() if passed else code._other(section, at, 0)
            found.append((at, after))
            at = after
    except LookupError as error:
        raise ValueError(f"an instruction at {at} isn't known") from error
    return found


def bodies(section: bytes) -> Iterator[tuple[int, int]]:
    """Where each function begins and ends in the body of a code section; up to what is damaged in it."""
    with suppress(IndexError):
        count, at = number(section, 0)
        for _ in range(count):
            size, begin = number(section, at)
            at = begin + size
            yield begin, at


def _numbers(section: bytes, at: int, count: int) -> int:
    for _ in range(count):
        _, at = number(section, at)
    return at
