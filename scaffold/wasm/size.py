"""Where a module's bytes are: by crate, as far as its functions' names are known, and by section.

A function belongs to the crate in its name, or else to that of its source file, or else to the crate that
alone calls it. A generic function belongs to the crate that defines it, not to the one that uses it. The code
is the module's own, after all tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from scaffold.wasm import blame, symbols
from scaffold.wasm.code import bodies
from scaffold.wasm.line_table import number
from scaffold.wasm.module import Section, WasmFile
from scaffold.wasm.symbols import Symbols

# in the path of a source file: the crate, one of Rust's own, one that Rust's own use
_PACKAGE = re.compile(r"(?:^|/)([\w-]+?)-(\d+\.\d+\.\d+[^/]*)/")
_LIBRARY = re.compile(r"library/([\w-]+)/")
_BELOW_STD = "rust/deps/"
_LIBC = "wasisdk://"
_NAME_OF_SDK = "proxy-wasm"
CRATE, SDK, RUST, LIBC = "crate", "SDK", "Rust", "C library"


@dataclass(frozen=True)
class Row:
    """A part of a module.

    `kind` is "crate", "SDK", "Rust" (what comes with rustc) or "C library" for functions; "code" for those
    that nobody owns; "section", "custom" or "names" for a section.
    """

    kind: str
    name: str
    bytes: int
    version: str = ""
    functions: int = 0


@dataclass(frozen=True)
class Function:
    """A function of a module, with its name as the source has it; `crate` is "" if it isn't known."""

    name: str
    crate: str
    version: str
    bytes: int


@dataclass(frozen=True)
class Saved:
    """What trimming saved: the size `before`, the exports left out, whether wasm-opt was used.

    `undecided` says why no export was left out.
    """

    before: int
    left_out: tuple[str, ...]
    optimised: bool
    undecided: str = ""


@dataclass(frozen=True)
class Sizes:
    """A module's bytes: the rows add up to `size`. Rows and functions are sorted, the largest first.

    `unnamed` says why the code isn't divided into crates. `saved` is None if that isn't known.
    """

    size: int
    rows: tuple[Row, ...]
    functions: tuple[Function, ...]
    unnamed: str = ""
    saved: Saved | None = None


def of(module: WasmFile, saved: Saved | None = None) -> Sizes:
    """Where a module's bytes are."""
    known = None if module.component else symbols.known_of(module)
    code = next((each for each in module.sections if each.kind == "code"), None)
    functions = _functions(module, code, known) if code else []
    rows = [_row(each) for each in module.sections if each is not code]
    if code:
        owned = _by_owner(functions) if known else []
        rest = code.size - sum(row.bytes for row in owned)  # its header, and what is damaged, too
        count = len(functions) - sum(row.functions for row in owned)
        rows += [*owned, Row("code", "", rest, "", count)]
    rows.append(Row("section", "header", module.size - sum(row.bytes for row in rows)))
    return Sizes(
        module.size,
        tuple(sorted(rows, key=lambda row: -row.bytes)),
        tuple(sorted((function for _, function in functions), key=lambda each: -each.bytes)),
        "" if known else _why_unnamed(module),
        saved,
    )


def _row(section: Section) -> Row:
    """The row of any section but the code's."""
    kind = "names" if section.name == "name" and section.kind == "custom" else section.kind
    return Row(kind if kind in ("custom", "names") else "section", section.name, section.size)


def _by_owner(functions: list[tuple[str, Function]]) -> list[Row]:
    """A row for each crate that owns functions."""
    owned: dict[tuple[str, str, str], list[int]] = {}
    for kind, each in functions:
        if kind:
            owned.setdefault((kind, each.crate, each.version), []).append(each.bytes)
    return [
        Row(kind, name, sum(sizes), version, len(sizes)) for (kind, name, version), sizes in owned.items()
    ]


def _functions(module: WasmFile, code: Section, known: Symbols | None) -> list[tuple[str, Function]]:
    """The functions in the code, each with the kind of its row, which is "" for one that nobody owns."""
    first = sum(each.kind == "function" for each in module.imports)
    found = dict(enumerate(_by_name(module, code, known), first))
    callers = module.code.callers if known else {}
    for index, (kind, each) in list(found.items()):
        owners = {(found[at][0], found[at][1].crate, found[at][1].version) for at in callers.get(index, ())}
        if not kind and len(owners) == 1:  # wasm-opt leaves what it has made of several without a name
            kind, crate, version = owners.pop()
            found[index] = kind, replace(each, crate=crate, version=version)
    return [*found.values()]


def _by_name(module: WasmFile, code: Section, known: Symbols | None) -> Iterator[tuple[str, Function]]:
    """The same, by names and source files alone."""
    body = code.body(module.content)
    ranges = [(begin, end) for begin, end in bodies(body) if end <= len(body)]
    first = sum(each.kind == "function" for each in module.imports)
    sources = known.files() if known else {}
    owners = _Owners(sources.values(), blame.locked_packages(module.path.parent.absolute()))
    begin = number(body, 0)[1] if ranges else 0
    for index, (_, end) in enumerate(ranges, first):
        name = known.names.get(index, "") if known else ""
        kind, crate, version = owners.of(blame.crate_of(name), sources.get(index, ""))
        yield kind, Function(symbols.readable(name) or f"function {index}", crate, version, end - begin)
        begin = end


class _Owners:
    """Which crates there are, by the names that code has for them."""

    def __init__(self, sources: Iterable[str], locked: Mapping[str, tuple[str, str]]) -> None:
        found = {name: {package} for name, package in locked.items()}
        for match in filter(None, map(_PACKAGE.search, {*sources})):
            found.setdefault(match[1].replace("-", "_"), set()).add((match[1], match[2]))
        self._only = {name: min(packages) for name, packages in found.items() if len(packages) == 1}

    def of(self, crate: str, source: str) -> tuple[str, str, str]:
        """The kind, name and version of a function's owner, by the crate in its name, or "", and its file."""
        package, library = _PACKAGE.search(source), _LIBRARY.match(source)
        if not crate and library:
            crate = library[1].replace("-", "_")
        if crate in blame.OF_RUST:
            return RUST, crate, ""
        if package and crate in ("", package[1].replace("-", "_")):
            name, version = package.groups()
        elif crate:
            name, version = self._only.get(crate, (crate, ""))
        else:
            return (LIBC, "wasi-libc", "") if source.startswith(_LIBC) else ("", "", "")
        if name.replace("_", "-") == _NAME_OF_SDK:
            return SDK, _NAME_OF_SDK, version
        return RUST if source.startswith(_BELOW_STD) else CRATE, name, version


def _why_unnamed(module: WasmFile) -> str:
    if module.component:
        return "the code of a WebAssembly component isn't looked at"
    if symbols.is_marked(module):
        return "its functions' names were kept by a build on another machine, or too long ago: build it again"
    return "it has no functions' names: it was stripped, and not by a build of scaffold"
