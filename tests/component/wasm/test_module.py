"""Modules at the limits of what hosts take: they take seconds to make, and to refuse."""

import tracemalloc
from contextlib import suppress

import pytest
from support import wasm_asm as asm
from support.odd_modules import module

from scaffold.wasm.module import NotAPlugin, WasmFile, WasmModule


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a module, by way of a file."""

    def reading(content):
        path = tmp_path / "plugin.wasm"
        path.write_bytes(content)
        return WasmModule.read(path)

    return reading


def test_import_sections_that_repeat_are_refused_in_little_memory(read):
    """However many there are, only the first is read."""
    content = asm.HEADER + asm.section(2, asm.number(10_000) + b"\0\0\2\0\1" * 10_000) * 200
    tracemalloc.start()
    try:
        with pytest.raises(NotAPlugin, match="its section `import` is out of place"):
            read(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(content) + 32 * 10**6


@pytest.mark.parametrize("count", [100_000, 200_000])
def test_many_empty_sections_take_little_memory(read, count):
    content = asm.plugin() + asm.custom("") * (count - 10)
    tracemalloc.start()
    try:
        with suppress(NotAPlugin):
            read(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(content) + 32 * 10**6


def test_sections_are_never_without_end(read):
    with pytest.raises(NotAPlugin, match="it has more than 100,000 sections"):
        read(asm.plugin() + asm.custom("a") * 100_000)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (asm.plugin() + b"\0\x02\x01a" * 100_000, "it has more than 100,000 sections"),
        (
            asm.module(asm.section(2, asm.number(10**6 + 1) + b"\x00\x00\x00\x00" * (10**6 + 1))),
            "it has 1,000,001 imports, and hosts take at most 1,000,000",
        ),
        (
            module(
                types=asm.section(1, b"\x02" + (b"\x4e" + asm.number(600_000) + b"\x60\0\0" * 600_000) * 2)
            ),
            "it has more types than hosts take",
        ),
        (asm.module(asm.section(1, asm.number(2**32 - 1))), "it is cut short"),
        (asm.module(asm.section(3, asm.number(2**32 - 1))), "it is cut short"),
        (asm.module(asm.section(10, asm.number(2**32 - 1))), "it is cut short"),
    ],
    ids=["sections", "imports", "types", "types said", "functions said", "code said"],
)
def test_too_much_ends_at_once(tmp_path, content, why):
    path = tmp_path / "a.wasm"
    path.write_bytes(content)
    with pytest.raises(NotAPlugin) as caught:
        WasmFile.read(path)
    assert why in caught.value.message
