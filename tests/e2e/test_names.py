"""A panic and a trap of a stripped release, as people see them: functions, crates, files and lines."""

from __future__ import annotations

import re
import shutil

import pytest
from support.places import get

import scaffold
from scaffold.core import files
from scaffold.toolchain import wasm_opt
from scaffold.wasm.module import WasmFile

HERE = scaffold.RunOptions(port=0)
UNTRIMMED = scaffold.BuildOptions(no_trim=True)
SOURCE = """use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Broken) });
}}
struct Broken;
impl Context for Broken {}
impl HttpContext for Broken {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        pick(path.as_bytes());
        Action::Continue
    }
}
#[inline(never)]
fn pick(path: &[u8]) {
    let index = match path {
        b"/trap" => core::arch::wasm32::unreachable(),
        b"/panic" => 9,
        _ => 0,
    };
    std::hint::black_box(path[index]);
}
"""
PICK = r"\d+:  hello_world::pick \({place}\)"
PLACES = {
    "/panic": r"hello_world-0\.1\.0/src/lib\.rs:23",
    # what is inlined has no line of its call, in a table of lines alone
    "/trap": r"after hello_world-0\.1\.0/src/lib\.rs:18, inlined from library/stdarch/\S+\.rs:\d+",
}
ABOVE = (
    r"\n\s*\d+:  <hello_world::Broken as proxy_wasm::traits::HttpContext>::on_http_request_headers"
    r" \(hello_world-0\.1\.0/src/lib\.rs:12\)"
    r"\n\s*\d+:  proxy_on_request_headers \(proxy-wasm-0\.2\.\d+/src/dispatcher\.rs:\d+\)"
)


@pytest.fixture(scope="module")
def broken(crate, tmp_path_factory):
    """A crate that panics and traps when it is asked to, built without wasm-opt, which would inline some."""
    root = tmp_path_factory.mktemp("broken") / "hello_world"
    shutil.copytree(crate, root, ignore=shutil.ignore_patterns("target"))
    (root / "src/lib.rs").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARGO_TARGET_DIR", str(root / "target"))
        yield scaffold.build(root, UNTRIMMED)


@pytest.fixture
def deployed(root, broken):
    return scaffold.deploy(root, module=broken.path, run=HERE)


def said(root):
    return "\n".join(line.text for line in scaffold.logs(root))


@pytest.mark.parametrize("path", PLACES)
def test_a_backtrace_names_functions_crates_and_lines(root, deployed, path):
    assert get(deployed.url, path)[0] == 503
    log = said(root)
    assert re.search(PICK.format(place=PLACES[path]) + ABOVE, log), log
    assert ("panicked at src/lib.rs:23" in log) == (path == "/panic")


def test_the_command_shows_them_too(root, deployed, run):
    get(deployed.url, "/trap")
    ran = run("scaffold", "logs", "--root", root)
    assert "hello_world::pick (after hello_world-0.1.0/src/lib.rs:18" in ran.stdout


def test_a_copy_of_the_module_has_its_names_still(root, broken, tmp_path):
    copy = shutil.copy(broken.path, tmp_path / "elsewhere.wasm")
    deployed = scaffold.deploy(root, module=copy, run=HERE)
    get(deployed.url, "/trap")
    assert "hello_world::pick" in said(root)


def test_a_build_with_nothing_to_do_restores_what_the_cache_has_lost(root, broken):
    shutil.rmtree(files.cache_dir() / "names")
    project = broken.path.parents[3]
    again = scaffold.build(project, UNTRIMMED)
    assert again.digest == broken.digest
    deployed = scaffold.deploy(root, module=again.path, run=HERE)
    get(deployed.url, "/trap")
    assert "hello_world::pick" in said(root)


def test_the_module_is_stripped_but_for_what_it_exports(broken):
    read = WasmFile.read(broken.path)
    assert [each.name for each in read.sections if each.kind == "custom"] == ["name"]
    assert b"Broken" not in broken.content


@pytest.mark.skipif(wasm_opt.find() is None, reason="it needs binaryen")
def test_after_wasm_opt_the_plugins_own_line_is_named(root, broken):
    """It puts `pick` into the callback, and may do so with functions of core."""
    project = broken.path.parents[3]
    deployed = scaffold.deploy(root, module=scaffold.build(project).path, run=HERE)
    get(deployed.url, "/panic")
    lines = [line for line in said(root).splitlines() if "<hello_world::Broken as " in line]
    assert re.search(r"\((?:after )?hello_world-0\.1\.0/src/lib\.rs:(?:12|23)[),]", lines[-1]), lines
