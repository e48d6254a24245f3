"""Names and lines that a stripped module has lost, and how a backtrace gets them back."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wasm_asm as asm
from support.wasm_lines import line_table

from scaffold.wasm import source_map, symbols
from scaffold.wasm.code import bodies
from scaffold.wasm.line_table import lookup
from scaffold.wasm.module import WasmFile
from scaffold.wasm.symbols import Symbols

HELLO = "_ZN65_$LT$sample..Hello$u20$as$u20$proxy_wasm..traits..HttpContext$GT$2on17hefddb11a228afcf2E"
V0 = "_RNvNtCsi9YzqDQQz2q_5alloc7raw_vec17capacity_overflow"
TRAP = b"\x00"  # unreachable
HEADERS = {"proxy_on_request_headers": (asm.signature(), asm.call(3) + asm.DROP)}
MODULE = asm.plugin(callbacks={**HEADERS, "helper": (asm.signature(b"", asm.I32), TRAP)})
NAMES = ["marker", "_initialize", "malloc", "proxy_on_request_headers", HELLO]


def named(module=MODULE, names=NAMES, lines=b""):
    entries = asm.vector(asm.number(at) + asm.name(name) for at, name in enumerate(names))
    debug = asm.custom(".debug_line", lines) if lines else b""
    return module + debug + asm.custom("name", b"\x01" + asm.number(len(entries)) + entries)


def of(linked):
    return Symbols.of(MODULE, named=linked, linked=linked)


def backtrace(module, *frames):
    id_ = symbols.id_of(module)
    numbered = "".join(f"\n  {at}:  {frame}" for at, frame in enumerate(frames))
    words = "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable\n"
    last = f"\n  {len(frames)}:  0x1 - proxy_on_request_headers@{id_}"
    return f"{words}Proxy-Wasm plugin in-VM backtrace:{numbered}{last}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    symbols._kept.cache_clear()
    symbols.explained.cache_clear()
    return tmp_path / "cache/proxy-wasm-scaffold/names"


def test_stripping_takes_what_is_custom_and_nothing_else():
    assert symbols.stripped(named(lines=line_table((1, 2), (3, 4)))) == MODULE


def test_a_marked_module_is_the_same_with_names_of_what_it_exports():
    marked = symbols.marked(MODULE)
    assert symbols.stripped(marked) == MODULE
    read = WasmFile.parse(marked, "a.wasm")
    assert (read.names_readable, read.exports) == (True, WasmFile.parse(MODULE, "a.wasm").exports)
    assert f"proxy_on_request_headers@{symbols.id_of(MODULE)}".encode() in marked


def test_a_backtrace_gets_names_and_lines(tmp_path):
    module = WasmFile.parse(MODULE, "a.wasm")
    code = next(each for each in module.sections if each.kind == "code")
    begin = code.at + code.size - len(symbols.sections(MODULE)["code"])
    (_, end) = list(bodies(symbols.sections(MODULE)["code"]))[4]
    table = line_table((0, 1), (5, 2), folder=b"/dep-1.0.0/src") + line_table(
        (end - 3, 41), (end - 2, 42), (end, 43)
    )
    symbols.keep(of(named(lines=table)), symbols.id_of(MODULE), tmp_path / "names")
    frame = f"0x{begin + end - 2:x} - unknown(function index:4)"
    shown = symbols.explained(backtrace(MODULE, frame)).splitlines()
    assert (
        shown[2]
        == "  0:  <sample::Hello as proxy_wasm::traits::HttpContext>::on (library/core/src/lib.rs:42)"
    )
    assert shown[3] == "  1:  proxy_on_request_headers"


def addresses():
    """Where each function's last instruction is in the code section, and where it ends."""
    return [(end - 1, end) for _, end in bodies(symbols.sections(MODULE)["code"])]


def test_functions_have_the_file_of_their_lines():
    (_, _, _, _, (last, end)) = addresses()
    known = of(named(lines=line_table((0, 1), (last, 9)) + line_table((last, 41), (end, 43), file=b"a.rs")))
    assert known.files() == {4: "library/core/src/a.rs"}


def test_after_a_tool_functions_have_the_file_of_their_first_place_and_no_place_of_another_s():
    begin, linked = symbols.code_begin(MODULE), named(lines=line_table((100, 41), (110, 43)))
    ranges = list(bodies(symbols.sections(MODULE)["code"]))
    positions = source_map.write([(begin + ranges[3][0] + 1, 104)])
    known = Symbols.of(MODULE, named=linked, linked=linked, positions=positions)
    assert known.files() == {3: "library/core/src/lib.rs"}
    assert [str(each) for each in known.places(3, begin + ranges[3][1] - 1)] == ["library/core/src/lib.rs:41"]
    assert known.places(4, begin + ranges[4][1] - 1) == ()


def test_a_function_that_a_tool_put_into_another_comes_after_the_line_of_that():
    table = line_table((100, 41), (110, 43)) + line_table((200, 7), (210, 8), file=b"a.rs")
    begin, linked = symbols.code_begin(MODULE), named(lines=table)
    *_, (_, before), (start, end), _ = bodies(symbols.sections(MODULE)["code"])
    places = {before - 1: 204, start: 104, start + 1: None, end - 1: 204}
    positions = source_map.write((begin + at, place) for at, place in places.items())
    known = Symbols.of(MODULE, named=linked, linked=linked, positions=positions)
    assert list(map(str, known.places(3, begin + end - 1))) == [
        "library/core/src/a.rs:7",
        "library/core/src/lib.rs:41",
    ]
    assert known.places(3, begin + start + 1) == ()


def test_a_function_that_wasm_opt_shares_has_the_name_of_the_first():
    assert symbols.readable(f"byn$mgfn-shared${V0}") == "alloc::raw_vec::capacity_overflow"


def test_a_backtrace_without_kept_names_keeps_its_numbers_and_loses_its_mangling():
    text = backtrace(MODULE, "0x2a - unknown(function index:4)", f"0x2b - {V0}")
    shown = symbols.explained(text).splitlines()
    assert shown[2:4] == ["  0:  0x2a - unknown(function index:4)", "  1:  alloc::raw_vec::capacity_overflow"]


@pytest.mark.parametrize("damage", [b"", b"no zlib", b"x\x9c"])
def test_a_damaged_file_of_names_is_as_good_as_none(cache, tmp_path, damage):
    symbols.keep(of(named()), symbols.id_of(MODULE), tmp_path / "names")
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert "unknown(function index:4)" in symbols.explained(
        backtrace(MODULE, "0x2a - unknown(function index:4)")
    )


def test_names_are_read_without_what_follows(monkeypatch):
    monkeypatch.setattr(symbols, "_PIECE", 7)
    record = of(named(lines=line_table((0, 1), (8, 2)))).packed()
    assert Symbols.names_of(record) == Symbols.unpack(record).names == dict(enumerate(NAMES))


@pytest.mark.parametrize(
    "record", [b"", b"no zlib", zlib.compress(b"no end"), zlib.compress(b"[]\n"), zlib.compress(b"[[3]]\n")]
)
def test_what_is_no_file_of_names_has_none(record):
    with pytest.raises(ValueError, match=r"."):
        Symbols.names_of(record)


def test_names_come_back_from_beside_the_module(cache, tmp_path):
    symbols.keep(of(named()), symbols.id_of(MODULE), tmp_path / "names")
    for path in cache.iterdir():
        path.unlink()
    symbols.restore(symbols.id_of(MODULE), tmp_path / "names")
    assert "<sample::Hello" in symbols.explained(backtrace(MODULE, "0x2a - unknown(function index:4)"))


def test_names_of_older_builds_go(cache, tmp_path):
    cache.mkdir(parents=True)
    for number in range(100):
        (cache / f"{number}.names").touch()
    symbols.keep(of(named()), symbols.id_of(MODULE), tmp_path / "names")
    assert len(list(cache.iterdir())) == 60
    assert (cache / f"{symbols.id_of(MODULE)}.names").stat().st_size


@pytest.mark.parametrize("name", ["malloc", "_RNonsense", "_ZN", HELLO[:30], "é"])
def test_what_is_no_mangled_name_stays(name):
    assert symbols.readable(name) == name


@pytest.mark.parametrize("linked", [MODULE, MODULE + asm.custom("name", b"\x01\x09\x01")])
def test_a_module_without_names_has_its_numbers(linked):
    assert of(linked).name(4) == "function 4"


def test_an_address_has_a_line_from_a_function_s_begin_to_its_end():
    assert lookup(line_table((0, 1), (8, 2)), 8, {}) == ()
    (place,) = lookup(line_table((4, 7), (6, 8), (9, 9)), 7, {})
    assert str(place) == "library/core/src/lib.rs:8"


@given(st.binary(max_size=200))
def test_a_damaged_line_table_knows_nothing(table):
    whole = line_table((0, 1), (8, 2))
    assert lookup(table, 5, {}) == ()
    assert len(lookup(whole[: len(table)] + table, 5, {})) < 3


def padded(value):
    """A number as the linker writes one that it fills in."""
    return bytes([value >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]) + bytes([value >> 28])


@given(st.lists(st.one_of(st.binary(max_size=4), st.integers(0, 2**32 - 1)), max_size=30), st.data())
def test_an_instruction_is_found_again_where_numbers_are_longer(parts, data):
    at = data.draw(st.integers(0, len(parts)))
    # each after an instruction's byte, as one that is never a number's part
    short = [each if isinstance(each, bytes) else b"\x10" + asm.number(each) for each in parts]
    long = [each if isinstance(each, bytes) else b"\x10" + padded(each) for each in parts]
    assert symbols._longer(b"".join(short[:at]), b"".join(long) + b"\x0b") == len(b"".join(long[:at]))
