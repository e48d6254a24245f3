"""`scaffold adopt`: crates as the SDK's examples and wasme have them become projects; what is there stays."""

from __future__ import annotations

import json
import shutil
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import entered
from support.repositories import commit, contents, git, own

import scaffold
from scaffold.commands.adopt.crate import _PROFILE
from scaffold.core.events import Noted, Warned, listening
from scaffold.errors import MachineError, ProjectError, ScaffoldError, UsageError
from scaffold.project.crate import Project
from scaffold.project.templates.sdk_dependency import SDK

MANIFEST = """\
[package]
name = "http_headers"  # as the SDK has it
version = "0.0.1"
authors = ["Somebody <somebody@example.com>"]
edition = "2018"

[lib]
path = "src/filter.rs"
crate-type = ["cdylib"]

[dependencies]
log = "0.4.8"
# from crates.io
proxy-wasm = "0.1.3"
"""
SOURCE = """\
use proxy_wasm::traits::*;
use proxy_wasm::types::*;

#[no_mangle]
pub fn _start() {
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Filter) });
}

struct Filter;

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize) -> Action {
        Action::Continue
    }
}
"""
UNKNOWN = "wasm32-unknown-unknown"
NEW = (".gitignore", "Makefile", "pytest.ini", "tasks.py", "tests/test_plugin.py")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    for kind in ("STATE", "CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def crate(tmp_path):
    """Makes a crate of these files, over the usual ones, committed; None leaves one out."""

    def make(**given):
        root = tmp_path / "http_headers"
        files = {"Cargo.toml": MANIFEST, "src/filter.rs": SOURCE}
        files |= given.pop("files", {})
        for path, text in files.items():
            if text is not None:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
        commit(root)
        return root

    return make


def settings(root):
    return Project.load(root).settings


def test_an_example_of_the_sdk_becomes_a_project(crate, capsys):
    root = crate()
    ran = entered(capsys, "adopt", "--no-check", "--root", root)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines() == sorted([*NEW, "Cargo.toml", "src/filter.rs"])
    assert "`_start` has become `proxy_wasm::main!`" in ran.err
    found = settings(root)
    assert (found.type, found.root_id, found.triple) == ("http", "http_headers", "wasm32-wasip1")
    text = (root / "Cargo.toml").read_text()
    assert tomllib.loads(text)["profile"]["release"] == _PROFILE
    kept = [line for line in MANIFEST.splitlines() if "0.1.3" not in line]
    assert [line for line in text.splitlines() if line in kept and line] == [line for line in kept if line]
    assert "proxy_wasm::main! {{" in (root / "src/filter.rs").read_text()
    assert git(root, "diff", "--cached", "--name-only") == ""
    again = entered(capsys, "adopt", "--no-check", "--root", root)
    assert (again.code, again.out) == (0, ran.out), "seen from what is committed, it is the same"
    commit(root)
    assert (
        entered(capsys, "adopt", "--no-check", "--root", root).out
        == "http_headers is already a project, nothing to change\n"
    )


def test_what_every_template_has_is_the_same_here(crate, tmp_path):
    made = scaffold.new("hello", output_dir=tmp_path, no_input=True).root
    root = crate()
    scaffold.adopt(root, no_check=True)
    for name in ("Makefile", "pytest.ini", "tasks.py", ".gitignore"):
        assert (root / name).read_bytes() == (made / name).read_bytes(), name
    profile = tomllib.loads((made / "Cargo.toml").read_text())["profile"]["release"]
    assert tomllib.loads((root / "Cargo.toml").read_text())["profile"]["release"] == profile


def test_bytes_that_are_no_text_stay(crate):
    root = crate()
    (root / ".gitignore").write_bytes(b"caf\xe9\n")
    commit(root)
    said = []
    with listening(said.append):
        assert ".gitignore" not in scaffold.adopt(root, no_check=True).changed
    assert (root / ".gitignore").read_bytes() == b"caf\xe9\n"
    assert any(isinstance(each, Warned) and "/target" in each.text for each in said)


def test_what_is_there_stays(crate):
    mine = {
        "Makefile": "mine:\n",
        "tasks.py": "# mine\n",
        "pytest.ini": "[pytest]\n",
        "tests/integration/test_mine.py": "",
        ".gitignore": "mine\ntarget/\n__pycache__\n.pytest_cache",
        "Cargo.toml": MANIFEST.replace("0.1.3", "0.2.5") + "\n[profile.release]\nlto = false\n",
        "src/filter.rs": "// set_http_context of proxy_wasm\n",
    }
    root = crate(files=mine)
    before = own(root)
    assert scaffold.adopt(root, no_check=True).changed == ("Cargo.toml",)
    assert {**own(root), "Cargo.toml": None} == {**before, "Cargo.toml": None}
    assert tomllib.loads((root / "Cargo.toml").read_text())["profile"]["release"] == {"lto": False}


def warnings_of(root):
    """What adopting a crate warns of."""
    said = []
    with listening(said.append):
        scaffold.adopt(root, no_check=True)
    return [each.text for each in said if isinstance(each, Warned)]


def test_settings_that_are_there_stay_and_nothing_is_said_of_others(crate):
    ours = '\n[package.metadata.proxy-wasm]\nroot-id = "mine"\nbudget = { module-bytes = 9 }\n'
    config = json.dumps({"config": {"rootIds": ["one", "two"]}})
    root = crate(files={"Cargo.toml": MANIFEST + ours, "runtime-config.json": config})
    assert warnings_of(root) == []
    assert (settings(root).root_id, settings(root).budget.module_bytes) == ("mine", 9)


def test_what_gitignore_lacks_begins_a_line_of_its_own(crate):
    root = crate(files={".gitignore": "/target\n*.o"})
    scaffold.adopt(root, no_check=True)
    assert (root / ".gitignore").read_text() == "/target\n*.o\n__pycache__/\n.pytest_cache/\n"


@pytest.mark.faults(
    "R22", injected="adopt: .gitignore, tests, runtime-config.json are links", seen="left alone, named"
)
def test_nothing_is_read_or_written_through_a_link(crate, tmp_path):
    root = crate()
    out = tmp_path / "out"
    out.mkdir()
    (out / "ignore").write_text("*.o\n")
    (out / "config").write_text('{"config": {"rootIds": ["theirs"]}}')
    (root / ".gitignore").unlink(missing_ok=True)
    links = {".gitignore": "ignore", "runtime-config.json": "config", "tests": "."}
    for name, aim in links.items():
        (root / name).symlink_to(out / aim)
    commit(root)
    assert warnings_of(root) == [
        "runtime-config.json is a link and wasn't read; `root-id` is the crate's name",
        "tests isn't a folder of the crate's own, so no first test was added",
        ".gitignore is a link and wasn't changed; add /target, __pycache__/, .pytest_cache/ to it",
    ]
    assert Project.load(root).settings.root_id == "http_headers"
    assert {name: str((root / name).readlink()) for name in links} == {
        name: str(out / aim) for name, aim in links.items()
    }
    assert sorted(path.name for path in out.iterdir()) == ["config", "ignore"]
    assert (out / "ignore").read_text() == "*.o\n"


def test_a_file_called_tests_stays(crate):
    root = crate()
    (root / "tests").write_text("none yet\n")
    commit(root)
    assert warnings_of(root) == ["tests isn't a folder of the crate's own, so no first test was added"]
    assert (root / "tests").read_text() == "none yet\n"


def test_a_manifest_that_is_a_link_is_refused(crate, tmp_path):
    root = crate()
    (root / "Cargo.toml").rename(tmp_path / "real.toml")
    (root / "Cargo.toml").symlink_to(tmp_path / "real.toml")
    before = (tmp_path / "real.toml").read_text()
    commit(root)
    with pytest.raises(ProjectError, match=r"Cargo\.toml is a link, and adopt changes no file elsewhere"):
        scaffold.adopt(root, no_check=True)
    assert (tmp_path / "real.toml").read_text() == before


def test_a_manifest_as_windows_editors_write_it(crate):
    root = crate(files={"Cargo.toml": "\ufeff" + MANIFEST.replace("\n", "\r\n")})
    scaffold.adopt(root, no_check=True)
    assert settings(root).root_id == "http_headers"
    assert tomllib.loads((root / "Cargo.toml").read_text())["dependencies"]["proxy-wasm"] == SDK


@pytest.mark.parametrize("name", ["makefile", "GNUmakefile"])
def test_a_makefile_of_another_name_is_one(name, crate):
    root = crate(files={name: "all:\n"})
    assert "Makefile" not in scaffold.adopt(root, no_check=True).changed


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.cfg", "tox.ini"])
def test_other_settings_of_pytest_are_not_hidden(name, crate):
    assert "pytest.ini" not in scaffold.adopt(crate(files={name: ""}), no_check=True).changed


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("proxy_wasm::set_http_context(|_, _| x)", "http"),
        ("Some(proxy_wasm::types::ContextType::HttpContext)", "http"),
        ("proxy_wasm::set_stream_context(|_, _| x)", "network"),
        ("use proxy_wasm; Some(ContextType::StreamContext)", "network"),
        ("proxy_wasm::set_root_context(|_| x)", "service"),
        ("use proxy_wasm; fn create_stream_context(&self, _: u32) -> Option<x> { y }", "network"),
        ("use proxy_wasm; // not set_http_context\nproxy_wasm::set_stream_context(|_, _| x)", "network"),
    ],
)
def test_the_type_is_seen_in_the_source(source, kind, crate):
    root = crate(files={"src/filter.rs": source})
    scaffold.adopt(root, no_check=True)
    assert settings(root).type == kind


def test_a_filter_of_both_kinds_is_said(crate):
    root = crate(files={"src/more.rs": "use proxy_wasm; ContextType::StreamContext"})
    words = []
    with listening(lambda event: words.append(event)):
        scaffold.adopt(root, no_check=True)
    assert Warned("the plugin has HTTP contexts and stream contexts; its `type` is set to http") in words
    assert settings(root).type == "http"


@pytest.mark.parametrize(
    ("record", "root_id", "warns"),
    [
        ({"type": "envoy_proxy", "abiVersions": ["v0"], "config": {"rootIds": ["mine"]}}, "mine", False),
        ({"config": {"rootIds": ["first", "second"]}}, "first", True),
        ({"config": {}}, "http_headers", False),
    ],
)
def test_the_root_id_is_the_one_that_wasme_was_told(record, root_id, warns, crate):
    root = crate(files={"runtime-config.json": json.dumps(record)})
    words = []
    with listening(lambda event: words.append(event)):
        scaffold.adopt(root, no_check=True)
    assert settings(root).root_id == root_id
    assert any(isinstance(event, Warned) for event in words) == warns


@pytest.mark.parametrize(
    ("files", "triple"),
    [
        ({".cargo/config": '[build]\ntarget = "wasm32-wasi"\n'}, "wasm32-wasip1"),
        ({".cargo/config.toml": '[build]\ntarget = "wasm32-unknown-unknown"\n'}, UNKNOWN),
        ({"go.sh": "cargo build --target wasm32-unknown-unknown"}, UNKNOWN),
        ({"go.sh": UNKNOWN, "Dockerfile": "wasm32-wasip1"}, "wasm32-wasip1"),
        ({"README.md": "wasm32-wasip1", "Dockerfile": UNKNOWN}, UNKNOWN),
        (
            {".cargo/config.toml": 'build.target = "wasm32-unknown-unknown"\n', "go.sh": "wasm32-wasip1"},
            UNKNOWN,
        ),
        (
            {".cargo/config.toml": "[target.wasm32-unknown-unknown]\n", "go.sh": "wasm32-wasip1"},
            "wasm32-wasip1",
        ),
        (
            {"rust-toolchain.toml": 'toolchain.targets = ["wasm32-unknown-unknown"]\n'},
            UNKNOWN,
        ),
        ({"BUILD.bazel": "@rules_rust//rust/platform:wasm32-unknown-unknown\n"}, "wasm32-wasip1"),
        ({"src/filter.rs": f"{SOURCE}// wasm32-unknown-unknown\n"}, "wasm32-wasip1"),
    ],
)
def test_the_triple_is_the_one_that_the_crates_own_files_build(files, triple, crate):
    root = crate(files=files)
    scaffold.adopt(root, no_check=True)
    assert settings(root).triple == triple
    assert f"TRIPLE := {triple}\n" in (root / "Makefile").read_text()


@pytest.mark.parametrize(
    ("files", "triple"),
    [
        ({"Makefile": "build:\n\tcargo build --target wasm32-unknown-unknown\n"}, UNKNOWN),
        (
            {"docker/Dockerfile": "RUN cargo build --target=wasm32-unknown-unknown\n"},
            UNKNOWN,
        ),
        ({"two/Makefile": "cargo build --target wasm32-unknown-unknown\n"}, "wasm32-wasip1"),
        (
            {"one/go.sh": "wasm32-wasip1", "Makefile": "cargo build --target wasm32-unknown-unknown\n"},
            "wasm32-wasip1",
        ),
    ],
)
def test_the_triple_of_a_member_may_be_named_above_it_but_not_in_another_member(files, triple, workspace):
    root = workspace(**files) / "one"
    scaffold.adopt(root, no_check=True)
    assert settings(root).triple == triple


def test_a_member_of_a_workspace_gets_no_profile(crate, tmp_path):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["http_headers"]\n')
    root = crate()
    scaffold.adopt(root, no_check=True)
    assert "profile" not in tomllib.loads((root / "Cargo.toml").read_text())


@pytest.fixture
def workspace(tmp_path):
    """Makes a repository with two members that inherit proxy-wasm 0.1; more files may be given."""

    def make(**files):
        root = tmp_path / "ours"
        inheriting = MANIFEST.replace('proxy-wasm = "0.1.3"', "proxy-wasm = { workspace = true }")
        files = {
            "Cargo.toml": '[workspace]\nmembers = ["one", "two"]\n\n'
            '[workspace.dependencies]\nproxy-wasm = "0.1.4" # from crates.io\n',
            "one/Cargo.toml": inheriting.replace("http_headers", "one"),
            "one/src/filter.rs": SOURCE,
            "two/Cargo.toml": inheriting.replace("http_headers", "two"),
            "two/src/filter.rs": SOURCE,
        } | files
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        commit(root)
        return root

    return make


def test_a_version_inherited_from_the_workspace_moves_with_all_that_inherit_it(workspace, capsys):
    root = workspace()
    ran = entered(capsys, "adopt", "--no-check", "--root", root / "one")
    assert ran.code == 0, ran.err
    theirs = ["../Cargo.toml", "../two/src/filter.rs"]
    assert ran.out.splitlines() == sorted([*theirs, *NEW, "Cargo.toml", "src/filter.rs"])
    assert f'proxy-wasm = "{SDK}" # from crates.io' in (root / "Cargo.toml").read_text()
    for name in ("one", "two"):
        source = (root / name / "src/filter.rs").read_text()
        assert "_: usize, _end_of_stream: bool" in source
        assert "proxy_wasm::main!" in source
    assert settings(root / "one").root_id == "one"
    assert "metadata" not in tomllib.loads((root / "two/Cargo.toml").read_text())["package"]


@pytest.mark.parametrize(
    ("source", "kind"), [(SOURCE, "http"), ("pub use two::main; use proxy_wasm;", "network")]
)
def test_the_contexts_of_a_crate_that_it_depends_on_count_if_it_has_none(workspace, source, kind):
    shared = 'proxy-wasm = { workspace = true }\ntwo = { path = "../two" }'
    files = {
        "one/Cargo.toml": MANIFEST.replace("http_headers", "one").replace('proxy-wasm = "0.1.3"', shared),
        "one/src/filter.rs": source,
        "two/src/filter.rs": "proxy_wasm::set_stream_context(|_, _| x)",
    }
    root = workspace(**files) / "one"
    assert warnings_of(root) == []
    assert settings(root).type == kind


def test_work_in_a_file_of_another_member_is_not_overwritten(workspace):
    root = workspace()
    with (root / "two/src/filter.rs").open("a") as file:
        file.write("// mine\n")
    before = contents(root)
    with pytest.raises(UsageError, match=r"uncommitted changes in two/src/filter\.rs would be lost"):
        scaffold.adopt(root / "one", no_check=True)
    assert contents(root) == before


def test_a_patch_for_a_member_applies_from_anywhere(workspace, tmp_path, capsys):
    root = workspace()
    (tmp_path / "patch").write_text(
        entered(capsys, "adopt", "--no-check", "--root", root / "one", "--dry-run").out
    )
    scaffold.adopt(root / "one", no_check=True)
    found = own(root)
    git(root, "checkout", "-q", ".")
    git(root, "clean", "-q", "-fd")
    git(root, "apply", tmp_path / "patch")
    assert own(root) == found


def test_lines_that_need_a_person_are_named_and_nothing_is_written(crate):
    root = crate(files={"src/more.rs": "use proxy_wasm;\n\nconst F: f = X::on_http_request_headers;\n"})
    before = contents(root)
    with pytest.raises(ProjectError) as caught:
        scaffold.adopt(root, no_check=True)
    assert caught.value.message.splitlines()[0] == (
        f"http_headers can't move from proxy-wasm 0.1 to {SDK} before these lines change:"
    )
    assert "src/more.rs:3: `on_http_request_headers` takes `end_of_stream`" in caught.value.message
    assert contents(root) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [("rust-toolchain.toml", '[toolchain]\nchannel = "1.70.0"\n'), ("rust-toolchain", "1.70\n")],
)
def test_a_rust_that_does_not_know_the_triple_is_named_and_nothing_is_written(name, text, crate):
    root = crate(files={name: text})
    before = contents(root)
    with pytest.raises(ProjectError, match=rf"{name} asks for Rust 1\.70.*, and wasm32-wasip1 needs 1\.78"):
        scaffold.adopt(root, no_check=True)
    assert contents(root) == before


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("Dockerfile", "FROM rust:1.70-slim\nRUN cargo build --target wasm32-wasi\n", "1.70"),
        (".github/workflows/ci.yml", 'with: {toolchain: "1.65.0", targets: wasm32-wasi}\n', "1.65.0"),
        ("go.sh", "rustup default 1.77\ncargo build --target wasm32-wasi\n", "1.77"),
        ("Dockerfile", "FROM rust:1.85\nRUN cargo build --target wasm32-wasi\n", None),
        ("Dockerfile", "FROM rust:1.70\nRUN cargo build --target wasm32-unknown-unknown\n", None),
    ],
)
def test_a_build_file_whose_rust_does_not_know_the_new_triple_is_named(name, text, version, crate):
    said = f"{name} uses Rust {version}, and wasm32-wasip1 needs 1.78 or later"
    assert warnings_of(crate(files={name: text})) == ([said] if version else [])


def test_without_a_toolchain_the_way_on_is_named_and_nothing_is_written(crate, monkeypatch):
    monkeypatch.setenv("RUSTC", "/nowhere/rustc")
    root = crate()
    before = contents(root)
    with pytest.raises(MachineError) as caught:
        scaffold.adopt(root)
    assert caught.value.message == "the rustc named by $RUSTC, /nowhere/rustc, isn't there"
    assert caught.value.hint.endswith(", or `scaffold adopt --no-check` does without")
    assert contents(root) == before


def test_a_lock_that_nobody_has_brought_up_to_date_is_named(crate):
    root = crate(files={"Cargo.lock": '[[package]]\nname = "proxy-wasm"\nversion = "0.1.4"\n'})
    said = []
    with listening(said.append):
        scaffold.adopt(root, no_check=True)
    assert Noted("Cargo.lock has proxy-wasm 0.1 until the next build") in said


def test_a_rust_that_knows_the_triple_is_fine(crate):
    root = crate(files={"rust-toolchain.toml": '[toolchain]\nchannel = "1.85"\ntargets = ["wasm32-wasi"]\n'})
    assert "rust-toolchain.toml" in scaffold.adopt(root, no_check=True).changed
    assert 'targets = ["wasm32-wasip1"]' in (root / "rust-toolchain.toml").read_text()


def test_a_dry_run_prints_a_patch_that_does_the_same(crate, tmp_path, capsys):
    root = crate()
    before = contents(root)
    ran = entered(capsys, "adopt", "--no-check", "--root", root, "--dry-run")
    assert contents(root) == before
    (tmp_path / "patch").write_text(ran.out)
    scaffold.adopt(root, no_check=True)
    found = own(root)
    git(root, "checkout", "-q", ".")
    git(root, "clean", "-q", "-fd")
    git(root, "apply", tmp_path / "patch")
    assert own(root) == found


def test_a_dry_run_needs_no_repository(crate, capsys):
    root = crate(files={"target/debug/big.rs": "proxy_wasm", ".gitignore": "private.rs\n"})
    shutil.rmtree(root / ".git")
    before = contents(root)
    ran = entered(capsys, "adopt", "--dry-run", "--no-check", "--root", root)
    assert ran.code == 0, ran.err
    assert '+root-id = "http_headers"' in ran.out
    assert "next: " not in ran.err
    assert contents(root) == before
    refused = entered(capsys, "adopt", "--no-check", "--root", root)
    assert (refused.code, "isn't in a git repository" in refused.err) == (2, True)


def test_a_dry_run_of_a_member_needs_no_repository(workspace):
    root = workspace()
    expected = scaffold.adopt(root / "one", dry_run=True, no_check=True).diff
    shutil.rmtree(root / ".git")
    assert scaffold.adopt(root / "one", dry_run=True, no_check=True).diff == expected


def test_what_comes_next_is_said_and_how_to_get_there(crate, capsys, monkeypatch):
    root = crate()
    ran = entered(capsys, "adopt", "--no-check", "--root", root)
    assert ran.err.splitlines()[-1] == f"next: cd {root} && invoke build deploy test"
    commit(root)
    monkeypatch.chdir(root)
    assert "next: " not in entered(capsys, "adopt", "--no-check").err
    (root / "tasks.py").unlink()
    commit(root)
    assert entered(capsys, "adopt", "--no-check").err.splitlines()[-1] == "next: invoke build deploy test"


def test_a_refusal_is_not_preceded_by_what_would_have_changed(crate, capsys):
    root = crate()
    (root / "tasks.py").write_text("mine")
    ran = entered(capsys, "adopt", "--no-check", "--root", root)
    assert "uncommitted changes in tasks.py would be lost" in ran.err
    assert "_start" not in ran.err


@pytest.mark.parametrize("path", ["Makefile", "tests/test_plugin.py", "Cargo.toml"])
def test_uncommitted_work_is_never_overwritten(path, crate):
    root = crate()
    (root / path).parent.mkdir(exist_ok=True)
    with (root / path).open("a") as file:
        file.write("# mine\n")
    before = contents(root)
    with pytest.raises(UsageError) as caught:
        scaffold.adopt(root, no_check=True)
    assert caught.value.message == f"uncommitted changes in {path} would be lost"
    assert contents(root) == before


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "no Cargo.toml in"),
        ("[package]\nname = 'a'\n", "doesn't depend on proxy-wasm"),
        ("# proxy-wasm\n[workspace]\n", "no [package] in"),
        ("# proxy-wasm\n[package]\nname = 'a'\n", "doesn't build a cdylib"),
        ("proxy-wasm = [", "is not TOML"),
    ],
)
def test_what_is_no_filters_crate_is_refused(manifest, message, crate):
    root = crate(files={"Cargo.toml": manifest})
    before = contents(root)
    with pytest.raises(ProjectError) as caught:
        scaffold.adopt(root, no_check=True)
    assert message in caught.value.message
    assert contents(root) == before


def test_a_runtime_config_that_is_none_is_said(crate):
    root = crate(files={"runtime-config.json": "{"})
    with pytest.raises(ScaffoldError) as caught:
        scaffold.adopt(root, no_check=True)
    assert "runtime-config.json" in caught.value.message


# --- what Envoy's own configuration says

WASM = "type.googleapis.com/envoy.extensions.filters.{}.wasm.v3.Wasm"
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
TEXT = "type.googleapis.com/google.protobuf.StringValue"


def slot(kind="http", file="/etc/envoy/http_headers.wasm", **more):
    vm = {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": file}}} | more.pop("vm", {})
    config = {"name": "some_filter", "vm_config": vm} | more
    typed = {"@type": WASM.format(kind), "config": config}
    return {"name": f"envoy.filters.{kind}.wasm", "typed_config": typed}


def cluster(name, host, port, **more):
    socket = {"socket_address": {"address": host, "port_value": port}}
    endpoints = {"lb_endpoints": {"endpoint": {"address": socket}}}
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}} | more


def bootstrap(*filters, clusters=()):
    """A bootstrap with these filters before the router, which sends everything to the cluster `web`."""
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]
    manager = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, {"name": "envoy.filters.http.router"}],
    }
    chain = {"filters": {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}}
    listener = {"name": "front", "filter_chains": chain}
    return json.dumps({"static_resources": {"listeners": listener, "clusters": list(clusters)}})


def test_root_id_configuration_and_environment_come_from_envoys_own_configuration(crate):
    variables = {"key_values": {"STAGE": "test"}, "host_env_keys": ["HOME"]}
    mine = slot(
        root_id="add_header",
        configuration={"@type": TEXT, "value": '{"header": "x-mine"}'},
        vm={"configuration": {"@type": TEXT, "value": "plain"}, "environment_variables": variables},
    )
    root = crate(files={"deploy/envoy.yaml": bootstrap(mine)})
    changed = scaffold.adopt(root, no_check=True).changed
    assert {"config.json", "vm-config.txt"} <= set(changed)
    project = Project.load(root)
    assert project.settings.root_id == "add_header"
    assert project.configuration() == b'{"header": "x-mine"}'
    assert project.vm_configuration() == b"plain"
    assert project.settings.env == ("STAGE=test", "HOME")


def test_a_configuration_that_is_there_already_is_used_and_another_one_stays(crate):
    mine = slot(configuration={"@type": TEXT, "value": '{"a": 1}'})
    files = {"envoy.yaml": bootstrap(mine), "config.json": '{"a": 1}\n'}
    root = crate(files=files)
    assert "config.json" not in scaffold.adopt(root, no_check=True).changed
    assert settings(root).configuration == "config.json"
    git(root, "checkout", "-q", ".")
    (root / "config.json").write_text("{}\n")
    commit(root)
    assert "envoy-config.json" in scaffold.adopt(root, no_check=True).changed
    assert (root / "config.json").read_text() == "{}\n"
    assert Project.load(root).configuration() == b'{"a": 1}'


@pytest.mark.parametrize(
    ("where", "cluster_", "place"),
    [
        ("authz", cluster("authz", "authz", 9001), "upstream"),
        ("authz", cluster("authz", "authz.shop.svc.cluster.local", 9001), "upstream"),
        ("authz", cluster("authz", "grpc", 9001, http2_protocol_options={}), "grpc://upstream"),
        ("authz", cluster("authz", "127.0.0.1", 9001), "http://127.0.0.1:9001"),
        ("authz", cluster("authz", "host.docker.internal", 9001), "http://127.0.0.1:9001"),
        ("authz", cluster("authz", "::1", 9001, http2_protocol_options={}), "grpc://[::1]:9001"),
        (
            "authz",
            cluster(
                "authz",
                "authz.example.com",
                443,
                transport_socket={"typed_config": {"@type": TLS}},
            ),
            "https://authz.example.com:443",
        ),
        (
            "authz",
            cluster(
                "authz",
                "authz.example.com",
                443,
                transport_socket={"typed_config": {"@type": TLS}},
                http2_protocol_options={},
            ),
            None,
        ),
        ("web", cluster("other", "other", 1), "upstream"),
        ("nowhere", cluster("authz", "authz", 9001), None),
    ],
)
def test_the_clusters_that_the_source_calls_come_from_envoys_own_configuration(where, cluster_, place, crate):
    source = SOURCE + f'fn f(&self) {{ self.dispatch_http_call("{where}", x, None, y, z); }}\n'
    text = bootstrap(slot(), clusters=[cluster("web", "web", 8000), cluster_])
    root = crate(files={"envoy.yaml": text, "src/filter.rs": source})
    scaffold.adopt(root, no_check=True)
    assert settings(root).clusters == ({where: place} if place else {})


def test_a_cluster_may_be_named_by_the_configuration_and_who_stands_in_is_said(crate):
    mine = slot(configuration={"@type": TEXT, "value": '{"cluster": "authz"}'})
    clusters = [cluster("authz", "authz", 9001), cluster("web", "10.0.0.1", 8000)]
    root = crate(files={"envoy.yaml": bootstrap(mine, clusters=clusters)})
    said = []
    with listening(said.append):
        scaffold.adopt(root, no_check=True)
    assert settings(root).clusters == {"authz": "upstream"}
    notes = [each.text for each in said if isinstance(each, Noted)]
    assert notes[:2] == [
        "envoy.yaml sends requests on to http://10.0.0.1:8000; `--upstream` takes that URL",
        "envoy.yaml has the cluster `authz` at authz, which only containers know: the built-in upstream"
        " stands in for it",
    ]


def test_another_plugins_place_is_not_this_ones(workspace):
    files = {
        "envoy.yaml": bootstrap(
            slot(file="/etc/envoy/two.wasm", root_id="second"),
            slot(file="/etc/envoy/one.wasm", root_id="first"),
        ),
        "two/envoy.yaml": bootstrap(slot(file="one.wasm", root_id="of two")),
    }
    root = workspace(**files)
    for name, root_id in (("one", "first"), ("two", "second")):
        scaffold.adopt(root / name, no_check=True)
        assert settings(root / name).root_id == root_id
        commit(root)


def test_a_services_place_is_an_extension_of_the_bootstrap(crate):
    typed = {
        "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
        "config": {"root_id": "theirs"},
    }
    extension = {"name": "envoy.bootstrap.wasm", "typed_config": typed}
    text = json.dumps({"static_resources": {}, "bootstrap_extensions": extension})
    root = crate(files={"envoy.json": text, "src/filter.rs": "proxy_wasm::set_root_context(|_| x)"})
    scaffold.adopt(root, no_check=True)
    assert (settings(root).type, settings(root).root_id) == ("service", "theirs")


@pytest.mark.parametrize(
    ("source", "in_envoy", "kind"),
    [
        ("proxy_wasm::set_root_context(|_| x)", "http", "http"),
        ("use proxy_wasm; ContextType::StreamContext; fn create_http_context(", "network", "http"),
        ("proxy_wasm::set_http_context(|_, _| x)", "network", "network"),
    ],
)
def test_the_type_is_the_one_of_its_place_in_envoys_configuration(source, in_envoy, kind, crate):
    filters = [slot(in_envoy)] if in_envoy == "http" else []
    content = json.loads(bootstrap(*filters))
    if in_envoy == "network":
        content["static_resources"]["listeners"]["filter_chains"] = {"filters": [slot("network")]}
    if kind != in_envoy:  # it has a place of either kind
        chains = [json.loads(bootstrap(slot()))["static_resources"]["listeners"]["filter_chains"]]
        chains.append(content["static_resources"]["listeners"]["filter_chains"])
        content["static_resources"]["listeners"]["filter_chains"] = chains
    root = crate(files={"envoy.yaml": json.dumps(content), "src/filter.rs": source})
    scaffold.adopt(root, no_check=True)
    assert settings(root).type == kind


def test_a_filter_without_contexts_is_started_and_sent_nothing(crate):
    source = "proxy_wasm::set_root_context(|_| x)"
    root = crate(files={"envoy.yaml": bootstrap(slot()), "src/filter.rs": source})
    words = []
    with listening(lambda event: words.append(event)):
        scaffold.adopt(root, no_check=True)
    (warning,) = (each.text for each in words if isinstance(each, Warned))
    assert warning.startswith("envoy.yaml runs the plugin as a filter, but its code makes no context")
    probe = settings(root).probe
    assert probe is not None
    assert not probe.sent
    assert "def test_it_starts(" in (root / "tests/test_plugin.py").read_text()


def test_the_only_plugin_may_have_any_name_in_envoys_configuration(crate):
    root = crate(files={"envoy.yaml": bootstrap(slot(file="/etc/envoy/filter.wasm", root_id="theirs"))})
    scaffold.adopt(root, no_check=True)
    assert settings(root).root_id == "theirs"


@pytest.mark.parametrize(
    "text",
    [
        "envoy.filters.http.wasm: {{ .Values.x }}",
        "a: filters.http.wasm\n---\nb: 1\n",
        "filters.http.wasm",
        "static_resources: filters.http.wasm",
        "static_resources: {listeners: [filters.http.wasm], clusters: 3}",
    ],
)
def test_what_is_no_bootstrap_is_passed_over(text, crate):
    root = crate(files={"envoy.yaml": text})
    scaffold.adopt(root, no_check=True)
    assert settings(root).root_id == "http_headers"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("proxy_wasm::set_http_context(|_, _| x)", "assert exchange.status < 500"),
        (
            "proxy_wasm::set_http_context(|_, _| self.send_http_response(503, y, z))",
            "assert not exchange.trapped",
        ),
        ("proxy_wasm::set_stream_context(|_, _| x)", "with proxy.connect() as connection:"),
        ("proxy_wasm::set_root_context(|_| x)", 'assert proxy.get("/").status == 200'),
    ],
)
def test_the_first_test_fits_the_plugin(source, line, crate):
    root = crate(files={"src/filter.rs": source})
    scaffold.adopt(root, no_check=True)
    assert line in (root / "tests/test_plugin.py").read_text()


PARTS = [
    '[package]\nname = "a" # name\n',
    '[lib]\ncrate-type = ["cdylib"]\n',
    '[dependencies]\nproxy-wasm = "0.2"\n',
    "[package.metadata.docs.rs]\nall-features = true\n",
    "[profile.dev]\nopt-level = 1 # quick\n",
    "[features]\nx = []\n",
    '[[example]]\nname = "e"\n',
    "# the end\n",
]


@given(st.permutations(PARTS), st.sets(st.sampled_from(PARTS[3:])))
def test_whatever_the_order_of_the_manifest_only_what_lacks_is_added(tmp_path_factory, parts, without):
    from scaffold.commands.adopt.crate import with_settings

    text = "\n".join(part for part in parts if part not in without)
    before, after = tomllib.loads(text), tomllib.loads(with_settings(text, {"type": "http"}, profile=True))
    assert after["package"].get("metadata", {}).pop("proxy-wasm") == {"type": "http"}
    assert after["profile"].pop("release") == _PROFILE
    for table, key in ((after["package"], "metadata"), (after, "profile")):
        if not table[key]:
            del table[key]
    assert after == before
