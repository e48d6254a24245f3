"""What pytest shows of a failed test whose plugin, or host, said something odd."""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import wasm_asm
from support.commands import run

from scaffold.commands.test import Job, Outcome, _in_parallel
from scaffold.errors import UNDER_PYTEST, ProjectError
from scaffold.hosts.clock import RealClock
from scaffold.hosts.envoy.log import Log
from scaffold.hosts.exchange import Exchange, Response
from scaffold.hosts.unix_http import UnixConnection
from scaffold.hosts.upstream.control import Origin
from scaffold.hosts.upstream.server import serve
from scaffold.pytest_plugin import Proxy

FAILS = r"""
from scaffold.errors import HostError
from scaffold.hosts.exchange import LogLines

HOSTILE = "\x1b[2J\x1b]0;x\x07\nerror: forged"


def test_an_error():
    try:
        raise HostError(HOSTILE, hint=HOSTILE)
    except HostError as error:
        raise HostError("another") from error


def test_a_line():
    assert "another word" in LogLines([HOSTILE])
"""


def test_a_report_commands_no_terminal_and_forges_no_line(tmp_path):
    (tmp_path / "test_it.py").write_text(FAILS)
    words = ("-m", "pytest", "-p", "scaffold.pytest_plugin", "-p", "no:cacheprovider", "--color=no")
    ran = run(sys.executable, *words, cwd=tmp_path)
    assert ran.code == 1
    assert ran.out.count("forged") >= 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ran.out)
    assert not re.search(r"^E? ?error: forged", ran.out, re.MULTILINE)


FRAMES = """
from pathlib import Path
from scaffold.hosts.upstream.control import Origin
from scaffold.wasm.module import WasmModule


def test_a_module():
    WasmModule.read(Path("none.wasm"))


def test_inside_a_block():
    try:
        1 / 0
    except ZeroDivisionError:
        Origin(Path("none")).mark()


def test_the_cause_is_the_tests_own():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise Exception("mine") from error
"""


def test_a_report_ends_where_a_test_calls_us(tmp_path):
    (tmp_path / "test_it.py").write_text(FRAMES)
    words = ("-m", "pytest", "-q", "-p", "scaffold.pytest_plugin", "--color=no", "--tb=long")
    ran = run(sys.executable, *words, cwd=tmp_path)
    assert "3 failed" in ran.out
    for line in ("WasmModule.read", "Origin(Path", "raise Exception"):
        assert re.search(rf"^>  +{re.escape(line)}", ran.out, re.MULTILINE)
    assert "cannot read the module none.wasm" in ran.out
    assert "no upstream answers at none" in ran.out
    assert not re.search(r"scaffold/\S+\.py:\d+", ran.out)
    assert ran.out.count("direct cause") == 1, "the test's own, and no other"


def test_an_error_that_is_its_own_cause_ends_the_test_and_no_more(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def test_it():\n    error = ValueError('round')\n    raise error from error\n"
    )
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "scaffold.pytest_plugin", tmp_path]
    ran = run(*argv)
    assert (ran.code, "1 failed" in ran.out) == (1, True)


# --- the upstream that a test sees


@dataclass
class Host:
    """A host without a plugin: requests go to the built-in upstream as they are."""

    origin: Origin
    pipe: Path
    log: Log
    clock: RealClock = field(default_factory=RealClock)
    alive: bool = True

    def play(self, request, *, timeout):
        connection = UnixConnection(str(self.pipe), timeout)
        connection.request(request.method, request.target, request.body)
        answer = connection.getresponse()
        made = Response(answer.status, body=answer.read())
        connection.close()
        return Exchange(request, made)

    def end_test(self):
        self.origin.forget_answers()


@pytest.fixture
def proxy():
    with (
        tempfile.TemporaryDirectory(prefix="up") as name,  # pytest's own paths are long for a socket's
        serve(pipes={"upstream": Path(name, "pipe")}, control=Path(name, "control")) as origin,
    ):
        host = Host(origin, Path(name, "pipe"), Log(Path(name, "log")))
        yield Proxy(lambda _: nullcontext(host), [])


def test_a_test_sees_what_arrived_since_it_began_and_no_answer_of_an_earlier_one(proxy):
    proxy.begin()
    proxy.upstream.answer(201, "earlier")
    proxy.upstream.answer(202, path="/there")
    assert [proxy.get(target).status for target in ("/headers", "/there")] == [201, 202]
    assert [each.target for each in proxy.upstream.requests] == ["/headers", "/there"]
    proxy.end()
    proxy.begin()
    assert proxy.upstream.requests == []
    assert [proxy.get(target).status for target in ("/headers", "/there")] == [200, 404]
    assert [each.target for each in proxy.upstream.requests] == ["/headers", "/there"]


# --- what `scaffold test` reads of a run

COUNTED = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError

@pytest.mark.parametrize("number", range(4))
def test_passes(number): assert True
@pytest.mark.parametrize("number", range(3))
def test_fails(number): assert not True
@pytest.mark.parametrize("number", range(2))
def test_errs(number, broken): pass
def test_skips(): pytest.skip()
"""


def ran_as_scaffold_test_does(folder, *words):
    ours = ("-p", "scaffold.pytest_plugin", "-p", "no:cacheprovider")
    return run(sys.executable, "-m", "pytest", "-q", *ours, *words, cwd=folder)


def test_passed_failed_broken_and_skipped_tests_are_counted_apart(tmp_path):
    (tmp_path / "test_it.py").write_text(COUNTED)
    ran = ran_as_scaffold_test_does(tmp_path, f"--proxy-counts={tmp_path / 'counts'}")
    assert ran.code == 1, ran.out
    outcome = Job("plugin", tmp_path, "envoy", []).outcome(tmp_path / "counts", 1.5, None)
    assert outcome == Outcome("envoy", passed=4, failed=3, errors=2, skipped=1, seconds=1.5, error=None)


USES_IT = "def test_one(proxy): pass\n\ndef test_two(proxy): pass\n"
CRATE = '[package]\nname = "{0}"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
CRATE += '[dependencies]\nproxy-wasm = "0.2"\n'


def test_what_keeps_tests_from_starting_is_said_once_with_our_exit_code(tmp_path):
    (tmp_path / "test_it.py").write_text(USES_IT)
    ran = ran_as_scaffold_test_does(tmp_path, "--proxy-module=none.wasm")
    assert ran.code == UNDER_PYTEST + 6, ran.out
    assert ran.out.count("error: cannot read the module none.wasm: No such file or directory") == 1
    assert "Traceback" not in ran.out + ran.err


@pytest.mark.parametrize("number", [1, 3])
def test_a_chain_needs_a_module_for_each_of_its_plugins(tmp_path, number):
    chain = '[workspace]\nmembers = ["one", "two"]\n[workspace.metadata.proxy-wasm]\nchain = ["one", "two"]\n'
    (tmp_path / "Cargo.toml").write_text(chain)
    for name in ("one", "two"):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src/lib.rs").touch()
        (tmp_path / name / "Cargo.toml").write_text(CRATE.format(name))
    (tmp_path / "plugin.wasm").write_bytes(wasm_asm.plugin())
    (tmp_path / "test_it.py").write_text(USES_IT)
    ran = ran_as_scaffold_test_does(tmp_path, *["--proxy-module=plugin.wasm"] * number, "--rootdir=.")
    assert ran.code == UNDER_PYTEST + 2, ran.out
    assert f"--proxy-module occurs {number} times, but the chain is one, two" in ran.out


# --- several runs at once


@pytest.fixture
def jobs(tmp_path):
    """The tests of two plugins, of which `-k WORD` selects some."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_it.py").write_text(f"def test_{name}(): pass\n\ndef test_both(): pass\n")
    return lambda word: [Job(name, tmp_path / name, "envoy", ["-q", "-k", word]) for name in ("one", "two")]


@pytest.mark.parametrize(("word", "passed"), [("both", [1, 1]), ("one", [1, 0]), ("two", [0, 1])])
def test_a_plugin_without_any_of_the_selected_tests_does_not_fail_the_others(jobs, word, passed):
    reports = _in_parallel(jobs(word), some=True)
    assert [report.plugin for report in reports] == ["one", "two"]
    assert [report.outcomes[0].passed for report in reports] == passed
    assert reports.exit_code == 0


def test_where_no_plugin_has_any_of_them_that_is_an_error(jobs):
    with pytest.raises(ProjectError, match="no tests ran"):
        _in_parallel(jobs("none"), some=True)
