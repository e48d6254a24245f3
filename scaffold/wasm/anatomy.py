"""What a wasm file is made of: what its sections say, without a look at code and data.

Sources: WebAssembly core specification, 5 (binary format); WebAssembly/component-model,
design/mvp/Binary.md; v8/v8, src/wasm/wasm-limits.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from scaffold.core.files import digest
from scaffold.wasm import remarks
from scaffold.wasm.module import COMPONENT, COUNT_LIMIT, Reader, marked_abi, read_file, sections

_CORE = "custom|type|import|function|table|memory|global|export|start|element|code|data|data count|tag"
_OUTER = (
    "custom|core module|core instance|core type|component|instance|alias|type|canon|start|import|export|value"
)
_ORDER = "type|import|function|table|memory|tag|global|export|start|element|data count|code|data".split("|")
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
_REFERENCES = {0x63, 0x64}  # the types that go on after their first byte
_WORDS = dict(_VALUES.values()) | {"?": "?"}
_PARAMETER_LIMIT = 1000  # V8's
_LONGEST_NAME = 100  # characters that are shown


@dataclass(frozen=True)
class Extern:
    """An import, or an export, whose `module` is "".

    `signature` is a function's, a letter for each value, i, I, f, F for i32, i64, f32, f64: "iii>i" takes
    three i32 and returns one, "i>-" returns nothing. What is no function has "".
    """

    module: str
    name: str
    kind: str
    signature: str = ""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(frozen=True)
class Section:
    """A part of the file: where it begins, and its size in bytes, with those that say what it is.

    `name` is a custom section's own, otherwise as `kind`.
    """

    kind: str
    name: str
    at: int
    size: int


@dataclass(frozen=True)
class Anatomy:
    """A wasm file. `abi_version` is None where no marker that we know is exported.

    `functions` are its own, without the imported ones; `memory_pages`, of 64 KiB, are what its largest
    memory begins with. `producers` is what the tools say that made it: versions by name, by field.
    `sdk` is what the plugin was written with, "unknown" where no trace of it was found.
    Of a component only the outside is looked at.
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

    @classmethod
    def read(cls, path: Path) -> Anatomy:
        """Read any wasm file, whether a host would load it or not.

        Raises `NotAPlugin` when it is no wasm, broken, or too large for any host.
        """
        content = read_file(path)
        component = content[4:8] == COMPONENT
        parts = _parts(content, path, (_OUTER if component else _CORE).split("|"))
        customs: dict[str, Reader] = {}
        for section, body in reversed(parts):  # of several, the first counts
            if section.kind == "custom":
                customs[section.name] = body
        nothing = Reader(b"", path, 0, 0)
        outer = cls(
            path=path.resolve(),
            size=len(content),
            digest=digest(content),
            sections=tuple(section for section, _ in parts),
            component=component,
            names_readable=remarks.names_readable(customs.get("name", nothing)),
            features=remarks.features(customs.get("target_features", nothing)),
            producers=remarks.producers(customs.get("producers", nothing)),
        )
        whole = outer if component else _core(outer, parts)
        names = {each.name for each in (*whole.imports, *whole.exports)}
        return replace(whole, sdk=remarks.sdk(content, whole.producers, names))

    @cached_property
    def callable(self) -> dict[str, str]:
        """The exported functions: signatures by name."""
        return {export.name: export.signature for export in self.exports if export.kind == "function"}


def readable(signature: str) -> str:
    """A signature as people write it: "(i32, i32) -> i32" for "ii>i"."""
    given, _, returned = signature.partition(">")
    after = ", ".join(_WORDS[letter] for letter in returned.removesuffix("-")) or "nothing"
    return f"({', '.join(_WORDS[letter] for letter in given)}) -> {after}"


def plain(text: str) -> str:
    """A name from a file as a terminal can show it: without control characters, and not without end."""
    short = text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "..."
    return short if short.isprintable() else repr(short)[1:-1]


def _parts(content: bytes, path: Path, kinds: list[str]) -> list[tuple[Section, Reader]]:
    """The sections with what is in them; a custom one's reader has its name behind it."""
    found: list[tuple[Section, Reader]] = []
    at = 8
    for number, body in sections(content, path):
        if number >= len(kinds):
            raise body.broken(f"no kind of section has the number {number}")
        kind = kinds[number]
        name = body.name() if kind == "custom" else kind
        found.append((Section(kind, name, at, body.end - at), body))
        at = body.end
    return found


def _core(outer: Anatomy, parts: list[tuple[Section, Reader]]) -> Anatomy:
    """The same with what the sections of a core module say."""
    bodies = _ordered(parts)

    def body(kind: str) -> Reader:
        return bodies.get(kind) or Reader(b"\0", outer.path, 0, 1)  # an empty list

    types = _types(body("type"))
    imports, pages = _imports(body("import"), types)
    own, memories = body("function"), body("memory")
    functions, written = own.count("functions"), body("code").count("functions")
    if functions != written:
        raise own.broken(f"it declares {functions:,} functions and has code for {written:,}")
    imported = [each.signature for each in imports if each.kind == "function"]
    exports = _exports(body("export"), imported, own, functions, types)
    pages += [memories.limits() for _ in range(memories.count("memories"))]
    for kind in bodies.keys() & {"type", "import", "memory", "export"}:
        if bodies[kind].at < bodies[kind].end:
            raise bodies[kind].broken(f"its section `{kind}` is longer than what is in it")
    return replace(
        outer,
        abi_version=marked_abi(each.name for each in exports if each.kind == "function"),
        imports=imports,
        exports=exports,
        functions=functions,
        memory_pages=max(pages, default=0),
        start="start" in bodies,
    )


def _ordered(parts: list[tuple[Section, Reader]]) -> dict[str, Reader]:
    """The sections that aren't custom, each once, as the specification puts them."""
    found: dict[str, Reader] = {}
    last = -1
    for section, body in parts:
        if section.kind in _ORDER:
            place = _ORDER.index(section.kind)
            if place <= last:
                raise body.broken(f"its section `{section.kind}` is out of place")
            last, found[section.kind] = place, body
    return found


def _types(body: Reader) -> list[str]:
    """Signatures; "" for types of what is no function."""
    found: list[str] = []
    left = body.count("types")
    while left:
        left, form = left - 1, body.byte()
        if form == 0x4E:  # a group of types that need each other
            left += body.count("types")
            if left + len(found) > COUNT_LIMIT:
                raise body.broken("it has more types than hosts take")
            continue
        if form in (0x50, 0x4F):  # a subtype of those that are named
            for _ in range(body.count("types")):
                body.number()
            form = body.byte()
        found.append(_type(form, body))
    return found


def _type(form: int, body: Reader) -> str:
    if form == 0x60:
        return f"{_values(body)}>{_values(body) or '-'}"
    if form not in (0x5E, 0x5F):
        raise body.broken(f"no kind of type has the number {form}")
    for _ in range(body.count("fields") if form == 0x5F else 1):  # of a structure; an array has one
        body.value_type()
        body.byte()
    return ""


def _values(body: Reader) -> str:
    count = body.count("values in a signature", _PARAMETER_LIMIT)
    simple = body.content[body.at : body.at + count]
    if simple.isascii() and not _REFERENCES & set(simple):  # a byte each, as nearly always
        body.part(count)
        return simple.decode().translate(_LETTERS)
    return "".join([chr(body.value_type()).translate(_LETTERS) for _ in range(count)])


def _imports(body: Reader, types: list[str]) -> tuple[tuple[Extern, ...], list[int]]:
    """The imports, and the pages of memories among them."""
    found: list[Extern] = []
    pages: list[int] = []
    for _ in range(body.count("imports")):
        each, detail = body.an_import()
        signature = _known(types, detail, body) if each.kind == "function" else ""
        found.append(Extern(each.module, each.name, each.kind, signature))
        if each.kind == "memory":
            pages.append(detail)
    return tuple(found), pages


def _exports(
    body: Reader, imported: list[str], own: Reader, functions: int, types: list[str]
) -> tuple[Extern, ...]:
    """The exports; `imported` are the signatures of the functions that come before its `own`."""
    listed = list(body.exports())
    wanted = {index for _, kind, index in listed if kind == "function"}
    signatures = dict(enumerate(imported))
    first, most = len(imported), max(wanted, default=-1) + 1
    for index in range(first, min(first + functions, most)):
        number = own.number()
        if index in wanted:
            signatures[index] = _known(types, number, own)
    if lost := wanted - signatures.keys():
        raise body.broken(f"it exports a function {min(lost)}, which there isn't")
    if len({name for name, _, _ in listed}) < len(listed):
        raise body.broken("it exports a name twice")
    return tuple(
        Extern("", name, kind, signatures[index] if kind == "function" else "")
        for name, kind, index in listed
    )


def _known(types: list[str], number: int, body: Reader) -> str:
    if number >= len(types) or not types[number]:
        raise body.broken(f"type {number} is no function's")
    return types[number]
