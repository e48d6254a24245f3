"""Faults on a real Envoy: what its clients see is what those of the emulator see."""

from __future__ import annotations

from support.wat_plugins import Wat

from scaffold.commands.faults.plan import planned
from scaffold.hosts.client import Conversation
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.faults.scenes import Answer, Scene, keep
from scaffold.hosts.options import RunOptions
from scaffold.project.projects import projects_at
from scaffold.wasm.module import WasmModule

CARGO = """[package]
name = "guard"
version = "0.1.0"
[package.metadata.proxy-wasm]
type = "http"
clusters = { authz = "upstream" }
failure-policies = ["fail-closed", "fail-open"]
[lib]
crate-type = ["cdylib"]
"""
CALL = (
    b"\x03\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0\x03\0\0\0\x0a\0\0\0\x05\0\0\0"
    b":path\0/check\0:method\0GET\0:authority\0authz\0"
)
POST = Request("POST", "/anything", body=b"hello, hello, hello, hello")


def asking() -> bytes:
    """A plugin that asks a service: an answer with many headers denies access."""
    wat = Wat()
    asks = wat.call("proxy_http_call", b"authz", CALL, b"", b"\0\0\0\0", 1000, 1024)
    denies = wat.call("proxy_send_local_response", 401, b"", b"no", b"\0\0\0\0", -1)
    decides = (
        f"{wat.call('proxy_set_effective_context', 2)} (if (i32.gt_u (local.get 2) (i32.const 8))"
        f" (then {denies}) (else {wat.call('proxy_continue_stream', 0)}))"
    )
    callbacks = {"proxy_on_request_headers": f"{asks} (i32.const 1) $result"}
    callbacks |= {"proxy_on_http_call_response": decides, "proxy_on_response_body": "", "proxy_on_log": ""}
    return wat.module(callbacks)


def closing() -> bytes:
    """A network plugin that closes connections that begin with few bytes."""
    wat = Wat()
    closes = f"(if (i32.lt_u (local.get 1) (i32.const 10)) (then {wat.call('proxy_close_stream', 2)}))"
    return wat.module({"proxy_on_downstream_data": closes, "proxy_on_log": ""})


def test_a_network_plugin_s_clients_see_the_same_on_both(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("")
    (tmp_path / "Cargo.toml").write_text(CARGO.replace('"http"', '"network"'))
    (tmp_path / "plugin.wasm").write_bytes(closing())
    for sent in (b"GET", b"GET /headers HTTP/1.1\r\nhost: a\r\n\r\n"):
        keep(tmp_path / "kept", Scene(Conversation((sent,))))
    plan = planned(projects_at(tmp_path), "all", RunOptions(), deployed=False)
    found = plan.play(WasmModule.read(tmp_path / "plugin.wasm"), tmp_path / "kept")
    assert found.differences == ()
    holes = {(case.host, case.policy, case.fault, case.request) for case in found.holes}
    assert holes == {
        (host, "fail-open", f"panic in {name}", "TCP GET")
        for host in ("emulator", "envoy")
        for name in ("on_downstream_data", "on_log")
    }


def test_a_real_envoy_s_clients_see_what_those_of_the_emulator_see(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("")
    (tmp_path / "Cargo.toml").write_text(CARGO)
    (tmp_path / "plugin.wasm").write_bytes(asking())
    many = Headers([(f"x-{number}", "x") for number in range(9)])
    for answer in (Response(200), Response(200, many)):
        keep(tmp_path / "kept", Scene(POST, b"", (Answer(answer, path="/check"),)))
    plan = planned(projects_at(tmp_path), "all", RunOptions(), deployed=False)
    found = plan.play(WasmModule.read(tmp_path / "plugin.wasm"), tmp_path / "kept")
    assert found.differences == ()
    played = {(case.host, case.fault) for case in found.cases}
    assert {fault for host, fault in played if host == "envoy"} == {fault for _, fault in played}
    holes = {(case.host, case.policy, case.fault) for case in found.holes}
    for host in ("emulator", "envoy"):
        assert (host, "fail-open", "panic in on_request_headers") in holes
        assert {fault for each, policy, fault in holes if (each, policy) == (host, "fail-closed")} == {
            "authz down",
            "authz 5 s late",
            "authz cut off",
        }
