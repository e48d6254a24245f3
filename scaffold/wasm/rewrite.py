"""Make another module of one: with other bodies of functions, or with an exported function that traps.

Everything else stays as it is, byte for byte.
Source: WebAssembly core specification, 5 (binary format).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from scaffold.wasm.code import bodies
from scaffold.wasm.line_table import number
from scaffold.wasm.module import CORE, MAGIC, WasmFile

_NUMBERS = {"import": 2, "function": 3, "export": 7, "code": 10}  # of the sections that we write
_TRAP = b"\x00\x00\x0b"  # a body: no locals, `unreachable`, `end`
_FUNCTION = 0  # an export's kind


def with_bodies(file: WasmFile, changed: Mapping[int, bytes]) -> bytes:
    """The module with other bodies, by the function's index, imported ones first.

    A body begins with its locals and ends with `end`; its size isn't part of it.
    """
    code, first = _body(file, "code"), _imported(file)
    kept = (code[begin:end] for begin, end in bodies(code))
    return _with_sections(
        file, {"code": _list([_sized(changed.get(at, body)) for at, body in enumerate(kept, first)])}
    )


def with_trap(file: WasmFile, name: str) -> bytes:
    """The module with an exported function that traps as soon as the host calls it.

    Calls of it inside the module, and other exports of the same function, do what they did.
    """
    place = _exports(file)[name]
    types, code = _body(file, "function"), _body(file, "code")
    count, begin = number(types, 0)
    own = place - _imported(file)
    if own < 0:
        raise ValueError(f"{name} is an imported function")
    kind = _entries(types, begin, count)[own]
    _, first = number(code, 0)
    added = _imported(file) + count
    return _with_sections(
        file,
        {
            "function": written(count + 1) + types[begin:] + kind,
            "export": _with_export(_body(file, "export"), name, added),
            "code": written(count + 1) + code[first:] + _sized(_TRAP),
        },
    )


def written(value: int) -> bytes:
    """An unsigned LEB128 number."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def section(kind: int, body: bytes) -> bytes:
    """A section of the file."""
    return bytes([kind]) + _sized(body)


def _sized(body: bytes) -> bytes:
    return written(len(body)) + body


def _list(entries: list[bytes]) -> bytes:
    return written(len(entries)) + b"".join(entries)


def _with_sections(file: WasmFile, changed: Mapping[str, bytes]) -> bytes:
    content = file.content
    parts = [
        section(_NUMBERS[each.kind], changed[each.kind])
        if each.kind in changed
        else content[each.at : each.at + each.size]
        for each in file.sections
    ]
    return b"".join([MAGIC, CORE, *parts])


def _body(file: WasmFile, kind: str) -> bytes:
    return next((each.body(file.content) for each in file.sections if each.kind == kind), b"\0")


def _imported(file: WasmFile) -> int:
    return sum(each.kind == "function" for each in file.imports)


def _entries(body: bytes, at: int, count: int) -> list[bytes]:
    """The numbers in a list, as they are written."""
    ends = [at]
    for _ in range(count):
        ends.append(number(body, ends[-1])[1])
    return [body[begin:end] for begin, end in pairwise(ends)]


def _exports(file: WasmFile) -> dict[str, int]:
    """The exported functions: name -> index."""
    return {name: index for name, kind, index, _, _ in _listed(_body(file, "export")) if kind == _FUNCTION}


def _listed(body: bytes) -> list[tuple[str, int, int, int, int]]:
    """The exports: name, kind, index, and where the index begins and ends."""
    count, at = number(body, 0)
    found = []
    for _ in range(count):
        size, at = number(body, at)
        name, kind, begin = body[at : at + size].decode(), body[at + size], at + size + 1
        index, at = number(body, begin)
        found.append((name, kind, index, begin, at))
    return found


def _with_export(body: bytes, name: str, index: int) -> bytes:
    """An export section in which a name stands for another function."""
    begin, end = next((begin, end) for each, _, _, begin, end in _listed(body) if each == name)
    return body[:begin] + written(index) + body[end:]
