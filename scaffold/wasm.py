"""A compiled plugin: its sections, imports, exports, size and digest."""

from __future__ import annotations

import hashlib
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
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NotAPlugin(f"cannot read the module {path}: {error.strerror}") from error
        imports, exports = _parse(content, path)
        functions = (name for name, kind in exports.items() if kind == "function")
        abi = next((ABI_VERSIONS[name] for name in functions if name in ABI_VERSIONS), None)
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


def _parse(content: bytes, path: Path) -> tuple[list[Import], dict[str, str]]:
    if not content:
        raise NotAPlugin(f"{path} is empty")
    if content[:4] != MAGIC:
        raise NotAPlugin(f"{path} is not a wasm module (it begins with {content[:4]!r})")
    if content[4:8] == COMPONENT:
        raise NotAPlugin(
            f"{path} is a WebAssembly component; proxy-wasm hosts load core modules",
            hint="compile for wasm32-wasip1, not wasm32-wasip2",
        )
    if content[4:8] != CORE:
        raise NotAPlugin(f"{path} has an unknown wasm version ({content[4:8].hex()})")
    imports: list[Import] = []
    exports: dict[str, str] = {}
    reader = _Reader(content, path, 8, len(content))
    while reader.at < reader.end:
        section, size = reader.byte(), reader.number()
        body = reader.part(size)
        if section == 2:
            imports += [body.an_import() for _ in range(body.number())]
        elif section == 7:
            exports |= dict(body.export() for _ in range(body.number()))
    return imports, exports


class _Reader:
    """A cursor over a part of the file that never reads past its end.

    Source: WebAssembly core specification, 5 (binary format).
    """

    def __init__(self, content: bytes, path: Path, at: int, end: int) -> None:
        self.content, self.path, self.at, self.end = content, path, at, end

    def part(self, size: int) -> _Reader:
        begin = self.at
        self._take(size)
        return _Reader(self.content, self.path, begin, begin + size)

    def byte(self) -> int:
        return self.content[self._take(1)]

    def number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self._broken("a number is too long")

    def name(self) -> str:
        size = self.number()
        begin = self._take(size)
        try:
            return self.content[begin : begin + size].decode()
        except UnicodeDecodeError:
            raise self._broken("a name is not UTF-8") from None

    def kind(self) -> str:
        number = self.byte()
        if number >= len(KINDS):
            raise self._broken(f"no kind of import or export has the number {number}")
        return KINDS[number]

    def export(self) -> tuple[str, str]:
        name, kind = self.name(), self.kind()
        self.number()
        return name, kind

    def an_import(self) -> Import:
        found = Import(self.name(), self.name(), self.kind())
        if found.kind == "function":
            self.number()
        elif found.kind == "global":
            self._value_type()
            self.byte()
        elif found.kind == "tag":
            self.byte()
            self.number()
        else:
            self._limits(found.kind)
        return found

    def _limits(self, kind: str) -> None:
        if kind == "table":
            self._value_type()
        flags = self.byte()
        self.number()
        if flags & 1:
            self.number()

    def _value_type(self) -> None:
        if self.byte() in (0x63, 0x64):  # a reference, to what follows
            self.number()

    def _take(self, size: int) -> int:
        begin = self.at
        if begin + size > self.end:
            raise self._broken("it is cut short")
        self.at += size
        return begin

    def _broken(self, why: str) -> NotAPlugin:
        return NotAPlugin(f"{self.path} is a broken wasm module: {why} (at byte {self.at})")
