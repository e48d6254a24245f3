"""Make another module of one: with other bodies of functions, with an exported function that traps, or with
a memory and a global of ours.

Everything else stays as it is, byte for byte.
Source: WebAssembly core specification, 5 (binary format).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from scaffold.wasm.code import bodies
from scaffold.wasm.line_table import number
from scaffold.wasm.module import CORE, MAGIC, WasmFile

# of the sections that we write
_NUMBERS = {"type": 1, "import": 2, "function": 3, "memory": 5, "global": 6, "export": 7, "code": 10}
_PLACES = "type|import|function|table|memory|tag|global|export|start|element|data count|code|data".split("|")
_TRAP = b"\x00\x00\x0b"  # a body: no locals, `unreachable`, `end`
_FUNCTION, _MEMORY, _GLOBAL = 0, 2, 3  # kinds of exports
_I32 = 0x7F
_ZERO = b"\x41\x00\x0b"  # what a global begins with
_FUNCTION_TYPE = 0x60
PAGE = 65_536  # bytes


@dataclass(frozen=True, order=True)
class Edit:
    """Instructions in place of those between two offsets in the body of a code section, which may be equal.

    Of several at one place, the least `rank` comes first.
    """

    begin: int
    rank: int
    end: int
    instructions: bytes


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


def edited(file: WasmFile, edits: Iterable[Edit]) -> dict[int, bytes]:
    """The bodies that edits change, by the function's index, as `with_bodies` takes them."""
    code = _body(file, "code")
    waiting, changed = sorted(edits, reverse=True), {}
    for index, (begin, end) in enumerate(bodies(code), _imported(file)):
        parts, at = [], begin
        while waiting and waiting[-1].begin < end:
            each = waiting.pop()
            if each.begin < at or each.end > end:
                raise ValueError(f"edits overlap at {each.begin}")
            parts += [code[at : each.begin], each.instructions]
            at = each.end
        if parts:
            changed[index] = b"".join([*parts, code[at:end]])
    return changed


def next_memory(file: WasmFile) -> int:
    """The index of the memory that `with_parts` adds."""
    return _count(file, "memory")


def next_global(file: WasmFile) -> int:
    """The index of the global that `with_parts` adds."""
    return _count(file, "global")


def types(file: WasmFile) -> list[bytes]:
    """The types of functions as they are written. Raises `ValueError` if the module has others, too."""
    body, found = _body(file, "type"), []
    count, at = number(body, 0)
    for _ in range(count):
        if body[at] != _FUNCTION_TYPE:
            raise ValueError("the module has types that aren't of functions")
        parameters, middle = number(body, at + 1)
        results, last = number(body, middle + parameters)
        found.append(body[at : last + results])
        at = last + results
    return found


def types_of_functions(file: WasmFile) -> dict[int, int]:
    """The index of each own function's type, by the function's index."""
    body = _body(file, "function")
    count, at = number(body, 0)
    return {
        index: number(entry, 0)[0] for index, entry in enumerate(_entries(body, at, count), _imported(file))
    }


def with_parts(
    file: WasmFile, *, types: Iterable[bytes] = (), memory: tuple[str, int] | None = None, switch: str = ""
) -> bytes:
    """The module with more types at the end, a memory of so many bytes, and a global of an i32, which is 0.

    The memory and the global are exported under these names.
    """
    changed = {"type": _longer(_body(file, "type"), types)}
    exported = []
    if memory:
        name, size = memory
        changed["memory"] = _longer(_body(file, "memory"), [b"\x00" + written(-(-size // PAGE))])
        exported.append(_sized(name.encode()) + bytes([_MEMORY]) + written(next_memory(file)))
    if switch:
        changed["global"] = _longer(_body(file, "global"), [bytes([_I32, 1]) + _ZERO])
        exported.append(_sized(switch.encode()) + bytes([_GLOBAL]) + written(next_global(file)))
    changed["export"] = _longer(_body(file, "export"), exported)
    return _with_sections(file, changed)


def written(value: int) -> bytes:
    """An unsigned LEB128 number."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def written_signed(value: int) -> bytes:
    """A signed LEB128 number."""
    parts = bytearray()
    while not -64 <= value < 64:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value & 0x7F])


def section(kind: int, body: bytes) -> bytes:
    """A section of the file."""
    return bytes([kind]) + _sized(body)


def _sized(body: bytes) -> bytes:
    return written(len(body)) + body


def _list(entries: list[bytes]) -> bytes:
    return written(len(entries)) + b"".join(entries)


def _longer(body: bytes, entries: Iterable[bytes]) -> bytes:
    """A list with more entries at its end."""
    more = list(entries)
    count, at = number(body, 0)
    return written(count + len(more)) + body[at:] + b"".join(more)


def _with_sections(file: WasmFile, changed: Mapping[str, bytes]) -> bytes:
    """The module with other sections; one that it doesn't have yet comes where it belongs."""
    content, waiting = file.content, [kind for kind in _PLACES if kind in changed]
    parts = [MAGIC, CORE]
    for each in file.sections:
        before = _PLACES.index(each.kind) if each.kind in _PLACES else -1
        while waiting and _PLACES.index(waiting[0]) < before:
            kind = waiting.pop(0)
            parts.append(section(_NUMBERS[kind], changed[kind]))
        if each.kind in waiting:
            waiting.remove(each.kind)
            parts.append(section(_NUMBERS[each.kind], changed[each.kind]))
        else:
            parts.append(content[each.at : each.at + each.size])
    return b"".join([*parts, *(section(_NUMBERS[kind], changed[kind]) for kind in waiting)])


def _body(file: WasmFile, kind: str) -> bytes:
    return next((each.body(file.content) for each in file.sections if each.kind == kind), b"\0")


def _imported(file: WasmFile, kind: str = "function") -> int:
    return sum(each.kind == kind for each in file.imports)


def _count(file: WasmFile, kind: str) -> int:
    """How many memories or globals there are, the imported ones among them."""
    return _imported(file, kind) + number(_body(file, kind), 0)[0]


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
