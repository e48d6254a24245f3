"""Suites on a real Envoy: the cases that it can play end as on the emulator, the others are listed."""

from __future__ import annotations

from pathlib import Path

from support.wat_plugins import Wat, pairs

import scaffold

SUITE = """env { wasm_path: "plugin.wasm" }
test { name: "a request" request_headers {
    input { header { key: ":path" value: "/p?q" } header { key: "Secret" value: "1" } }
    result { has_header { key: "X-New" value: "1" } has_header { key: ":path" value: "/p?q" }
      no_header { key: "secret" } headers { regex: "x-(envoy|request-id).*" invert: true }
      log { exact: "seen" } } }
  request_body { input { content: "body" } result { body { exact: "body" } } } }
test { name: "an answer" response_headers {
    input { content: "HTTP/1.1 201 OK\\r\\nA: 1\\r\\nA: 2\\r\\n" }
    result { has_header { key: ":status" value: "201" } has_header { key: "a" value: "1, 2" } } }
  response_body { input { content: "answer" } result { body { exact: "answer" } } } }
test { name: "a local reply" response_headers {
    input { header { key: "deny" value: "1" } header { key: ":status" value: "418" } }
    result { immediate { http_status: 403 details: "why" } body { exact: "No" }
      has_header { key: "r" value: "1" } no_header { key: "deny" } } } }
test { name: "an empty reason" response_headers {
    input { header { key: ":status" value: "299" } } result { immediate { details: "" } } } }
test { name: "fails" request_headers { result { has_header { key: "x-new" value: "2" } } } }
test { name: "crashes" response_headers { input { header { key: ":status" value: "500" } } } }
test { name: "after the crash" request_headers { result { has_header { key: "x-new" value: "1" } } } }
test { name: "not for a proxy" properties { path: "a" } request_headers { } }
"""


def plugin() -> bytes:
    """Adds a header, removes one; in the answer it does what the status says."""
    wat = Wat()
    request = wat.call("proxy_add_header_map_value", 0, b"x-new", b"1")
    request += wat.call("proxy_remove_header_map_value", 0, b"secret") + wat.call("proxy_log", 2, b"seen")
    status = wat.call("proxy_get_header_map_value", 2, b":status", 1024, 1028)
    denies = wat.call("proxy_send_local_response", 403, b"why", b"No", pairs((b"r", b"1")), 0xFFFFFFFF)
    silent = wat.call("proxy_send_local_response", 403, b"", b"", b"", 0xFFFFFFFF)
    text = "(i32.load (i32.load (i32.const 1024)))"
    cases = {b"418": denies, b"299": silent, b"500": "unreachable"}
    answer = status + "".join(
        f"(if (i32.eq (i32.and {text} (i32.const 0xffffff)) (i32.const {int.from_bytes(value, 'little')}))"
        f" (then {action}))"
        for value, action in cases.items()
    )
    return wat.module({"proxy_on_request_headers": request, "proxy_on_response_headers": answer})


def test_a_suite_on_envoy_ends_as_on_the_emulator(tmp_path: Path) -> None:
    (tmp_path / "plugin.wasm").write_bytes(plugin())
    (tmp_path / "suite.textpb").write_text(SUITE)
    on_envoy, on_emulator, in_tester = (
        scaffold.test(tests=[str(tmp_path / "suite.textpb")], host=host)[0]
        for host in ("envoy", "emulator", "gcp")
    )
    outcomes = ["passed"] * 4 + ["failed", "failed", "passed", "skipped"]
    assert [case.outcome for case in on_envoy.cases] == outcomes
    assert on_envoy.cases[-1].reason == "it lists properties, and a proxy has its own"
    assert on_envoy.cases[4].failures[0].got == ("'1'",)
    assert on_envoy.cases[5].failures[0].what == "the VM"
    assert on_emulator.cases == on_envoy.cases
    assert [case.outcome for case in in_tester.cases] == [*outcomes[:-1], "passed"]
