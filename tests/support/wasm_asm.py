"""An assembler for tests: wasm modules from sections, so that no binary is ever committed.

Source: WebAssembly core specification, 5 (binary format).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

HEADER = b"\0asm\x01\x00\x00\x00"
I32, I64, F32, F64 = b"\x7f", b"\x7e", b"\x7d", b"\x7c"
FUNCTION, TABLE, MEMORY, GLOBAL, TAG = range(5)  # the kinds of imports and exports
MARKER = "proxy_abi_version_0_2_1"
BUFFER = 1024  # where `plugin`'s malloc puts what the host hands over, always


def number(value: int) -> bytes:
    """An unsigned number, as LEB128."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def signed(value: int) -> bytes:
    """A signed number, as LEB128."""
    out = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        done = value == (-1 if low & 0x40 else 0)
        out.append(low | (0 if done else 0x80))
        if done:
            return bytes(out)


def name(text: str | bytes) -> bytes:
    """A name: its length and its bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return number(len(raw)) + raw


def vector(items: Iterable[bytes]) -> bytes:
    """How many, then each."""
    made = list(items)
    return number(len(made)) + b"".join(made)


def section(number_: int, body: bytes) -> bytes:
    """A section of any number."""
    return bytes([number_]) + number(len(body)) + body


def module(*sections: bytes) -> bytes:
    """A whole module of these sections."""
    return HEADER + b"".join(sections)


def custom(title: str, body: bytes = b"") -> bytes:
    """A custom section."""
    return section(0, name(title) + body)


def signature(params: bytes = b"", results: bytes = b"") -> bytes:
    """A function's type: `signature(I32 + I32, I32)`."""
    return b"\x60" + number(len(params)) + params + number(len(results)) + results


def types(*signatures: bytes) -> bytes:
    """The type section."""
    return section(1, vector(signatures))


def imports(*entries: tuple[str | bytes, str | bytes, bytes]) -> bytes:
    """The import section: module, name, and what it is (`imported_function` and so on)."""
    return section(2, vector(name(module_) + name(name_) + what for module_, name_, what in entries))


def functions(*type_indices: int) -> bytes:
    """The function section: each function's type."""
    return section(3, vector(map(number, type_indices)))


def memory(pages: int = 2) -> bytes:
    """The memory section, of one memory."""
    return section(5, vector([b"\x00" + number(pages)]))


def exports(*entries: tuple[str | bytes, int, int]) -> bytes:
    """The export section: name, kind, index."""
    return section(7, vector(name(name_) + bytes([kind]) + number(index) for name_, kind, index in entries))


def body(instructions: bytes = b"") -> bytes:
    """A function's entry of the code section: no locals, its instructions, the closing `end`."""
    return number(len(instructions) + 2) + b"\x00" + instructions + b"\x0b"


def code(*bodies: bytes) -> bytes:
    """The code section: each function's instructions, without locals and the closing `end`."""
    return section(10, vector(map(body, bodies)))


def data(*segments: tuple[int, bytes]) -> bytes:
    """The data section: bytes that lie at an offset of the memory from the start."""
    return section(
        11, vector(b"\x00" + const(at) + b"\x0b" + number(len(what)) + what for at, what in segments)
    )


def const(value: int) -> bytes:
    """The instruction `i32.const`."""
    return b"\x41" + signed(value)


def local(index: int) -> bytes:
    """The instruction `local.get`."""
    return b"\x20" + number(index)


def load(address: int) -> bytes:
    """The instructions that load the i32 at an address."""
    return const(address) + b"\x28\x02\x00"


def call(index: int) -> bytes:
    """The instruction `call`."""
    return b"\x10" + number(index)


DROP = b"\x1a"


def plugin(
    marker: str = MARKER,
    *,
    hostcalls: Sequence[tuple[str, bytes]] = (),
    callbacks: Mapping[str, tuple[bytes, bytes]] | None = None,
    segments: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """The smallest module that a host loads, and what a test adds to it.

    `hostcalls` are imports of `env`, by name and signature, called by their place in the list;
    `callbacks` are exports, by name, their signature and instructions.
    """
    own = {
        marker: (signature(), b""),
        "_initialize": (signature(), b""),
        "malloc": (signature(I32, I32), const(BUFFER)),
        **(callbacks or {}),
    }
    kinds = [kind for _, kind in hostcalls] + [kind for kind, _ in own.values()]
    first = len(hostcalls)
    return module(
        types(*kinds),
        imports(*(("env", name_, b"\x00" + number(at)) for at, (name_, _) in enumerate(hostcalls))),
        functions(*range(first, len(kinds))),
        memory(),
        exports(("memory", MEMORY, 0), *((name_, FUNCTION, first + at) for at, name_ in enumerate(own))),
        code(*(body for _, body in own.values())),
        data(*segments),
    )
