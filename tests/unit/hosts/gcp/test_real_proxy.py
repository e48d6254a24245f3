"""Which cases of a suite a proxy can play, and how they end there."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wat_plugins import Wat, pairs

from scaffold.hosts.gcp import real_proxy
from scaffold.hosts.gcp.outcome import Played
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites import suite as suites
from scaffold.wasm.module import WasmModule

INFO = 2


def read(folder: Path, content: str) -> suites.Suite:
    (folder / "suite.textpb").write_text(content)
    return suites.read(folder / "suite.textpb", folder)


def play(folder: Path, wat: Wat, content: str, **callbacks: str) -> list[Played]:
    path = folder / "plugin.wasm"
    path.write_bytes(wat.module({f"proxy_on_{name}": text for name, text in callbacks.items()}))
    suite, plugin = read(folder, content), Plugin("wat", "", WasmModule.read(path))
    settings = RunOptions(port=0).settings
    with real_proxy.playing("emulator", plugin, suite, settings) as played:
        return [played(case) for case in suite.cases]


def what_failed(played: Played) -> list[str]:
    return [f"{each.phase}: {each.what}" for each in played.failures]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("env { time_secs: 1 } test { }", "time_secs stops the clock"),
        ('test { properties { path: "a" } }', "it lists properties"),
        ('test { chunk_size: 1 request_body { input { content: "a" } } }', "chunk_size cuts a body"),
        ("test { response_body { } response_body { } }", "response_body comes in 2 pieces"),
        ('test { plugin_init { log { exact: "a" } } }', "expects a log of plugin_init"),
        ('test { stream_destroy { log { exact: "a" } } }', "expects a log of stream_destroy"),
        (
            'test { request_headers { result { log { exact: "a" invert: true } } } }',
            "request_headers isn't to log something",
        ),
        (
            'test { response_headers { input { header { key: "Content-Length" value: "1" } } } }',
            "response_headers has Content-Length",
        ),
        ("test { request_body { result { immediate { } } } }", "which no body has"),
        (
            "test { request_headers { result { immediate { grpc_status: 1 } } } }",
            "a client doesn't see",
        ),
        (
            "test { request_headers { result { immediate { } } } response_headers { } }",
            "it goes on after the immediate response of request_headers",
        ),
        (
            'test { request_headers { result { has_header { key: ":scheme" value: "a" } } } }',
            "expects :scheme",
        ),
        (
            'test { request_headers { result { no_header { key: "X-Request-Id" } } } }',
            "expects no X-Request-Id, which the proxy itself sets",
        ),
        (
            'test { response_headers { result { no_header { key: "Server" } } } }',
            "expects no Server, which the proxy itself sets",
        ),
    ],
)
def test_what_a_proxy_cannot_play(tmp_path: Path, content: str, why: str) -> None:
    suite = read(tmp_path, content)
    assert why in real_proxy.unplayable(suite, suite.cases[0])


def test_what_http_cannot_carry_is_not_played_either(tmp_path: Path) -> None:
    content = """test { request_headers { input { header { key: "a b" } } } }
      test { request_headers { input { header { key: ":path" value: "x" } } } }
      test { response_headers { input { header { key: ":status" value: "99" } } } }
      test { response_headers { input { header { key: ":status" value: "ok" } } } }"""
    played = play(tmp_path, Wat(), content, log="")
    assert [each.outcome for each in played] == ["skipped"] * 4
    assert all(each.skipped.startswith("HTTP can't carry it: ") for each in played)


def test_a_request_and_its_answer_are_looked_at_on_both_sides(tmp_path: Path) -> None:
    wat = Wat()
    changes = wat.call("proxy_add_header_map_value", 0, b"x-new", b"1")
    changes += wat.call("proxy_remove_header_map_value", 0, b"secret") + wat.call("proxy_log", INFO, b"seen")
    content = """test { request_headers { input {
        header { key: "Host" value: "a.b" } header { key: ":path" value: "/p?q" }
        header { key: "Secret" value: "1" } header { key: "Other" value: "o" } }
      result { has_header { key: "X-New" value: "1" } has_header { key: ":path" value: "/p?q" }
        has_header { key: ":authority" value: "a.b" } has_header { key: ":method" value: "POST" }
        no_header { key: "secret" } headers { exact: "Other: o" } log { exact: "seen" }
        headers { regex: "x-envoy.*|x-request-id.*" invert: true } } }
    request_body { input { content: "body" } result { body { exact: "body" } } }
    response_headers { input { content: "HTTP/1.1 201 OK\\r\\nA: 1\\r\\nA: 2" }
      result { has_header { key: ":status" value: "201" } has_header { key: "a" value: "1, 2" }
        headers { regex: "(date|server): .*" invert: true } } }
    response_body { input { content: "answer" } result { body { regex: "a.*r" } } } }"""
    (played,) = play(tmp_path, wat, content, request_headers=changes)
    assert (what_failed(played), played.outcome) == ([], "passed")


def test_what_does_not_hold_is_a_failure(tmp_path: Path) -> None:
    content = """test {
      request_headers { result { has_header { key: "x" value: "1" } headers { regex: "y.*" }
        log { regex: "z" } immediate { } } } }
      test { response_headers { input { header { key: "a" value: "1" } } result { no_header { key: "a" } } }
        response_body { input { content: "a" } result { body { exact: "b" } } } }"""
    first, second = play(tmp_path, Wat(), content, log="")
    assert what_failed(first) == ["request_headers: immediate", "request_headers: log"]
    assert first.failures[0].got == ("none",)
    assert what_failed(second) == ["response_headers: no_header a", "response_body: body"]


def test_a_local_reply(tmp_path: Path) -> None:
    wat = Wat()
    reply = wat.call("proxy_send_local_response", 403, b"", b"No", pairs((b"a", b"b")), 0xFFFFFFFF)
    content = """test { name: "expected" request_headers { result { immediate { http_status: 403 details: "" }
        body { exact: "No" } has_header { key: "A" value: "b" } } } }
      test { name: "another" request_headers { result { immediate { http_status: 401 details: "x" } } } }
      test { name: "not expected" request_headers { result { has_header { key: "c" value: "d" } } } }
      test { name: "only the body" request_body { result { body { exact: "" } } } }"""
    expected, another, unexpected, only_body = play(tmp_path, wat, content, request_headers=reply)
    assert expected.outcome == "passed"
    assert what_failed(another) == [
        f"request_headers: immediate {what}" for what in ("http_status", "details")
    ]
    assert what_failed(unexpected) == what_failed(only_body) == ["request_headers: immediate"]
    assert unexpected.failures[0].got == ("status 403, body 'No'",)


def test_a_local_reply_in_the_answer(tmp_path: Path) -> None:
    wat = Wat()
    reply = wat.call("proxy_send_local_response", 403, b"why", b"No", b"", 0xFFFFFFFF)
    content = """test { request_headers { } response_headers {
        input { header { key: "gone" value: "1" } }
        result { immediate { http_status: 403 details: "why" } body { exact: "No" }
          no_header { key: "gone" } } } }
      test { response_headers { } }"""
    expected, unexpected = play(tmp_path, wat, content, response_headers=reply)
    assert expected.outcome == "passed"
    assert what_failed(unexpected) == ["response_headers: immediate"]


def test_each_case_has_a_fresh_plugin_even_after_a_crash(tmp_path: Path) -> None:
    wat = Wat()
    crashes = wat.call("proxy_set_shared_data", b"k", b"", 0) + wat.call("proxy_log", INFO, b"bye")
    content = "test { request_headers { } } test { request_headers { } }"
    played = play(tmp_path, wat, content, request_headers=f"{crashes} unreachable")
    assert [what_failed(each) for each in played] == [["the request: the VM"]] * 2
    assert played[1].failures[0].got[:2] == ("the plugin crashed", "log: bye")
