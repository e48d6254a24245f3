"""What pytest says of an instrumented plugin: what its tests reach, and which changes they notice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.commands import run
from support.measured import crate, with_lines

from scaffold.errors import UNDER_PYTEST
from scaffold.hosts.mutation import RESULTS, Plan, Results
from scaffold.wasm.instrument import instrument
from scaffold.wasm.module import WasmFile, WasmModule

SOURCE = """fn on_http_request_headers() -> Action {
    if asked_twice {
        self.add_http_request_header("x-hello", "world");
    }
    Action::Continue
}
fn on_http_request_body() -> Action {
    while left > 0 {
        left -= 1;
    }
    Action::Continue
}
"""
# adds a header from the second request on; counts down from 0 for a request with a body, so not at all
WAT = """(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $asked (mut i32) (i32.const 0))
  (data (i32.const 16) "x-hello")
  (data (i32.const 32) "world")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func $"<F as proxy_wasm::traits::HttpContext>::on_http_request_headers"
    (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (block $first
      global.get $asked
      i32.eqz
      br_if $first
      call $"proxy_wasm::traits::HttpContext::add_http_request_header")
    i32.const 1
    global.set $asked
    i32.const 0)
  (func $"<F as proxy_wasm::traits::HttpContext>::on_http_request_body"
    (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
    (local $left i32)
    (block $out
      (loop $again
        local.get $left
        i32.const 0
        i32.gt_s
        i32.eqz
        br_if $out
        local.get $left
        i32.const 1
        i32.sub
        local.set $left
        br $again))
    i32.const 0)
  (func $"proxy_wasm::traits::HttpContext::add_http_request_header"
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 32) (i32.const 5)))))"""
LINES = {2: {0: 1, 1: 2, 4: 3, 6: 5}, 3: {0: 7, 2: 8, 7: 9, 14: 11}}
THOROUGH = """
import time

def test_the_second_request_gets_a_header(proxy):
    assert "x-hello" not in proxy.get("/").upstream.headers
    assert proxy.get("/").upstream.headers["x-hello"] == "world"

def test_a_body_is_counted(proxy):
    time.sleep(0.3)  # so that it comes last, and is left when the other one has failed
    assert proxy.post("/", body="x").response.status == 200
"""


@pytest.fixture
def play(tmp_path):
    """Play tests of the instrumented plugin; the answer has what pytest wrote."""
    sources = crate(tmp_path, SOURCE)
    with (tmp_path / "Cargo.toml").open("a") as file:
        file.write('[package.metadata.proxy-wasm]\ntype = "http"\n[lib]\ncrate-type = ["cdylib"]\n')
    made = instrument(
        WasmFile.parse(with_lines(WAT, tmp_path, LINES), Path("hello.wasm")), sources, with_changes=True
    )
    (tmp_path / "hello.wasm").write_bytes(made.content)
    digest = WasmModule.read(tmp_path / "hello.wasm").digest
    folder = tmp_path / "measured"
    folder.mkdir()
    plan = tmp_path / "plan.json"

    def play(tests: str, *words: str, seconds: float = 100):
        (tmp_path / "test_it.py").write_text(tests)
        Plan({digest: (len(made.mutants), len(made.points))}, seconds).write(plan)
        options = ("-p", "scaffold.pytest_plugin", "-p", "no:cacheprovider", "--color=no")
        host = ("--proxy-host=emulator", "--proxy-module=hello.wasm")
        measured = (f"--proxy-counters={folder}", f"--proxy-mutants={plan}")
        ran = run(sys.executable, "-m", "pytest", *options, *host, *measured, *words, cwd=tmp_path)
        results = Results.read(tmp_path / RESULTS)
        names = [(each.what, each.step.line) for each in made.mutants]
        survived = [names[number - 1] for _, number in results.survived] if results else []
        counts = [json.loads(path.read_text())[digest] for path in folder.glob("*.json")]
        return ran, results, survived, counts

    return play


def test_thorough_tests_notice_each_change_but_the_one_that_matters_to_nobody(play):
    ran, results, survived, _ = play(THOROUGH)
    assert ran.code == 0, ran.err + ran.out
    # that the body's callback does anything, and whether it counts once, no test could see
    assert survived == [("`on_http_request_body` does nothing", 7), ("`>` became `>=`", 8)]
    assert results.reached == results.noticed + 2 == 6


def test_a_change_without_an_end_is_noticed(play):
    """With its condition turned, the loop counts below zero, and on."""
    _, results, survived, _ = play("def test_a_body(proxy): proxy.post('/', body='x')")
    assert ("a condition turned", 8) not in survived
    assert {what for what, _ in survived} >= {"`>` became `>=`", "`on_http_request_body` does nothing"}
    assert results.noticed == 1


def test_what_no_test_reaches_is_not_tried(play):
    _, results, survived, _ = play("def test_one(proxy): assert proxy.get('/').response.status == 200")
    assert results.reached == 2
    assert [what for what, _ in survived] == ["`on_http_request_headers` does nothing", "a condition turned"]


def test_mutants_are_not_counted_as_reached(play):
    *_, (counts,) = play(THOROUGH)
    assert counts[0] == 3  # the requests of the two tests


def test_failing_tests_try_no_mutant(play):
    ran, results, _, counts = play("def test_one(proxy): assert proxy.get('/').response.status == 500")
    assert (ran.code, results) == (1, None)
    assert counts[0][0] == 1


def test_a_test_that_passes_only_once_is_not_asked(play):
    ran, results, survived, _ = play("""
asked = []

def test_once(proxy):
    asked.append(proxy.get("/").status)
    assert len(asked) == 1
""")
    assert (ran.code, results.unsteady) == (0, ["test_it.py::test_once"])
    assert (results.reached, survived) == (0, [])


def test_time_is_a_limit(play):
    _, results, survived, _ = play(THOROUGH, seconds=0)
    assert (results.reached, results.noticed, survived) == (6, 0, [])


def test_several_processes_are_refused(play):
    ran, results, _, _ = play(THOROUGH, "-n2")
    assert (ran.code, results) == (UNDER_PYTEST + 2, None)
    assert "mutants are tried in one process" in ran.err + ran.out


def test_a_refused_plugin_and_fixtures_of_all_scopes_belong_to_one_mutant(play):
    """What a fixture of the module has got from the plugin isn't kept for the next mutant."""
    _, _, survived, _ = play("""
import pytest

asked = []

@pytest.fixture(scope="module")
def headers(_proxy):
    _proxy.begin()
    _proxy.get("/")
    return _proxy.get("/").upstream.headers

def test_it(headers):
    assert headers["x-hello"] == "world"
""")
    assert survived == []
