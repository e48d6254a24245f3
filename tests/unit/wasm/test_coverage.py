"""Counters in modules, and what coverage makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from support.measured import crate, with_lines

from scaffold.errors import ModuleError
from scaffold.wasm import counters
from scaffold.wasm.coverage import Coverage
from scaffold.wasm.instrument import instrument
from scaffold.wasm.module import WasmFile

SOURCE = """fn chosen(yes: bool) -> u32 {
    if yes {
        1
    } else {
        2
    }
}

fn never() {
    touch();
}
"""
# the function is called `hello::chosen`, as one of rustc's would be
WAT = """(module
  (import "env" "log" (func $log))
  (memory (export "memory") 1)
  (func $"hello::chosen" (export "chosen") (param i32) (result i32) (local i32)
    (block $no
      local.get 0
      i32.eqz
      br_if $no
      i32.const 1
      return)
    i32.const 2)
  (func $"hello::never" (export "never") call $log)
  (func $"core::other" (export "other")))"""
#            block  local.get   i32.const 1  i32.const 2
CHOSEN = {0: 1, 1: 2, 4: 3, 7: 5, 8: 7}
NEVER = {0: 10, 1: 11}


@pytest.fixture
def sources(tmp_path):
    return crate(tmp_path, SOURCE)


@pytest.fixture
def module(tmp_path, sources):
    return WasmFile.parse(with_lines(WAT, tmp_path, {0: CHOSEN, 1: NEVER}), Path("hello.wasm"))


def counted(made, *calls):
    """What the counters say after some calls."""
    store = wasmtime.Store()
    log = wasmtime.Func(store, wasmtime.FuncType([], []), lambda: None)
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, made.content), [log]).exports(store)
    for name, *arguments in calls:
        exports[name](store, *arguments)
    content = exports[counters.MEMORY].read(store, 0, counters.SIZE * len(made.points))
    return [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4)]


def covered(module, sources, *calls):
    made = instrument(module, sources, with_changes=False)
    return Coverage.of([(made, counted(made, *calls))])


def test_only_the_side_of_a_branch_that_was_taken_is_reached(module, sources):
    (file,) = covered(module, sources, ("chosen", 1), ("chosen", 1)).files
    assert file.file == "src/lib.rs"
    assert file.lines == {1: 2, 2: 2, 3: 2, 5: 0, 7: 0, 10: 0, 11: 0}
    (other,) = covered(module, sources, ("chosen", 0)).files
    assert other.lines == {1: 1, 2: 1, 3: 0, 5: 1, 7: 1, 10: 0, 11: 0}


def test_functions_are_counted_and_those_of_no_own_source_left_out(module, sources):
    (file,) = covered(module, sources, ("chosen", 1), ("chosen", 0), ("other",)).files
    assert [(each.name, each.line, each.count) for each in file.functions] == [
        ("hello::chosen", 1, 2),
        ("hello::never", 10, 0),
    ]


def test_counting_changes_no_result(module, sources):
    made = instrument(module, sources, with_changes=True)
    store = wasmtime.Store()
    log = wasmtime.Func(store, wasmtime.FuncType([], []), lambda: None)
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, made.content), [log]).exports(store)
    assert [exports["chosen"](store, yes) for yes in (0, 1, 7)] == [2, 1, 1]


def test_the_text_names_lines_and_functions(module, sources):
    assert covered(module, sources, ("chosen", 1)).summary() == (
        "            functions      lines  not reached\n"
        "src/lib.rs     1 of 2     3 of 7  5-11\n"
        "\n"
        "not called:\n"
        "  src/lib.rs:10  hello::never"
    )


def test_lcov_has_every_line_and_function(module, sources):
    assert covered(module, sources, ("chosen", 1)).lcov().splitlines() == [
        *("TN:", "SF:src/lib.rs"),
        *("FN:1,hello::chosen", "FN:10,hello::never", "FNDA:1,hello::chosen", "FNDA:0,hello::never"),
        *("FNF:2", "FNH:1"),
        *("DA:1,1", "DA:2,1", "DA:3,1", "DA:5,0", "DA:7,0", "DA:10,0", "DA:11,0"),
        *("LF:7", "LH:3", "end_of_record"),
    ]


def test_a_name_keeps_to_its_line(tmp_path, sources):
    wat = WAT.replace("hello::never", r"hello::\0anever\1b[31m")
    module = WasmFile.parse(with_lines(wat, tmp_path, {0: CHOSEN, 1: NEVER}), Path("hello.wasm"))
    assert r"FN:10,hello::\nnever\x1b[31m" in covered(module, sources).lcov().splitlines()


def test_modules_of_one_source_count_together(module, sources):
    made = instrument(module, sources, with_changes=False)
    counts = [counted(made, ("chosen", 1)), counted(made, ("chosen", 0))]
    (file,) = Coverage.of([(made, each) for each in counts]).files
    assert file.lines == {1: 2, 2: 2, 3: 1, 5: 1, 7: 1, 10: 0, 11: 0}


def test_without_counts_nothing_is_reached(module, sources):
    (file,) = Coverage.of([(instrument(module, sources, with_changes=False), ())]).files
    assert set(file.lines.values()) == {0}


def test_a_file_of_a_dependency_or_a_build_is_not_the_authors(tmp_path, sources):
    for place in ("vendor/other/src", "target/out"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "lib.rs").write_text("")
    (tmp_path / "vendor/other/Cargo.toml").write_text("")
    names = [f"{tmp_path}/{place}/lib.rs".lstrip("/") for place in ("vendor/other/src", "target/out", "src")]
    assert [sources.find(name) for name in names] == ["", "", "src/lib.rs"]
    assert sources.find("hello-0.1.0/src/lib.rs") == "src/lib.rs"
    assert sources.find("library/core/src/option.rs") == ""


def test_a_module_without_names_or_lines_is_refused(tmp_path, sources):
    named = bytes(wasmtime.wat2wasm(WAT))
    nameless = bytes(wasmtime.wat2wasm('(module (func (export "x")))'))
    with pytest.raises(ModuleError, match=r"it\.wasm has no line table") as raised:
        instrument(WasmFile.parse(named, Path("it.wasm")), sources, with_changes=False)
    assert "leave out --module" in raised.value.hint
    unknown = with_lines("(module (func $f (drop (i32.const 1))))", tmp_path, {0: {0: 1}}).replace(
        b"\x41\x01\x1a", b"\x41\x01\xff"
    )
    with pytest.raises(ModuleError, match=r"it\.wasm can't be measured: an instruction at \d+ isn't known"):
        instrument(WasmFile.parse(unknown, Path("it.wasm")), sources, with_changes=False)
    with pytest.raises(ModuleError, match=r"it\.wasm has no names of functions"):
        instrument(WasmFile.parse(nameless, Path("it.wasm")), sources, with_changes=False)
