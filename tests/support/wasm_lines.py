"""A line table for tests: DWARF, version 4."""

from __future__ import annotations

from support import wasm_asm as asm


def line_table(*rows, file=b"lib.rs", folder=b"/rustc/0123abcd/library/core/src", base=-5, span=14):
    """A unit of version 4 with one function: rows of an address and a line, the last one its end."""
    program, line = b"", 1
    for at, (address, to) in enumerate(rows):
        program += b"\x00\x05\x02" + address.to_bytes(4, "little") + b"\x03" + asm.signed(to - line)
        program += b"\x01" if at < len(rows) - 1 else b"\x00\x01\x01"
        line = to
    files = folder + b"\0\0" + file + b"\0\x01\x00\x00" + b"\0"
    header = bytes([1, 1, 1, base & 0xFF, span, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]) + files
    unit = b"\x04\x00" + len(header).to_bytes(4, "little") + header + program
    return len(unit).to_bytes(4, "little") + unit
