"""Plugins written as WebAssembly text, and what the emulator does with them: no process, no socket."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import wasmtime

from scaffold.core.versions import Version
from scaffold.hosts.emulator.host import EmulatorHost
from scaffold.hosts.emulator.vm import Limits
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.check import facts, offered
from scaffold.wasm.module import WasmModule

OUT = 1024  # where hostcalls write what they return
SIZE = OUT + 4
DATA = 4096
CALLBACK = re.compile(r"\[host->vm\] (?!malloc)(\w+)\(([\d, ]*)\)")
RETURNED = re.compile(r"\[vm<-host\] (?:env|wasi_\w+)\.(\w+) return: (\d+)")
_TYPES = {"i": "i32", "I": "i64"}


class Wat:
    """A module: `call` makes an instruction of a hostcall, `module` puts callbacks together."""

    def __init__(self, abi: str = "0.2.1") -> None:
        self.abi = abi
        self._data = b""

    def text(self, content: bytes) -> tuple[int, int]:
        """The place of some bytes in memory, and their size."""
        place = DATA + len(self._data)
        self._data += content
        return place, len(content)

    def call(self, name: str, *arguments: int | bytes) -> str:
        """A hostcall whose status is dropped; bytes become a place and a size."""
        signature = self._signatures()[name].partition(">")[0]
        numbers: list[int] = []
        for each in arguments:
            numbers += self.text(each) if isinstance(each, bytes) else (each,)
        words = [f"({_TYPES[kind]}.const {number})" for kind, number in zip(signature, numbers, strict=True)]
        return f"(drop (call ${name} {' '.join(words)}))"

    def module(self, callbacks: Mapping[str, str], extra: str = "") -> bytes:
        """The module: each callback's instructions end with what it returns, or have (i32.const 0) added."""
        has = offered(Version((1, 40)), self.abi)
        lines = ["(module"]
        body = "\n".join(callbacks.values()) + extra
        for name, signature in self._signatures().items():
            if f"${name} " in body or f"${name})" in body:
                lines.append(f'  (import "env" "{name}" (func ${name}{_type(signature)}))')
        lines.append(f'  (func (export "proxy_abi_version_{self.abi.replace(".", "_")}"))')
        lines.append('  (memory (export "memory") 40) (global $heap (mut i32) (i32.const 1000000))')
        lines.append(
            '  (func (export "malloc") (param i32) (result i32) (global.get $heap)'
            " (global.set $heap (i32.add (global.get $heap) (local.get 0))))"
        )
        for name, text in callbacks.items():
            signature = (dict(has.setup) | dict(has.callbacks))[name]
            default = "(i32.const 0)" if not text.rstrip().endswith("$result") else ""
            default = default if signature[-1] in _TYPES else ""
            text = text.replace("$result", "")
            lines.append(f'  (func (export "{name}"){_type(signature)} {text} {default})')
        escaped = "".join(f"\\{byte:02x}" for byte in self._data)
        lines += [extra, f'  (data (i32.const {DATA}) "{escaped}"))']
        return bytes(wasmtime.wat2wasm("\n".join(lines)))

    def _signatures(self) -> dict[str, str]:
        return {
            name: entry["signature"]
            for name, entry in facts()["hostcalls"].items()
            if self.abi in entry.get("abi", [self.abi])
        }


def _type(signature: str) -> str:
    given, _, result = signature.partition(">")
    return "".join(f" (param {_TYPES[each]})" for each in given) + (
        " (result i32)" if result in _TYPES else ""
    )


def pairs(*each: tuple[bytes, bytes]) -> bytes:
    """A header map in the ABI's bytes."""
    sizes = [size for name, value in each for size in (len(name), len(value))]
    texts = b"".join(name + b"\0" + value + b"\0" for name, value in each)
    return struct.pack(f"<I{len(sizes)}I", len(each), *sizes) + texts


@dataclass
class Run:
    """An emulator that runs a module; `mark` is where the transcript begins to count."""

    host: EmulatorHost
    mark: int = 0

    def lines(self) -> list[str]:
        """The transcript since `mark`, and what was logged."""
        return [each.text for each in self.host.log.since(self.mark)]

    def callbacks(self) -> list[str]:
        """The callbacks since `mark`, each with its arguments."""
        found = [CALLBACK.match(each) for each in self.lines()]
        return [f"{match[1].removeprefix('proxy_on_')}({match[2]})" for match in found if match]

    def statuses(self, name: str) -> list[int]:
        """What a hostcall has returned since `mark`, each time."""
        found = [RETURNED.match(each) for each in self.lines()]
        return [int(match[2]) for match in found if match and match[1] == name]

    def memory(self, size: int = 4, place: int = OUT) -> int:
        """A number in the worker's memory."""
        content = self.host._worker[0].vm.read(place, size)
        return int.from_bytes(content or b"", "little")

    def given(self) -> bytes:
        """The bytes that the last hostcall handed over."""
        content = self.host._worker[0].vm.read(self.memory(), self.memory(place=SIZE))
        return content or b""


@contextmanager
def running(
    module: bytes,
    folder: Path,
    *,
    limits: Limits = Limits(),
    envoy: str | None = None,
    level: str = "trace",
    **fields: object,
) -> Iterator[Run]:
    """Run a module in the emulator; `fields` are those of `Plugin`."""
    path = folder / "plugin.wasm"
    path.write_bytes(module)
    plugin = replace(Plugin("wat", "", WasmModule.read(path)), **fields)  # type: ignore[arg-type]
    settings = RunOptions(port=0, log_level=level, envoy=envoy).settings
    host = EmulatorHost([plugin], settings, limits)
    try:
        yield Run(host, host.log.size())
    finally:
        host.close()


def get(target: str = "/headers", **headers: str) -> Request:
    """A GET."""
    return Request("GET", target, Headers({"host": "example.com"} | headers))


def post(body: bytes = b"hello", target: str = "/anything") -> Request:
    """A POST."""
    return Request("POST", target, Headers({"host": "example.com"}), body)
