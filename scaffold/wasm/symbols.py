"""What a stripped module has lost, kept in a file: its functions' names and the lines they came from.

A stripped module keeps one thing: the names of its exported functions, each with `@` and an id of the module.
Envoy writes a backtrace only for a module with at least one name, and each backtrace ends in an exported
function. So each says which kept file belongs to it, wherever the log has been in between.
Sources: WebAssembly core specification, 7.4.1 (name section); proxy-wasm-cpp-host, src/v8/v8.cc,
getFailMessage; WebAssembly/tool-conventions, DWARF.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from scaffold.core import files
from scaffold.core.foreign_files import read_bytes
from scaffold.wasm import line_table, source_map
from scaffold.wasm.code import bodies
from scaffold.wasm.line_table import Place, number
from scaffold.wasm.module import WasmFile
from scaffold.wasm.rewrite import section, written

FOLDER = "names"  # beside a module that a build has made
_KEPT = 60  # files in a folder; those of older builds are removed
_PIECE = 2**20  # bytes that are unpacked at once
_ID_DIGITS = 8
_ABOUT_CRATES = (".debug_info", ".debug_abbrev", ".debug_str")
_BACKTRACE = "Proxy-Wasm plugin in-VM backtrace:"
_MARK = re.compile(rf"@([0-9a-f]{{{_ID_DIGITS}}})$")
_ID = re.compile(rf" - \S+@([0-9a-f]{{{_ID_DIGITS}}})$", re.MULTILINE)
_FRAME = re.compile(r"(?<=:  )0x([0-9a-f]+) - (?:unknown\(function index:(\d+)\)|(\S.*))$", re.MULTILINE)
_SHARED = "byn$mgfn-shared$"  # begins the name of what wasm-opt has made of several functions
_HASH = re.compile(r"::h[0-9a-f]{16}$")
_MORE = 0x80  # in a byte of a number: another one follows


@dataclass(frozen=True)
class Symbols:
    """What is kept of a module.

    `names` are those of functions by their index, the `imported` ones first. `code` is the module's code
    section, which is at `begin`; `linked` is the same as `lines`, its line table, knows it, maybe with longer
    numbers in it. They are empty where no lines are known. `crates` are the line table's folders. After a
    tool that moved instructions, `positions` is a source map to `linked`, and `linked` is empty.
    """

    names: dict[int, str]
    exported: dict[str, int]
    imported: int
    begin: int
    code: bytes
    linked: bytes = b""
    lines: bytes = b""
    crates: Mapping[int, str] = field(default_factory=dict)
    positions: str = ""

    @classmethod
    def of(cls, content: bytes, *, named: bytes, linked: bytes, positions: str = "") -> Symbols:
        """What is known about the stripped module `content`, which has the same functions as `named`.

        `linked` is what has the lines: the same, or the module before a tool, with `positions` as above.
        """
        own, names, lines = sections(content), sections(named), sections(linked)
        module, has_names = WasmFile.parse(content, Path()), WasmFile.parse(named, Path()).names_readable
        table = lines.get(".debug_line", b"")
        return cls(
            names=dict(_names(names.get("name", b"") if has_names else b"")),
            exported=_exported(own.get("export", b"\0")),
            imported=sum(each.kind == "function" for each in module.imports),
            begin=code_begin(content),
            code=own["code"] if table else b"",
            linked=lines["code"] if table and not positions else b"",
            lines=table,
            crates=line_table.crates(*(lines.get(name, b"") for name in _ABOUT_CRATES)),
            positions=positions if table else "",
        )

    def packed(self) -> bytes:
        """The bytes of a file."""
        parts = [self.code, self.linked, self.lines]
        maps = [list(each.items()) for each in (self.names, self.exported, self.crates)]
        head = json.dumps([maps, self.positions, self.imported, self.begin, *map(len, parts)])
        return zlib.compress(head.encode() + b"\n" + b"".join(parts), 1)

    @classmethod
    def unpack(cls, record: bytes) -> Symbols:
        """The reverse. Raises `ValueError` for anything else."""
        try:
            head, _, rest = zlib.decompress(record).partition(b"\n")
            maps, positions, imported, begin, code, linked, _ = json.loads(head)
            names, exported, crates = map(dict, maps)
            parts = rest[:code], rest[code : code + linked], rest[code + linked :]
            return cls(names, exported, imported, begin, *parts, crates, positions)
        except (zlib.error, TypeError) as error:
            raise ValueError(str(error)) from error

    @staticmethod
    def names_of(record: bytes) -> dict[int, str]:
        """The names in the bytes of a file, whose rest isn't unpacked. Raises `ValueError` for any other."""
        stream, head = zlib.decompressobj(), b""
        try:
            while b"\n" not in head:
                piece = stream.decompress(record, _PIECE)
                if not piece:
                    raise ValueError("it is cut short")
                head, record = head + piece, stream.unconsumed_tail
            return dict(json.loads(head.partition(b"\n")[0])[0][0])
        except (zlib.error, TypeError, LookupError) as error:
            raise ValueError(str(error)) from error

    @cached_property
    def _ranges(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return list(bodies(self.code)), list(bodies(self.linked))

    def name(self, function: int) -> str:
        """A function's name as its source has it."""
        return readable(self.names[function]) if function in self.names else f"function {function}"

    def places(self, function: int, offset: int) -> tuple[Place, ...]:
        """Where the instruction at an offset of the file comes from, as `line_table.lookup` says."""
        own, linked = self._ranges
        place, at = function - self.imported, offset - self.begin
        if not (0 <= place < len(own) and own[place][0] <= at < own[place][1]):
            return ()
        if self.positions:
            return self._moved_places(self.begin + own[place][0], offset)
        if len(own) != len(linked):
            return ()
        (begin, _), (there, end) = own[place], linked[place]
        before = self.code[begin:at]
        address = there + _longer(before, self.linked[there:end])
        return line_table.lookup(self.lines, address, self.crates)

    def _moved_places(self, begin: int, offset: int) -> tuple[Place, ...]:
        """The same after a tool that may have put other functions into the one that is at `begin`."""
        *before, last = source_map.between(self.positions, begin, offset) or [None]
        if last is None:
            return ()
        places = line_table.lookup(self.lines, last, self.crates)
        passed = [place for place in (*before, last) if place is not None]
        extents = (range(begin, end) for begin, end, _ in self._known)
        own = next((each for each in extents if passed[0] in each), range(0))
        outer = [place for place in passed if place in own]
        if last in own or not outer:
            return places
        return *places[:1], *line_table.lookup(self.lines, outer[-1], self.crates)[-1:]

    @cached_property
    def _known(self) -> list[tuple[int, int, str]]:
        return line_table.functions(self.lines, self.crates)

    def files(self) -> dict[int, str]:
        """The source file of each function by its index, as far as lines are known."""
        begins, found = [begin for begin, _, _ in self._known], {}
        for index, address in self._addresses():
            at = bisect_right(begins, address) - 1
            if at >= 0 and address < self._known[at][1]:
                found[index] = self._known[at][2]
        return found

    def _addresses(self) -> Iterator[tuple[int, int]]:
        """An address in each function, as the line table has it, by the function's index."""
        own, linked = self._ranges
        if not self.positions:
            yield from ((index, end - 1) for index, (_, end) in enumerate(linked, self.imported))
            return
        entries = [(at, place) for at, place in source_map.read(self.positions) if place is not None]
        for index, (begin, end) in enumerate(own, self.imported):
            at = bisect_left(entries, (self.begin + begin,))
            if at < len(entries) and entries[at][0] < self.begin + end:
                yield index, entries[at][1]


def sections(content: bytes) -> dict[str, bytes]:
    """The bodies of a module's sections; of several custom ones with the same name, the first."""
    found: dict[str, bytes] = {}
    for each in WasmFile.parse(content, Path()).sections:
        found.setdefault(each.name, each.body(content))
    return found


def stripped(content: bytes) -> bytes:
    """A module without its custom sections, as the linker's `--strip-all` leaves it."""
    own = [each for each in WasmFile.parse(content, Path()).sections if each.kind != "custom"]
    return content[:8] + b"".join(content[each.at : each.at + each.size] for each in own)


def without_lines(content: bytes) -> bytes:
    """A module without its custom sections, except for its names."""
    return stripped(content) + section(0, _text("name") + sections(content).get("name", b""))


def positions(content: bytes) -> str:
    """A source map of a module with lines: for each offset at which a line begins, its address."""
    bodies, begin = sections(content), code_begin(content)
    addresses = line_table.addresses(bodies.get(".debug_line", b""), len(bodies["code"]))
    return source_map.write((begin + address, address) for address in addresses)


def code_begin(content: bytes) -> int:
    """Where the body of the code section begins."""
    section = next(each for each in WasmFile.parse(content, Path()).sections if each.kind == "code")
    return number(content, section.at + 1)[1]


def marked(content: bytes) -> bytes:
    """A stripped module with the names that let Envoy write backtraces."""
    exported = {index: name for name, index in _exported(sections(content).get("export", b"\0")).items()}
    names = [written(index) + _text(f"{exported[index]}@{id_of(content)}") for index in sorted(exported)]
    return content + section(0, _text("name") + section(1, written(len(names)) + b"".join(names)))


def id_of(content: bytes) -> str:
    """What tells a stripped module from all others."""
    return hashlib.sha256(content).hexdigest()[:_ID_DIGITS]


def keep(symbols: Symbols, module: str, folder: Path) -> None:
    """Keep the symbols of the module with that id in a folder, and in the user's cache."""
    record = symbols.packed()
    for place in (folder, _cache()):
        with suppress(OSError):  # without it, a backtrace has numbers
            files.private(place)
            files.write(place / _file(module), record)
            for old in sorted(place.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
                old.unlink(missing_ok=True)


def restore(module: str, folder: Path) -> None:
    """Copy what a build has kept in a folder to the user's cache, should it be missing there."""
    with suppress(OSError):
        if not (_cache() / _file(module)).exists():
            files.private(_cache())
            files.write(_cache() / _file(module), read_bytes(folder / _file(module)))


def names_in(module: WasmFile) -> dict[int, str]:
    """The functions' names that are in a module, or are kept of it; nothing if neither is so."""
    names, mark = _own_names(module)
    if not mark:
        return names
    for path in _places(mark, module):
        with suppress(OSError, ValueError):
            return Symbols.names_of(read_bytes(path))
    return {}


def known_of(module: WasmFile) -> Symbols | None:
    """All that is known about a module's functions: what it has itself, or what was kept of it."""
    names, mark = _own_names(module)
    if mark:
        return _kept_of(mark, module)
    if not names or not any(each.kind == "code" for each in module.sections):
        return None
    return Symbols.of(module.content, named=module.content, linked=module.content)


def is_marked(module: WasmFile) -> bool:
    """Whether a build of ours has stripped a module, and kept its names."""
    return bool(_own_names(module)[1])


def _own_names(module: WasmFile) -> tuple[dict[int, str], str]:
    """The functions' names in a module, and the id in them, or ""."""
    section = next((each for each in module.sections if each.name == "name"), None)
    if section is None or not module.names_readable:
        return {}, ""
    names = dict(_names(section.body(module.content)))
    mark = _MARK.search(next(iter(names.values()), ""))  # `marked` has put it into each
    return names, mark[1] if mark else ""


def _places(mark: str, module: WasmFile) -> list[Path]:
    """Where something may have been kept: in the cache, and beside a module that is a file."""
    beside = [module.path.parent / FOLDER] if module.path.is_absolute() else []
    return [folder / _file(mark) for folder in (_cache(), *beside)]


def _kept_of(mark: str, module: WasmFile) -> Symbols | None:
    return next(filter(None, map(_unpacked, _places(mark, module))), None)


@lru_cache(maxsize=256)  # a plugin that crashes again and again says the same
def explained(text: str) -> str:
    """A message of Envoy's, with names and lines in its backtrace as far as they are known."""
    if _BACKTRACE not in text:
        return text
    found = _ID.search(text)
    symbols = _kept(found[1]) if found else None
    try:
        return _FRAME.sub(lambda match: _frame(match, symbols), text)
    except (ValueError, LookupError, ArithmeticError):  # a file of names that is damaged
        return text


def _frame(match: re.Match[str], symbols: Symbols | None) -> str:
    offset, index, name = match.groups()
    if name is None and symbols is None:
        return match[0]
    if symbols is None:
        return readable(name)
    function = int(index) if index else symbols.exported.get(name.partition("@")[0], -1)
    places = symbols.places(function, int(offset, 16))
    where = "".join(map(str, places[:1]))
    if len(places) > 1:
        where = f"after {places[1]}, inlined from {where}"
    return symbols.name(function) + (f" ({where})" if where else "")


@lru_cache(maxsize=8192)
def readable(name: str) -> str:
    """A Rust function's name as its source has it; any other name as it is."""
    name = name.removeprefix(_SHARED)
    if not name.startswith(("_R", "_ZN")):
        return name
    from rust_demangler import demangle  # type: ignore[import-untyped]

    try:
        return _HASH.sub("", str(demangle(name)))
    except Exception:  # the library's errors have no base class, and no name is worth one
        return name


@lru_cache(maxsize=8)
def _kept(module: str) -> Symbols | None:
    return _unpacked(_cache() / _file(module))


def _unpacked(path: Path) -> Symbols | None:
    with suppress(OSError, ValueError):
        return Symbols.unpack(read_bytes(path))
    return None


def _cache() -> Path:
    return files.cache_dir() / "names"


def _file(module: str) -> str:
    return f"{module}.names"


# --- parts of a module that `WasmFile` has found to be whole


def _names(body: bytes) -> Iterator[tuple[int, str]]:
    """The functions' names in the body of a name section."""
    at = 0
    while at < len(body):
        kind, (size, begin) = body[at], number(body, at + 1)
        at = begin + size
        if kind == 1:
            count, begin = number(body, begin)
            for _ in range(count):
                index, begin = number(body, begin)
                size, begin = number(body, begin)
                yield index, body[begin : begin + size].decode(errors="replace")
                begin += size


def _exported(body: bytes) -> dict[str, int]:
    """The exported functions in the body of an export section."""
    count, at = number(body, 0)
    found = {}
    for _ in range(count):
        size, at = number(body, at)
        name, kind = body[at : at + size].decode(), body[at + size]
        index, at = number(body, at + size + 1)
        if kind == 0:
            found[name] = index
    return found


def _longer(before: bytes, linked: bytes) -> int:
    """How many bytes of a function in `linked` become the bytes `before`.

    The linker writes numbers that it fills in with five bytes, unless it is told to shorten them.
    """
    at = 0
    for byte in before:
        longer = byte < _MORE and linked[at] == byte | _MORE
        at += 1
        while longer:
            longer, at = linked[at] >= _MORE, at + 1
    return at


def _text(text: str) -> bytes:
    return written(len(text.encode())) + text.encode()
