"""Where a module's bytes are: every byte is in one row, and a function's are its crate's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import odd_modules
from support import wasm_asm as asm
from support.odd_modules import mutated
from support.wasm_lines import line_table

from scaffold.wasm import size, symbols
from scaffold.wasm.module import NotAPlugin, WasmFile
from scaffold.wasm.report import report
from scaffold.wasm.symbols import Symbols

ON = "_ZN65_$LT$sample..Hello$u20$as$u20$proxy_wasm..traits..HttpContext$GT$2on17hefddb11a228afcf2E"
SHARED = "byn$mgfn-shared$_ZN10proxy_wasm9hostcalls7set_map17h91bcde54db723cfdE"
NAMES = [SHARED, "_RNvNtCsi9YzqDQQz2q_5alloc7raw_vec17capacity_overflow", "malloc", ON, ON, "a::b"]
BIG = b"\x01" * 200  # nops: such a function's length takes two bytes
MODULE = asm.plugin(
    callbacks={name: (asm.signature(), code) for name, code in (("f", BIG), ("g", b""), ("h", b""))},
    segments=[(8, b"data")],
)
OF_CODE = {"crate", "SDK", "Rust", "C library", "code"}


def named(names=NAMES):
    entries = asm.vector(asm.number(at) + asm.name(name) for at, name in enumerate(names))
    return MODULE + asm.custom("name", b"\x01" + asm.number(len(entries)) + entries)


def sizes(content, path="/nowhere/a.wasm"):
    return size.of(WasmFile.parse(content, Path(path)))


def of_crates(found):
    return {(row.kind, row.name): (row.bytes, row.functions) for row in found.rows if row.kind in OF_CODE}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    symbols._kept.cache_clear()


def test_functions_are_their_crates_with_the_bytes_of_their_length():
    found = sizes(named())
    assert of_crates(found) == {
        ("SDK", "proxy-wasm"): (3, 1),
        ("Rust", "alloc"): (3, 1),
        ("crate", "sample"): (204 + 3, 2),
        ("crate", "a"): (3, 1),
        ("code", ""): (6 + 4, 1),  # malloc, and the section's header
    }
    assert [(each.name, each.crate, each.bytes) for each in found.functions[:2]] == [
        ("<sample::Hello as proxy_wasm::traits::HttpContext>::on", "sample", 204),
        ("malloc", "", 6),
    ]
    assert found.unnamed == ""


def test_a_function_without_a_name_is_the_crates_that_alone_calls_it():
    codes = {"f": asm.call(5) + asm.call(6), "g": asm.call(6), "h": b"", "i": b""}
    module = asm.plugin(callbacks={name: (asm.signature(), code) for name, code in codes.items()})
    names = {3: "mine::f", 4: "theirs::g"}
    entries = asm.vector(asm.number(at) + asm.name(name) for at, name in names.items())
    found = sizes(module + asm.custom("name", b"\x01" + asm.number(len(entries)) + entries))
    assert {each.name: each.crate for each in found.functions} == {
        "function 0": "",
        "function 1": "",
        "function 2": "",
        "mine::f": "mine",
        "theirs::g": "theirs",
        "function 5": "mine",
        "function 6": "",
    }
    assert of_crates(found)["crate", "mine"] == (7 + 3, 2)


def rows_of(content):
    found = sizes(content)
    assert sum(row.bytes for row in found.rows) == found.size == len(content)
    assert all(row.bytes >= 0 for row in found.rows)
    return found


@pytest.mark.parametrize("content", [named(), MODULE, asm.module(), odd_modules.build()])
def test_rows_add_up(content):
    header = next(row for row in rows_of(content).rows if row.name == "header")
    assert header.bytes == 8


@given(mutated())
def test_rows_add_up_whatever_the_module_is(content):
    try:
        WasmFile.parse(content, Path("a.wasm"))
    except NotAPlugin:
        return
    rows_of(content)


def test_code_that_is_damaged_belongs_to_nobody():
    whole = named()
    at = whole.index(BIG) - 3  # the length of its function: more than the section has
    found = rows_of(whole[:at] + b"\xff\x7f" + whole[at + 2 :])
    assert sum(row.functions for row in found.rows) < 6


def test_a_module_without_names_says_so():
    found = sizes(MODULE)
    assert [row.kind for row in found.rows if row.kind in OF_CODE] == ["code"]
    assert [each.name for each in found.functions[:2]] == ["function 3", "function 2"]
    assert found.unnamed.startswith("it has no functions' names: it was stripped")
    said = report(WasmFile.parse(MODULE, Path("a.wasm")), sizes=found).summary()
    assert "crates aren't known: it has no" in said


def test_names_without_functions_are_none():
    name = asm.custom("name", b"\x01\x04\x01\x00\x01a")
    assert [row.kind for row in rows_of(asm.module() + name).rows] == ["names", "section"]


@given(st.binary(max_size=120))
def test_lines_that_are_damaged_are_none(table):
    rows_of(named() + asm.custom(".debug_line", table) + asm.custom(".debug_info", table))


@given(st.integers(0, 60), st.binary(max_size=3))
def test_lines_of_which_a_part_is_damaged_do_no_harm(at, damage):
    table = line_table((300, 41), (310, 43))
    rows_of(named() + asm.custom(".debug_line", table[:at] + damage + table[at + len(damage) :]))


def test_a_component_says_so():
    found = sizes(b"\0asm\x0d\0\x01\0" + asm.section(1, asm.module()))
    assert "component" in found.unnamed
    assert found.functions == ()


def test_names_that_a_build_has_kept_count(tmp_path):
    marked = symbols.marked(MODULE)
    assert "another machine" in sizes(marked).unnamed
    symbols.keep(Symbols.of(MODULE, named=named(), linked=named()), symbols.id_of(MODULE), tmp_path / "names")
    for path in (tmp_path / "cache").rglob("*.names"):
        path.unlink()
    assert sizes(marked).unnamed
    beside = sizes(marked, str(tmp_path / "a.wasm"))
    assert of_crates(beside) == of_crates(sizes(named()))


def test_a_crate_has_the_version_in_cargo_lock_if_there_is_only_one(tmp_path):
    packages = [("sample", "1.2.3"), ("a", "1.0.0"), ("a", "2.0.0"), ("proxy-wasm", "0.2.5")]
    lock = "".join(f'[[package]]\nname = "{name}"\nversion = "{version}"\n' for name, version in packages)
    (tmp_path / "Cargo.lock").write_text(lock)
    rows = sizes(named(), str(tmp_path / "a.wasm")).rows
    assert {row.name: row.version for row in rows if row.kind in ("crate", "SDK")} == {
        "sample": "1.2.3",
        "a": "",
        "proxy-wasm": "0.2.5",
    }


@pytest.mark.parametrize(
    ("crate", "source", "owner"),
    [
        ("", "gate-1.0.0/src/lib.rs", ("crate", "gate", "1.0.0")),
        ("", "proxy-wasm-0.2.5/src/dispatcher.rs", ("SDK", "proxy-wasm", "0.2.5")),
        ("", "library/compiler-builtins/src/macros.rs", ("Rust", "compiler_builtins", "")),
        ("core", "gate-1.0.0/src/lib.rs", ("Rust", "core", "")),
        ("", "wasisdk://v30.0/src/wasi-libc/dlmalloc/src/malloc.c", ("C library", "wasi-libc", "")),
        ("", "somewhere/else.c", ("", "", "")),
        ("hashbrown", "rust/deps/hashbrown-0.15.4/src/raw.rs", ("Rust", "hashbrown", "0.15.4")),
        ("hashbrown", "hashbrown-0.16.1/src/raw.rs", ("crate", "hashbrown", "0.16.1")),
        ("hashbrown", "library/core/src/ops.rs", ("crate", "hashbrown", "")),
        ("serde_json", "library/core/src/ops.rs", ("crate", "serde-json", "1.0.1")),
        ("other", "", ("crate", "other", "")),
    ],
)
def test_a_function_s_owner(crate, source, owner):
    sources = ["rust/deps/hashbrown-0.15.4/src/raw.rs", "hashbrown-0.16.1/src/raw.rs"]
    owners = size._Owners(sources, {"serde_json": ("serde-json", "1.0.1")})
    assert owners.of(crate, source) == owner


def test_the_summary_says_what_trimming_saved():
    module = WasmFile.parse(named(), Path("a.wasm"))
    saved = size.Saved(module.size * 2, ("proxy_on_log",), optimised=True)
    said = report(module, sizes=size.of(module, saved)).summary()
    how = "(1 callbacks left out that the plugin doesn't override, wasm-opt)"
    assert f"{module.size:,} bytes (50 %) of the {module.size * 2:,} that the linker made {how}" in " ".join(
        said.split()
    )
    assert "  sample (2 functions)\n" in said
    assert report(module).sizes is None
