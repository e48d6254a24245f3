"""The renames that the field went through, on sources as people have them."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.project.templates.sdk_dependency import SDK
from scaffold.project.templates.sdk_renames import migrate

NEW = '[package]\nname = "a"\n\n[dependencies]\nproxy-wasm = "0.2"\n'
OLD = '[package]\nname = "a"\n\n[dependencies]\nproxy-wasm = "0.1.4"\n'
ENTRY = textwrap.dedent("""\
    #[no_mangle]
    pub fn _start() {
        proxy_wasm::set_log_level(LogLevel::Trace);
        proxy_wasm::set_http_context(|id, _| -> Box<dyn HttpContext> { Box::new(Filter { id }) });
    }
    """)
MAIN = textwrap.dedent("""\
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Trace);
        proxy_wasm::set_http_context(|id, _| -> Box<dyn HttpContext> { Box::new(Filter { id }) });
    }}
    """)


def became(text, path="src/lib.rs", manifest=None):
    """What becomes of a file, in a crate of that manifest; the text itself when nothing does."""
    files = {path: text} | ({"Cargo.toml": manifest} if manifest else {})
    return migrate(files).contents.get(path, text)


# --- wasm32-wasi


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("Cargo.toml", 'triple = "wasm32-wasi"\n', 'triple = "wasm32-wasip1"\n'),
        (".cargo/config.toml", '[build]\ntarget = "wasm32-wasi"\n', '[build]\ntarget = "wasm32-wasip1"\n'),
        (".cargo/config", "[target.wasm32-wasi]\n", "[target.wasm32-wasip1]\n"),
        ("Makefile", "cargo build --target=wasm32-wasi\n", "cargo build --target=wasm32-wasip1\n"),
        ("go.sh", "cp target/wasm32-wasi/release/a.wasm .\n", "cp target/wasm32-wasip1/release/a.wasm .\n"),
        (".github/workflows/ci.yml", "targets: wasm32-wasi,x\n", "targets: wasm32-wasip1,x\n"),
        ("Dockerfile", "RUN rustup target add wasm32-wasi", "RUN rustup target add wasm32-wasip1"),
        ("env", "CARGO_TARGET_WASM32_WASI_RUSTFLAGS=x\n", "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=x\n"),
        ("env", "CC_wasm32_wasi=clang\n", "CC_wasm32_wasip1=clang\n"),
        ("README.md", "for `wasm32-wasi`.", "for `wasm32-wasip1`."),
    ],
)
def test_the_triple_is_renamed_where_it_is_named(path, before, after):
    assert became(before, path) == after
    assert became(after, path) == after


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("Makefile", "wasm32-wasip1 wasm32-wasip2 wasm32-wasi-threads my-wasm32-wasi_x xwasm32-wasi\n"),
        ("Makefile", "-L/usr/lib/wasm32-wasi -I/usr/include/wasm32-wasi\n"),
        ("Makefile", "WASM32_WASI=1 wasm32_wasi=2 CC_wasm32_wasip1=3\n"),
        ("CHANGELOG.md", "built for wasm32-wasi\n"),
        ("Cargo.lock", "wasm32-wasi\n"),
        ("src/lib.rs", "// once wasm32-wasi\n"),
    ],
)
def test_what_is_no_triple_of_ours_stays(path, text):
    assert became(text, path) == text


# --- proxy-wasm 0.1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[dependencies]\nproxy-wasm = "0.1"\n', f'[dependencies]\nproxy-wasm = "{SDK}"\n'),
        (
            '[dependencies]\nproxy-wasm = "^0.1.3" # the SDK\n',
            f'[dependencies]\nproxy-wasm = "{SDK}" # the SDK\n',
        ),
        (
            '[dependencies]\nproxy-wasm = { version = "=0.1.4", features = ["wee-alloc"] }\n',
            f'[dependencies]\nproxy-wasm = {{ version = "{SDK}", features = [] }}\n',
        ),
        (
            '# first\n[dependencies.proxy-wasm]\nversion = "~0.1.4"\n\n[lib] # last\n',
            f'# first\n[dependencies.proxy-wasm]\nversion = "{SDK}"\n\n[lib] # last\n',
        ),
        (
            '[target."cfg(unix)".dependencies]\nsdk = { package = "proxy-wasm", version = "0.1.0" }\n',
            f'[target."cfg(unix)".dependencies]\nsdk = {{ package = "proxy-wasm", version = "{SDK}" }}\n',
        ),
        ('[dependencies]\nproxy-wasm = ">=0.1, <0.2"\n', f'[dependencies]\nproxy-wasm = "{SDK}"\n'),
        ('[dependencies]\nproxy-wasm = "0.1.*"\n', f'[dependencies]\nproxy-wasm = "{SDK}"\n'),
        ('[dev-dependencies]\nproxy-wasm = "< 0.2"\n', f'[dev-dependencies]\nproxy-wasm = "{SDK}"\n'),
        (
            '[dependencies]\nproxy-wasm = "0.1"\n[features]\nsmall = ["proxy-wasm/wee-alloc", "x"]\nx = []\n',
            f'[dependencies]\nproxy-wasm = "{SDK}"\n[features]\nsmall = ["x"]\nx = []\n',
        ),
    ],
)
def test_the_dependency_becomes_the_present_sdk(before, after):
    assert became(before, "Cargo.toml") == after
    assert became(after, "Cargo.toml") == after


@pytest.mark.parametrize(
    "text",
    [
        '[dependencies]\nproxy-wasm = "0.2"\n',
        '[dependencies]\nproxy-wasm = "0.10.1"\n',
        '[dependencies]\nproxy-wasm = { git = "https://example.com/a" }\n',
        '[dependencies]\nproxy-wasm = { git = "https://example.com/a", version = "0.1.4" }\n',
        '[dependencies]\nproxy-wasm = { path = "../sdk", version = "0.1" }\n',
        '[dependencies]\nproxy-wasm = { registry = "ours", version = "0.1" }\n',
        '[dependencies]\nproxy-wasm = "0.1"\n[patch.crates-io]\nproxy-wasm = { path = "../sdk" }\n',
        '[dependencies]\nproxy-wasm = "*"\n',
        '[dependencies]\nproxy-wasm = ">=0.1"\n',
        '[package]\nname = "proxy-wasm"\n[dependencies]\nproxy-wasm = "0.1"\n',
        '[workspace.dependencies]\nproxy-wasm = "0.1.4"\n',
        '[dependencies]\nproxy-wasm-other = "0.1"\n',
        "[dependencies]\nproxy-wasm = { workspace = true }\n",
        "dependencies = 1\n",
        "[dependencies\n{{ cookiecutter.name }} proxy-wasm 0.1\n",
    ],
)
def test_another_dependency_stays(text):
    assert became(text, "Cargo.toml") == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ENTRY, MAIN),
        (ENTRY.replace("pub fn", 'pub extern "C" fn'), MAIN),
        (ENTRY.replace("#[no_mangle]", "#[unsafe(no_mangle)]"), MAIN),
        (ENTRY.replace("#[no_mangle]", "#[cfg_attr(not(test), no_mangle)]"), MAIN),
        ("#[cfg(not(test))]\n" + ENTRY, "#[cfg(not(test))]\n" + MAIN),
        (ENTRY.replace("#[no_mangle]\n", "#[no_mangle]\n// entered\n"), "// entered\n" + MAIN),
        ("// a licence\n\n" + ENTRY + "\nstruct A {}\n", "// a licence\n\n" + MAIN + "\nstruct A {}\n"),
        (
            '#[no_mangle]\npub fn _start() { a("}"); /* } */ b(\'}\'); c(r#"}"#); // }\n "\\"}" }\nfn e() {}',
            'proxy_wasm::main! {{ a("}"); /* } */ b(\'}\'); c(r#"}"#); // }\n "\\"}" }}\nfn e() {}',
        ),
        ("#[no_mangle]\npub fn _start() { f::<'a, 'b>() }\n", "proxy_wasm::main! {{ f::<'a, 'b>() }}\n"),
    ],
)
def test_the_entry_point_becomes_the_macro(before, after):
    for manifest in (NEW, OLD):
        assert became(before, manifest=manifest) == after
        assert became(after, manifest=manifest) == after
    assert became(before) == before, "who doesn't depend on the SDK has no such macro"


@pytest.mark.parametrize(
    "text",
    [
        "fn _start_up() {}\n",
        "// pub fn _started() {}\n",
        "// pub fn _start() { a(); }\nfn f() {}\n",
        "fn _start() {}\n",
        "#[no_mangle]\npub fn _start() { {\n",
        MAIN,
    ],
)
def test_what_is_no_entry_point_stays(text):
    assert became(text, manifest=NEW) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fn on_http_request_headers(&mut self, _: usize) -> Action {", ", _: usize, _end_of_stream: bool)"),
        ("fn on_http_response_headers(&mut self, n: usize) -> Action {", ", n: usize, _end_of_stream: bool)"),
        (
            "fn on_http_request_headers(\n        &mut self,\n        count: usize,\n    ) -> Action {",
            "        count: usize,\n        _end_of_stream: bool,\n    ) -> Action {",
        ),
        (
            "fn on_http_request_headers(self: &mut Self, mut n: usize) -> Action;",
            "mut n: usize, _end_of_stream: bool) -> Action;",
        ),
    ],
)
def test_callbacks_for_headers_get_their_new_parameter(before, after):
    new = became(before, manifest=OLD)
    assert after in new
    assert became(new, manifest=OLD) == new
    assert became(before, manifest=NEW) == before, "a crate of the present SDK has none of these"


def test_the_configurations_are_told_apart():
    before = textwrap.dedent("""\
        impl RootContext for Root {
            fn on_vm_start(&mut self, _: usize) -> bool {
                if true { self.get_configuration(); }
                true
            }
            fn on_configure(&mut self, _: usize) -> bool { self.get_configuration().is_some() }
        }
        """)
    vm, plugin = "get_vm_configuration", "get_plugin_configuration"
    after = before.replace("get_configuration", vm, 1).replace("get_configuration", plugin, 1)
    assert became(before, manifest=OLD) == after


def test_a_function_of_the_crates_own_keeps_its_name():
    before = textwrap.dedent("""\
        impl Options { fn get_configuration(&self) -> u8 { 1 } }
        fn f(options: &Options) -> u8 { options.get_configuration() }
        impl RootContext for Root {
            fn on_configure(&mut self, _: usize) -> bool {
                let bytes = self.get_configuration();
                options.get_configuration() > 0
            }
        }
        """)
    after = before.replace("self.get_configuration()", "self.get_plugin_configuration()")
    assert became(before, manifest=OLD) == after


def test_the_route_cache_is_cleared_by_envoys_own_function():
    before = "fn f(&self) { self.clear_http_route_cache(); }\n"
    assert became(before, manifest=OLD) == (
        'fn f(&self) { self.call_foreign_function("clear_route_cache", None).ok(); }\n'
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "fn on_http_request_headers(&mut self, n: usize) -> Action { self.0.on_http_request_headers(n) }",
            "fn on_http_request_headers(&mut self, n: usize, end_of_stream: bool) -> Action"
            " { self.0.on_http_request_headers(n, end_of_stream) }",
        ),
        (
            "fn on_http_response_headers(&mut self, n: usize) -> Action"
            " { HttpContext::on_http_response_headers(&mut self.0, n + f::<A, B>(1, 2)) }",
            "fn on_http_response_headers(&mut self, n: usize, end_of_stream: bool) -> Action"
            " { HttpContext::on_http_response_headers(&mut self.0, n + f::<A, B>(1, 2), end_of_stream) }",
        ),
        ("fn t() { f.on_http_request_headers(3); }", "fn t() { f.on_http_request_headers(3, false); }"),
        ("fn t() { f.on_http_request_headers(g(1, 2), true); }", None),
        ('fn t() { log("on_http_request_headers"); } // on_http_response_headers', None),
    ],
)
def test_a_caller_passes_the_new_argument_on(before, after):
    assert became(before, manifest=OLD) == (after or before)


def test_an_argument_that_nobody_knows_is_named():
    notes = migrate({"src/lib.rs": "\nfn t() { f.on_http_request_headers(3); }", "Cargo.toml": OLD}).notes
    assert "src/lib.rs:2: `end_of_stream` is passed as `false`; correct it if that matters" in notes


@pytest.mark.parametrize(
    "line",
    [
        "let f = Filter::on_http_request_headers;",
        "x.on_http_request_headers(1, 2, 3);",
        "fn on_http_request_headers(&mut self, a: A, b: B, c: C) {}",
        "let c = hostcalls::get_configuration();",
        "let c = cleared(hostcalls::clear_http_route_cache());",
        "let c = self.get_configuration;",
    ],
)
def test_where_a_person_is_needed_the_line_is_named_and_all_stays(line):
    source = f"// first\nfn on_http_response_headers(&mut self, n: usize) -> Action {{\n{line}\n}}\n{ENTRY}"
    migrated = migrate({"src/lib.rs": source, "Cargo.toml": OLD})
    assert migrated.contents == {}
    assert [each.partition(": ")[0] for each in migrated.stuck] == ["src/lib.rs:3"]


# --- which SDK a crate has, and with whom it shares it

SOURCE = "fn on_http_request_headers(&mut self, n: usize) -> Action { n }\n"
MOVED = SOURCE.replace("n: usize", "n: usize, _end_of_stream: bool")
LOCK = '[[package]]\nname = "proxy-wasm"\nversion = "{}"\n'


def package(name, *lines):
    return "\n".join([f'[package]\nname = "{name}"\n[dependencies]', *lines, ""])


WORKSPACE = {
    "Cargo.toml": '[workspace]\nmembers = ["a", "b", "c"]\n[workspace.dependencies]\nproxy-wasm = "0.1.4"\n',
    "a/Cargo.toml": package("a", "proxy-wasm = { workspace = true, features = ['wee-alloc'] }"),
    "b/Cargo.toml": package("b", "proxy-wasm.workspace = true"),
    "c/Cargo.toml": package("c", 'proxy-wasm = "0.1"'),
    **{f"{name}/src/lib.rs": SOURCE for name in "abc"},
}


def test_whoever_inherits_the_sdk_moves_with_it():
    contents = migrate(WORKSPACE, crate="a").contents
    assert contents.keys() == {"Cargo.toml", "a/Cargo.toml", "a/src/lib.rs", "b/src/lib.rs"}
    assert f'proxy-wasm = "{SDK}"' in contents["Cargo.toml"]
    assert contents["a/Cargo.toml"] == WORKSPACE["a/Cargo.toml"].replace("['wee-alloc']", "[]")
    assert contents["a/src/lib.rs"] == contents["b/src/lib.rs"] == MOVED
    assert migrate(WORKSPACE, crate="c").contents.keys() == {"c/Cargo.toml", "c/src/lib.rs"}
    assert migrate(WORKSPACE).contents.keys() == WORKSPACE.keys() - {"b/Cargo.toml"}


def test_a_feature_that_is_gone_is_gone_from_a_members_features_too():
    manifest = f'{WORKSPACE["b/Cargo.toml"]}[features]\nsmall = ["proxy-wasm/wee-alloc"]\n'
    contents = migrate(WORKSPACE | {"b/Cargo.toml": manifest}, crate="b").contents
    assert contents["b/Cargo.toml"] == manifest.replace('"proxy-wasm/wee-alloc"', "")


def test_what_needs_a_person_in_one_crate_keeps_all_that_share_the_sdk():
    files = WORKSPACE | {"b/src/lib.rs": "let f = X::on_http_request_headers;\n"}
    migrated = migrate(files, crate="a")
    assert migrated.contents == {}
    assert [each.partition(": ")[0] for each in migrated.stuck] == ["b/src/lib.rs:1"]


def test_a_workspace_that_is_not_there_keeps_its_sdk():
    files = {path: text for path, text in WORKSPACE.items() if path.startswith("b/")}
    migrated = migrate(files, crate="b")
    assert migrated.contents == {}
    assert migrated.notes == (
        "proxy-wasm stays as it is: the workspace that it is inherited from isn't in this repository",
    )


def test_crates_that_depend_on_each_other_move_together():
    files = {
        "one/Cargo.toml": package("one", 'proxy-wasm = "0.1"', 'common = { path = "../common" }'),
        "one/src/lib.rs": SOURCE,
        "common/Cargo.toml": package("common", 'proxy-wasm = "0.1"'),
        "common/src/lib.rs": SOURCE,
        "other/Cargo.toml": package("other", 'proxy-wasm = "0.1"'),
        "other/src/lib.rs": SOURCE,
    }
    assert migrate(files, crate="one").contents.keys() == {path for path in files if "other" not in path}


@pytest.mark.parametrize("requirement", [">=0.1, <0.3", "*", ">= 0.1.4"])
@pytest.mark.parametrize(
    ("lock", "source", "moves"),
    [("0.1.4", SOURCE, True), ("0.2.4", MOVED, False), (None, SOURCE, True), (None, MOVED, False)],
)
def test_a_range_means_what_is_locked_or_else_what_the_source_is_written_for(
    requirement, lock, source, moves
):
    files = {"Cargo.toml": package("a", f'proxy-wasm = "{requirement}"'), "src/lib.rs": source}
    if lock:
        files["Cargo.lock"] = LOCK.format(lock)
    contents = migrate(files).contents
    assert contents.keys() == ({"Cargo.toml", "src/lib.rs"} if moves else set())
    assert contents.get("src/lib.rs", MOVED) == MOVED


def test_a_renamed_sdk_keeps_its_name():
    files = {"Cargo.toml": package("a", 'sdk-one = { package = "proxy-wasm", version = "0.1" }')}
    contents = migrate(files | {"src/lib.rs": ENTRY.replace("proxy_wasm::", "sdk_one::")}).contents
    assert contents["src/lib.rs"] == MAIN.replace("proxy_wasm::", "sdk_one::")
    assert f'version = "{SDK}"' in contents["Cargo.toml"]


@pytest.mark.parametrize(
    ("dependency", "where"),
    [
        ('{ git = "https://example.com/sdk" }', "git (https://example.com/sdk)"),
        ('{ path = "../sdk" }', "the folder ../sdk"),
    ],
)
def test_an_sdk_from_elsewhere_stays_and_the_source_with_it(dependency, where):
    source = SOURCE + ENTRY
    files = {"a/Cargo.toml": package("a", f"proxy-wasm = {dependency}"), "a/src/lib.rs": source}
    migrated = migrate(files)
    assert migrated.contents == {}
    assert migrated.notes == (f"proxy-wasm stays as it is: it comes from {where}",)


def test_a_copy_of_the_sdk_in_the_repository_says_which_it_is():
    copy = '[package]\nname = "proxy-wasm"\nversion = "{}"\n'
    files = {"a/Cargo.toml": package("a", 'proxy-wasm = { path = "../sdk" }'), "a/src/lib.rs": ENTRY}
    assert migrate(files | {"sdk/Cargo.toml": copy.format("0.2.4")}).contents == {"a/src/lib.rs": MAIN}
    assert migrate(files | {"sdk/Cargo.toml": copy.format("0.1.4")}).contents == {}
    workspace = '[workspace]\n[workspace.dependencies]\nproxy-wasm = { path = "sdk" }\n'
    files |= {"Cargo.toml": workspace, "a/Cargo.toml": package("a", "proxy-wasm.workspace = true")}
    assert migrate(files | {"sdk/Cargo.toml": copy.format("0.2.4")}).contents == {"a/src/lib.rs": MAIN}


def test_a_crate_inside_another_is_a_crate_of_its_own():
    files = {
        "Cargo.toml": OLD,
        "src/lib.rs": SOURCE,
        "examples/one/Cargo.toml": NEW,
        "examples/one/src/lib.rs": MOVED + ENTRY,
        "xtask/src/main.rs": SOURCE,
    }
    contents = migrate(files, [*files, "xtask/Cargo.toml"], crate="").contents
    assert contents.keys() == {"Cargo.toml", "src/lib.rs"}


# --- whose files these are


def test_bazels_files_and_vendored_crates_stay():
    files = {
        "Cargo.toml": OLD,
        "BUILD.bazel": 'triples = ["@rules_rust//rust/platform:wasm32-wasi"]\n',
        "bazel/cargo/remote/BUILD.log-0.4.bazel": "wasm32-wasi\n",
        "bazel/defs.bzl": "wasm32-wasi\n",
        "vendor/proxy-wasm/Cargo.toml": '[package]\nname = "proxy-wasm"\n# wasm32-wasi\n',
        "vendor/proxy-wasm/src/traits.rs": SOURCE,
        "vendor/proxy-wasm/README.md": "wasm32-wasi\n",
    }
    migrated = migrate(files, [*files, "vendor/proxy-wasm/.cargo-checksum.json"])
    assert migrated.contents.keys() == {"Cargo.toml"}
    assert any("stays in Bazel's own files: BUILD.bazel" in note for note in migrated.notes)


def test_bazels_pins_of_the_sdk_are_named_when_it_moves():
    pins = {"MODULE.bazel": 'crate.spec(package = "proxy-wasm", version = "0.1.4")\n'}
    note = "Bazel's own files have proxy-wasm 0.1 until you repin their crates: MODULE.bazel"
    migrated = migrate({"Cargo.toml": OLD} | pins)
    assert migrated.contents.keys() == {"Cargo.toml"}
    assert note in migrated.notes
    assert note not in migrate({"Cargo.toml": NEW} | pins).notes


def test_above_a_crate_only_what_cargo_and_rustup_read_changes():
    files = {
        "one/Cargo.toml": NEW,
        "one/Makefile": "wasm32-wasi\n",
        ".cargo/config.toml": '[target.wasm32-wasi]\nrunner = "x"\n',
        "rust-toolchain.toml": '[toolchain]\ntargets = ["wasm32-wasi"]\n',
        "Makefile": "wasm32-wasi\n",
        "README.md": "wasm32-wasi\n",
        "two/Cargo.toml": NEW,
        "two/.cargo/config.toml": 'build.target = "wasm32-wasi"\n',
        "two/Makefile": "wasm32-wasi\n",
    }
    migrated = migrate(files, crate="one")
    assert migrated.contents.keys() == {"one/Makefile", ".cargo/config.toml", "rust-toolchain.toml"}
    assert migrated.notes == (
        "the triple wasm32-wasi is now called wasm32-wasip1",
        "wasm32-wasi stays in files outside the crate: Makefile",
    )


@given(st.text(st.sampled_from("#[no_mangle]pub fn _start(){}\"'r/*\n \\x"), max_size=60))
def test_whatever_stands_there_it_ends_and_is_done_once(text):
    once = became(f"#[no_mangle]\npub fn _start() {{{text}", manifest=OLD)
    assert became(once, manifest=OLD) == once
