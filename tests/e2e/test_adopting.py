"""`scaffold adopt` on a crate of proxy-wasm 0.1: real cargo builds what came of it, and Envoy runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.repositories import commit, contents

from scaffold.project.crate import Project
from scaffold.wasm.module import WasmModule

FILES = {
    "Cargo.toml": """\
[package]
name = "old_filter"
version = "0.0.1"
edition = "2018"

[lib]
path = "src/filter.rs"
crate-type = ["cdylib"]

[dependencies]
log = "0.4.8"
proxy-wasm = { version = "0.1.4", features = ["wee-alloc"] }  # as in 2021
""",
    ".cargo/config": '[build]\ntarget = "wasm32-wasi"\n',
    "runtime-config.json": '{"type": "envoy_proxy", "config": {"rootIds": ["old_root"]}}\n',
    "src/filter.rs": """\
use log::info;
use proxy_wasm::traits::*;
use proxy_wasm::types::*;

#[no_mangle]
pub fn _start() {
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> {
        Box::new(Root { greeting: "Hi".to_string() })
    });
}

struct Root {
    greeting: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        info!("a configuration of the VM: {}", self.get_configuration().is_some());
        true
    }

    fn on_configure(&mut self, _: usize) -> bool {
        if let Some(bytes) = self.get_configuration() {
            self.greeting = String::from_utf8(bytes).unwrap();
        }
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter { greeting: self.greeting.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Filter {
    greeting: String,
}

impl Context for Filter {}

impl HttpContext for Filter {
    fn on_http_request_headers(&mut self, _: usize) -> Action {
        self.set_http_request_header("x-hello", Some(&self.greeting));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _num_headers: usize) -> Action {
        self.set_http_response_header("x-adopted", Some("yes"));
        Action::Continue
    }
}
""",
}
MORE = """

def test_it_does_what_it_did(proxy: Proxy):
    proxy.configure("Hello")
    exchange = proxy.get("/headers")
    assert exchange.upstream.headers["x-hello"] == "Hello"
    assert exchange.response.headers["x-adopted"] == "yes"
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    root = tmp_path / "old_filter"
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    commit(root)
    return root


OLD = """\
[package]
name = "{name}"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[dependencies]
proxy-wasm = {sdk}
"""
# a decorator of another context, and a test of it
CALLER = """\
use proxy_wasm::traits::*;
use proxy_wasm::types::*;

#[no_mangle]
pub fn _start() {
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Outer::default()) });
}

#[derive(Default)]
struct Inner(usize);

impl Context for Inner {}

impl HttpContext for Inner {
    fn on_http_request_headers(&mut self, count: usize) -> Action {
        self.0 = count;
        Action::Continue
    }
}

#[derive(Default)]
struct Outer(Inner);

impl Context for Outer {}

impl HttpContext for Outer {
    fn on_http_request_headers(&mut self, count: usize) -> Action {
        self.0.on_http_request_headers(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let mut outer = Outer::default();
        outer.on_http_request_headers(3);
        assert_eq!(outer.0.0, 3);
    }
}
"""
# its trait has a function that proxy-wasm has too since 0.2
CLASH = """\
use proxy_wasm::traits::*;

trait Configured: RootContext {
    fn get_plugin_configuration(&self) -> Vec<u8> {
        self.get_configuration().unwrap_or_default()
    }
}

struct Root;
impl Context for Root {}
impl Configured for Root {}
impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        !self.get_plugin_configuration().is_empty()
    }
}

#[no_mangle]
pub fn _start() {
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}
"""


def made(root: Path, **files: str) -> Path:
    """A repository with these files, committed."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    commit(root)
    return root


def test_members_that_inherit_a_range_move_together_with_their_callers_and_the_lock(tmp_path, state, run):
    files = {"Cargo.toml": '[workspace]\nmembers = ["one", "two"]\nresolver = "2"\n'}
    files["Cargo.toml"] += '[workspace.dependencies]\nproxy-wasm = ">=0.1, <0.2"\n'
    for name in ("one", "two"):
        files |= {f"{name}/Cargo.toml": OLD.format(name=name, sdk="{ workspace = true }")}
        files |= {f"{name}/src/lib.rs": CALLER}
    root = made(tmp_path / "ws", **files)
    assert run("cargo", "generate-lockfile", cwd=root).returncode == 0
    commit(root)
    before = contents(root)
    assert run("scaffold", "adopt", "--dry-run", cwd=root / "one").returncode == 0
    assert contents(root) == before
    ran = run("scaffold", "adopt", cwd=root / "one")
    assert ran.returncode == 0, ran.stderr
    assert {"../Cargo.lock", "../Cargo.toml", "../two/src/lib.rs"} <= set(ran.stdout.split())
    assert not (root / "target").exists()
    ran = run("cargo", "test", "--locked", cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("1 passed") == 2
    ran = run("cargo", "build", "--locked", "--target", "wasm32-wasip1", cwd=root)
    assert ran.returncode == 0, ran.stderr


def test_what_would_no_longer_compile_is_shown_and_not_written(tmp_path, state, run):
    files = {"Cargo.toml": OLD.format(name="clash", sdk='"0.1.4"'), "src/lib.rs": CLASH}
    root = made(tmp_path / "clash", **files)
    before = contents(root)
    ran = run("scaffold", "adopt", cwd=root)
    assert ran.returncode == 5, ran.stderr
    assert "error: clash compiles as it is, but not with these changes: nothing was written" in ran.stderr
    assert "multiple applicable items in scope" in ran.stderr
    assert contents(root) == before
    assert not list((state / "cache/proxy-wasm-scaffold/scratch").iterdir())
    ran = run("scaffold", "adopt", "--no-check", cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert "get_plugin_configuration().unwrap_or_default()" in (root / "src/lib.rs").read_text()


def test_a_crate_that_never_compiled_is_named_and_adopted_all_the_same(tmp_path, state, run):
    files = {"Cargo.toml": OLD.format(name="broken", sdk='"0.2"'), "src/lib.rs": "fn main( {}\n"}
    root = made(tmp_path / "broken", **files)
    ran = run("scaffold", "adopt", cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert "broken doesn't compile, and didn't before: the changes there aren't checked" in ran.stderr
    assert (root / "tasks.py").exists()


# it refuses to have no configuration, asks a cluster, and answers with 503 by itself
GUARD = """\
use proxy_wasm::traits::*;
use proxy_wasm::types::*;
use std::time::Duration;

struct Root(Vec<u8>);
impl Context for Root {}
impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.0 = self.get_plugin_configuration().unwrap_or_default();
        !self.0.is_empty()
    }
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Guard))
    }
}

struct Guard;
impl Context for Guard {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        self.send_http_response(503, vec![], Some(b"closed for today"));
    }
}
impl HttpContext for Guard {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "hours")];
        self.dispatch_http_call("hours", headers, None, vec![], Duration::from_secs(5)).unwrap();
        Action::Pause
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root(vec![])));
}}
"""
TYPE = "type.googleapis.com/envoy.extensions"
GUARDS_ENVOY = f"""\
static_resources:
  listeners:
    name: front
    address: {{socket_address: {{address: 0.0.0.0, port_value: 10000}}}}
    filter_chains:
      filters:
        name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
              name: all
              domains: "*"
              routes: [{{match: {{prefix: /}}, route: {{cluster: web}}}}]
          http_filters:
          - name: envoy.filters.http.wasm
            typed_config:
              "@type": {TYPE}.filters.http.wasm.v3.Wasm
              config:
                root_id: guard_root
                configuration:
                  "@type": type.googleapis.com/google.protobuf.StringValue
                  value: '{{"strict": true}}'
                vm_config:
                  runtime: envoy.wasm.runtime.v8
                  code: {{local: {{filename: /plugins/guard.wasm}}}}
          - name: envoy.filters.http.router
            typed_config: {{"@type": {TYPE}.filters.http.router.v3.Router}}
  clusters:
  - name: web
    type: STRICT_DNS
    load_assignment:
      cluster_name: web
      endpoints:
        lb_endpoints: {{endpoint: {{address: {{socket_address: {{address: web, port_value: 80}}}}}}}}
  - name: hours
    type: STRICT_DNS
    load_assignment:
      cluster_name: hours
      endpoints:
        lb_endpoints: {{endpoint: {{address: {{socket_address: {{address: hours, port_value: 9000}}}}}}}}
"""
NETWORK = """\
use proxy_wasm::traits::*;
use proxy_wasm::types::*;

struct Connection;
impl Context for Connection {}
impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        Action::Continue
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_stream_context(|_, _| Box::new(Connection));
}}
"""
SERVICE = """\
use proxy_wasm::traits::*;

struct Root;
impl Context for Root {}
impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        true
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}
"""


def test_tests_that_never_compiled_are_named_and_the_plugin_is_checked(tmp_path, state, run):
    source = CALLER.replace("outer.0.0", "outer.nothing")
    files = {"Cargo.toml": OLD.format(name="untested", sdk='"0.1.4"'), "src/lib.rs": source}
    root = made(tmp_path / "untested", **files)
    assert run("cargo", "generate-lockfile", cwd=root).returncode == 0
    commit(root)
    ran = run("scaffold", "adopt", cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert "warning: the tests of untested, or of a crate that shares its proxy-wasm, don't" in ran.stderr
    ran = run("cargo", "build", "--locked", "--target", "wasm32-wasip1", cwd=root)
    assert ran.returncode == 0, ran.stderr


def test_a_file_without_a_crate_gets_one_with_the_crates_that_it_uses(tmp_path, state, run):
    source = CALLER.replace("use proxy_wasm::types::*;", "use proxy_wasm::types::*;\nuse itoa::Buffer;")
    (tmp_path / "gate.rs").write_text(
        f"{source}\npub fn shown(x: u8) -> String {{ Buffer::new().format(x).into() }}\n"
    )
    ran = run("scaffold", "adopt", "gate.rs", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate", "gate.rs"]
    assert Project.load(tmp_path / "gate").manifest["dependencies"]["itoa"].startswith("1.")
    (tmp_path / "broken.rs").write_text("use proxy_wasm::nothing;\n")
    ran = run("scaffold", "adopt", "broken.rs", cwd=tmp_path)
    assert ran.returncode == 5
    assert "error: broken doesn't compile: nothing was written" in ran.stderr
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(
    ("name", "source", "envoy", "kind"),
    [
        ("guard", GUARD, GUARDS_ENVOY, "http"),
        ("connections", NETWORK, None, "network"),
        ("ticker", SERVICE, None, "service"),
    ],
)
def test_what_the_repository_knows_makes_the_first_test_pass(name, source, envoy, kind, tmp_path, state, run):
    files = {"Cargo.toml": OLD.format(name=name, sdk='"0.2"'), "src/lib.rs": source}
    files |= {"envoy.yaml": envoy} if envoy else {}
    root = made(tmp_path / name, **files)
    ran = run("scaffold", "adopt", cwd=root)
    assert ran.returncode == 0, ran.stderr
    settings = Project.load(root).settings
    assert settings.type == kind
    if envoy:
        assert (settings.root_id, settings.clusters) == ("guard_root", {"hours": "upstream"})
    ran = run("scaffold", "test", cwd=root)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout + ran.stderr


def test_a_crate_of_the_sdk_0_1_builds_and_passes_its_first_test(old, state, run):
    ran = run("scaffold", "adopt", cwd=old)
    assert ran.returncode == 0, ran.stderr
    built = run("scaffold", "build", "--yes", "--json", cwd=old)
    assert built.returncode == 0, built.stderr
    module = WasmModule.read(next((state / "target/wasm32-wasip1/release").glob("old_filter.wasm")))
    assert module.abi_version == "0.2.1"
    assert {"_initialize", "proxy_on_vm_start"} <= module.exports.keys()
    with (old / "tests/test_plugin.py").open("a") as tests:
        tests.write(MORE)
    ran = run("scaffold", "test", cwd=old)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stderr
