"""Suites among a project's tests, with bare pytest: each case is a test, played in Google's profile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.commands import Ran, run
from support.wat_plugins import Wat

from scaffold.errors import UNDER_PYTEST, ProjectError

CARGO = """[package]
name = "hello"
version = "0.1.0"
[package.metadata.proxy-wasm]
configuration = "config.txt"
[lib]
crate-type = ["cdylib"]
"""
SUITE = """test { name: "greets" request_headers { result { has_header { key: "x-hello" value: "world" } } } }
test { name: "reads" request_headers { result { log { exact: "the project's" } } } }
"""
FAILS = 'test { name: "is polite" request_headers { result { has_header { key: "x-bye" value: "" } } } }'


@pytest.fixture
def play(tmp_path: Path):
    """Run pytest in a crate whose plugin adds a header, and logs its configuration."""
    wat = Wat()
    callback = wat.call("proxy_add_header_map_value", 0, b"x-hello", b"world")
    callback += wat.call("proxy_get_buffer_bytes", 7, 0, 100, 1024, 1028) + wat.call("proxy_log", 0, b"")
    callback += (
        "(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 1024)) (i32.load (i32.const 1028))))"
    )
    (tmp_path / "plugin.wasm").write_bytes(wat.module({"proxy_on_request_headers": callback}))
    (tmp_path / "Cargo.toml").write_text(CARGO)
    (tmp_path / "config.txt").write_text("the project's")
    (tmp_path / "tests").mkdir()

    def play(*words: str, **files: str) -> Ran:
        for name, content in files.items():
            (tmp_path / "tests" / f"{name}.textpb").write_text(content)
        module = f"--proxy-module={tmp_path / 'plugin.wasm'}"
        pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "scaffold.pytest_plugin")
        return run(*pytest_, "-pno:cacheprovider", "--proxy-host=emulator", module, *words, cwd=tmp_path)

    return play


def test_each_case_is_a_test(play):
    ran = play("-rp", test_headers=SUITE, body_tests=SUITE)
    assert (ran.code, ran.err) == (0, "")
    assert "PASSED tests/test_headers.textpb::greets" in ran.out
    assert "4 passed" in ran.out


def test_what_fails_says_what_came_instead(play):
    ran = play("-k", "polite or greets", test_headers=SUITE + FAILS)
    assert (ran.code, ran.err) == (1, "")
    expected = (
        "request_headers: has_header x-bye\n  wanted  ''\n  got     no such header; there are x-hello\n"
    )
    assert expected in ran.out
    assert "the project's" in ran.out  # what the plugin has logged
    assert "Traceback" not in ran.out
    assert "1 failed, 1 passed, 1 deselected" in ran.out


def test_a_suite_of_another_name_is_left_alone(play):
    assert "no tests ran" in play(data="no suite at all").out


def test_one_that_is_no_suite_stops_the_run_with_line_and_column(play, tmp_path):
    ran = play(test_headers=SUITE, test_wrong='test {\n  nme: "a"\n}')
    assert ran.code == UNDER_PYTEST + ProjectError.exit_code
    assert f"{tmp_path}/tests/test_wrong.textpb:2:3: Test has no field `nme`\nhint: did you mean" in ran.out
    assert "pytest_plugin.py" not in ran.out


def test_a_suite_with_a_module_and_a_configuration_of_its_own(play, tmp_path):
    (tmp_path / "other.wasm").write_bytes((tmp_path / "plugin.wasm").read_bytes())
    (tmp_path / "own.txt").write_text("my own")
    env = 'env { wasm_path: "../other.wasm" config_path: "../own.txt" }'
    ran = play(test_own=env + SUITE.replace("the project's", "my own"), test_headers=SUITE)
    assert (ran.code, "4 passed" in ran.out) == (0, True)


def test_the_record_of_a_run_has_them_too(play, tmp_path):
    ran = play(f"--proxy-record={tmp_path / 'record.json'}", test_headers=SUITE)
    assert ran.code == 0
    assert '"tests/test_headers.textpb::greets"' in (tmp_path / "record.json").read_text()
