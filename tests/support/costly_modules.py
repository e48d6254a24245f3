"""Plugins whose cost per request is known, assembled."""

from __future__ import annotations

from support import wasm_asm as asm

_HEADERS = "proxy_on_request_headers"
_KIND = asm.signature(asm.I32 * 3, asm.I32)
# sets the first parameter to so many, and counts it down
_COUNT = b"%b\x21\x00\x03\x40\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0b"


def burning(steps: int) -> bytes:
    """A plugin that counts so many steps for each request; with none it only returns."""
    count = _COUNT % asm.const(steps) if steps else b""
    return asm.plugin(callbacks={_HEADERS: (_KIND, count + asm.const(0))})


def calling(name: str) -> bytes:
    """A plugin that calls the host for each request, with a zero."""
    call = asm.const(0) + asm.call(0) + asm.DROP
    return asm.plugin(
        hostcalls=[(name, asm.signature(asm.I32, asm.I32))],
        callbacks={_HEADERS: (_KIND, call + asm.const(0))},
    )
