"""Modules at the limits of what hosts take: they take seconds to make, and to refuse."""

import os
import sys

import pytest
from support import wasm_asm as asm
from support.commands import run
from support.odd_modules import module

from scaffold.wasm.module import NotAPlugin, WasmFile

LONG_LIST = asm.number(1000) + b"\x64\0" * 1000  # of references, which take more than a byte each


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (asm.plugin() + b"\0\x02\x01a" * 20_000, "it has more than 20,000 sections"),
        (
            asm.module(asm.section(2, asm.number(20_001) + b"\x00\x00\x00\x00" * 20_001)),
            "it has 20,001 imports: 20,000 is the limit",
        ),
        (
            module(
                types=asm.section(1, b"\x02" + (b"\x4e" + asm.number(600_000) + b"\x60\0\0" * 600_000) * 2)
            ),
            "it has more types than hosts take",
        ),
        (
            asm.module(asm.section(1, asm.vector([b"\x60" + LONG_LIST + b"\0"] * 5_001))),
            "its lists have more than 5,000,000 entries",
        ),
        (
            asm.module(asm.section(1, asm.vector([b"\x5f" + asm.number(10**6) + bytes(2 * 10**6)] * 6))),
            "its lists have more than 5,000,000 entries",
        ),
        (asm.module(asm.section(1, asm.number(2**32 - 1))), "it is cut short"),
        (asm.module(asm.section(3, asm.number(2**32 - 1))), "it is cut short"),
        (asm.module(asm.section(10, asm.number(2**32 - 1))), "it is cut short"),
    ],
    ids=["sections", "imports", "types", "references", "fields", "types said", "functions said", "code said"],
)
def test_too_much_ends_at_once(tmp_path, content, why):
    path = tmp_path / "a.wasm"
    path.write_bytes(content)
    with pytest.raises(NotAPlugin) as caught:
        WasmFile.read(path)
    assert why in caught.value.message


# --- memory: what a command needs beyond what it needs for the smallest module

PEAK = """
import resource, sys
from scaffold.__main__ import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
COMMANDS = {
    "inspect": ("inspect",),
    "inspect --json": ("inspect", "--json"),
    "package": ("package", "--root", "."),
}
LONG = [b"%08d" % number + b"a" * 80 + "\N{GRINNING FACE}".encode() for number in range(19_000)]
SHORT = [b"%x" % number for number in range(19_990)]


def exports(names):
    return asm.exports((asm.MARKER, asm.FUNCTION, 0), *((name, asm.FUNCTION, 0) for name in names))


def plugin(types=b"\x01\x60\0\0", imports=b"\0", functions=1, exported=(), customs=()):
    return asm.module(
        asm.section(1, types),
        asm.section(2, imports),
        asm.functions(*[0] * functions),
        exports(exported),
        asm.code(*[b""] * functions),
        *customs,
    )


def imported(names):
    return asm.vector(b"\0" + asm.name(name) + b"\0\0" for name in names)


def of_64_import_sections():
    return asm.HEADER + asm.section(2, imported(SHORT)) * 64


LARGE = {
    "64 import sections": of_64_import_sections,
    "20,000 of everything": lambda: plugin(
        imports=imported(SHORT), exported=SHORT, customs=map(asm.custom, SHORT)
    ),
    "names of wide characters": lambda: plugin(imports=imported(LONG), exported=LONG),
    "custom sections of wide names": lambda: plugin(
        customs=[asm.custom(name * 3) for name in LONG],
    ),
    "1,000,000 types": lambda: plugin(asm.number(10**6) + b"\x60\0\0" * 10**6),
    "1,000,000 functions": lambda: plugin(functions=10**6),
    "1,000,001 names": lambda: plugin(
        customs=[asm.custom("name", asm.section(1, asm.number(10**6) + bytes(2 * 10**6)) * 3)]
    ),
    "tools": lambda: plugin(
        customs=[
            asm.custom(
                "producers",
                asm.vector(
                    asm.name(name) + asm.vector([asm.name(other) + b"\0" for other in SHORT[:200]])
                    for name in SHORT[:2000]
                ),
            )
        ]
    ),
    "30 MB that don't compress": lambda: plugin(customs=[asm.custom("data", os.urandom(30_000_000))]),
}


def peak(path, *words):
    """The most memory that a command took, in bytes; its parent is small, as a child inherits that number."""
    line = [sys.executable, "-c", PEAK, *words, path]
    ran = run("/bin/sh", "-c", '"$@"; exit $?', "sh", *line, cwd=path.parent)
    assert ran.code in (0, 6), ran.err
    return int(ran.err.split()[-1]) * UNIT


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", LARGE)
def test_no_module_takes_more_than_four_times_its_size(home, kind, command):
    smallest, large = home / "smallest.wasm", home / "large.wasm"
    smallest.write_bytes(asm.plugin())
    large.write_bytes(LARGE[kind]())
    more = peak(large, *COMMANDS[command]) - peak(smallest, *COMMANDS[command])
    assert more <= 4 * large.stat().st_size + 32 * 2**20
