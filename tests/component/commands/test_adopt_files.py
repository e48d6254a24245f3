"""`scaffold adopt FILE`: a Rust file without a crate gets one."""

from __future__ import annotations

import tomllib

import pytest
from support.commands import entered
from support.repositories import commit, contents, git, own

import scaffold
from scaffold.core.events import Noted, Warned, listening
from scaffold.errors import ProjectError, ScaffoldError, UsageError
from scaffold.project.crate import Project
from scaffold.project.templates.sdk_dependency import SDK

SOURCE = """\
use log::info;
use proxy_wasm::traits::*;
use proxy_wasm::types::*;

mod words;

#[no_mangle]
pub fn _start() {
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Filter) });
}

struct Filter;
impl Context for Filter {}
impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize) -> Action {
        info!("{}", words::GREETING);
        Action::Continue
    }
}
"""
FILES = {
    "test_data/headers_rust.rs": SOURCE,
    "test_data/words.rs": "mod more;\npub const GREETING: &str = more::GREETING;\n",
    "test_data/words/more.rs": 'pub const GREETING: &str = "hello";\n',
    "test_data/other.rs": "use proxy_wasm::traits::*;\n",
    "test_data/BUILD": 'wasm_rust_binary(name = "headers_rust.wasm", platform = "wasm32-wasi")\n',
}
MADE = (
    "headers_rust/.gitignore",
    "headers_rust/Cargo.toml",
    "headers_rust/Makefile",
    "headers_rust/pytest.ini",
    "headers_rust/src/lib.rs",
    "headers_rust/src/words.rs",
    "headers_rust/src/words/more.rs",
    "headers_rust/tasks.py",
    "headers_rust/tests/test_plugin.py",
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder to work in, and a home of our own."""
    for kind in ("STATE", "CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def sources(here):
    """Writes the files, and others."""

    def write(**more):
        for path, text in {**FILES, **more}.items():
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            (here / path).write_text(text)
        return here / "test_data/headers_rust.rs"

    return write


def test_a_file_with_its_modules_gets_a_crate_and_stays(here, sources, capsys):
    sources()
    before = contents(here)
    ran = entered(capsys, "adopt", "--no-check", "test_data/headers_rust.rs")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines() == list(MADE)
    assert "test_data/headers_rust.rs stays as it is: headers_rust/src/lib.rs is a copy" in ran.err
    after = contents(here)
    assert {path: after[path] for path in before} == before
    assert sorted(after.keys() - before.keys()) == sorted(MADE)
    project = Project.load(here / "headers_rust")
    assert (project.name, project.settings.type, project.settings.triple) == (
        "headers_rust",
        "http",
        "wasm32-wasip1",
    )
    assert project.manifest["dependencies"] == {"log": "0.4", "proxy-wasm": SDK}
    source = (here / "headers_rust/src/lib.rs").read_text()
    assert "proxy_wasm::main! {{" in source
    assert "_: usize, _end_of_stream: bool" in source


def test_what_lies_around_the_file_is_taken_in(here, sources):
    slot = """\
    static_resources:
      listeners:
        filter_chains:
          filters:
            typed_config:
              "@type": t/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              http_filters:
                typed_config:
                  "@type": t/envoy.extensions.filters.http.wasm.v3.Wasm
                  config: {root_id: theirs, vm_config: {code: {local: {filename: headers_rust.wasm}}}}
    """
    sources(**{"test_data/envoy.yaml": slot, "build.sh": "cargo build --target wasm32-unknown-unknown\n"})
    commit(here)
    scaffold.adopt(file=here / "test_data/headers_rust.rs", no_check=True)
    settings = Project.load(here / "headers_rust").settings
    assert (settings.root_id, settings.triple) == ("theirs", "wasm32-unknown-unknown")
    assert not (here / "headers_rust/envoy.yaml").exists()


def test_what_lies_outside_the_repository_or_behind_a_link_is_not(here, sources):
    sources()
    commit(here)
    (here.parent / "build.sh").write_text("cargo build --target wasm32-unknown-unknown\n")
    (here / "test_data/make.sh").symlink_to(here.parent / "build.sh")
    scaffold.adopt(file=here / "test_data/headers_rust.rs", no_check=True)
    assert Project.load(here / "headers_rust").settings.triple == "wasm32-wasip1"


def test_crates_of_unknown_versions_are_named(here, sources):
    file = sources()
    file.write_text(f"{SOURCE}\nfn f() {{ regex::Regex::new(x); }}\n")
    said = []
    with listening(said.append):
        scaffold.adopt(file=file, no_check=True)
    assert Warned("choose versions of regex in Cargo.toml: they are the newest for now") in said
    dependencies = tomllib.loads((here / "headers_rust/Cargo.toml").read_text())["dependencies"]
    assert dependencies == {"log": "0.4", "proxy-wasm": SDK, "regex": "*"}


def test_a_dry_run_prints_a_patch_that_does_the_same(here, sources, tmp_path, capsys):
    sources()
    commit(here)
    before = contents(here)
    ran = entered(capsys, "adopt", "--no-check", "--dry-run", "test_data/headers_rust.rs")
    assert contents(here) == before
    (tmp_path / "patch").write_text(ran.out)
    scaffold.adopt(file=here / "test_data/headers_rust.rs", no_check=True)
    found = own(here)
    git(here, "clean", "-q", "-fd")
    git(here, "apply", tmp_path / "patch")
    assert own(here) == found


def test_in_a_workspace_it_becomes_a_member(here, sources):
    file = sources(**{"Cargo.toml": "[workspace]\nmembers = []\n"})
    said = []
    with listening(said.append):
        scaffold.adopt(file=file, no_check=True)
    assert Noted(f"headers_rust is a member of the workspace in {here}") in said
    manifest = tomllib.loads((here / "Cargo.toml").read_text())
    assert manifest["workspace"]["members"] == ["headers_rust"]
    assert "release" in manifest["profile"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my-Filter.v2.rs", "my-filter_v2"),
        ("deep/gate/lib.rs", "gate"),
        ("mod.rs", "here"),
        ("1.rs", "my_plugin"),
        ("log.rs", "log_plugin"),
    ],
)
def test_the_crate_is_named_after_the_file_or_its_folder(path, name, here):
    (here / path).parent.mkdir(parents=True, exist_ok=True)
    (here / path).write_text("proxy_wasm::set_http_context(x)\n")
    folder = here / name
    assert scaffold.adopt(file=here / path, no_check=True).name == name
    assert (folder / "Cargo.toml").exists()


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["nothing.rs"], UsageError, "there is no file nothing.rs"),
        (["test_data"], UsageError, "test_data is a folder"),
        (["test_data/words.rs"], ProjectError, "test_data/words.rs isn't a plugin's source"),
        (
            ["test_data/BUILD"],
            ProjectError,
            "test_data/BUILD isn't a plugin's source",
        ),
        (["crate/src/lib.rs"], UsageError, "crate/src/lib.rs has a crate already"),
        (["test_data/other.rs", "--root", "crate"], UsageError, "a file and --root can't be combined"),
        (["taken.rs"], UsageError, "taken already exists"),
        (["taken.rs", "--dry-run"], UsageError, "taken already exists"),
    ],
)
def test_what_can_get_no_crate_is_refused_by_name(words, kind, message, here, sources, capsys):
    sources(**{"crate/Cargo.toml": "", "crate/src/lib.rs": SOURCE, "taken.rs": SOURCE, "taken/x": ""})
    before = contents(here)
    ran = entered(capsys, "adopt", "--no-check", *words)
    assert (ran.code, ran.out) == (kind.exit_code, "")
    assert f"error: {message}" in ran.err
    assert contents(here) == before


def test_lines_that_need_a_person_are_those_of_the_file(here, sources):
    file = sources()
    file.write_text(f"const F: f = X::on_http_request_headers;\n{SOURCE}")
    with pytest.raises(ScaffoldError) as caught:
        scaffold.adopt(file=file, no_check=True)
    assert f"{file}:1: `on_http_request_headers` takes" in caught.value.message
    assert not (here / "headers_rust").exists()
