"""A compiled plugin: its sections, imports, exports, size and digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scaffold.errors import ModuleError

MAGIC = b"\0asm"
CORE = b"\x01\x00\x00\x00"
COMPONENT = b"\x0d\x00\x01\x00"
ABI_VERSIONS = {
    "proxy_abi_version_0_1_0": "0.1.0",
    "proxy_abi_version_0_2_0": "0.2.0",
    "proxy_abi_version_0_2_1": "0.2.1",
}
KINDS = ("function", "table", "memory", "global", "tag")
SIZE_LIMIT = 2**30  # bytes of a file: V8's. Source: v8/v8, src/wasm/wasm-limits.h, as the next
COUNT_LIMIT = 1_000_000  # of types, imports, functions or exports
_SECTION_LIMIT = 100_000  # custom ones, too: there can be as many as the file has room for


class NotAPlugin(ModuleError):
    """The file is no wasm module, or the module speaks no proxy-wasm ABI."""


@dataclass(frozen=True)
class Import:
    """What a module needs of its host: `module` is the namespace, `kind` one of `KINDS`."""

    module: str
    name: str
    kind: str


@dataclass(frozen=True)
class WasmModule:
    """A module on disk. `size` is in bytes; `digest` ("sha256:...") is of the whole file."""

    path: Path
    size: int
    digest: str
    abi_version: str
    imports: tuple[Import, ...]
    exports: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> WasmModule:
        """Read a compiled plugin and say which proxy-wasm ABI it speaks.

        The ABI is the version in the name of an exported marker function, which hosts look for but
        never call; the first in the file's order counts, as it does in Envoy.

        Raises `NotAPlugin` when the file is not a wasm module, or exports no marker.
        Source: proxy-wasm/spec, abi-versions/v0.2.1; proxy-wasm-cpp-host, src/bytecode_util.cc.
        """
        content = read_file(path)
        imports, exports = _parse(content, path)
        abi = marked_abi(name for name, kind in exports.items() if kind == "function")
        if abi is None:
            raise NotAPlugin(
                f"{path} exports no proxy-wasm ABI marker, so no host would load it",
                hint="does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?",
            )
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        return cls(path.resolve(), len(content), digest, abi, tuple(imports), exports)

    def content(self) -> bytes:
        """Its bytes. Raises `ModuleError` when the file isn't the one that was read any more."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ModuleError(f"cannot read the module {self.path}: {error.strerror}") from error
        if "sha256:" + hashlib.sha256(content).hexdigest() != self.digest:
            raise ModuleError(
                f"{self.path} changed while it was being taken", hint="is it being built? try again"
            )
        return content

    def summary(self) -> str:
        """Where it is, and a line for each detail."""
        lines = [
            str(self.path),
            f"  size           {self.size:,} bytes",
            f"  ABI            {self.abi_version}",
        ]
        return "\n".join([*lines, f"  module digest  {self.digest}"])


def read_file(path: Path) -> bytes:
    """The bytes of a file that begins as wasm does, a component too. Raises `NotAPlugin` otherwise."""
    try:
        with path.open("rb", buffering=0) as file:
            _check_header(file.read(8), path)
            size = os.fstat(file.fileno()).st_size
            if size > SIZE_LIMIT:
                raise NotAPlugin(f"{path} is {size:,} bytes large, and no host takes more than 1 GiB")
            file.seek(0)
            return file.readall()
    except OSError as error:
        raise NotAPlugin(f"cannot read the module {path}: {error.strerror}") from error


def marked_abi(functions: Iterable[str]) -> str | None:
    """The version of the ABI that the first marker among the exported functions names."""
    return next((ABI_VERSIONS[name] for name in functions if name in ABI_VERSIONS), None)


def sections(content: bytes, path: Path) -> Iterator[tuple[int, Reader]]:
    """The sections' numbers and what is in them, in the file's order."""
    reader = Reader(content, path, 8, len(content))
    for _ in range(_SECTION_LIMIT):
        if reader.at == reader.end:
            return
        yield reader.byte(), reader.part(reader.number())
    raise reader.broken(f"it has more than {_SECTION_LIMIT:,} sections")


def _check_header(header: bytes, path: Path) -> None:
    if not header:
        raise NotAPlugin(f"{path} is empty")
    if header[:4] != MAGIC:
        raise NotAPlugin(f"{path} is not a wasm module (it begins with {header[:4]!r})")
    if header[4:] not in (CORE, COMPONENT):
        raise NotAPlugin(f"{path} has an unknown wasm version ({header[4:].hex()})")


def _parse(content: bytes, path: Path) -> tuple[list[Import], dict[str, str]]:
    if content[4:8] == COMPONENT:
        raise NotAPlugin(
            f"{path} is a WebAssembly component; proxy-wasm hosts load core modules",
            hint="compile for wasm32-wasip1, not wasm32-wasip2",
        )
    imports: list[Import] = []
    exports: dict[str, str] = {}
    for number, body in sections(content, path):
        if number == 2:
            imports += [body.an_import()[0] for _ in range(body.count("imports"))]
        elif number == 7:
            exports |= {name: kind for name, kind, _ in body.exports()}
    return imports, exports


class Reader:
    """A cursor over a part of the file that never reads past its end.

    Source: WebAssembly core specification, 5 (binary format).
    """

    def __init__(self, content: bytes, path: Path, at: int, end: int) -> None:
        self.content, self.path, self.at, self.end = content, path, at, end

    def part(self, size: int) -> Reader:
        """The next `size` bytes, as a part of their own."""
        begin = self.at
        self._take(size)
        return Reader(self.content, self.path, begin, begin + size)

    def byte(self) -> int:
        """One byte."""
        return self.content[self._take(1)]

    def number(self) -> int:
        """A number, as LEB128."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.broken("a number is too long")

    def count(self, what: str, most: int = COUNT_LIMIT) -> int:
        """How many of `what` follow, each at least a byte long."""
        count = self.number()
        if count > self.end - self.at:
            raise self.broken("it is cut short")
        if count > most:
            raise self.broken(f"it has {count:,} {what}, and hosts take {most:,} at the most")
        return count

    def name(self, *, errors: str = "strict") -> str:
        """A text; `errors` as `bytes.decode` has it."""
        size = self.number()
        begin = self._take(size)
        try:
            return self.content[begin : begin + size].decode(errors=errors)
        except UnicodeDecodeError:
            raise self.broken("a name is not UTF-8") from None

    def kind(self) -> str:
        """One of `KINDS`."""
        number = self.byte()
        if number >= len(KINDS):
            raise self.broken(f"no kind of import or export has the number {number}")
        return KINDS[number]

    def exports(self) -> Iterator[tuple[str, str, int]]:
        """An export section's entries: name, kind, and the index among those of the kind."""
        for _ in range(self.count("exports")):
            yield self.name(), self.kind(), self.number()

    def an_import(self) -> tuple[Import, int]:
        """An import; with a function the index of its type, with a memory its pages in the beginning."""
        found, detail = Import(self.name(), self.name(), self.kind()), 0
        if found.kind == "function":
            detail = self.number()
        elif found.kind == "global":
            self.value_type()
            self.byte()
        elif found.kind == "tag":
            self.byte()
            self.number()
        else:
            if found.kind == "table":
                self.value_type()
            detail = self.limits()
        return found, detail

    def limits(self) -> int:
        """The size of a memory, in pages of 64 KiB, or of a table in the beginning."""
        flags, least = self.byte(), self.number()
        if flags & 1:
            self.number()
        return least

    def value_type(self) -> int:
        """The byte that a type of values begins with."""
        byte = self.byte()
        if byte in (0x63, 0x64):  # a reference, to what follows
            self.number()
        return byte

    def _take(self, size: int) -> int:
        begin = self.at
        if begin + size > self.end:
            raise self.broken("it is cut short")
        self.at += size
        return begin

    def broken(self, why: str) -> NotAPlugin:
        """The error that says why, and where."""
        return NotAPlugin(f"{self.path} is a broken wasm module: {why} (at byte {self.at})")
