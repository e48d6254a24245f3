"""A module for tests that says where its code is from, as one of rustc's does: names and lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import wasmtime

from scaffold.wasm import symbols
from scaffold.wasm.code import bodies, instructions
from scaffold.wasm.own_code import Sources
from support import wasm_asm as asm
from support.wasm_lines import line_table

CARGO = '[package]\nname = "hello"\nversion = "0.1.0"\n'


def crate(folder: Path, source: str) -> Sources:
    """A crate with one source file."""
    (folder / "src").mkdir()
    (folder / "Cargo.toml").write_text(CARGO)
    (folder / "src/lib.rs").write_text(source)
    return Sources(folder.resolve(), {"hello-0.1.0": folder.resolve()})


def with_lines(wat: str, folder: Path, lines: Mapping[int, Mapping[int, int]]) -> bytes:
    """The module of a text with a line table of the crate: function -> its instruction -> the line there.

    Functions and instructions are counted from 0, imported functions left out.
    """
    content = bytes(wasmtime.wat2wasm(wat))
    code = symbols.sections(content)["code"]
    table = b""
    for function, (begin, end) in enumerate(bodies(code)):
        if function in lines:
            places = instructions(code, begin, end)
            rows = [(places[at][0], line) for at, line in lines[function].items()]
            source = str(folder.resolve() / "src").encode()
            table += line_table(*rows, (end, rows[-1][1]), folder=source)
    return content + asm.section(0, asm.name(".debug_line") + table)
