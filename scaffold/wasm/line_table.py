"""Find the source line of an instruction in a module's DWARF line table, versions 2 to 4, which rustc writes.

Only as much is read as a backtrace needs: no types, no variables, no tree of what was inlined where.
Source: DWARF 4, 6.2 (line number information) and 7.5 (how entries are written).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _CONST_ADD_PC, _FIXED_ADVANCE_PC = 1, 2, 3, 4, 8, 9
_WITHOUT_EFFECT = {_COPY: 0, 5: 1, 6: 0, 7: 0, 10: 0, 11: 0, 12: 1}  # operands of codes that move nothing
_END_SEQUENCE, _SET_ADDRESS = 1, 2
_FOLDER, _LINES = 0x1B, 0x10  # attributes of a crate
# the bytes of what they, and the others of a crate, may be: an address, numbers, a place in a section, a flag
_FORMS = {0x01: 4, 0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x0C: 1, 0x0E: 4, 0x17: 4, 0x19: 0}
_STD = re.compile(r"^/rustc/[0-9a-f]+/|^.*(?=\bwasisdk://)")


@dataclass(frozen=True)
class Place:
    """A line of a source file, whose path is as the compiler was told to write it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


Row = tuple[int, int, int]  # address, file, line


def lookup(table: bytes, address: int, folders: Mapping[int, str]) -> tuple[Place, ...]:
    """The line of the instruction at an address in the code section; nothing if the table doesn't know it.

    If the instruction was inlined from another file, the last line before it of the function's own file is
    second. `folders` are those of `crates`.
    """
    with suppress(LookupError, ValueError, ArithmeticError):  # damaged, or of a later version
        for unit in _units(table, folders):
            for rows in unit.sequences():
                if rows[0][0] <= address < rows[-1][0]:
                    return tuple(unit.places(rows, address))
    return ()


def addresses(table: bytes, end: int) -> list[int]:
    """Where lines begin, up to the code's end; none if the table is damaged."""
    found: set[int] = set()
    with suppress(IndexError, ValueError):
        for unit in _units(table, {}):
            for rows in unit.sequences():
                if 0 < rows[0][0] < end:  # not a function that the linker has left out
                    found.update(address for address, _, _ in rows[:-1])
    return sorted(found)


def functions(table: bytes, folders: Mapping[int, str]) -> list[tuple[int, int, str]]:
    """Where each function begins and ends, and its file, as far as the table isn't damaged."""
    found = []
    with suppress(LookupError, ValueError, ArithmeticError):
        for unit in _units(table, folders):
            files = unit.files()
            found += [(rows[0][0], rows[-1][0], files[rows[0][1]]) for rows in unit.sequences()]
    return sorted(each for each in found if each[0])  # those at 0 are functions that the linker has left out


def lines(
    table: bytes, folders: Mapping[int, str], wanted: Callable[[str], bool]
) -> Iterator[list[tuple[int, str, int]]]:
    """The rows (address, file, line) of each function that begins in a wanted file, as far as undamaged.

    Line 0 is what the compiler has added. The last row is where the function ends.
    """
    with suppress(LookupError, ValueError, ArithmeticError):
        for unit in _units(table, folders):
            files = unit.files()
            for rows in unit.sequences():
                if rows[0][0] and wanted(files[rows[0][1]]):  # not one that the linker has left out
                    yield [(address, files[file], line) for address, file, line in rows]


class _Unit:
    """The line program of one crate, or of one file of C."""

    def __init__(self, table: bytes, at: int, end: int, folder: str) -> None:
        self._table, self._end = table, end
        begin = int.from_bytes(table[at + 6 : at + 10], "little") + at + 10
        at += 10
        self._step = table[at]  # bytes of an instruction
        at += 2 if table[at - 6] >= 4 else 1  # version 4 has the operations of a VLIW instruction, too
        self._base = int.from_bytes(table[at + 1 : at + 2], "little", signed=True)
        self._range, self._first_special = table[at + 2], table[at + 3]
        at += 3 + self._first_special
        folders, at = self._strings(at)
        self._folders = [folder, *folders]
        self._at, self._begin = at, begin

    def _strings(self, at: int) -> tuple[list[str], int]:
        found = []
        while self._table[at]:
            end = self._table.index(0, at)
            found.append(self._table[at:end].decode())
            at = end + 1
        return found, at + 1

    def files(self) -> list[str]:
        """The files by their numbers, which begin at 1."""
        files, at = [""], self._at
        while self._table[at]:
            end = self._table.index(0, at)
            folder, after = number(self._table, end + 1)
            name = self._table[at:end].decode()
            files.append(_short(posixpath.join(self._folders[0], self._folders[folder], name)))
            at = number(self._table, number(self._table, after)[1])[1]
        return files

    def places(self, rows: list[Row], address: int) -> Iterator[Place]:
        files = self.files()
        own = rows[0][1]
        passed = [row for row, after in pairwise(rows) if row[0] <= address and row[2]]
        _, file, line = passed[-1]
        yield Place(files[file], line)
        if file != own:
            outer = [row for row in passed if row[1] == own][-1]
            yield Place(files[own], outer[2])

    def sequences(self) -> Iterator[list[Row]]:
        """The rows of each function; the last one is where the function ends."""
        table, at, end = self._table, self._begin, self._end
        base, span, first, step = self._base, self._range, self._first_special, self._step
        address, file, line = 0, 1, 1
        rows: list[Row] = []
        while at < end:
            code = table[at]
            at += 1
            if code >= first:
                address += (code - first) // span * step
                line += base + (code - first) % span
                rows.append((address, file, line))
            elif code == 0:
                size, at = number(table, at)
                if table[at] == _SET_ADDRESS:
                    address = int.from_bytes(table[at + 1 : at + size], "little")
                elif table[at] == _END_SEQUENCE:
                    rows.append((address, file, line))
                    yield rows
                    rows, address, file, line = [], 0, 1, 1
                at += size
            elif code == _ADVANCE_PC:
                more, at = number(table, at)
                address += more * step
            elif code == _ADVANCE_LINE:
                more, at = number(table, at, signed=True)
                line += more
            elif code == _SET_FILE:
                file, at = number(table, at)
            elif code == _CONST_ADD_PC:
                address += (255 - first) // span * step
            elif code == _FIXED_ADVANCE_PC:
                address += int.from_bytes(table[at : at + 2], "little")
                at += 2
            else:
                for _ in range(_WITHOUT_EFFECT[code]):
                    at = number(table, at)[1]
                if code == _COPY:
                    rows.append((address, file, line))


def _short(path: str) -> str:
    """A path without what stands before the crate: "crate-1.0.0/src/lib.rs", "library/core/src/option.rs"."""
    return _STD.sub("", path if "://" in path else posixpath.normpath(path)).lstrip("/")


def _units(table: bytes, folders: Mapping[int, str]) -> Iterator[_Unit]:
    at = 0
    while at < len(table):
        end = at + 4 + int.from_bytes(table[at : at + 4], "little")
        if 2 <= int.from_bytes(table[at + 4 : at + 6], "little") <= 4:
            yield _Unit(table, at, end, folders.get(at, ""))
        at = end


def crates(info: bytes, abbreviations: bytes, strings: bytes) -> dict[int, str]:
    """The folders in which crates were compiled, by where their part of the line table begins."""
    found: dict[int, str] = {}
    at = 0
    with suppress(IndexError, ValueError, LookupError):  # forms that rustc doesn't use
        while at < len(info):
            size = int.from_bytes(info[at : at + 4], "little")
            if int.from_bytes(info[at + 4 : at + 6], "little") <= 4:
                begin = int.from_bytes(info[at + 6 : at + 10], "little")
                values = _first_entry(info, at + 11, abbreviations, begin)
                if _FOLDER in values:
                    text = values[_FOLDER]
                    found[values[_LINES]] = strings[text : strings.index(0, text)].decode()
            at += 4 + size
    return found


def _first_entry(info: bytes, at: int, abbreviations: bytes, begin: int) -> dict[int, int]:
    """The numbers of the entry that describes a crate, by their attribute."""
    wanted, at = number(info, at)
    while True:
        code, begin = number(abbreviations, begin)
        _, begin = number(abbreviations, begin)
        begin += 1
        values: dict[int, int] = {}
        while True:
            attribute, begin = number(abbreviations, begin)
            form, begin = number(abbreviations, begin)
            if not form:
                break
            if code == wanted:
                values[attribute] = int.from_bytes(info[at : at + _FORMS[form]], "little")
                at += _FORMS[form]
        if code == wanted:
            return values


def number(content: bytes, at: int, *, signed: bool = False) -> tuple[int, int]:
    """A LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value - (1 << shift) if signed and byte & 0x40 else value, at
