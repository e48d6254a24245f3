"""`scaffold test SUITE`: exit codes, what is shown, and which options it takes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.commands import entered
from support.wat_plugins import Wat

import scaffold
from scaffold.commands import suites as commands
from scaffold.project.suites import suite as suites

GREETS = """env { wasm_path: "plugin.wasm" }
test { name: "Greets" request_headers { result { has_header { key: "x-hello" value: "world" } } } }
test { name: "Is silent" request_headers { result { log { regex: ".*" invert: true } } } }
"""
FAILS = """test { name: "Is polite" request_headers { input { header { key: ":path" value: "/" } } result {
  has_header { key: "X-Hello" value: "dear world" } has_header { key: "x-bye" value: "" }
  log { regex: "bye.*" } immediate { http_status: 200 } } } }
"""


@pytest.fixture(autouse=True)
def here(users_folders, tmp_path: Path, monkeypatch) -> Path:
    """A folder with a plugin that adds a header and logs what it was configured with."""
    wat = Wat()
    callback = wat.call("proxy_add_header_map_value", 0, b"x-hello", b"world")
    (tmp_path / "plugin.wasm").write_bytes(wat.module({"proxy_on_request_headers": callback}))
    reads = wat.call("proxy_get_buffer_bytes", 7, 0, 100, 1024, 1028)
    reads += "(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 1024)) (i32.load (i32.const 1028))))"
    wat = Wat()
    unused = wat.call("proxy_log", 0, b"")
    (tmp_path / "other.wasm").write_bytes(wat.module({"proxy_on_request_headers": reads + unused}))
    (tmp_path / "config.txt").write_text("from the suite")
    (tmp_path / "suite.textpb").write_text(GREETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_passes_is_counted(capsys):
    ran = entered(capsys, "test", "suite.textpb")
    assert (ran.code, ran.out) == (0, "suite.textpb on gcp: 2 passed, 0 failed\n")


def test_what_fails_says_which_case_which_expectation_and_what_came(capsys, here):
    (here / "suite.textpb").write_text(GREETS + FAILS)
    ran = entered(capsys, "test", "suite.textpb")
    assert ran.code == 1
    assert ran.out == (
        "FAILED Is polite\n"
        "  request_headers: has_header X-Hello\n"
        "    wanted  'dear world'\n"
        "    got     'world'\n"
        "  request_headers: has_header x-bye\n"
        "    wanted  ''\n"
        "    got     no such header; there are :path, x-hello\n"
        "  request_headers: immediate\n"
        "    wanted  an immediate response\n"
        "    got     none\n"
        "  request_headers: log\n"
        "    wanted  regex 'bye.*'\n"
        "    got     nothing\n"
        "\n"
        "suite.textpb on gcp: 2 passed, 1 failed\n"
    )


def test_as_json_it_has_cases_and_costs(capsys, here):
    (here / "suite.textpb").write_text(GREETS.replace("request", "benchmark: true request", 1) + FAILS)
    ran = entered(capsys, "test", "suite.textpb", "--json")
    (report,) = json.loads(ran.out)
    assert (ran.code, report["host"]) == (1, "gcp")
    assert [each["outcome"] for each in report["cases"]] == ["passed", "passed", "failed"]
    assert report["cases"][2]["failures"][0] == {
        "phase": "request_headers",
        "what": "has_header X-Hello",
        "wanted": "'dear world'",
        "got": ["'world'"],
    }
    assert [each["name"] for each in report["benchmarks"]][2:] == ["Greets"]
    assert report["benchmarks"][2]["fuel"] > 0
    assert "benchmark" in entered(capsys, "test", "suite.textpb").out


def test_yaml_and_several_suites(capsys, here):
    (here / "suite.yaml").write_text("env: {wasm_path: plugin.wasm}\ntest:\n- name: a\n  request_headers:\n")
    ran = entered(capsys, "test", "suite.yaml", "suite.textpb")
    expected = "suite.yaml on gcp: 1 passed, 0 failed\nsuite.textpb on gcp: 2 passed, 0 failed\n"
    assert (ran.code, ran.out) == (0, expected)


def test_a_module_and_a_configuration_from_the_command_line_go_first(capsys, here):
    (here / "suite.textpb").write_text("""env { wasm_path: "none" config_path: "none" }
      test { name: "a" request_headers { result { log { exact: "\\"given\\"" } } } }""")
    ran = entered(capsys, "test", "suite.textpb", "--module", "other.wasm", "--config", '"given"')
    assert (ran.code, ran.err) == (0, "Playing suite.textpb on gcp\n")


def test_the_configuration_of_the_suite(capsys, here):
    (here / "suite.textpb").write_text("""env { wasm_path: "other.wasm" config_path: "config.txt" }
      test { name: "a" request_headers { result { log { exact: "from the suite" } } } }""")
    assert entered(capsys, "test", "suite.textpb").code == 0


def test_some_cases_and_no_further_than_the_first_failure(capsys, here):
    (here / "suite.textpb").write_text(GREETS.partition("test")[0] + FAILS + GREETS.partition("\n")[2])
    assert "2 passed, 0 failed" in entered(capsys, "test", "suite.textpb", "-k", "not polite").out
    assert "0 passed, 1 failed" in entered(capsys, "test", "suite.textpb", "-x").out
    ran = entered(capsys, "test", "suite.textpb", "-k", "nothing")
    assert (ran.code, "no tests ran" in ran.err) == (3, True)
    ran = entered(capsys, "test", "suite.textpb", "-k", "and or")
    assert (ran.code, "can't be understood" in ran.err) == (2, True)


def test_a_junit_report(capsys, here):
    (here / "suite.textpb").write_text(GREETS + FAILS)
    assert entered(capsys, "test", "suite.textpb", "--junitxml", "report.xml").code == 1
    suite = ElementTree.parse(here / "report.xml").getroot()[0]
    assert suite.attrib == {"name": "suite.textpb", "tests": "3", "failures": "1", "skipped": "0"}
    assert [each.attrib["name"] for each in suite] == ["Greets", "Is silent", "Is polite"]
    assert "wanted  'dear world'" in (suite[2][0].text or "")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("tst { }", "suite.textpb:1:1: TestSuite has no field `tst`"),
        ('test { name: "a" request_headers { result { log { regex: "[" } } } }', "isn't RE2: missing ]"),
        ('env { wasm_path: "none.wasm" } test { }', "there is no wasm_path"),
        ('env { wasm_path: "/etc/passwd" } test { }', "is outside the suite's folder"),
        ('env { config_path: "../x" } test { }', "is outside the suite's folder"),
        ('test { request_body { input { file: "/etc/passwd" } } }', "is outside the suite's folder"),
        ("test { }", "suite.textpb doesn't say which plugin it is for"),
    ],
)
def test_a_suite_that_cannot_be_played(capsys, here, content, why):
    (here / "suite.textpb").write_text(content)
    ran = entered(capsys, "test", "suite.textpb")
    assert (ran.code, ran.out) == (3, "")
    assert why in ran.err


def test_no_suite_is_played_if_one_is_bad(capsys, here):
    (here / "bad.textpb").write_text("nothing")
    ran = entered(capsys, "test", "suite.textpb", "bad.textpb")
    assert (ran.code, ran.out, "Playing" in ran.err) == (3, "", False)


def test_a_suite_that_is_not_there(capsys):
    ran = entered(capsys, "test", "none.textpb")
    assert (ran.code, "cannot read the suite" in ran.err) == (3, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--deployed"], "a suite isn't played on a deployment"),
        (["--host", "all"], "a suite isn't played on two hosts at once"),
        (["--host", "none"], "no host named `none`"),
        (["--env", "A=b"], "--env isn't supported for a suite on gcp"),
        (["--root-id", "a"], "--root-id isn't supported for a suite on gcp"),
        (["--host", "envoy", "--tls"], "--tls isn't supported for a suite on envoy"),
        (["--host", "envoy", "--envoy", "1.36.4,1.40.0"], "played on one Envoy, not several"),
        (["--fast", "--host", "gcp"], "--fast plays on the emulator"),
        (["--profile", "dev"], "--profile is for a build"),
        (["tests/test_a.py"], "`tests/test_a.py` is for pytest"),
    ],
)
def test_an_option_that_a_suite_has_no_use_for(capsys, words, why):
    ran = entered(capsys, "test", "suite.textpb", *words)
    assert ran.code == 2
    assert why in ran.err


@pytest.mark.parametrize("words", [["--fast"], ["--host", "emulator", "--envoy", "1.36"]])
def test_on_another_host_some_cases_are_not_played(capsys, here, words):
    (here / "suite.textpb").write_text(GREETS)
    ran = entered(capsys, "test", "suite.textpb", *words)
    assert (ran.code, ran.out) == (
        0,
        "not played: Is silent: request_headers isn't to log something, and a proxy's log doesn't say where"
        " a line is from\nsuite.textpb on emulator: 1 passed, 0 failed, 1 not played\n",
    )


def test_the_host_gcp_is_for_suites(capsys, here):
    ran = entered(capsys, "test", "--host", "gcp")
    assert (ran.code, "the host `gcp` plays suites only" in ran.err) == (2, True)


@pytest.mark.parametrize("path", ["/dev/stdout", "log.txt"])
def test_the_plugins_log_is_kept_where_the_suite_says(capsys, here, path):
    (here / "suite.textpb").write_text(f"""env {{ wasm_path: "other.wasm" log_path: "{path}"
      config_path: "config.txt" }} test {{ name: "a" request_headers {{ }} }}""")
    ran = entered(capsys, "test", "suite.textpb")
    assert ran.code == 0
    if path == "log.txt":
        expected = "--- Starting test: a ---\nfrom the suite\n--- Finished test: a ---\n"
        assert (here / path).read_text() == expected
    else:
        assert "from the suite" in ran.err


def test_the_names_of_a_hostile_suite_stay_on_their_line(capsys, here):
    (here / "suite.textpb").write_text("""env { wasm_path: "plugin.wasm" log_path: "/dev/stderr" }
      test { name: "\\033[31m\\n::error::x" request_headers { result { body { exact: "\\033]0;\\n" } } } }""")
    ran = entered(capsys, "test", "suite.textpb")
    assert ran.code == 1
    assert "\033" not in ran.out + ran.err
    assert "\n::error::" not in ran.out


def test_a_suite_is_for_the_crate_in_which_it_lies(capsys, here, monkeypatch):
    crate = '[package]\nname = "%s"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'
    crate += '[package.metadata.proxy-wasm]\ntype = "http"\n'
    (here / "Cargo.toml").write_text('[workspace]\nmembers = ["one", "two"]\n')
    for name in ("one", "two"):
        (here / name / "tests").mkdir(parents=True)
        (here / name / "Cargo.toml").write_text(crate % name)
        (here / name / "tests/suite.textpb").write_text("test { }")
    (here / "suite.textpb").write_text("test { }")
    built: list[str] = []
    for path in ("suite.textpb", "one/tests/suite.textpb"):
        suite = suites.read(Path(path), suites.folder_of(Path(path)))
        built.append(str(commands._crate(Path(), suite).relative_to(here)))
    assert built == [".", "one"]
    ran = entered(capsys, "test", "suite.textpb")
    assert (ran.code, "a suite is for a single plugin, but this is a workspace" in ran.err) == (2, True)
    monkeypatch.chdir(here / "one")
    suite = suites.read(Path("../two/tests/suite.textpb"), here)
    assert commands._crate(Path(), suite) == Path()


def test_a_library_plays_them_too(here):
    reports = scaffold.test(tests=["suite.textpb"])
    assert (reports.exit_code, reports[0].count("passed")) == (0, 2)


def test_a_plugin_that_fails_in_a_benchmark(capsys, here):
    wat = Wat()
    wat.call("proxy_log", 2, b"")
    (here / "bad.wasm").write_bytes(wat.module({"proxy_on_request_headers": "unreachable"}))
    (here / "suite.textpb").write_text('test { name: "a" benchmark: true request_headers { } }')
    ran = entered(capsys, "test", "suite.textpb", "--module", "bad.wasm")
    assert ran.code == 1
    assert "request_headers: the VM" in ran.out
    assert "a                failed: RuntimeError: unreachable" in ran.out
    assert (
        '"error": "RuntimeError: unreachable"'
        in entered(capsys, "test", "suite.textpb", "--module", "bad.wasm", "--json").out
    )
