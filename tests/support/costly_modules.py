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


def leaking() -> bytes:
    """A plugin that takes a page of memory for each request, and writes to it."""
    grow = asm.const(1) + b"\x40\x00" + asm.const(16) + b"\x74" + asm.const(1) + b"\x36\x02\x00"
    return asm.plugin(callbacks={_HEADERS: (_KIND, grow + asm.const(0))})


def leaking_at_start(size: int) -> bytes:
    """A plugin that leaves so many bytes in the host's shared data, each time under another key."""
    hostcalls = [
        ("proxy_get_current_time_nanoseconds", asm.signature(asm.I32, asm.I32)),
        ("proxy_set_shared_data", asm.signature(asm.I32 * 5, asm.I32)),
    ]
    now = asm.const(64) + asm.call(0) + asm.DROP
    share = b"".join(map(asm.const, (64, 8, 0, size, 0))) + asm.call(1) + asm.DROP
    start = (asm.signature(asm.I32 * 2, asm.I32), now + share + asm.const(1))
    return asm.plugin(hostcalls=hostcalls, callbacks={"proxy_on_configure": start})
