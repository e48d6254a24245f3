"""Plugins that don't return from one callback, assembled; and one that returns from all."""

from __future__ import annotations

from support import wasm_asm as asm
from support.odd_modules import result, signature

LOOP = b"\x03\x40\x0c\x00\x0b"  # loop, br 0, end
EXPORTS = {
    asm.MARKER: ">-",
    "_initialize": ">-",
    "malloc": "i>i",
    "proxy_on_context_create": "ii>-",
    "proxy_on_vm_start": "ii>i",
    "proxy_on_configure": "ii>i",
    "proxy_on_tick": "i>-",
}
TIMER = "proxy_set_tick_period_milliseconds"
PERIOD = 50  # milliseconds, unless another is asked for


def looping(callback: str = "", period: int = PERIOD) -> bytes:
    """A plugin that loops in `callback`; one that loops in `proxy_on_tick` sets a timer, of so many ms."""
    kinds = list(dict.fromkeys(["i>i", *EXPORTS.values()]))
    ticks = callback == "proxy_on_tick"
    bodies = []
    for name, kind in EXPORTS.items():
        body = asm.const(asm.BUFFER) if name == "malloc" else result(kind)
        if ticks and name == "proxy_on_configure":
            body = asm.const(period) + b"\x10\x00\x1a" + body  # call 0, drop
        bodies.append(LOOP + b"\x00" if name == callback else body)
    timer = [("env", TIMER, b"\x00" + asm.number(kinds.index("i>i")))] if ticks else []
    return asm.module(
        asm.types(*map(signature, kinds)),
        asm.imports(*timer),
        asm.functions(*(kinds.index(kind) for kind in EXPORTS.values())),
        asm.memory(2),
        asm.exports(
            ("memory", asm.MEMORY, 0),
            *((name, asm.FUNCTION, len(timer) + at) for at, name in enumerate(EXPORTS)),
        ),
        asm.code(*bodies),
    )
