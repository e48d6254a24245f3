"""The fixture `proxy` on the emulator, with bare pytest: budgets, time, clients, and what it can't do."""

from __future__ import annotations

import sys

import pytest
import wasmtime
from support.commands import run
from support.network_plugins import tap

from scaffold.errors import UNDER_PYTEST, ModuleError
from scaffold.hosts import recording

# adds a header, logs at each tick, counts to 1,000 for a request with a body
PLUGIN = """(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "x-hello")
  (data (i32.const 32) "world")
  (data (i32.const 48) "tick")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick (i32.const 60000)))
    (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (drop (call $log (i32.const 2) (i32.const 48) (i32.const 4))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 32) (i32.const 5)))
    (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (local $left i32)
    (local.set $left (i32.const 1000))
    (loop $again
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (i32.const 0)))"""
CARGO = """[package]
name = "hello"
version = "0.1.0"
[package.metadata.proxy-wasm]
type = "http"
[package.metadata.proxy-wasm.budget]
request-fuel = 100
request-crossings = 6
[lib]
crate-type = ["cdylib"]
"""


@pytest.fixture
def play(tmp_path):
    """Play a test file in a crate."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("")
    (tmp_path / "Cargo.toml").write_text(CARGO)
    (tmp_path / "plugin.wasm").write_bytes(wasmtime.wat2wasm(PLUGIN))

    def play(tests: str, *words: str, module: str = "plugin.wasm"):
        (tmp_path / "test_it.py").write_text(tests)
        command = (
            "-m",
            "pytest",
            "-rs",
            "-p",
            "scaffold.pytest_plugin",
            "-p",
            "no:cacheprovider",
            "--color=no",
        )
        host = ("--proxy-host=emulator", f"--proxy-module={module}")
        return run(sys.executable, *command, *host, *words, cwd=tmp_path)

    return play


def test_a_request_has_an_exact_cost_and_passes_the_plugin(play):
    ran = play("""
def test_headers(proxy):
    exchange = proxy.get("/headers", headers={"host": "example.com"})
    assert exchange.upstream.headers["x-hello"] == "world"
    assert exchange.status == 200
    again = proxy.get("/headers", headers={"host": "example.com"})
    assert exchange.cost == again.cost
    # on_request_headers and one hostcall, whose header is copied
    assert (exchange.cost.crossings, exchange.cost.copied_bytes) == (2, 12)
""")
    assert ran.code == 0, ran.out


def test_a_request_over_the_budget_fails_its_test_with_the_line(play, tmp_path):
    limits = "[package.metadata.proxy-wasm.budget.tests.test_a_body]\nrequest-fuel = 20_000\n"
    (tmp_path / "Cargo.toml").write_text(CARGO + limits)
    ran = play("""
def test_a_body(proxy):
    assert proxy.post("/anything", body="hello").cost.fuel > 100


def test_another_body(proxy):
    proxy.post("/anything", body="hello")
""")
    assert ran.code == 1
    assert "1 failed, 1 passed" in ran.out
    assert "POST /anything is over the budget of hello in Cargo.toml:" in ran.out
    assert "`request-fuel = 100` is exceeded by " in ran.out
    assert "request-crossings" not in ran.out.replace("request-crossings = 6", "")
    assert play("def test_a_body(proxy): proxy.post('/', body='x')", "--proxy-no-budgets").code == 0


def test_limits_for_a_test_that_is_not_there_are_warned_of(play, tmp_path):
    limits = "[package.metadata.proxy-wasm.budget.tests.test_a_boddy]\nrequest-fuel = 20_000\n"
    (tmp_path / "Cargo.toml").write_text(CARGO + limits)
    ran = play("def test_a_body(proxy): proxy.get('/')")
    assert ran.code == 0
    assert "no test is called `test_a_boddy`" in ran.out + ran.err
    assert "did you mean `test_a_body`?" in ran.out + ran.err


def test_time_passes_as_the_test_says(play):
    ran = play("""
import time

import pytest
from scaffold.errors import UsageError


def test_ticks(proxy):
    begun = time.monotonic()
    assert "tick" not in proxy.logs
    proxy.clock.advance(seconds=59)
    assert "tick" not in proxy.logs
    proxy.clock.advance(seconds=2)
    assert list(proxy.logs) == ["tick"] * 2  # the main thread's, and the worker's
    proxy.clock.advance(seconds=600)
    assert list(proxy.logs) == ["tick"] * 22
    assert time.monotonic() - begun < 30
    for never in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="it only goes forward"):
            proxy.clock.advance(never)
""")
    assert ran.code == 0, ran.out


def test_a_client_of_the_test_s_own(play):
    ran = play("""
from urllib.request import urlopen


def test_url(proxy):
    with urlopen(proxy.url + "/headers") as answer:
        assert b'"X-Hello": "world"' in answer.read()


def test_waits_last_no_longer_once_the_port_is_closed(proxy):
    assert not proxy.clock.run(lambda: False, 3600)


def test_url_again(proxy):
    with urlopen(proxy.url + "/headers") as answer:
        assert answer.status == 200
""")
    assert ran.code == 0, ran.out


def test_what_it_can_not_do_is_skipped_by_name_even_if_the_test_would_pass(play):
    ran = play("""
import pytest
from scaffold.errors import HostError


def test_a_connection(proxy):
    with pytest.raises(HostError), proxy.connect():
        pass


def test_a_metric_of_envoy_s(proxy):
    assert proxy.get("/headers").metrics.get("cluster.upstream.upstream_rq_total", 0) == 0
""")
    assert ran.code == 0
    assert "2 skipped" in ran.out
    assert "the emulator doesn't support TCP connections through HTTP plugins" in ran.out
    assert "the emulator doesn't support Envoy's own metric cluster.upstream.upstream_rq_total" in ran.out


def test_connections_through_a_network_plugin_are_played_and_recorded(play, tmp_path):
    (tmp_path / "Cargo.toml").write_text(CARGO.replace('"http"', '"network"').replace("= 100", "= 200"))
    tap(tmp_path, "tapped")
    ran = play(
        """
import socket


def test_a_connection(proxy):
    with proxy.connect() as connection:
        connection.send("GET /status/204 HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")
        assert connection.receive(until=b"\\r\\n") == b"HTTP/1.1 204 No Content\\r\\n"
    assert connection.logs == ("tapped", "tapped", "end")
    assert [each.target for each in connection.requests] == ["/status/204"]


def test_a_request(proxy):
    assert proxy.get("/status/201").status == 201
    assert "tapped" in proxy.logs


def test_a_client_of_its_own(proxy):
    port = int(proxy.url.rpartition(":")[2])
    for ends in (True, False):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
            caller.sendall(b"HELO there\\r\\n\\r\\n")
            if ends:
                caller.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: caller.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
    proxy.wait_for_log("end")

""",
        "--proxy-record=record.json",
        module="tapped.wasm",
    )
    assert (ran.code, "3 passed" in ran.out) == (0, True), ran.out
    connection, request = (each.played[0] for each in recording.read(tmp_path / "record.json")[:2])
    assert (connection.request, connection.body) == ("TCP connection", "HTTP/1.1 204 No Content\r\n")
    assert connection.transcript[-2:] == [
        "[vm<-host] env.proxy_log return: 0",
        "[host<-vm] proxy_on_log return: void",
    ]
    assert (request.request, request.status) == ("GET /status/201", 201)


def test_a_module_that_envoy_would_refuse_ends_the_run(play, tmp_path):
    text = PLUGIN.replace('"proxy_log"', '"proxy_nope"')
    (tmp_path / "other.wasm").write_bytes(wasmtime.wat2wasm(text))
    ran = play("def test_it(proxy): proxy.get('/')", module="other.wasm")
    assert ran.code == UNDER_PYTEST + ModuleError.exit_code
    assert "Failed to load Wasm module due to a missing import: env.proxy_nope" in ran.out + ran.err


def test_another_wasmtime_is_refused_with_what_to_install(play, tmp_path):
    (tmp_path / "conftest.py").write_text("""
import importlib.metadata
real = importlib.metadata.version
importlib.metadata.version = lambda name: "12.0.1" if name == "wasmtime" else real(name)
""")
    ran = play("def test_it(proxy): proxy.get('/')")
    assert ran.code == UNDER_PYTEST + 4
    assert "the emulator needs wasmtime 50, and 12.0.1 is installed" in ran.out + ran.err
    assert "pip install 'wasmtime>=50,<51'" in ran.out + ran.err


def test_a_failed_test_shows_its_last_request_call_by_call(play):
    ran = play("""
def test_headers(proxy):
    proxy.get("/first")
    assert proxy.get("/headers").status == 404


def test_nothing(proxy):
    assert False
""")
    assert ran.code == 1
    _, first, second = (
        ran.out.split("= FAILURES =")[1]
        .replace("_ test_nothing _", "_ test_headers _")
        .split("_ test_headers _")
    )
    assert first.count("last request, call by call") == first.count("on_request_headers(") == 1
    assert 'add_header_map_value(request headers, name "x-hello", value "world")' in first
    assert "call by call" not in second, "it sent no request"
