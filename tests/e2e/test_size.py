"""Where the bytes of real modules are: of a trimmed release, of one that keeps its names, of a workspace."""

from __future__ import annotations

import json
import shutil

import pytest

import scaffold
from scaffold.core import files
from scaffold.wasm import symbols
from scaffold.wasm.module import WasmFile


@pytest.fixture
def inspect(run):
    """Inspects the sizes of a module, by the command."""

    def inspect(target, **env):
        ran = run("scaffold", "inspect", "--size", "--json", target, **env)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return inspect


def bytes_of(sizes):
    assert sum(row["bytes"] for row in sizes["rows"]) == sizes["size"]
    return {(row["kind"], row["name"], row["version"]): row["bytes"] for row in sizes["rows"]}


def test_a_project_s_release_by_crate(copy, inspect):
    report = inspect(copy)
    sizes, path = report["sizes"], report["module"]["path"]
    by_crate = bytes_of(sizes)
    expected = {("crate", "hello_world", "0.1.0"), ("Rust", "core", ""), ("C library", "wasi-libc", "")}
    assert expected <= {*by_crate}
    (sdk,) = [version for kind, _, version in by_crate if kind == "SDK"]
    assert sdk.startswith("0.2.")
    assert by_crate["code", "", ""] < 200
    assert "<hello_world::Hello as proxy_wasm::traits::HttpContext>::on_http_request_headers" in {
        each["name"] for each in sizes["functions"]
    }
    assert sizes["saved"]["before"] > sizes["size"]
    assert "proxy_on_tick" in sizes["saved"]["left_out"]
    shutil.rmtree(files.cache_dir() / "names")
    assert bytes_of(inspect(path)["sizes"]) == by_crate, "the names are beside the module"
    elsewhere = shutil.copy(path, copy / "elsewhere.wasm")
    assert "another machine" in inspect(elsewhere)["sizes"]["unnamed"]
    assert inspect(elsewhere)["sizes"]["saved"] is None


def test_names_are_those_of_the_functions_in_the_last_module(copy):
    """wasm-opt, where it is, removes functions and gives the others new numbers."""
    read = WasmFile.read(scaffold.build(copy).path)
    known = symbols.known_of(read)
    exported = {name: index for name, index in known.exported.items() if name.startswith("proxy_on_")}
    assert {known.names[index] for index in exported.values()} == {*exported}


def test_a_module_that_keeps_its_names(copy, inspect):
    built = scaffold.build(copy, scaffold.BuildOptions(profile="dev"))
    sizes = inspect(built.path)["sizes"]
    assert ("crate", "hello_world", "") in bytes_of(sizes)
    assert (sizes["unnamed"], sizes["saved"]) == ("", None)


TABLE = """
#[no_mangle]
pub extern "C" fn look_up(at: usize) -> u8 {{
    static TABLE: [u8; {size}] = [7; {size}];
    TABLE[at]
}}
"""


def test_a_release_that_grows_is_warned_about_once(copy, run):
    def warnings(*words):
        ran = run("scaffold", "build", "--root", copy, *words)
        assert ran.returncode == 0, ran.stderr
        return [line for line in ran.stderr.splitlines() if " grew by " in line]

    assert warnings() == warnings("--profile", "dev") == []
    source = copy / "src/lib.rs"
    before = source.read_text()
    source.write_text(before + TABLE.format(size=2000))
    assert warnings() == []
    source.write_text(before + TABLE.format(size=20_000))
    (warning,) = warnings()
    assert warning.startswith("warning: hello_world.wasm grew by ")
    assert f"`scaffold inspect --size {copy}`" in warning
    assert warnings() == []
    source.write_text(before + TABLE.format(size=60_000))
    assert warnings("--profile", "dev") == []
    assert len(warnings()) == 1


MEMBER = """[package]
name = "{}"
version = "0.1.0"
edition = "2021"
[lib]
crate-type = ["cdylib"]
[dependencies]
proxy-wasm = "0.2.5"
"""


def test_a_workspace_says_which_plugins_there_are(tmp_path, run):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["one", "two"]\nresolver = "2"\n')
    for name in ("one", "two"):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src/lib.rs").touch()
        (tmp_path / name / "Cargo.toml").write_text(MEMBER.format(name))
    ran = run("scaffold", "inspect", "--size", tmp_path)
    assert ran.returncode == 2
    assert "a workspace with several plugins: one, two" in ran.stderr
    assert f"`scaffold inspect {tmp_path}/one`" in ran.stderr
