"""What Google's tester does, where it isn't what Envoy does."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wat_plugins import OUT, SIZE, Wat, pairs

from scaffold.errors import ModuleError
from scaffold.hosts.gcp import benchmark
from scaffold.hosts.gcp.headers import SortedHeaders
from scaffold.hosts.gcp.tester import GcpTester, Played
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites import suite as suites
from scaffold.wasm.module import WasmModule

REQUEST, RESPONSE = 0, 2  # header maps
BODY, ANSWER_BODY, VM_CONFIG, CONFIG = 0, 1, 6, 7  # buffers
INFO = 2
PAUSE = " (i32.const 1) $result"
ADD, REPLACE, REMOVE, GET = (f"proxy_{what}_header_map_value" for what in ("add", "replace", "remove", "get"))
# logs a status as a digit: the hostcall's instructions leave it on the stack
SAYS = """(func $says (param i32) (i32.store8 (i32.const 900) (i32.add (local.get 0) (i32.const 48)))
 (drop (call $proxy_log (i32.const 2) (i32.const 900) (i32.const 1))))
 (func $echo
 (drop (call $proxy_log (i32.const 2) (i32.load (i32.const 1024)) (i32.load (i32.const 1028)))))"""


def status(wat: Wat, name: str, *arguments: int | bytes) -> str:
    """A hostcall, whose status is logged."""
    return f"(call $says {wat.call(name, *arguments).removeprefix('(drop ')}"


def log(wat: Wat, text: bytes, level: int = INFO) -> str:
    return wat.call("proxy_log", level, text)


def reply(wat: Wat, headers: bytes = b"") -> str:
    return wat.call("proxy_send_local_response", 403, b"why", b"LOCAL", headers, 7)


def making(
    folder: Path, wat: Wat, content: str, *, configuration: bytes = b"", extra: str = "", **callbacks: str
) -> GcpTester:
    named = {f"proxy_on_{name}": text for name, text in callbacks.items()}
    path = folder / "plugin.wasm"
    path.write_bytes(wat.module(named, extra + SAYS + log(wat, b"").join(["(func ", ")"])))
    (folder / "suite.textpb").write_text(content)
    suite = suites.read(folder / "suite.textpb", folder)
    return GcpTester(Plugin("wat", "", WasmModule.read(path), configuration), suite)


def play(folder: Path, wat: Wat, content: str, **callbacks: str) -> list[Played]:
    made = making(folder, wat, content, **callbacks)
    return [made.play(case) for case in suites.read(folder / "suite.textpb", folder).cases]


def what_failed(played: Played) -> list[str]:
    return [f"{each.phase}: {each.what}" for each in played.failures]


def test_headers_are_sorted_joined_and_without_case() -> None:
    headers = SortedHeaders([(b"b", b"1"), (b"B", b"2"), (b"a_", b"x"), (b"aZ", b""), (b"AZ", b"y")])
    assert list(headers) == [(b"aZ", b"y"), (b"a_", b"x"), (b"b", b"1, 2")]
    headers.replace(b"AZ", b"z")
    headers.remove(b"A_")
    assert headers.lines() == [b"aZ: z", b"b: 1, 2"]


def test_headers_as_the_plugin_sees_and_changes_them(tmp_path: Path) -> None:
    wat = Wat()
    callback = (
        status(wat, GET, REQUEST, b"HOST", OUT, SIZE)
        + "(call $echo)"
        + status(wat, GET, REQUEST, b"none", OUT, SIZE)
        + status(wat, GET, RESPONSE, b"host", OUT, SIZE)
        + status(wat, ADD, REQUEST, b"host", b"b")
        + status(wat, REMOVE, REQUEST, b"GONE")
        + status(wat, "proxy_get_header_map_size", REQUEST, OUT)
        + "(call $says (i32.load (i32.const 1024)))"
    )
    content = """test { request_headers { input { header { key: "Host" value: "a" } header { key: "gone" } }
      result { has_header { key: "host" value: "a, b" } no_header { key: "gone" }
               headers { exact: "Host: a, b" } headers { regex: "gone.*" invert: true } } } }"""
    (played,) = play(tmp_path, wat, content, request_headers=callback)
    assert (played.outcome, played.logs) == ("passed", ["0", "a", "1", "2", "0", "0", "0", "1"])


def test_headers_are_only_there_in_their_callback(tmp_path: Path) -> None:
    wat = Wat()
    asks = status(wat, GET, REQUEST, b"a", OUT, SIZE)
    asks += status(wat, "proxy_get_header_map_pairs", REQUEST, OUT, SIZE)
    asks += status(wat, "proxy_set_header_map_pairs", REQUEST, b"")
    content = "test { request_headers {} request_body {} response_headers {} }"
    callbacks = dict.fromkeys(("context_create", "request_body", "response_headers", "done"), asks)
    (played,) = play(tmp_path, wat, content, **callbacks)
    of_root, of_stream = ["<", "<", "<"], ["2", "2", "2"]  # "<" comes after nine: 12
    assert played.logs == of_root + of_stream * 4 + of_root


def test_pairs_come_sorted_and_go_joined(tmp_path: Path) -> None:
    wat = Wat()
    new = pairs((b"x", b"1"), (b"X", b"2"))
    callback = wat.call("proxy_get_header_map_pairs", REQUEST, OUT, SIZE) + "(call $echo)"
    callback += wat.call("proxy_set_header_map_pairs", REQUEST, new)
    content = """test { request_headers {
      input { header { key: "b" value: "2" } header { key: "A" value: "1" } }
      result { headers { exact: "x: 1, 2" } no_header { key: "a" } } } }"""
    (played,) = play(tmp_path, wat, content, request_headers=callback)
    assert played.outcome == "passed"
    assert played.logs[0].encode() == pairs((b"A", b"1"), (b"b", b"2"))


def test_phases_come_in_a_fixed_order_and_each_has_its_own_log(tmp_path: Path) -> None:
    wat = Wat()
    names = ("configure", "context_create", "request_headers", "request_body", "response_headers")
    names += ("response_body", "log", "done", "delete")
    callbacks = {name: log(wat, name.encode()) for name in names}
    callbacks["configure"] += " (i32.const 1) $result"
    callbacks["done"] += " (i32.const 1) $result"

    def result(name: str) -> str:
        others = [each for each in names if each != name and each != "configure"]
        absent = "".join(f'log {{ exact: "{each}" invert: true }}' for each in others)
        return f'result {{ log {{ exact: "{name}" }} {absent} }}'

    phases = "".join(f"{name} {{ {result(name)} }} " for name in reversed(names[2:6]))
    content = f"""test {{ {phases}
      plugin_init {{ log {{ exact: "context_create" }} log {{ exact: "configure" }} }}
      stream_init {{ log {{ exact: "context_create" }} log {{ exact: "configure" invert: true }} }}
      stream_destroy {{
        log {{ exact: "done" }} log {{ exact: "delete" }} log {{ exact: "log" invert: true }} }} }}"""
    (played,) = play(tmp_path, wat, content, **callbacks)
    order = ["context_create", "configure", *names[1:6], "done", "delete", "done", "delete"]
    assert (played.outcome, played.logs) == ("passed", order)


def test_a_body_comes_in_chunks_and_is_judged_as_a_whole(tmp_path: Path) -> None:
    wat = Wat()
    callback = (
        status(wat, "proxy_get_buffer_bytes", BODY, 0, 100, OUT, SIZE)
        + "(call $echo)(call $says (local.get 2))"
        + status(wat, "proxy_set_buffer_bytes", BODY, 1, 1, b"-")
        + status(wat, "proxy_set_buffer_bytes", BODY, 90, 0, b"!")
        + status(wat, "proxy_get_buffer_bytes", ANSWER_BODY, 0, 9, OUT, SIZE)
        + PAUSE
    )
    content = """test { chunk_size: 2 request_body { input { content: "abcde" }
      result { body { exact: "a-!c-!e-!" } log { exact: "e" } log { exact: "ab" invert: true } } } }"""
    (played,) = play(tmp_path, wat, content, request_body=callback)
    assert what_failed(played) == []
    assert played.logs == [*"0 ab 0 0 0 1".split(), *"0 cd 0 0 0 1".split(), *"0 e 1 0 0 1".split()]


def test_several_bodies_are_the_end_of_the_stream_each(tmp_path: Path) -> None:
    wat = Wat()
    content = """test { response_body { input { content: "1" } } response_body { input { content: "2" } } }"""
    (played,) = play(tmp_path, wat, content, response_body="(call $says (local.get 2))")
    assert played.logs == ["1", "1"]


def test_a_configuration_can_always_be_read(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_buffer_bytes", CONFIG, 1, 3, OUT, SIZE) + "(call $echo)"
    asks += status(wat, "proxy_get_buffer_status", VM_CONFIG, OUT, SIZE)
    asks += status(wat, "proxy_set_buffer_bytes", CONFIG, 0, 0, b"x")
    asks += status(wat, "proxy_get_buffer_bytes", 9, 0, 1, OUT, SIZE)
    made = making(tmp_path, wat, "test { request_headers {} }", configuration=b"abcdef", request_headers=asks)
    assert made.play(suites.read(tmp_path / "suite.textpb", tmp_path).cases[0]).logs == ["bcd", "1", "2", "2"]


def test_a_local_reply_ends_what_comes_after(tmp_path: Path) -> None:
    wat = Wat()
    content = """test { name: "as it should"
      request_headers { input { header { key: "in" value: "x" } }
        result { immediate { http_status: 403 grpc_status: 7 details: "why" } body { exact: "LOCAL" }
                 has_header { key: "A" value: "2" } no_header { key: "in" } log { exact: "seen" } } }
      response_headers { input { header { key: "b" value: "1" } } result { no_header { key: "b" } } }
      response_body { input { content: "x" } result { body { exact: "" } } } }
    test { name: "otherwise" request_headers { result { } } }
    test { name: "another" request_headers { result { immediate { http_status: 200 grpc_status: 0
      details: "" } } } }"""
    callbacks = {
        "request_headers": log(wat, b"seen") + reply(wat, pairs((b"a", b"1"), (b"A", b"2"))),
        "response_headers": log(wat, b"answer"),
        "response_body": log(wat, b"answer"),
    }
    good, otherwise, another = play(tmp_path, wat, content, **callbacks)
    assert (what_failed(good), good.logs) == ([], ["seen"])
    assert otherwise.failures[0].got == ("status 403, body 'LOCAL'",)
    parts = ["http_status", "grpc_status", "details"]
    assert what_failed(another) == [f"request_headers: immediate {part}" for part in parts]
    assert [each.got for each in another.failures] == [("403",), ("7",), ("'why'",)]


def test_bodies_expect_no_local_reply_and_not_every_callback_can_send_one(tmp_path: Path) -> None:
    wat = Wat()
    content = """
    test { name: "request" request_body { input { content: "a" } result { body { exact: "a" } } } }
    test { name: "expects" request_body { result { immediate { } } } }
    test { name: "response" response_body { input { content: "b" } result { body { exact: "b" } } }
      response_body { input { content: "c" } result { body { exact: "c" } } } request_headers {} }"""
    callbacks = dict.fromkeys(("request_body", "response_body"), reply(wat))
    request, expects, response = play(tmp_path, wat, content, **callbacks)
    assert (what_failed(request), what_failed(response)) == ([], [])
    assert what_failed(expects) == ["request_body: immediate"]


def test_a_pause_without_a_reply_is_a_failure_of_headers_only(tmp_path: Path) -> None:
    content = """test { request_headers { } } test { request_headers { result { immediate { } } } }"""
    passed_on, wanted = play(tmp_path, Wat(), content, request_headers=PAUSE)
    assert passed_on.failures[0].got == ("the plugin paused it",)
    assert wanted.failures[0].got == ("none",)


def test_properties_are_those_of_the_case(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_property", b"source\0address\0", OUT, SIZE) + "(call $echo)"
    asks += status(wat, "proxy_get_property", b"request\0path", OUT, SIZE)
    asks += status(wat, "proxy_set_property", b"a", b"b")
    root = status(wat, "proxy_get_property", b"source\0address", OUT, SIZE)
    root += status(wat, "proxy_get_property", b"plugin_root_id", OUT, SIZE) + "(i32.const 1) $result"
    content = 'test { properties { path: "source.address" value: "1.2.3.4" } request_headers { } }'
    (played,) = play(tmp_path, wat, content, request_headers=asks, configure=root)
    assert played.logs == ["<", "0", "1.2.3.4", "1", "<"]


@pytest.mark.parametrize(("env", "time"), [("", 1_000_000), ("env { time_secs: 123 }", 123 * 10**9)])
def test_the_clock_stands_still(tmp_path: Path, env: str, time: int) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_current_time_nanoseconds", OUT)
    asks += f"(call $says (i64.eq (i64.load (i32.const {OUT})) (i64.const {time})))"
    (played,) = play(tmp_path, wat, f"{env} test {{ request_headers {{ }} }}", request_headers=asks * 2)
    assert played.logs == ["1", "1"]


def test_what_the_tester_has_not(tmp_path: Path) -> None:
    wat = Wat()
    asks = status(wat, "proxy_http_call", b"upstream", b"", b"", b"", 100, OUT)
    asks += status(wat, "proxy_define_metric", 0, b"a", OUT) + status(wat, "proxy_continue_stream", 0)
    asks += status(wat, "proxy_close_stream", 4) + status(
        wat, "proxy_call_foreign_function", b"compress", b"", OUT, SIZE
    )
    asks += status(wat, "proxy_set_tick_period_milliseconds", 1) + status(wat, "proxy_done")
    (played,) = play(tmp_path, wat, "test { request_headers {} }", request_headers=asks)
    assert played.logs == ["<", "<", "<", "2", "1", "0", "1"]


def test_a_case_has_a_vm_of_its_own_and_shared_data_in_common(tmp_path: Path) -> None:
    wat = Wat()
    asks = "(call $says (global.get $n)) (global.set $n (i32.add (global.get $n) (i32.const 1)))"
    asks += status(wat, "proxy_get_shared_data", b"k", OUT, SIZE, OUT + 8)
    asks += wat.call("proxy_set_shared_data", b"k", b"v", 0)
    content = "test { request_headers {} } test { request_headers {} }"
    one, two = play(tmp_path, wat, content, extra="(global $n (mut i32) (i32.const 0))", request_headers=asks)
    assert (one.logs, two.logs) == (["0", "1"], ["0", "0"])


@pytest.mark.parametrize(("level", "logs"), [("", ["2", "3"]), ("ERROR", []), ("TRACE", ["0", "2", "3"])])
def test_the_log_level(tmp_path: Path, level: str, logs: list[str]) -> None:
    wat = Wat()
    callback = "".join(log(wat, str(each).encode(), each) for each in (0, 2, 3))
    env = f"env {{ log_level: {level} }}" if level else ""
    (played,) = play(tmp_path, wat, f"{env} test {{ request_headers {{ }} }}", request_headers=callback)
    assert played.logs == logs


def test_a_plugin_that_fails_ends_its_case_and_no_other(tmp_path: Path) -> None:
    wat = Wat()
    content = """test { name: "a" request_headers { result { body { exact: "x" } } } response_headers { } }
      test { name: "b" response_headers { } }"""
    callbacks = {"request_headers": log(wat, b"last words") + "unreachable"}
    dead, other = play(tmp_path, wat, content, **callbacks)
    assert what_failed(dead) == ["request_headers: the VM"]
    assert dead.failures[0].got[0] == "RuntimeError: unreachable"
    assert dead.failures[0].got[-1] == "log: last words"
    assert other.outcome == "passed"


@pytest.mark.parametrize("callback", ["vm_start", "configure"])
def test_a_plugin_that_does_not_start(tmp_path: Path, callback: str) -> None:
    (played,) = play(tmp_path, Wat(), "test { }", **{callback: "(i32.const 0) $result"})
    assert what_failed(played) == ["plugin_init: the VM"]


def test_a_module_that_does_not_load_is_no_failed_case(tmp_path: Path) -> None:
    wat = Wat()
    path = tmp_path / "plugin.wasm"
    path.write_bytes(wat.module({"proxy_on_log": ""}).replace(b"malloc", b"mallox"))
    (tmp_path / "suite.textpb").write_text("test { }")
    suite = suites.read(tmp_path / "suite.textpb", tmp_path)
    with pytest.raises(ModuleError, match="missing malloc"):
        GcpTester(Plugin("wat", "", WasmModule.read(path)), suite)


def test_a_benchmark_costs_the_same_each_time(tmp_path: Path) -> None:
    wat = Wat()
    content = """env { num_additional_streams: 5 additional_stream_advance_rate: 2 }
      test { name: "quick" benchmark: true request_headers { } }
      test { name: "slow" benchmark: true num_chunks: 3 request_body { input { content: "abc" } } }
      test { name: "not asked for" request_headers { } }"""
    callbacks = {
        "request_headers": log(wat, b"a"),
        "request_body": log(wat, b"a") * 9,
        "done": log(wat, b"a"),
    }
    made = making(tmp_path, wat, content, **callbacks)
    suite = suites.read(tmp_path / "suite.textpb", tmp_path)
    first, second = (benchmark.benchmarks(made.plugin, suite) for _ in range(2))
    assert first == second
    names = [each.name for each in first]
    assert names == ["PluginLifecycle", "StreamLifecycle", "quick", "slow"]
    quick, slow = first[2:]
    assert (quick.crossings, slow.crossings) == (2, 30)
    assert slow.fuel > quick.fuel > 0
    assert quick.memory == 40 * 65536


def test_there_is_no_benchmark_unless_a_case_asks_for_it(tmp_path: Path) -> None:
    made = making(tmp_path, Wat(), "test { }")
    assert benchmark.benchmarks(made.plugin, suites.read(tmp_path / "suite.textpb", tmp_path)) == []
