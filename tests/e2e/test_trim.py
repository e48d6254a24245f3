"""Releases without the callbacks that a plugin doesn't override: real cargo, and wasm-opt if it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.places import get

import scaffold
from scaffold.toolchain import find as toolchain
from scaffold.toolchain import relink, trim
from scaffold.wasm.module import WasmFile

CARGO = """[package]
name = "{name}"
version = "0.1.0"
edition = "2021"
[lib]
crate-type = ["{kind}"]
[dependencies]
proxy-wasm = "0.2.5"
{more}
"""
PROFILE = '[profile.release]\nopt-level = "z"\nlto = true\ncodegen-units = 1\npanic = "abort"\nstrip = true\n'
USES = """use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
"""
# pauses are equal, so the compiler makes one function of them, under the name of one
ONE = (
    USES
    + """
macro_rules! callback { ($name:ident) => {
    fn $name(&mut self, _: usize, _: bool) -> Action { Action::Pause }
} }
proxy_wasm::main! {{ proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(shared::Root) }); }}
pub struct Own;
impl Context for Own {}
impl HttpContext for Own {
    callback!(on_http_request_body);
    shared::headers!();
}
pub fn own() -> Box<dyn HttpContext> { Box::new(Own) }
"""
)
SHARED = (
    USES
    + """
#[macro_export]
macro_rules! headers { () => {
    fn on_http_response_headers(&mut self, _: usize, _: bool) -> proxy_wasm::types::Action {
        proxy_wasm::types::Action::Pause
    }
} }
pub struct Root;
impl Context for Root {}
impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> { Some(ContextType::HttpContext) }
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> { Some(Box::new(Http)) }
}
struct Http;
impl Context for Http {}
impl HttpContext for Http {
    fn on_http_request_trailers(&mut self, _: usize) -> Action { Action::Pause }
    fn on_http_response_body(&mut self, _: usize, _: bool) -> Action { Action::Pause }
}
"""
)
TWO = (
    USES
    + """
proxy_wasm::main! {{ proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Two) }); }}
struct Two;
impl Context for Two {}
impl HttpContext for Two { fn on_log(&mut self) {} }
"""
)
OF_ONE = {
    "proxy_on_request_body",  # by a macro of its own
    "proxy_on_response_headers",  # by a macro of another crate
    "proxy_on_request_trailers",  # in another crate
    "proxy_on_response_body",  # likewise
}


def callbacks(path: Path) -> set[str]:
    """The callbacks of the SDK that a module has and might lack."""
    return {each.name for each in WasmFile.read(path).exports} & {*trim.CALLBACKS}


def write(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def own_target():
    """cargo's target folder is in the workspace, as a user has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CARGO_TARGET_DIR", raising=False)
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, state, own_target):
    """Two plugins, of which one uses a third crate, built at once."""
    shared = 'shared = { path = "../shared" }'
    texts = {
        "Cargo.toml": f'[workspace]\nmembers = ["one", "two", "shared"]\nresolver = "2"\n{PROFILE}',
        "one/Cargo.toml": CARGO.format(name="one", kind="cdylib", more=shared),
        "one/src/lib.rs": ONE,
        "two/Cargo.toml": CARGO.format(name="two", kind="cdylib", more=""),
        "two/src/lib.rs": TWO,
        "shared/Cargo.toml": CARGO.format(name="shared", kind="rlib", more=""),
        "shared/src/lib.rs": SHARED,
    }
    root = write(tmp_path_factory.mktemp("a workspace"), texts)
    scaffold.build(root, scaffold.BuildOptions(yes=True))
    return root


def module(root: Path, name: str, profile: str = "release") -> Path:
    return root / f"target/wasm32-wasip1/{profile}/{name}.wasm"


def stamps(root: Path) -> list[tuple[int, int]]:
    return [
        (path.stat().st_mtime_ns, path.stat().st_ino) for path in (module(root, "one"), module(root, "two"))
    ]


def test_what_a_macro_or_another_crate_overrides_stays(workspace):
    assert callbacks(module(workspace, "one")) == OF_ONE
    assert callbacks(module(workspace, "two")) == {"proxy_on_log"}


def test_a_second_build_does_nothing_and_says_so(workspace, run):
    before = stamps(workspace)
    ran = run("scaffold", "build", "-v", "--root", workspace)
    assert ran.returncode == 0, ran
    assert "Compiling" not in ran.stderr
    assert stamps(workspace) == before
    assert "proxy_on_request_trailers: kept, because of `on_http_request_trailers` in shared" in ran.stderr
    assert "proxy_on_tick: left out" in ran.stderr


def test_a_plugin_is_the_same_built_alone(workspace, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("target"))
    alone = scaffold.build(copy / "one")
    assert alone.content == module(workspace, "one").read_bytes()


@pytest.fixture
def plain(workspace, tmp_path):
    """A copy, and what calls a plain cargo in it."""
    copy = tmp_path / "plain"
    shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("target"))
    found = toolchain.find("wasm32-wasip1", install=False)

    def cargo() -> str:
        argv = [str(found.cargo), "build", "--release", "--lib", "-p", "one", "--target", "wasm32-wasip1"]
        ran = subprocess.run(argv, cwd=copy, env=os.environ | found.env, text=True, capture_output=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stderr

    return copy, cargo


def test_beside_a_plain_cargo(plain, capfd):
    root, cargo = plain
    cargo()  # as `make build` does without scaffold
    assert callbacks(module(root, "one")) == {*trim.CALLBACKS}
    scaffold.build(root / "one")
    # its own crate is compiled again; the other was compiled without us, so nobody knows what that overrides
    assert callbacks(module(root, "one")) == {*trim.CALLBACKS}
    said = capfd.readouterr().err
    assert "Compiling one" in said
    assert "Compiling shared" not in said
    source = root / "shared/src/lib.rs"
    source.write_text(source.read_text() + "\n")
    scaffold.build(root / "one")
    assert callbacks(module(root, "one")) == OF_ONE
    assert "Compiling" not in cargo(), "it has nothing to do"
    assert callbacks(module(root, "one")) == OF_ONE
    # an override that only the plain cargo has seen
    trailers = "fn on_http_request_trailers(&mut self, _: usize) -> Action { Action::Pause }"
    assert trailers in source.read_text()
    source.write_text(source.read_text().replace(trailers, trailers.replace("request", "response")))
    cargo()
    own = root / "one/src/lib.rs"
    own.write_text(own.read_text() + "\n")
    scaffold.build(root / "one")
    assert "proxy_on_response_trailers" in callbacks(module(root, "one"))


@pytest.mark.parametrize("how", ["the option", "the setting"])
def test_it_can_be_turned_off(workspace, tmp_path, how, capfd):
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy, symlinks=True)
    manifest = copy / "two/Cargo.toml"
    if how == "the setting":
        manifest.write_text(manifest.read_text() + "[package.metadata.proxy-wasm]\ntrim = false\n")
    built = scaffold.build(copy / "two", scaffold.BuildOptions(no_trim=how == "the option"))
    assert callbacks(built.path) == {*trim.CALLBACKS}
    made = relink.made(built.path)
    assert made
    assert (made.dropped, made.optimised) == ((), False)


def test_a_module_for_development_has_everything(workspace):
    built = scaffold.build(workspace / "two", scaffold.BuildOptions(profile="dev"))
    assert callbacks(built.path) == {*trim.CALLBACKS}


@pytest.mark.parametrize("linker", ["rust-lld", "wasm-ld", "lld-14", "another"])
def test_the_user_s_linker_is_the_one_that_links(workspace, tmp_path, linker):
    """In cargo's configuration; one that has a linker's name is taken for it, and another is left alone."""
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("target"))
    rustc = toolchain.find("wasm32-wasip1", install=False).rustc
    sysroot = subprocess.run([rustc, "--print", "sysroot"], text=True, capture_output=True, check=True)
    real = next(Path(sysroot.stdout.strip()).glob("lib/rustlib/*/bin/rust-lld"))
    write(copy, {f"tools/{linker}": f'#!/bin/sh\necho "$*" >>"{tmp_path}/asked"\nexec "{real}" "$@"\n'})
    (copy / f"tools/{linker}").chmod(0o755)
    write(copy, {".cargo/config.toml": f'[target.wasm32-wasip1]\nlinker = "tools/{linker}"\n'})
    built = scaffold.build(copy / "two")
    asked = (tmp_path / "asked").read_text().splitlines()
    if linker == "another":
        assert callbacks(built.path) == {*trim.CALLBACKS}
        scaffold.build(copy / "two")
        assert (tmp_path / "asked").read_text().splitlines() == asked, "it is tried once"
    else:
        assert len(asked) == 3, "by cargo, and twice by us"
        assert callbacks(built.path) == {"proxy_on_log"}


def test_without_wasm_opt_it_is_smaller_still_works_and_has_its_lines(
    workspace, root, tmp_path, no_optimiser
):
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy, symlinks=True)
    panics = """fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        if self.get_http_request_header(":path").as_deref() == Some("/panic") { panic!("on purpose") }
        Action::Continue
    }"""
    panics = TWO.replace("fn on_log(&mut self) {}", panics)
    write(copy, {"two/src/lib.rs": panics})
    built = scaffold.build(copy / "two")
    made = relink.made(built.path)
    assert made
    assert not made.optimised
    assert built.size < made.before
    deployed = scaffold.deploy(root, module=built.path, run=scaffold.RunOptions(port=0))
    assert get(deployed.url, "/panic")[0] == 503
    log = "\n".join(line.text for line in scaffold.logs(root))
    assert (
        "<two::Two as proxy_wasm::traits::HttpContext>::on_http_request_headers (two-0.1.0/two/src/lib.rs:8)"
        in log
    )
