"""Small modules, good and bad, with what our rules find fatal in each and what a real Envoy says of it.

tests/unit/wasm/test_check.py holds the rules against the table, tests/e2e/test_verdicts.py a real Envoy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from support import wasm_asm as asm

VALUES = {"i": asm.I32, "I": asm.I64, "f": asm.F32, "F": asm.F64, "v": b"\x7b"}
WASI = "wasi_snapshot_preview1"
PLUGIN = {asm.MARKER: ">-", "_initialize": ">-", "malloc": "i>i"}

Import = tuple[str, str, str | bytes]  # module, name, and a signature or what else it is


def signature(text: str) -> bytes:
    """The type of "ii>i"."""
    params, _, results = text.partition(">")
    return asm.signature(
        b"".join(VALUES[each] for each in params), b"".join(VALUES[each] for each in results.strip("-"))
    )


def build(
    imports: Sequence[Import] = (),
    exports: Mapping[str, str] = PLUGIN,
    *,
    pages: int = 2,
    start: bytes | None = None,
    customs: Sequence[bytes] = (),
) -> bytes:
    """A module with these imports and exported functions, by their signatures; they do nothing.

    `start` are the instructions of a function that its start section names.
    """
    asked = [each for _, _, each in imports if isinstance(each, str)]
    kinds = list(dict.fromkeys([*asked, *exports.values(), ">-"]))
    own = [*exports.items(), *([] if start is None else [("", ">-")])]
    bodies = [start or b"" if not name else result(kind) for name, kind in own]
    return asm.module(
        asm.types(*map(signature, kinds)),
        asm.imports(
            *(
                (module, name, b"\x00" + asm.number(kinds.index(what)) if isinstance(what, str) else what)
                for module, name, what in imports
            )
        ),
        asm.functions(*(kinds.index(kind) for _, kind in own)),
        asm.memory(pages),
        asm.exports(
            ("memory", asm.MEMORY, 0),
            *((name, asm.FUNCTION, len(asked) + at) for at, name in enumerate(exports)),
        ),
        *([] if start is None else [asm.section(8, asm.number(len(asked) + len(exports)))]),
        asm.code(*bodies),
        *customs,
    )


TWO = asm.signature() + asm.signature(asm.I32, asm.I32)


def module(
    *,
    types: bytes = asm.section(1, b"\x02" + TWO),
    functions: bytes = asm.functions(0, 1),
    exports: Sequence[tuple[str, int, int]] = (),
    code: bytes = asm.code(b"", asm.const(0)),
    customs: Sequence[bytes] = (),
) -> bytes:
    """A plugin from its sections, to put a wrong one in; `exports` and `customs` are added."""
    own = ((asm.MARKER, asm.FUNCTION, 0), ("malloc", asm.FUNCTION, 1), *exports)
    return asm.module(types, functions, asm.memory(), asm.exports(*own), code, *customs)


def using(instructions: bytes) -> bytes:
    """A plugin with a table, and these instructions in its marker, which nobody calls."""
    table = asm.section(4, b"\x01\x70\x00\x01")
    return module(functions=asm.functions(0, 1) + table, code=asm.code(instructions, asm.const(0)))


def result(kind: str) -> bytes:
    """The instructions that return 1s, which is "yes" to all that a host asks in the beginning."""
    ones = {"i": asm.const(1), "-": b""}
    return b"".join(ones[each] for each in kind.partition(">")[2])


def without(*names: str, **others: str) -> dict[str, str]:
    """The exports of a plugin but for some, and others."""
    return {name: kind for name, kind in PLUGIN.items() if name not in names} | others


def of_abi(version: str, **others: str) -> dict[str, str]:
    """The exports of a plugin of another ABI."""
    return {f"proxy_abi_version_{version}": ">-"} | without(asm.MARKER, **others)


def env(name: str, kind: str) -> list[Import]:
    """One import of `env`."""
    return [("env", name, kind)]


def wasi(name: str, kind: str) -> list[Import]:
    """One import of WASI."""
    return [(WASI, name, kind)]


@dataclass(frozen=True)
class Odd:
    """A module; `rule` is the fatal one that it breaks, "" for none.

    `envoy` is a part of a real Envoy's words: "" when it loads the module, CRASH when it dies of it.
    """

    content: bytes
    rule: str = ""
    envoy: str = ""


CRASH = "crash"
BYTECODE = "Failed to load Wasm bytecode"
CORRUPTED = "Failed to parse corrupted Wasm module"
MISSING = "missing import: "
TYPE = "import type mismatch: "
SIGNATURE = "Bad function signature for: "
LOG = asm.const(0) * 3 + asm.call(0) + asm.DROP  # hostcall 0, with three 0s

ODD = {
    "the smallest": Odd(build()),
    "no marker": Odd(build(exports=without(asm.MARKER)), "abi", "Missing or unknown Proxy-Wasm ABI version"),
    "a marker of later": Odd(build(exports=of_abi("0_9_0")), "abi", "Missing or unknown Proxy-Wasm ABI"),
    "nothing at all": Odd(asm.module(), "abi", "Missing or unknown Proxy-Wasm ABI"),
    "0.1.0": Odd(
        build(env("proxy_continue_request", ">i"), of_abi("0_1_0", proxy_on_request_headers="ii>i"))
    ),
    "0.1.0 as specified": Odd(
        build(env("proxy_continue_request", ">-"), of_abi("0_1_0")),
        "import-type",
        TYPE + "env.proxy_continue",
    ),
    "0.1.0 with end_of_stream": Odd(
        build(exports=of_abi("0_1_0", proxy_on_request_headers="iii>i")), "export-type", SIGNATURE
    ),
    "0.1.0 with a callback of later": Odd(build(exports=of_abi("0_1_0", proxy_on_foreign_function="i>i"))),
    "0.2.0": Odd(build(env("proxy_continue_stream", "i>i"), of_abi("0_2_0"))),
    "0.2.0 with a hostcall of 0.2.1": Odd(
        build(env("proxy_get_log_level", "i>i"), of_abi("0_2_0")),
        "import",
        MISSING + "env.proxy_get_log_level",
    ),
    "0.2.1 with a hostcall of 0.1.0": Odd(
        build(env("proxy_get_configuration", "ii>i")), "import", MISSING + "env.proxy_get_configuration"
    ),
    "0.2.1 without end_of_stream": Odd(
        build(exports=without(proxy_on_request_headers="ii>i")), "export-type", SIGNATURE
    ),
    "a hostcall that there is not": Odd(build(env("proxy_nope", ">i")), "import", MISSING + "env.proxy_nope"),
    "a hostcall of another type": Odd(build(env("proxy_log", "ii>i")), "import-type", TYPE + "env.proxy_log"),
    "a hostcall of vectors": Odd(build(env("proxy_log", "v>-")), "import-type", CRASH),
    "a hostcall of another result": Odd(
        build(env("proxy_log", "iii>-")), "import-type", TYPE + "env.proxy_log"
    ),
    "JavaScript": Odd(
        build([("__wbindgen_placeholder__", "__wbindgen_throw", "ii>-")]), "import", MISSING + "__wbindgen"
    ),
    "an imported global": Odd(build([("env", "base", b"\x03\x7f\x00")]), "import", MISSING + "env.base"),
    "an imported tag": Odd(build([("env", "thrown", b"\x04\x00\x00")]), "import", CRASH),
    "an imported memory": Odd(build([("env", "shared", b"\x02\x00\x01")])),
    "an imported table": Odd(build([("env", "functions", b"\x01\x70\x00\x01")])),
    "WASI from the first on": Odd(build(wasi("fd_write", "iiii>i"))),
    "WASI's older name": Odd(build([("wasi_unstable", "fd_write", "iiii>i")])),
    "WASI of another type": Odd(build(wasi("fd_write", "iii>i")), "import-type", TYPE + f"{WASI}.fd_write"),
    "path_link as WASI has it": Odd(
        build(wasi("path_link", "iiiiiii>i")), "import-type", f"{WASI}.path_link"
    ),
    "WASI that nobody has": Odd(build(wasi("proc_raise", "i>i")), "import", MISSING + f"{WASI}.proc_raise"),
    # whether it calls a hostcall can't be seen, so here we are stricter than Envoy
    "a start section": Odd(build(start=b""), "start"),
    "a start section that logs": Odd(build(env("proxy_log", "iii>i"), start=LOG), "start", CRASH),
    "the most of memory": Odd(build(pages=16384)),
    "too much memory": Odd(build(pages=16385), "memory", "Failed to create new Wasm instance"),
    "too much imported memory": Odd(
        build([("env", "shared", b"\x02\x00" + asm.number(16385))]),
        "memory",
        "Failed to initialize Wasm code",
    ),
    "no allocator": Odd(build(exports=without("malloc")), "allocator", "is missing malloc function"),
    "an allocator of another type": Odd(
        build(exports=without(malloc="ii>i")), "export-type", SIGNATURE + "malloc"
    ),
    "the other allocator": Odd(build(exports=without("malloc", proxy_on_memory_allocate="i>i"))),
    "the other allocator, of another type": Odd(
        build(exports=without("malloc", proxy_on_memory_allocate=">i")),
        "export-type",
        SIGNATURE + "proxy_on_memory_allocate",
    ),
    "the other allocator, which isn't taken": Odd(build(exports=without(proxy_on_memory_allocate=">i"))),
    "nothing sets it up": Odd(build(exports=without("_initialize"))),
    "_start": Odd(build(exports=without("_initialize", _start=">-"))),
    "_start of another type": Odd(
        build(exports=without("_initialize", _start=">i")), "export-type", SIGNATURE + "_start"
    ),
    "_start that isn't called": Odd(build(exports=without(_start=">i"))),
    "main of another type": Odd(build(exports=without(main=">-")), "export-type", SIGNATURE + "main"),
    "main that isn't called": Odd(build(exports=without("_initialize", main=">-"))),
    "a callback of another type": Odd(
        build(exports=without(proxy_on_tick="i>i")), "export-type", SIGNATURE + "proxy_on_tick"
    ),
    "all of a name's bytes garbled": Odd(
        build(customs=[asm.custom("name", b"\x01\x7f")]), "names", CORRUPTED
    ),
    "names that go on too long": Odd(
        build(customs=[asm.custom("name", b"\x01\x02\x00\x00")]), "names", CORRUPTED
    ),
    "names in order": Odd(build(customs=[asm.custom("name", b"\x01\x04\x01\x00\x01a")])),
    "the second of two names garbled": Odd(
        build(customs=[asm.custom("name"), asm.custom("name", b"\x01\x7f")])
    ),
    "garbled producers": Odd(build(customs=[asm.custom("producers", b"\xff" * 9)])),
    "types of what is no function": Odd(
        module(
            types=asm.section(
                1, b"\x04" + TWO + b"\x5f\x01\x7f\x00" + b"\x4e\x02\x50\x00\x5e\x78\x01" + b"\x5f\x00"
            )
        )
    ),
    "a tail call": Odd(using(b"\x12\x00")),
    "a reference": Odd(using(b"\xd0\x70\x1a")),
    "a vector": Odd(using(asm.const(0) + b"\xfd\x0f\x1a")),
    "a call through a table, as LLVM writes it": Odd(using(asm.const(0) + b"\x11\x00\x80\x80\x80\x80\x00")),
    "memory that is copied": Odd(using(asm.const(0) * 3 + b"\xfc\x0a\x00\x00")),
    "catching what is thrown": Odd(using(b"\x1f\x40\x01\x02\x00\x0b")),
    "an exception of before": Odd(using(b"\x06\x40\x19\x0b")),
    "a memory by a callback's name": Odd(module(exports=(("proxy_on_tick", asm.MEMORY, 0),))),
}

# what is no module at all: the bytes, and why we say so
BROKEN = {
    "no code": (module(code=b""), "it declares 2 functions and has code for 0"),
    "sections in another order": (
        module(types=asm.functions(0, 1), functions=asm.section(1, b"\x02" + TWO)),
        "its section `type` is out of place",
    ),
    "a section twice": (module(customs=[asm.exports()]), "its section `export` is out of place"),
    "a section of no kind": (module(customs=[asm.section(99, b"")]), "there is no section of kind 99"),
    "a section that goes on": (
        module(types=asm.section(1, b"\x02" + TWO + b"\x00")),
        "its section `type` is longer than its content",
    ),
    "a custom section whose name is no text": (
        module(customs=[asm.section(0, b"\x01\xff")]),
        "a name is not UTF-8",
    ),
    "a custom section without a name": (module(customs=[asm.section(0, b"")]), "it is cut short"),
    "an export twice": (module(exports=(("malloc", asm.FUNCTION, 1),)), "it exports a name twice"),
    "an export of nothing": (
        module(exports=(("a", asm.FUNCTION, 9),)),
        "it exports function 9, which doesn't exist",
    ),
    "a function of no type": (module(functions=asm.functions(0, 9)), "type 9 isn't a function's"),
    "1,000,001 functions": (
        module(
            functions=asm.section(3, asm.number(1_000_001) + b"\x00\x01" + b"\x00" * 999_999),
            code=asm.section(
                10, asm.number(1_000_001) + asm.body() + asm.body(asm.const(0)) + asm.body() * 999_999
            ),
        ),
        "it has 1,000,001 functions: 1,000,000 is the limit",
    ),
    "1,001 parameters": (
        module(types=asm.types(asm.signature(), asm.signature(asm.I32 * 1001, asm.I32))),
        "it has 1,001 values in a signature: 1,000 is the limit",
    ),
}

GOOD = st.sampled_from([odd.content for odd in ODD.values()])
CUSTOM = st.sampled_from(["name", "producers", "target_features", "other"])
REMARKS = st.lists(st.tuples(CUSTOM, st.binary(max_size=30)).map(lambda made: asm.custom(*made)), max_size=3)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good module in which some bytes are others, gone or new."""
    content = bytearray(draw(GOOD) + b"".join(draw(REMARKS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(4, max(4, len(content) - 1)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)
