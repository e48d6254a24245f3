"""Read a wasm file: its sections, imports, exports, and the traces of the tools that made it.

Code is looked at when somebody asks, data never. Reading takes time in proportion to the file's size, and
little memory beside its bytes. Every command that opens a module reads it here: what one calls broken, all
do.
Sources: WebAssembly core specification, 5 (binary format); WebAssembly/component-model,
design/mvp/Binary.md; v8/v8, src/wasm/wasm-limits.h; WebAssembly/tool-conventions, ProducersSection.md and
Linking.md (target features).
"""

from __future__ import annotations

import os
import re
import shlex
from array import array
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core.files import digest
from scaffold.core.foreign_files import open_regular, read_bytes, read_opened, remedy
from scaffold.errors import ModuleError
from scaffold.wasm import other_files
from scaffold.wasm.line_table import number

if TYPE_CHECKING:
    from scaffold.wasm.code import Code

MAGIC = b"\0asm"
CORE = b"\x01\x00\x00\x00"
COMPONENT = b"\x0d\x00\x01\x00"
ABI_VERSIONS = {
    "proxy_abi_version_0_1_0": "0.1.0",
    "proxy_abi_version_0_2_0": "0.2.0",
    "proxy_abi_version_0_2_1": "0.2.1",
}
SIZE_LIMIT = 2**30  # bytes of a file; V8's, like the next two
_COUNT_LIMIT = 1_000_000  # types or functions
_PARAMETER_LIMIT = 1000
# ours, far above what any plugin has: of all these we keep the names
_TIMER = "proxy_set_tick_period_milliseconds"
_ENTRY_LIMIT = 20_000  # sections, imports or exports
_LISTED_LIMIT = 2 * 2**20  # bytes of all imports, or of all exports
_NAME_LIMIT = 300  # bytes of any other name
_TOOL_LIMIT = 100  # entries in a list of producers or features, or parts of the names
_ALL_LIMIT = 5_000_000  # entries of all lists of a file: they are read one by one, a million in a second

_CORE = "custom|type|import|function|table|memory|global|export|start|element|code|data|data count|tag"
_OUTER = (
    "custom|core module|core instance|core type|component|instance|alias|type|canon|start|import|export|value"
)
_ORDER = "type|import|function|table|memory|tag|global|export|start|element|data count|code|data".split("|")
_EXTERNS = ("function", "table", "memory", "global", "tag")
_VALUES = {
    0x7F: ("i", "i32"),
    0x7E: ("I", "i64"),
    0x7D: ("f", "f32"),
    0x7C: ("F", "f64"),
    0x7B: ("v", "v128"),
    0x70: ("r", "funcref"),
    0x6F: ("e", "externref"),
}
_LETTERS = dict.fromkeys(range(256), "?") | {byte: letter for byte, (letter, _) in _VALUES.items()}
_WORDS = dict(_VALUES.values()) | {"?": "?"}
_REFERENCES = {0x63, 0x64}  # value types of more than one byte

# a source file of the Rust SDK, named in a panic's message: in a registry, a git checkout or a folder; what
# `++` and `}+` have matched stays matched, so that no content makes the search go back and forth
_RUST_SOURCE = re.compile(
    rb"proxy-wasm(?:-rust-sdk(?:-\w++)?(?:[\\/]\w++)?|-(\d++\.\d++\.\d++[\w.+-]{0,40}+))?"
    rb"[\\/]src[\\/](?:dispatcher|hostcalls|allocator)\.rs"
)
_ASSEMBLYSCRIPT = "~lib/rt/".encode("utf-16-le")  # the files of its runtime, named in a trap's message


class NotAPlugin(ModuleError):
    """The file isn't a wasm module, or the module exports no marker of a proxy-wasm ABI."""


_FUNCREF = 0x70


@dataclass(frozen=True, slots=True)
class Extern:
    """An import; or an export, whose `module` is "".

    `signature` is a function's: a letter for each value, i, I, f, F for i32, i64, f32, f64. "iii>i" takes
    three i32 and returns one, "i>-" returns nothing. It is "" for anything else; but for an imported table
    of something else than functions it is that type's first byte.
    """

    module: str
    name: str
    kind: str
    signature: str = ""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file. `at` and `size` are in bytes and include the part's header.

    `name` is a custom section's own name, otherwise the same as `kind`.
    """

    kind: str
    name: str
    at: int
    size: int

    def body(self, content: bytes) -> bytes:
        """Its content in the bytes of the file, without the header and a custom section's name."""
        _, at = number(content, self.at + 1)
        if self.kind == "custom":
            size, at = number(content, at)
            at += size
        return content[at : self.at + self.size]


@dataclass(frozen=True)
class WasmFile:
    """Any wasm file, whether a host would load it or not. Only the outermost sections of a component count.

    `abi_version` is None when no known marker is exported. `functions` counts the module's own functions, not
    the imported ones. `memory_pages`, of 64 KiB each, is the initial size of its largest memory. `producers`
    are the tools that made it: field -> name -> version. `sdk` is what the plugin was written with, or
    "unknown".
    """

    path: Path
    size: int
    digest: str
    sections: tuple[Section, ...]
    component: bool = False
    abi_version: str | None = None
    imports: tuple[Extern, ...] = ()
    exports: tuple[Extern, ...] = ()
    functions: int = 0
    memory_pages: int = 0
    start: bool = False
    names_readable: bool = True
    features: tuple[str, ...] = ()
    producers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sdk: str = "unknown"
    content: bytes = field(default=b"", repr=False, compare=False)

    @classmethod
    def read(cls, path: Path) -> WasmFile:
        """Read a wasm file. Raises `NotAPlugin` when it isn't one, is broken, or too large for any host."""
        return replace(cls.parse(_content(path), path), path=path.resolve())

    @classmethod
    def parse(cls, content: bytes, path: Path) -> WasmFile:
        """The same for a file's bytes, which `path` names in messages."""
        _check_header(content[: other_files.HEAD], path)
        component = content[4:8] == COMPONENT
        parts = _parts(content, path, component)
        customs: dict[str, _Reader] = {}
        for section, body in reversed(parts):  # of several with the same name, the first counts
            if section.kind == "custom":
                customs[section.name] = body
        nothing = _Reader(b"", path, 0, 0)
        outer = cls(
            path=path,
            size=len(content),
            digest=digest(content),
            content=content,
            sections=tuple(section for section, _ in parts),
            component=component,
            names_readable=_names_readable(customs.get("name", nothing)),
            features=_features(customs.get("target_features", nothing)),
            producers=_producers(customs.get("producers", nothing)),
        )
        whole = outer if component else _with_core_sections(outer, parts)
        names = {each.name for each in (*whole.imports, *whole.exports)}
        return replace(whole, sdk=_sdk(content, whole.producers, names))

    def require_core(self) -> None:
        """Raise `NotAPlugin` for a component."""
        if self.component:
            raise NotAPlugin(
                f"{self.path} is a WebAssembly component; proxy-wasm hosts load core modules",
                hint="compile for wasm32-wasip1, not wasm32-wasip2",
            )

    def require_plugin(self) -> str:
        """The version of its ABI. Raises `NotAPlugin` for a component, and when no marker is exported."""
        self.require_core()
        if self.abi_version is None:
            raise NotAPlugin(
                f"{self.path} exports no proxy-wasm ABI marker, so no host would load it",
                hint="does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?",
            )
        return self.abi_version

    @cached_property
    def code(self) -> Code:
        """What its code says. It takes 50 ms for a MB."""
        from scaffold.wasm.code import Code

        section = next((each.body(self.content) for each in self.sections if each.kind == "code"), b"")
        return Code.read(section, sum(each.kind == "function" for each in self.imports))

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Its functions' names, or those that a build has kept of it; none if neither is so."""
        from scaffold.wasm import symbols

        return symbols.names_in(self)

    @cached_property
    def callable(self) -> dict[str, str]:
        """The exported functions: name -> signature."""
        return {export.name: export.signature for export in self.exports if export.kind == "function"}


@dataclass(frozen=True)
class WasmModule:
    """A compiled plugin on disk. `digest` ("sha256:...") is the whole file's; `exports` are name -> kind.

    `ticks` says whether it can ask the host for a timer.
    """

    path: Path
    size: int
    digest: str
    abi_version: str
    exports: dict[str, str]
    ticks: bool = False

    @classmethod
    def read(cls, path: Path) -> WasmModule:
        """Read a compiled plugin.

        Its ABI is the version in the name of an exported marker function, which hosts look for but never
        call; the first in the file's order counts, as in Envoy.

        Raises `NotAPlugin` when the file isn't a wasm module, or exports no marker.
        Source: proxy-wasm/spec, abi-versions/v0.2.1; proxy-wasm-cpp-host, src/bytecode_util.cc.
        """
        content = _content(path)
        read = WasmFile.parse(content, path)
        abi_version = read.require_plugin()
        exports = {each.name: each.kind for each in read.exports}
        ticks = any(each.name == _TIMER for each in read.imports)
        made = cls(path.resolve(), read.size, read.digest, abi_version, exports, ticks)
        made.__dict__.update(content=content, file=read)  # which need not be read and hashed again
        return made

    @cached_property
    def content(self) -> bytes:
        """The file's bytes.

        Raises `ModuleError` if the file has changed since another process read it.
        """
        try:
            content = read_bytes(self.path, SIZE_LIMIT)
        except OSError as error:
            raise ModuleError(f"cannot read the module {self.path}: {error.strerror}") from error
        if digest(content) != self.digest:
            raise ModuleError(
                f"{self.path} changed while it was being read", hint="is it being built? try again"
            )
        return content

    @cached_property
    def file(self) -> WasmFile:
        """Everything that the file says. Raises like `content`."""
        return WasmFile.parse(self.content, self.path)

    def summary(self) -> str:
        """The path, and a line for each detail."""
        return (
            f"{self.path}\n"
            f"  size           {self.size:,} bytes\n"
            f"  ABI            {self.abi_version}\n"
            f"  module digest  {self.digest}"
        )


def readable(signature: str) -> str:
    """A signature as people write it: "(i32, i32) -> i32" for "ii>i"."""
    parameters, _, results = signature.partition(">")
    after = ", ".join(_WORDS[letter] for letter in results.removesuffix("-")) or "nothing"
    return f"({', '.join(_WORDS[letter] for letter in parameters)}) -> {after}"


def _content(path: Path) -> bytes:
    """The bytes of a file that begins like a wasm module or component; raises `NotAPlugin` otherwise."""
    try:
        with open_regular(path) as file:
            _check_header(file.read(other_files.HEAD), path, on_disk=True)
            size = os.fstat(file.fileno()).st_size
            if size > SIZE_LIMIT:
                raise NotAPlugin(f"{path} has {size:,} bytes, and no host takes more than 1 GiB")
            file.seek(0)
            return read_opened(file, path, SIZE_LIMIT)
    except OSError as error:
        message = f"cannot read the module {path}: {error.strerror}"
        hint = other_files.BUILD if isinstance(error, FileNotFoundError) else remedy(error)
        raise NotAPlugin(message, hint=hint) from error


def _check_header(header: bytes, path: Path, *, on_disk: bool = False) -> None:
    """Raise `NotAPlugin` for any other file, with a hint for the file at `path` if it is `on_disk`."""
    if not header:
        raise NotAPlugin(f"{path} is empty")
    if header[:4] != MAGIC:
        other = other_files.recognise(header)
        kind = f"it is {other.what}" if other else f"it begins with {header[:4]!r}"
        hint = other.hint.format(path=shlex.quote(str(path))) if other and on_disk else None
        raise NotAPlugin(f"{path} isn't a wasm module ({kind})", hint=hint)
    if header[4:8] not in (CORE, COMPONENT):
        raise NotAPlugin(f"{path} has an unknown wasm version ({header[4:8].hex()})")


# --- sections


def _parts(content: bytes, path: Path, component: bool) -> list[tuple[Section, _Reader]]:
    """The sections and their bodies; the reader of a custom section has read its name.

    Those of a core module that aren't custom come once each, in the specification's order.
    """
    kinds = (_OUTER if component else _CORE).split("|")
    reader = _Reader(content, path, 8, len(content))
    parts: list[tuple[Section, _Reader]] = []
    last = -1
    while reader.at < reader.end:
        if len(parts) == _ENTRY_LIMIT:
            raise reader.broken(f"it has more than {_ENTRY_LIMIT:,} sections")
        at, number = reader.at, reader.byte()
        body = reader.part(reader.number())
        if number >= len(kinds):
            raise body.broken(f"there is no section of kind {number}")
        kind = kinds[number]
        if not component and kind in _ORDER:
            place = _ORDER.index(kind)
            if place <= last:
                raise body.broken(f"its section `{kind}` is out of place")
            last = place
        name = body.name() if kind == "custom" else kind
        parts.append((Section(kind, name, at, body.end - at), body))
    return parts


def _with_core_sections(outer: WasmFile, parts: list[tuple[Section, _Reader]]) -> WasmFile:
    """The file with what the sections of a core module say."""
    bodies = {section.kind: body for section, body in parts if section.kind != "custom"}

    def body(kind: str) -> _Reader:
        return bodies.get(kind) or _Reader(b"\0", outer.path, 0, 1)  # an empty list

    for kind in ("import", "export"):
        listed = body(kind)
        if (size := listed.end - listed.at) > _LISTED_LIMIT:
            raise listed.broken(f"its section `{kind}` has {size:,} bytes: {_LISTED_LIMIT:,} is the limit")
    types = _Types(body("type"))
    imports, pages = _imports(body("import"), types)
    own, memories = body("function"), body("memory")
    declared, defined = own.count("functions"), body("code").count("functions")
    if declared != defined:
        raise own.broken(f"it declares {declared:,} functions and has code for {defined:,}")
    imported = [each.signature for each in imports if each.kind == "function"]
    exports = _exports(body("export"), imported, own, declared, types)
    pages += [memories.limits() for _ in range(memories.count("memories"))]
    for kind in bodies.keys() & {"type", "import", "memory", "export"}:
        if bodies[kind].at < bodies[kind].end:
            raise bodies[kind].broken(f"its section `{kind}` is longer than its content")
    return replace(
        outer,
        abi_version=_abi_version(each.name for each in exports if each.kind == "function"),
        imports=imports,
        exports=exports,
        functions=declared,
        memory_pages=max(pages, default=0),
        start="start" in bodies,
    )


def _abi_version(functions: Iterable[str]) -> str | None:
    """The version of the ABI that the first marker among the exported functions names."""
    return next((ABI_VERSIONS[name] for name in functions if name in ABI_VERSIONS), None)


class _Types:
    """The types of a module. Only where each begins is kept: few of them are ever asked for."""

    def __init__(self, body: _Reader) -> None:
        self._starts = array("I")  # 0 for a type that isn't a function's
        self._known: dict[int, str] = {}
        self._body = body
        left = body.count("types")
        while left:
            left, start, form = left - 1, body.at, body.byte()
            if form == 0x4E:  # a group of types that refer to each other
                left += body.count("types")
                if left + len(self._starts) > _COUNT_LIMIT:
                    raise body.broken("it has more types than hosts take")
                continue
            if form in (0x50, 0x4F):  # a subtype of the ones that follow
                for _ in range(body.count("types")):
                    body.number()
                start, form = body.at, body.byte()
            _pass_type(form, body)
            self._starts.append(start if form == 0x60 else 0)

    def signature(self, index: int, asking: _Reader) -> str:
        """The signature of a function's type; `asking` reads what refers to it."""
        start = self._starts[index] if index < len(self._starts) else 0
        if not start:
            raise asking.broken(f"type {index} isn't a function's")
        if start not in self._known:
            reader = _Reader(self._body.content, self._body.path, start + 1, self._body.end)
            self._known[start] = f"{_values(reader)}>{_values(reader) or '-'}"
        return self._known[start]


def _pass_type(form: int, body: _Reader) -> None:
    if form == 0x60:
        _values(body)
        _values(body)
        return
    if form not in (0x5E, 0x5F):
        raise body.broken(f"there is no type of kind {form}")
    for _ in range(body.count("fields") if form == 0x5F else 1):  # a structure's; an array has one
        body.value_type()
        body.byte()


def _values(body: _Reader) -> str:
    count = body.count("values in a signature", _PARAMETER_LIMIT)
    simple = body.content[body.at : body.at + count]
    if simple.isascii() and not _REFERENCES & set(simple):  # a byte each, as nearly always
        body.part(count)
        return simple.decode().translate(_LETTERS)
    return "".join([chr(body.value_type()).translate(_LETTERS) for _ in range(count)])


def _imports(body: _Reader, types: _Types) -> tuple[tuple[Extern, ...], list[int]]:
    """The imports, and the initial pages of memories among them."""
    imports: list[Extern] = []
    pages: list[int] = []
    for _ in range(body.count("imports", _ENTRY_LIMIT)):
        module, name = body.name(_LISTED_LIMIT), body.name(_LISTED_LIMIT)
        kind, signature = body.kind(), ""
        if kind == "function":
            signature = types.signature(body.number(), body)
        elif kind == "global":
            body.value_type()
            body.byte()
        elif kind == "tag":
            body.byte()
            body.number()
        elif kind == "table":
            of = body.value_type()
            signature = "" if of == _FUNCREF else f"{of:#x}"
            body.limits()
        else:
            pages.append(body.limits())
        imports.append(Extern(module, name, kind, signature))
    return tuple(imports), pages


def _exports(
    body: _Reader, imported: list[str], own: _Reader, functions: int, types: _Types
) -> tuple[Extern, ...]:
    """The exports. `imported` are the signatures of the functions that come before the module's `own`."""
    count = body.count("exports", _ENTRY_LIMIT)
    entries = [(body.name(_LISTED_LIMIT), body.kind(), body.number()) for _ in range(count)]
    exported = {index for _, kind, index in entries if kind == "function"}
    signatures = dict(enumerate(imported))
    first, end = len(imported), max(exported, default=-1) + 1
    for index in range(first, min(first + functions, end)):
        number = own.number()
        if index in exported:
            signatures[index] = types.signature(number, own)
    if missing := exported - signatures.keys():
        raise body.broken(f"it exports function {min(missing)}, which doesn't exist")
    if len({name for name, _, _ in entries}) < len(entries):
        raise body.broken("it exports a name twice")
    return tuple(
        Extern("", name, kind, signatures[index] if kind == "function" else "")
        for name, kind, index in entries
    )


# --- custom sections and other traces of tools


def _names_readable(body: _Reader) -> bool:
    """Whether a host can read the function names, which it does for backtraces when it loads a module.

    Source: proxy-wasm-cpp-host, src/bytecode_util.cc, getFunctionNameIndex.
    """
    names = parts = 0
    try:
        while body.at < body.end:
            kind, part = body.byte(), body.part(body.number())
            parts += 1
            if parts > _TOOL_LIMIT:  # the specification has a dozen
                return False
            if kind == 1:
                count = part.count("names")
                names += count
                if names > _COUNT_LIMIT:
                    return False
                for _ in range(count):
                    part.number()
                    part.part(part.number())
                if part.at < part.end:
                    return False
    except NotAPlugin:
        return False
    return True


def _producers(body: _Reader) -> dict[str, dict[str, str]]:
    """The tools that made the module, as far as the section can be read: field -> name -> version."""
    producers: dict[str, dict[str, str]] = {}
    with suppress(NotAPlugin):  # no host reads it
        for _ in range(body.count("fields", _TOOL_LIMIT)):
            versions = producers.setdefault(body.name(errors="replace"), {})
            for _ in range(body.count("values", _TOOL_LIMIT)):
                name = body.name(errors="replace")
                versions[name] = body.name(errors="replace")
    return producers


def _features(body: _Reader) -> tuple[str, ...]:
    """The features of wasm that the compiler was free to use."""
    features: list[str] = []
    with suppress(NotAPlugin):
        for _ in range(body.count("features", _TOOL_LIMIT)):
            used, name = body.byte() in b"+=", body.name(errors="replace")
            features += [name] if used else []
    return tuple(features)


def _sdk(content: bytes, producers: Mapping[str, Mapping[str, str]], names: Set[str]) -> str:
    """What the plugin was written with, or "unknown". `names` are those of its imports and exports."""
    languages, tools = producers.get("language", {}), producers.get("processed-by", {})
    if source := _RUST_SOURCE.search(content):
        return f"Rust, proxy-wasm {(source[1] or b'').decode()}".strip()
    if "TinyGo" in tools:
        return "Go, TinyGo"
    if "Go" in languages:
        return "Go"
    if {"__new", "__pin"} <= names or _ASSEMBLYSCRIPT in content:
        return "AssemblyScript"
    if any("emscripten" in name for name in names):
        return "C++, Emscripten"
    if any(language.startswith("C_plus_plus") for language in languages):
        return "C++"
    return "unknown"


class _Reader:
    """A cursor over a part of the file that never reads past its end.

    `listed` is the number of entries in all lists of this part and those that it is a part of.
    """

    __slots__ = ("at", "content", "end", "listed", "path")

    def __init__(self, content: bytes, path: Path, at: int, end: int) -> None:
        self.content, self.path, self.at, self.end = content, path, at, end
        self.listed = [0]

    def part(self, size: int) -> _Reader:
        """The next `size` bytes, with a cursor of their own."""
        begin = self._take(size)
        part = _Reader(self.content, self.path, begin, begin + size)
        part.listed = self.listed
        return part

    def byte(self) -> int:
        """One byte."""
        return self.content[self._take(1)]

    def number(self, *, wide: bool = False) -> int:
        """An unsigned LEB128 number of at most 32 bits, or 64 if it is `wide`."""
        value = 0
        for shift in range(0, 70 if wide else 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.broken("a number is too long")

    def count(self, what: str, limit: int = _COUNT_LIMIT) -> int:
        """The length of a list, whose entries take at least a byte each."""
        count = self.number()
        if count > self.end - self.at:
            raise self.broken("it is cut short")
        if count > limit:
            raise self.broken(f"it has {count:,} {what}: {limit:,} is the limit")
        self.listed[0] += count
        if self.listed[0] > _ALL_LIMIT:
            raise self.broken(f"its lists have more than {_ALL_LIMIT:,} entries")
        return count

    def name(self, limit: int = _NAME_LIMIT, *, errors: str = "strict") -> str:
        """A string of at most `limit` bytes; `errors` is that of `bytes.decode`."""
        size = self.number()
        if limit < size <= self.end - self.at:
            raise self.broken(f"a name has {size:,} bytes: {limit:,} is the limit")
        begin = self._take(size)
        try:
            return self.content[begin : begin + size].decode(errors=errors)
        except UnicodeDecodeError:
            raise self.broken("a name is not UTF-8") from None

    def kind(self) -> str:
        """The kind of an import or export."""
        number = self.byte()
        if number >= len(_EXTERNS):
            raise self.broken(f"there is no import or export of kind {number}")
        return _EXTERNS[number]

    def limits(self) -> int:
        """The initial size of a memory, in pages of 64 KiB, or of a table."""
        flags = self.byte()
        wide = bool(flags & 4)  # addresses of 64 bits
        initial = self.number(wide=wide)
        if flags & 1:
            self.number(wide=wide)
        return initial

    def value_type(self) -> int:
        """The first byte of a value type."""
        byte = self.byte()
        if byte in _REFERENCES:  # the type that it refers to follows
            self.number()
        return byte

    def broken(self, why: str) -> NotAPlugin:
        """The error that says why, and where."""
        return NotAPlugin(f"{self.path} is a broken wasm module: {why} (at byte {self.at})")

    def _take(self, size: int) -> int:
        begin = self.at
        if begin + size > self.end:
            raise self.broken("it is cut short")
        self.at += size
        return begin
