"""The functions of a module that its author has written, and the line of each of their instructions.

A module says so if it was built with names and a line table. Without optimisation, the functions of the
source are functions of the module, one by one; a derived one, such as serde's, is nobody's own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from scaffold.core.foreign_files import read_text
from scaffold.core.text import escaped
from scaffold.errors import ModuleError
from scaffold.wasm import line_table, symbols
from scaffold.wasm.code import bodies, instructions
from scaffold.wasm.module import WasmFile

_MANIFEST = "Cargo.toml"
_DERIVED = "::_::"  # in the name of a function: what is in a constant without a name, only macros write
_ABOUT_CRATES = (".debug_info", ".debug_abbrev", ".debug_str")
_LONGEST = 300  # characters of a name
_HINT = "leave out --module: then the plugin is built with both"


@dataclass(frozen=True)
class Step:
    """An instruction: where it is in the code section's body, and where it is from.

    `file` is "" and `line` 0 for what isn't the author's. `first` says whether the line begins here.
    """

    begin: int
    end: int
    opcode: int
    file: str
    line: int
    first: bool


@dataclass(frozen=True)
class Function:
    """A function by its index, with its name and place in the source."""

    index: int
    name: str
    file: str
    line: int
    steps: tuple[Step, ...] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Sources:
    """The source files of some crates, whose paths are relative to `top`.

    `crates` are the folders of all crates that count, by "name-version", which is how a reproducible build
    names them.
    """

    top: Path
    crates: Mapping[str, Path]

    def find(self, name: str) -> str:
        """The path of a file that a line table names; "" if it is of no such crate."""
        return _find(name, self.top, tuple(self.crates.items()))

    def text(self, file: str, line: int) -> str:
        """A line of a file, without the space around it; "" if there is none."""
        path = self.top / file
        with suppress(OSError, ValueError):
            lines = _lines(path, path.stat().st_mtime_ns)
            return lines[line - 1].strip() if 0 < line <= len(lines) else ""
        return ""


def require(module: WasmFile) -> None:
    """Raise `ModuleError` unless a module has the names of its functions, and their lines."""
    names = {each.name for each in module.sections}
    has_names = "name" in names and module.names_readable and not symbols.is_marked(module)
    for has, what in ((has_names, "names of functions"), (".debug_line" in names, "line table")):
        if not has:
            message = f"{module.path} has no {what}, so it can't be said what the tests reach"
            raise ModuleError(message, hint=_HINT)


def functions(module: WasmFile, sources: Sources) -> list[Function]:
    """The author's own functions, by file and line. Raises `ModuleError` like `require`."""
    require(module)
    parts = symbols.sections(module.content)
    folders = line_table.crates(*(parts.get(name, b"") for name in _ABOUT_CRATES))
    rows = line_table.lines(parts[".debug_line"], folders, lambda name: bool(sources.find(name)))
    imported = sum(each.kind == "function" for each in module.imports)
    extents = list(bodies(parts["code"]))
    begins = [begin for begin, _ in extents]
    found = []
    for each in rows:
        place = bisect_right(begins, each[0][0]) - 1
        if place < 0 or each[0][0] >= extents[place][1]:
            continue
        index = imported + place
        name = escaped(symbols.readable(module.names.get(index, f"function {index}")), _LONGEST)
        file, line = sources.find(each[0][1]), each[0][2]
        if _DERIVED in name or sources.text(file, line).startswith("#"):
            continue
        steps = _steps(parts["code"], extents[place], each, sources)
        found.append(Function(index, name, file, line, steps))
    return sorted(found, key=lambda each: (each.file, each.line, each.index))


def _steps(
    code: bytes, extent: tuple[int, int], rows: list[tuple[int, str, int]], sources: Sources
) -> tuple[Step, ...]:
    steps: list[Step] = []
    at = 0
    for begin, end in instructions(code, *extent):
        before = at
        while at + 1 < len(rows) and rows[at + 1][0] <= begin:
            at += 1
        _, name, line = rows[at]
        file = sources.find(name) if line else ""
        first = not steps or at != before
        steps.append(Step(begin, end, code[begin], file, line if file else 0, first))
    return tuple(steps)


@lru_cache(maxsize=4096)
def _find(name: str, top: Path, crates: Collection[tuple[str, Path]]) -> str:
    folders = dict(crates)
    crate, _, rest = name.partition("/")
    path = folders[crate] / rest if crate in folders else Path("/", name)
    if not (name.isprintable() and path.is_relative_to(top) and path.is_file()):
        return ""
    # a crate that is only kept there, or a file that a build has written, isn't the author's
    owner = next((each for each in path.parents if (each / _MANIFEST).is_file()), None)
    if owner is None or owner not in folders.values() or "target" in path.relative_to(owner).parts[:1]:
        return ""
    return path.relative_to(top).as_posix()


@lru_cache(maxsize=256)
def _lines(path: Path, _changed: int) -> tuple[str, ...]:
    return tuple(read_text(path).split("\n"))
