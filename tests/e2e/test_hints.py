"""What a hint says to do works when it is done, with real plugins in a real Envoy."""

from __future__ import annotations

import re

import pytest
from support.places import get, logged

import scaffold
from scaffold.core import events
from scaffold.errors import ModuleError, TargetError

HERE = scaffold.RunOptions(port=0)
HEADERS = "fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action"
PLUGIN = """use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    %s
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;
struct Stream;
impl Context for Root {}
impl Context for Stream {}
impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        %s
    }
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }
}
impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        %s
    }
}
"""
LOGS = "proxy_wasm::set_log_level(LogLevel::Info);"
CALL = """let head = vec![(":method", "GET"), (":path", "/"), (":authority", "x")];
        let time = std::time::Duration::from_secs(1);
        self.dispatch_http_call(%s, head, None, vec![], time).unwrap();
        Action::Continue"""


@pytest.fixture
def plugin(copy):
    """Makes hello_world a plugin with this code in its parts; its folder."""

    def write(*, request="Action::Continue", configure="true", main=LOGS):
        (copy / "src/lib.rs").write_text(PLUGIN % (main, configure, request))
        (copy / "config.schema.json").unlink(missing_ok=True)
        return copy

    yield write
    scaffold.undeploy(copy)


@pytest.fixture
def warnings():
    """The warnings and notes that come."""
    seen = []
    with events.listening(lambda event: seen.append(getattr(event, "text", ""))):
        yield seen


def test_the_cluster_that_a_warning_names_can_be_defined_as_it_says(plugin, warnings):
    root = plugin(request=CALL % '"nowhere"')
    with pytest.raises(TargetError) as caught:
        scaffold.deploy(root, run=HERE)
    assert "defined: upstream" in (caught.value.hint or "")
    (warning,) = [each for each in warnings if "nowhere" in each]
    assert warning.startswith("src/lib.rs calls the cluster `nowhere`, which isn't defined")
    entry = re.search(r"`(clusters = .*?)`", warning)
    manifest = root / "Cargo.toml"
    text = manifest.read_text()
    manifest.write_text(
        text.replace("[package.metadata.proxy-wasm]\n", f"[package.metadata.proxy-wasm]\n{entry[1]}\n")
    )
    warnings.clear()
    scaffold.deploy(root, run=HERE)
    assert not [each for each in warnings if "isn't defined" in each]


def test_a_plugin_that_needs_a_configuration_gets_one_as_the_hint_says(plugin):
    root = plugin(configure="self.get_plugin_configuration().is_some()")
    with pytest.raises(ModuleError) as caught:
        scaffold.deploy(root, run=HERE)
    assert caught.value.message.endswith("which has no configuration")
    assert "--config FILE" in (caught.value.hint or "")
    (root / "config.yaml").write_text("a: 1\n")
    scaffold.deploy(root, run=scaffold.RunOptions(port=0, config=str(root / "config.yaml")))


def test_a_plugin_may_answer_503_on_purpose(plugin, warnings):
    answer = 'self.send_http_response(503, vec![], Some(b"closed for today"));\n        Action::Pause'
    scaffold.deploy(plugin(request=answer), run=HERE)
    assert "hello_world answered the request itself, with 503" in warnings


def test_an_empty_log_says_what_turns_it_on(plugin, warnings):
    logs = 'log::info!("a request");\n        Action::Continue'
    root = plugin(main="", request=logs)
    scaffold.deploy(root, run=HERE)
    assert [line.source for line in scaffold.logs(root)] == ["scaffold"]
    (told,) = [each for each in warnings if each.startswith("the plugin has logged nothing yet")]
    call = re.search(r"`(proxy_wasm::set_log_level.*?;)`", told)
    warnings.clear()
    get(scaffold.deploy(plugin(main=call[1], request=logs), run=HERE).url)
    logged(root, "a request")
    warnings.clear()
    assert "a request" in [line.text for line in scaffold.logs(root)]
    assert not [each for each in warnings if "logged nothing" in each]
