import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import wasm_asm as asm

from scaffold.errors import ModuleError
from scaffold.wasm.module import ABI_VERSIONS, Extern, NotAPlugin, WasmFile, WasmModule


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a module, by way of a file."""

    def reading(content):
        path = tmp_path / "plugin.wasm"
        path.write_bytes(content)
        return WasmModule.read(path)

    return reading


@pytest.fixture
def imports(tmp_path):
    """The imports of a plugin that imports these."""

    def reading(*entries):
        path = tmp_path / "plugin.wasm"
        path.write_bytes(with_imports(*entries))
        return WasmFile.read(path).imports

    return reading


def with_imports(*entries):
    """A plugin that does nothing, and imports these."""
    return asm.module(
        asm.types(asm.signature()),
        asm.imports(*entries),
        asm.functions(0),
        asm.exports((asm.MARKER, asm.FUNCTION, 0)),
        asm.code(b""),
    )


@pytest.mark.parametrize(
    ("marker", "version"),
    [
        ("proxy_abi_version_0_1_0", "0.1.0"),
        ("proxy_abi_version_0_2_0", "0.2.0"),
        ("proxy_abi_version_0_2_1", "0.2.1"),
    ],
)
def test_the_abi_is_the_version_in_the_marker(read, marker, version):
    assert read(asm.plugin(marker)).abi_version == version


def test_what_a_module_is(read, tmp_path):
    content = asm.plugin(hostcalls=[("proxy_log", asm.signature(asm.I32 * 3, asm.I32))])
    module = read(content)
    assert module.path == (tmp_path / "plugin.wasm").resolve()
    assert module.size == len(content)
    assert module.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert module.exports == {
        "memory": "memory",
        asm.MARKER: "function",
        "_initialize": "function",
        "malloc": "function",
    }


def test_the_path_is_absolute_and_real(tmp_path, monkeypatch):
    (tmp_path / "plugin.wasm").write_bytes(asm.plugin())
    (tmp_path / "link").symlink_to("plugin.wasm")
    monkeypatch.chdir(tmp_path)
    assert WasmModule.read(tmp_path / "link").path == (tmp_path / "plugin.wasm").resolve()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_of_several_markers_the_first_in_the_file_counts(read, order):
    markers = [list(ABI_VERSIONS)[at] for at in order]
    content = asm.module(
        asm.types(asm.signature()),
        asm.functions(0),
        asm.exports(*((marker, asm.FUNCTION, 0) for marker in markers)),
        asm.code(b""),
    )
    assert read(content).abi_version == ABI_VERSIONS[markers[0]]


def test_a_marker_must_be_a_function(read):
    content = asm.module(asm.memory(), asm.exports((asm.MARKER, asm.MEMORY, 0)))
    with pytest.raises(NotAPlugin, match="exports no proxy-wasm ABI marker"):
        read(content)


def test_a_marker_that_is_no_function_does_not_hide_one_that_is(read):
    content = asm.module(
        asm.types(asm.signature()),
        asm.functions(0),
        asm.memory(),
        asm.exports(("proxy_abi_version_0_1_0", asm.MEMORY, 0), (asm.MARKER, asm.FUNCTION, 0)),
        asm.code(b""),
    )
    assert read(content).abi_version == "0.2.1"


def test_custom_sections_are_passed_over(read):
    plain = asm.plugin()
    content = asm.HEADER + asm.custom("producers", b"\xff" * 9) + plain[8:] + asm.custom("name", b"")
    assert read(content).exports == read(plain).exports


@pytest.mark.parametrize("marker", ["", "proxy_abi_version_0_2_2", "proxy_abi_version_0_2_1x", "PROXY"])
def test_a_module_of_no_abi_we_know(read, tmp_path, marker):
    with pytest.raises(NotAPlugin) as caught:
        read(asm.plugin(marker))
    path = tmp_path / "plugin.wasm"
    assert caught.value.message == f"{path} exports no proxy-wasm ABI marker, so no host would load it"
    assert caught.value.hint == (
        "does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?"
    )
    assert caught.value.exit_code == 6


COMPONENT = b"\0asm\x0d\0\x01\0"


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "{path} is empty", None),
        (
            b"\x7fELF\x02",
            "{path} isn't a wasm module (it is a program or library for this kind of machine, not for wasm)",
            "`scaffold build` compiles for wasm, and prints where the module is",
        ),
        (b"\0as", "{path} isn't a wasm module (it begins with b'\\x00as')", None),
        (
            b"(module)",
            "{path} isn't a wasm module (it is WebAssembly's text format)",
            "translate it: `wat2wasm {path} -o plugin.wasm`",
        ),
        (b"\0asm\x02\0\0\0", "{path} has an unknown wasm version (02000000)", None),
        (b"\0asm\x01", "{path} has an unknown wasm version (01)", None),
        (
            COMPONENT,
            "{path} is a WebAssembly component; proxy-wasm hosts load core modules",
            "compile for wasm32-wasip1, not wasm32-wasip2",
        ),
    ],
    ids=["empty", "ELF", "cut magic", "text", "version 2", "cut version", "component"],
)
def test_what_is_no_module_is_called_what_it_is(read, tmp_path, content, message, hint):
    with pytest.raises(NotAPlugin) as caught:
        read(content)
    assert caught.value.message == message.format(path=tmp_path / "plugin.wasm")
    assert caught.value.hint == (hint and hint.format(path=tmp_path / "plugin.wasm"))


def test_what_cannot_be_read(tmp_path):
    build = "`scaffold build` compiles for wasm, and prints where the module is"
    for path, why, hint in (
        (tmp_path / "none", "No such file or directory", build),
        (tmp_path, "Is a directory", "name a file in it"),
    ):
        with pytest.raises(NotAPlugin) as caught:
            WasmModule.read(path)
        assert (caught.value.message, caught.value.hint) == (f"cannot read the module {path}: {why}", hint)


LIMITS = {
    "a minimum": b"\x00\x01",
    "a maximum, too": b"\x01\x01\x80\x02",
    "shared": b"\x03\x01\x02",
    "64 bits": b"\x04\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    "64 bits, and a maximum": b"\x05\x01" + b"\xff" * 9 + b"\x01",
    "a number in more bytes than it needs": b"\x00\x81\x80\x80\x80\x00",
}


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("function", b"\x00\x00"),
        *(("table", b"\x01\x70" + limits) for limits in LIMITS.values()),
        ("table", b"\x01\x63\x00\x00\x01"),  # (ref null 0)
        ("table", b"\x01\x64\xf0\x7f\x00\x01"),  # (ref func), in two bytes
        *(("memory", b"\x02" + limits) for limits in LIMITS.values()),
        ("global", b"\x03\x7f\x00"),
        ("global", b"\x03\x6f\x01"),
        ("global", b"\x03\x63\x00\x01"),  # (ref null 0)
        ("tag", b"\x04\x00\x00"),
    ],
)
def test_every_kind_of_import_is_read_to_its_end(imports, kind, what):
    """Read a byte too far or too short, and the next import is garbage."""
    odd = kind == "table" and what[1] != 0x70
    function = ">-" if kind == "function" else f"{what[1]:#x}" if odd else ""
    assert imports(("env", "one", what), ("wasi", "two", b"\x00\x00")) == (
        Extern("env", "one", kind, function),
        Extern("wasi", "two", "function", ">-"),
    )


def test_an_unknown_kind_is_broken(read):
    with pytest.raises(NotAPlugin, match=r"there is no import or export of kind 5 \(at byte \d+\)$"):
        read(with_imports(("env", "one", b"\x05\x00")))


def test_names_are_utf8(read, imports):
    assert imports(("ünï", "\U0001f980", b"\x00\x00"))[0].module == "ünï"
    with pytest.raises(NotAPlugin, match=r"a name is not UTF-8 \(at byte \d+\)$"):
        read(with_imports(("env", b"\xff", b"\x00\x00")))
    with pytest.raises(NotAPlugin, match="a name is not UTF-8"):
        read(asm.module(asm.exports((b"\xc3", asm.FUNCTION, 0))))


def test_cut_short_at_every_byte(read):
    """Where a section happens to end, what is left lacks the exports, or the code of its functions."""
    whole = with_imports(("env", "one", b"\x00\x00"), ("env", "two", b"\x02\x01\x01\x02"))
    ends = []
    for size in range(len(whole)):
        try:
            assert read(whole[:size]).abi_version == "0.2.1"
            ends.append(size)
        except NotAPlugin as error:
            assert "\n" not in error.message
    assert ends == []


@pytest.mark.parametrize("section", [2, 7])
@pytest.mark.parametrize("count", [2**32 - 1, 2**63])
@pytest.mark.parametrize("rest", [b"", b"\x00" * 4096], ids=["nothing follows", "zeros follow"])
def test_a_count_that_cannot_be_ends_at_once(read, section, count, rest):
    began = time.monotonic()
    with pytest.raises(NotAPlugin):
        read(asm.module(asm.section(section, asm.number(count) + rest)))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("number", "kind"), [(2, "import"), (7, "export")])
def test_imports_and_exports_have_limits(read, number, kind):
    with pytest.raises(NotAPlugin, match=f"it has 20,001 {kind}s: 20,000 is the limit"):
        read(asm.module(asm.section(number, asm.number(20_001) + bytes(80_004))))
    with pytest.raises(NotAPlugin, match=f"its section `{kind}` has 2,097,153 bytes: 2,097,152 is the limit"):
        read(asm.module(asm.section(number, bytes(2**21 + 1))))


@pytest.mark.parametrize("number", [1, 2, 3, 7, 10], ids=["type", "import", "function", "export", "code"])
def test_a_section_that_comes_twice_is_out_of_place(read, number):
    empty = asm.section(number, b"\0")
    with pytest.raises(NotAPlugin, match="is out of place"):
        read(asm.module(empty, empty))


@pytest.mark.parametrize(("declared", "bodies"), [(1, 2), (2, 1), (0, 1), (1, 0)])
def test_there_is_as_much_code_as_there_are_functions(read, declared, bodies):
    parts = [asm.types(asm.signature()), asm.functions(*[0] * declared), asm.code(*[b""] * bodies)]
    with pytest.raises(NotAPlugin, match=f"declares {declared} functions and has code for {bodies}"):
        read(asm.module(*parts))


def test_as_many_sections_are_read_as_a_module_may_have(tmp_path):
    path = tmp_path / "many.wasm"
    path.write_bytes(asm.module(*[asm.custom("a")] * 20_000))
    assert len(WasmFile.read(path).sections) == 20_000
    path.write_bytes(asm.module(*[asm.custom("a")] * 20_001))
    with pytest.raises(NotAPlugin, match="more than 20,000 sections"):
        WasmFile.read(path)


@pytest.mark.parametrize("kind", ["import", "export"])
def test_imports_and_exports_may_have_exactly_2_mib(tmp_path, monkeypatch, kind):
    entry = {
        "import": asm.imports(("env", "n" * 100, b"\0\0")),
        "export": asm.exports(("n" * 100, asm.FUNCTION, 0)),
    }[kind]
    path = tmp_path / "a.wasm"
    whole = {
        "import": [asm.types(asm.signature()), entry],
        "export": [asm.types(asm.signature()), asm.functions(0), entry, asm.code(b"")],
    }[kind]
    path.write_bytes(asm.module(*whole))
    listed = next(each for each in WasmFile.read(path).sections if each.kind == kind)
    monkeypatch.setattr("scaffold.wasm.module._LISTED_LIMIT", listed.size - 2)
    assert WasmFile.read(path)
    monkeypatch.setattr("scaffold.wasm.module._LISTED_LIMIT", listed.size - 3)
    with pytest.raises(NotAPlugin, match=f"its section `{kind}` has"):
        WasmFile.read(path)


def test_what_is_larger_than_hosts_take_is_not_read(tmp_path):
    path = tmp_path / "large.wasm"
    path.write_bytes(asm.HEADER)
    os.truncate(path, 2**30 + 1)
    with pytest.raises(NotAPlugin) as caught:
        WasmModule.read(path)
    assert caught.value.message == f"{path} has 1,073,741,825 bytes, and no host takes more than 1 GiB"


def test_what_has_no_end_is_not_read():
    with pytest.raises(NotAPlugin, match=r"^cannot read the module /dev/zero: it is a device"):
        WasmModule.read(Path("/dev/zero"))


@pytest.mark.parametrize(
    "body",
    [
        b"\x01\xff\xff\xff\xff\x0f",  # an import whose module's name is 4 GB long
        b"\x80" * 11,  # a number that doesn't end
        b"\xff" * 4096,
    ],
)
def test_a_size_that_cannot_be_is_broken(read, body):
    with pytest.raises(NotAPlugin, match="is a broken wasm module"):
        read(asm.module(asm.section(2, body)))


def test_a_section_never_reads_into_the_next(read):
    """Its count says two, it holds one; the next section would do for the other."""
    types = asm.types(asm.signature())
    one = asm.name("env") + asm.name("one") + b"\x00\x00"
    with pytest.raises(NotAPlugin, match="it is cut short"):
        read(
            asm.module(types, asm.section(2, b"\x02" + one), asm.custom("env", asm.name("two") + b"\x00\x00"))
        )


SECTIONS = st.tuples(st.integers(0, 13), st.binary(max_size=40)).map(lambda made: asm.section(*made))
ENTRIES = st.tuples(st.text(max_size=4), st.text(max_size=4), st.binary(max_size=12))
GARBAGE = st.one_of(
    st.binary(max_size=200).map(lambda rest: asm.HEADER + rest),
    st.lists(SECTIONS, max_size=4).map(lambda made: asm.module(*made)),
    st.lists(ENTRIES, max_size=3).map(lambda made: with_imports(*made)),
    st.tuples(st.just(asm.plugin()), st.integers(8, 60), st.integers(0, 255)).map(
        lambda made: made[0][: made[1]] + bytes([made[2]]) + made[0][made[1] + 1 :]
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
@given(GARBAGE)
def test_whatever_the_bytes_are_it_is_a_module_or_not_a_plugin(read, content):
    try:
        assert read(content).abi_version in ABI_VERSIONS.values()
    except NotAPlugin as error:
        assert "\n" not in error.message


TYPES = st.sampled_from([b"\x00\x00", b"\x01\x70\x00\x01", b"\x02\x00\x01", b"\x03\x7e\x01", b"\x04\x00\x00"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)
@given(st.lists(st.tuples(st.text(), st.text(), TYPES), max_size=300))
def test_imports_come_back_as_they_were_written(imports, entries):
    kinds = ("function", "table", "memory", "global", "tag")
    expected = tuple(
        Extern(module, name, kinds[what[0]], "" if what[0] else ">-") for module, name, what in entries
    )
    assert imports(*entries) == expected


def test_a_pipe_that_took_the_place_of_a_module_is_not_waited_for(tmp_path):
    path = tmp_path / "a.wasm"
    path.write_bytes(asm.plugin())
    read = WasmModule.read(path)
    other = WasmModule(path, read.size, read.digest, read.abi_version, read.exports)  # content isn't kept
    assert other.content == asm.plugin()
    other = WasmModule(path, read.size, read.digest, read.abi_version, read.exports)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModuleError, match="it is a pipe, not a regular file"):
        _ = other.content
