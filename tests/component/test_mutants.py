"""`invoke dev.mutants` over a small repository: what survives, what is wrong, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from support.documents import ROOT
from support.processes import eventually

RUN = (sys.executable, str(ROOT / "tests/mutants/run.py"))
FILES = {
    "scaffold/__init__.py": "",
    "scaffold/core/__init__.py": "",
    "scaffold/core/numbers.py": "def add(a, b):\n    return a + b\n\n\ndef less(a, b):\n    return a < b\n",
    "tests/unit/core/test_numbers.py": "from scaffold.core.numbers import add\n\n"
    "def test_add():\n    assert add(1, 1) == 2\n",
    "tests/component/core/test_numbers.py": "import subprocess, sys\n\n"
    "def test_add():\n    code = 'from scaffold.core.numbers import add; print(add(2, 3))'\n"
    "    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, cwd='/')\n"
    "    assert ran.stdout == b'5\\n'\n",
}


def mutant(name, old, new, **more):
    words = {"name": name, "file": "scaffold/core/numbers.py", "old": old, "new": new} | more
    return "[[mutant]]\n" + "".join(f"{key} = {value!r}\n" for key, value in words.items())


TWICE = mutant("twice", "a + b", "a + a")
PRODUCT = mutant("product", "a + b", "a * b + (a == 1)")
LESS = mutant("less", "a < b", "a <= b")
HANGS = mutant("hangs", "return a + b", "while True: pass")


@pytest.fixture
def mutants(tmp_path):
    """Runs these bugs in a small repository; returns the exit code and what was printed."""
    root, temporary = tmp_path / "repository", tmp_path / "t"
    temporary.mkdir()
    env = os.environ | {"TMPDIR": str(temporary)}
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "tests/mutants").mkdir()

    def start(*listed, words=()):
        (root / "tests/mutants/all.toml").write_text("\n".join(listed) or "mutant = []")
        argv = [*RUN, "--root", str(root), *words]
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(*listed, words=()):
        with start(*listed, words=words) as child:
            out, _ = child.communicate()
        return child.returncode, out

    run.start, run.left = start, lambda: left(temporary)
    yield run
    assert left(temporary) == []
    assert {name: (root / name).read_text() for name in FILES} == FILES


def left(folder):
    """What there still is of a run: its folders, and processes in them."""
    here = [each for each in psutil.process_iter(["cmdline"]) if str(folder) in str(each.info["cmdline"])]
    return [*folder.iterdir(), *here]


def test_each_bug_is_noticed_by_its_quickest_tests_or_named(mutants):
    code, out = mutants(TWICE, PRODUCT, LESS)
    assert code == 1, out
    assert "twice: FAILED tests/component/core/test_numbers.py::test_add" in out
    assert "product: FAILED tests/component/core/test_numbers.py::test_add" in out
    assert "| unit | 0 |\n| component | 2 |\n" in out
    assert "| survived | 1 |\n- less (scaffold/core/numbers.py)\n" in out


def test_a_survivor_that_is_known_is_no_failure_and_only_some_may_be_tried(mutants):
    known = mutant("known", "a < b", "b > a", known="they are the same")
    code, out = mutants(TWICE, known, words=["--only", "known", "--tier", "unit"])
    assert (code, "twice" in out) == (0, False), out
    assert "- known (scaffold/core/numbers.py): they are the same\n" in out


def test_what_only_a_later_tier_would_notice_has_not_survived(mutants):
    code, out = mutants(
        mutant("far", "a < b", "a > b", tests=["tests/component/core"]), words=["--tier", "unit"]
    )
    assert code == 0, out
    assert "| not tried: only other tests would notice | 1 |\n| survived | 0 |\n" in out


def test_a_bug_that_hangs_is_noticed_and_ended(mutants):
    code, out = mutants(HANGS, words=["--seconds", "4", "--unchecked"])
    assert (code, "hangs: it took too long" in out) == (0, True), out


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ([mutant("gone", "a - b", "a + b")], "gone: its text is in scaffold/core/numbers.py 0 times"),
        ([mutant("many", "return a", "return b")], "many: its text is in scaffold/core/numbers.py 2 times"),
        ([mutant("same", "a + b", "a + b")], "same: its text is in scaffold/core/numbers.py 1 times"),
        ([LESS, LESS], "two mutants are called less"),
        ([mutant("lost", "a < b", "b", tests=["tests/unit/none"])], "lost: there is no tests/unit/none"),
        ([], "no bug in the list has '' in its name or file"),
        ([mutant("broken", "a + b", "a +")], "broken: pytest ended with 2"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_a_list_that_is_wrong_is_an_error_by_name(mutants, listed, why):
    code, out = mutants(*listed, words=["--tier", "unit", "--unchecked"])
    assert (code, f"error: {why}" in out) == (2, True), out


def test_tests_that_fail_without_a_bug_are_no_judges(mutants, tmp_path):
    path = tmp_path / "repository/tests/unit/core/test_numbers.py"
    text = path.read_text()
    path.write_text(text.replace("== 2", "== 3"))
    code, out = mutants(TWICE)
    path.write_text(text)
    assert (code, "error: a test of unit/ fails without any bug:" in out) == (2, True), out


def test_ctrl_c_ends_what_runs(mutants, tmp_path):
    with mutants.start(HANGS, words=["--unchecked"]) as child:
        assert eventually(lambda: any("pytest" in str(each.info) for each in mutants.left()[1:]), 60)
        child.send_signal(signal.SIGINT)
        child.communicate()
    assert child.returncode == 130
