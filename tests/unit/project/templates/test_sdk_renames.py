"""The renames that the field went through, on sources as people have them."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.project.templates.sdk_renames import SDK, migrate

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
        (
            '[workspace.dependencies]\nproxy-wasm = "0.1.4"\n',
            f'[workspace.dependencies]\nproxy-wasm = "{SDK}"\n',
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
    assert became(before) == after
    assert became(after) == after


@pytest.mark.parametrize("text", ["fn _start_up() {}\n", "// pub fn _started() {}\n", MAIN])
def test_what_is_no_entry_point_stays(text):
    assert became(text) == text


def test_an_entry_point_that_never_ends_stays():
    text = "#[no_mangle]\npub fn _start() { {\n"
    assert became(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fn on_http_request_headers(&mut self, _: usize) -> Action {", ", _: usize, _end_of_stream: bool)"),
        ("fn on_http_response_headers(&mut self, n: usize) -> Action {", ", n: usize, _end_of_stream: bool)"),
        (
            "fn on_http_request_headers(\n        &mut self,\n        count: usize,\n    ) -> Action {",
            "        count: usize, _end_of_stream: bool)",
        ),
    ],
)
def test_callbacks_for_headers_get_their_new_parameter(before, after):
    new = became(before, manifest=OLD)
    assert after in new
    assert became(new, manifest=OLD) == new
    assert became(before) == before, "a crate of the present SDK has none of these"


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


def test_what_is_left_to_the_author_is_said():
    source = "fn f(&self) { self.clear_http_route_cache(); }\n"
    migrated = migrate({"src/lib.rs": source, "Cargo.toml": OLD})
    assert migrated.notes == (
        f"proxy-wasm 0.1 has become {SDK}",
        "src/lib.rs: `clear_http_route_cache` is gone; left to you",
    )


@given(st.text(st.sampled_from("#[no_mangle]pub fn _start(){}\"'r/*\n \\x"), max_size=60))
def test_whatever_stands_there_it_ends_and_is_done_once(text):
    once = became(f"#[no_mangle]\npub fn _start() {{{text}")
    assert became(once) == once
