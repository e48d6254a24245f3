"""`scaffold adopt` on a crate of proxy-wasm 0.1: real cargo builds what came of it, and Envoy runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.repositories import commit

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
