"""Network filters for tests, assembled: what they see of a connection is in the log."""

from __future__ import annotations

from pathlib import Path

from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule
from support import wasm_asm as asm

TRAP, REFUSE = b"\x00", asm.const(0)
OVER_A_BYTE = asm.local(1) + asm.const(1) + b"\x46\x04\x40" + TRAP + b"\x0b"  # if size == 1: trap
LOOP = b"\x03\x40\x0c\x00\x0b"


def tap(
    folder: Path, word: str, *, data: bytes = b"", configured: bytes = asm.const(1), passes: bool = True
) -> Plugin:
    """A network filter that says `word` of bytes that come, and "end" of a connection's end.

    `data` are instructions for when bytes come; without `passes` it holds them.
    """
    log = asm.const(2) + asm.const(0) + asm.const(len(word)) + asm.call(0) + asm.DROP
    end = asm.const(2) + asm.const(64) + asm.const(3) + asm.call(0) + asm.DROP
    content = asm.plugin(
        hostcalls=[("proxy_log", asm.signature(asm.I32 * 3, asm.I32))],
        callbacks={
            "proxy_on_configure": (asm.signature(asm.I32 * 2, asm.I32), configured),
            "proxy_on_downstream_data": (
                asm.signature(asm.I32 * 3, asm.I32),
                log + data + asm.const(not passes),
            ),
            "proxy_on_log": (asm.signature(asm.I32), end),
        },
        segments=[(0, word.encode()), (64, b"end")],
    )
    path = folder / f"{word}.wasm"
    path.write_bytes(content)
    return Plugin(word, "", WasmModule.read(path), type="network")
