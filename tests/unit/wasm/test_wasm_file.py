import hashlib
import itertools
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from support import odd_modules
from support import wasm_asm as asm
from support.odd_modules import build, wasi

from scaffold.wasm import check as abi
from scaffold.wasm.module import _RUST_SOURCE, Extern, NotAPlugin, WasmModule, readable

COMPONENT = b"\0asm\x0d\0\x01\0"


def producers(*fields):
    """The custom section: ("language", [("Rust", "")])."""
    return asm.custom(
        "producers",
        asm.vector(
            asm.name(field) + asm.vector(asm.name(name) + asm.name(version) for name, version in values)
            for field, values in fields
        ),
    )


def test_what_a_plugin_is_made_of(read, tmp_path):
    content = build([("env", "proxy_log", "iii>i"), ("env", "base", b"\x03\x7f\x00")], pages=3)
    anatomy = read(content)
    assert anatomy.path == (tmp_path / "a.wasm").resolve()
    assert (anatomy.size, anatomy.digest) == (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert anatomy.imports == (
        Extern("env", "proxy_log", "function", "iii>i"),
        Extern("env", "base", "global"),
    )
    assert anatomy.exports == (
        Extern("", "memory", "memory"),
        Extern("", asm.MARKER, "function", ">-"),
        Extern("", "_initialize", "function", ">-"),
        Extern("", "malloc", "function", "i>i"),
    )
    assert (anatomy.abi_version, anatomy.functions, anatomy.memory_pages) == ("0.2.1", 3, 3)
    assert (anatomy.component, anatomy.start, anatomy.names_readable) == (False, False, True)


def test_sections_and_the_header_are_the_whole_file(read):
    content = build(customs=[asm.custom("name"), asm.custom("mine", b"12345")])
    sections = read(content).sections
    assert [section.name for section in sections] == [
        *"type import function memory export code name mine".split()
    ]
    assert [section.kind for section in sections][-2:] == ["custom", "custom"]
    assert sections[-1].size == len(asm.custom("mine", b"12345"))
    assert 8 + sum(section.size for section in sections) == len(content)
    for section, following in itertools.pairwise(sections):
        assert section.at + section.size == following.at


def test_what_is_no_plugin_is_read_too(read):
    assert read(asm.module()).abi_version is None
    assert read(odd_modules.ODD["no marker"].content).callable == {"_initialize": ">-", "malloc": "i>i"}


def test_a_component_is_looked_at_from_the_outside(read):
    anatomy = read(COMPONENT + asm.section(1, b"core") + producers(("language", [("Rust", "")])))
    assert anatomy.component
    assert [section.name for section in anatomy.sections] == ["core module", "producers"]
    assert anatomy.producers == {"language": {"Rust": ""}}
    assert (anatomy.abi_version, anatomy.imports, anatomy.exports) == (None, (), ())


def test_an_exported_import_has_the_imports_type(read):
    types = asm.types(asm.signature(asm.I64, asm.F64 + asm.F32))
    imports = asm.imports(("env", "f", b"\x00\x00"))
    assert read(asm.module(types, imports, asm.exports(("f", asm.FUNCTION, 0)))).callable == {"f": "I>Ff"}


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (b"\x7f\x7e\x7d\x7c\x7b\x70\x6f", "iIfFvre>-"),
        (b"\x7f\x63\x00\x7f", "i?i>-"),  # (ref null 0)
        (b"\x64\xf0\x7f\x7e", "?I>-"),  # (ref func), in two bytes
        (b"\x6e", "?>-"),
    ],
)
def test_every_type_of_values_has_a_letter(read, params, signature):
    count = len(signature) - 2
    types = asm.section(1, b"\x01\x60" + asm.number(count) + params + b"\x00")
    assert read(asm.module(types, asm.imports(("m", "f", b"\x00\x00")))).imports[0].signature == signature


def test_types_of_structures_are_passed_over(read):
    anatomy = read(odd_modules.ODD["types of what is no function"].content)
    assert anatomy.callable == {asm.MARKER: ">-", "malloc": "i>i"}
    with pytest.raises(NotAPlugin, match="type 1 isn't a function's"):
        types = asm.section(1, b"\x02" + asm.signature() + b"\x5f\x00")
        read(asm.module(types, asm.imports(("m", "f", b"\x00\x01"))))


def test_memory_is_the_largest_be_it_imported_or_its_own(read):
    imported = ("env", "memory", b"\x02\x00\x07")
    assert read(build([imported], pages=2)).memory_pages == 7
    assert read(build([imported], pages=9)).memory_pages == 9
    assert read(asm.module()).memory_pages == 0


def test_producers_and_features(read):
    said = [
        ("language", [("Rust", ""), ("C11", "")]),
        ("processed-by", [("rustc", "1.95.0 (59807616e 2026-04-14)")]),
    ]
    features = b"\x03+" + asm.name("sign-ext") + b"-" + asm.name("atomics") + b"=" + asm.name("simd128")
    anatomy = read(build(customs=[producers(*said), asm.custom("target_features", features)]))
    assert anatomy.producers == {field: dict(values) for field, values in said}
    assert anatomy.features == ("sign-ext", "simd128")


def test_of_garbled_remarks_what_can_be_read_counts(read):
    whole = producers(("language", [("Rust", "")]))
    cut = asm.custom("producers", b"\x02" + whole[len(asm.custom("producers")) + 1 :])
    anatomy = read(build(customs=[cut, asm.custom("target_features", b"\x02+\x01a")]))
    assert anatomy.producers == {"language": {"Rust": ""}}
    assert anatomy.features == ("a",)


RUST = b"/home/me/.cargo/registry/src/registry.example-1949cf8c6b5b557f/proxy-wasm-0.2.4/src/hostcalls.rs"
GIT = b"/git/checkouts/proxy-wasm-rust-sdk-0123456789abcdef/19e691b/src/dispatcher.rs"
LANGUAGE = "language"


@pytest.mark.parametrize(
    ("customs", "exports", "sdk"),
    [
        ([asm.custom("data", RUST)], {}, "Rust, proxy-wasm 0.2.4"),
        ([asm.custom("data", RUST.replace(b"0.2.4", b"0.3.0-dev.1"))], {}, "Rust, proxy-wasm 0.3.0-dev.1"),
        ([asm.custom("data", rb"C:\src\proxy-wasm-0.2.4\src\allocator.rs")], {}, "Rust, proxy-wasm 0.2.4"),
        ([asm.custom("data", GIT)], {}, "Rust, proxy-wasm"),
        ([asm.custom("data", b"vendor/proxy-wasm/src/hostcalls.rs")], {}, "Rust, proxy-wasm"),
        ([asm.custom("data", b"proxy-wasm-cpp-host/src/wasm.cc")], {}, "unknown"),
        ([producers((LANGUAGE, [("Rust", "")]))], {}, "unknown"),
        ([producers(("processed-by", [("TinyGo", "0.39.0")]))], {}, "Go, TinyGo"),
        ([producers((LANGUAGE, [("Go", "go1.25")]))], {}, "Go"),
        ([producers((LANGUAGE, [("C_plus_plus_17", "")]))], {}, "C++"),
        ([], {"emscripten_stack_get_end": ">i"}, "C++, Emscripten"),
        ([], {"__new": "ii>i", "__pin": "i>i"}, "AssemblyScript"),
        ([asm.custom("data", "~lib/rt/itcms.ts".encode("utf-16-le"))], {}, "AssemblyScript"),
        ([], {}, "unknown"),
    ],
)
def test_the_sdk_is_told_by_its_traces(read, customs, exports, sdk):
    assert read(build(exports=odd_modules.PLUGIN | exports, customs=customs)).sdk == sdk


@pytest.mark.parametrize("name", odd_modules.BROKEN)
def test_what_is_broken_is_said_with_its_place(read, name):
    content, why = odd_modules.BROKEN[name]
    with pytest.raises(NotAPlugin, match=r" is a broken wasm module: .* \(at byte \d+\)$") as caught:
        read(content)
    assert why in caught.value.message


def test_cut_short_anywhere_but_between_sections(read):
    whole = build(wasi("fd_write", "iiii>i"), customs=[producers((LANGUAGE, [("Rust", "")]))])
    sections = read(whole).sections
    ends = {8, *(section.at + section.size for section in sections)}
    readable_ones = set()
    for size in range(8, len(whole)):
        try:
            read(whole[:size])
            readable_ones.add(size)
        except NotAPlugin as error:
            assert "\n" not in error.message
    names = [section.name for section in sections]
    declared = range(names.index("function"), names.index("code"))  # then the code is missing
    assert readable_ones == ends - {len(whole)} - {sections[at].at + sections[at].size for at in declared}


def test_names_that_are_too_many_are_not_read(read):
    listed = b"\x01" + asm.number(3_000_007) + asm.number(10**6 + 1)
    assert not read(build(customs=[asm.custom("name", listed + bytes(3_000_003))])).names_readable


def test_parts_of_the_names_that_are_too_many_are_not_read(read):
    def of(parts):
        return read(build(customs=[asm.custom("name", b"\x02\0" * parts)])).names_readable

    assert of(100)
    assert not of(101)


@pytest.mark.parametrize("begin", [b"proxy-wasm-1.1.", b"proxy-wasm-rust-sdk-"])
def test_the_search_for_the_sdk_does_not_go_back_and_forth(begin):
    def seconds(pattern):
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            pattern(begin + b"1" * 10**6)
            times.append(time.perf_counter() - begun)
        return min(times)

    once = re.compile(rb"[\w.+-]++$").match
    assert seconds(_RUST_SOURCE.search) < 10 * seconds(once)  # it was 390 and 24 times


def test_a_number_has_at_most_32_bits_but_for_memories_of_64(read):
    padded = b"\x81" + b"\x80" * 4 + b"\0"
    assert read(asm.module(asm.section(5, b"\1\4" + padded))).memory_pages == 1
    with pytest.raises(NotAPlugin, match="a number is too long"):
        read(asm.module(asm.section(5, b"\1\0" + padded)))


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (">-", "() -> nothing"),
        ("ii>i", "(i32, i32) -> i32"),
        ("iI>-", "(i32, i64) -> nothing"),
        ("v>fF", "(v128) -> f32, f64"),
        ("?>r", "(?) -> funcref"),
    ],
)
def test_a_signature_is_said_as_people_write_it(signature, said):
    assert readable(signature) == said


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd_modules.mutated())
def test_whatever_was_done_to_a_module_it_is_read_or_refused(read, tmp_path, content):
    try:
        anatomy = read(content)
    except NotAPlugin as error:
        assert error.message.isprintable()
        return
    assert 8 + sum(section.size for section in anatomy.sections) == len(content)
    for verdict in abi.verdicts(anatomy):
        assert verdict.loads == (not any(problem.fatal for problem in verdict.problems))
        assert all(problem.message.isprintable() for problem in verdict.problems)
    if anatomy.abi_version:
        plugin = WasmModule.read(tmp_path / "a.wasm")
        assert (plugin.abi_version, plugin.digest) == (anatomy.abi_version, anatomy.digest)
        assert {each.name: each.kind for each in anatomy.exports} == plugin.exports
