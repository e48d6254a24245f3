"""`diff`, and `test --host all`: one test on two hosts, or with two modules, and where they differ."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from support import commands


def run(*words, cwd=None, env=None):
    return commands.run(sys.executable, "-m", "scaffold", *words, cwd=cwd, env=env and {**os.environ, **env})


@pytest.fixture(scope="module")
def crate(tmp_path_factory):
    """The template `http`, built."""
    place = tmp_path_factory.mktemp("diff")
    assert run("new", "hello", "--no-input", cwd=place).code == 0
    root = place / "hello"
    assert run("build", cwd=root).code == 0
    return root


@pytest.fixture
def copy(crate, tmp_path, request):
    """A copy of it that a test may change, under a name of its own: cargo may build all in one folder."""
    root = shutil.copytree(crate, tmp_path / "hello", symlinks=True)
    for file in (root / "Cargo.toml", root / "Cargo.lock"):
        file.write_text(file.read_text().replace('name = "hello"', f'name = "{request.node.name}"'))
    return root


def test_the_emulator_and_envoy_agree_about_the_template(crate):
    ran = run("diff", "--root", crate)
    assert (ran.code, ran.out.strip()) == (0, "emulator and envoy: no difference in 5 tests")
    report = json.loads(run("diff", "emulator:1.36", "envoy", "--root", crate, "--json").out)
    assert report["differences"] == [] and report["compared"] == 5
    assert (report["left"], report["right"]) == ("emulator:1.36", "envoy")


def test_a_refactoring_that_changes_an_answer_is_found(copy):
    module = json.loads(run("build", "--root", copy, "--json").out)["path"]
    before = copy / "before.wasm"
    shutil.copy(module, before)
    source = copy / "src/lib.rs"
    source.write_text(
        source.read_text().replace(
            'set_http_request_header_bytes("x-hello"', 'set_http_request_header_bytes("x-hullo"'
        )
    )
    ran = run("diff", "--against", before, "--root", copy, "-k", "greets")
    assert ran.code == 1
    assert "test_greets_the_authority, GET /headers: upstream" in ran.out
    assert "before.wasm" in ran.out and "x-hullo" in ran.out and "x-hello" in ran.out


def test_all_plays_both_hosts_and_compares(crate):
    ran = run("test", "--host", "all", "--root", crate)
    assert ran.code == 0
    assert "emulator and envoy: no difference in 5 tests" in ran.out
    assert "emulator" in ran.out and "5 " in ran.out


def test_fast_needs_no_envoy(copy, tmp_path):
    """The package with Envoy is hidden from pytest's process, too."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['envoy'] = None\n")
    ran = run("test", "--fast", "--root", copy, env={"PYTHONPATH": str(hidden)})
    assert ran.code == 0, ran.err
    assert "5 passed" in ran.out + ran.err
    refused = run("test", "--root", copy, env={"PYTHONPATH": str(hidden)})
    assert refused.code != 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nope",), 2, "no host named `nope`"),
        (("emulator:0.1",), 2, "the emulator plays an Envoy of 1.17 to 1.40"),
        (("envoy", "envoy:0.1"), 2, "0.1"),
        (("emulator", "envoy", "--against", "x.wasm"), 2, "--against compares two modules on one host"),
        (("--against", "nope"), 2, "neither a commit, a file nor a local image `nope`"),
        (("-k", "nothing_at_all"), 3, "no tests ran"),
    ],
    ids=str,
)
def test_what_can_not_be_compared_is_refused_with_a_reason(crate, words, code, said):
    ran = run("diff", *words, "--root", crate)
    assert said in ran.err
    assert ran.code == code


def test_a_base_that_does_not_build_shows_why(copy):
    def git(*words):
        subprocess.run(["git", *words], cwd=copy, check=True, capture_output=True)

    git("init", "-q")
    source = copy / "src/lib.rs"
    whole = source.read_text()
    source.write_text("this is no Rust\n")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-qm", "broken")
    source.write_text(whole)
    ran = run("diff", "--against", "HEAD", "--root", copy)
    assert ran.code == 5
    assert "error" in ran.err


def test_a_workspace_is_refused_by_name(tmp_path):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = []\nresolver = "2"\n')
    assert run("new", "one", "--no-input", cwd=tmp_path).code == 0
    ran = run("diff", cwd=tmp_path)
    assert ran.code == 2
    assert "`diff` is for a single plugin, but this is a workspace" in ran.err
    assert "hint: choose a plugin: --root one" in ran.err


def tests_of(root, **files):
    """Give a project other tests: file name -> text."""
    for old in (root / "tests").glob("test_*.py"):
        old.unlink()
    for name, text in files.items():
        (root / "tests" / f"{name}.py").write_text(text)


ONE = """
def test_it(proxy):
    assert proxy.get("/headers").status == 200
"""


def test_two_versions_of_envoy_agree_about_the_template_callout(tmp_path):
    assert run("new", "asks", "--template", "callout", "--no-input", cwd=tmp_path).code == 0
    # generated requests, and a client that disconnects, whose end comes at a moment of its own
    words = ("-k", "not any_ and not without_a_verdict_no_request and not disconnects")
    for hosts in (("emulator", "envoy"), ("envoy:1.39.3", "envoy")):
        ran = run("diff", *hosts, *words, cwd=tmp_path / "asks")
        assert (ran.code, "no difference in" in ran.out) == (0, True), ran.out


def test_what_the_emulator_skips_is_listed_and_no_difference(copy):
    tests_of(
        copy,
        test_live="""
def test_live(proxy):
    proxy.get("/headers")
    assert proxy.metrics["server.live"] == 1
""",
        test_other=ONE,
    )
    ran = run("diff", "--root", copy)
    assert ran.code == 0, ran.out
    assert "not compared: tests/test_live.py::test_live: emulator skips it: " in ran.out
    assert ran.out.strip().endswith("emulator and envoy: no difference in 1 test")


def test_tests_of_one_name_in_two_files_are_two(copy):
    tests_of(copy, test_a=ONE, test_b=ONE.replace("/headers", "/status/404").replace("200", "404"))
    ran = run("diff", "emulator", "emulator:1.40", "--root", copy)
    assert (ran.code, ran.out.strip()) == (0, "emulator and emulator:1.40: no difference in 2 tests")


def test_where_nothing_is_compared_nothing_agrees(copy):
    tests_of(copy, test_a='import pytest\n\ndef test_it(proxy):\n    pytest.skip("never")\n')
    ran = run("diff", "emulator", "emulator:1.40", "--root", copy)
    assert ran.code == 1
    assert "emulator and emulator:1.40: no test could be compared" in ran.out


def test_a_test_whose_fixture_fails_counts_as_failed(copy):
    fixture = "import pytest\n\n@pytest.fixture\ndef broken():\n    raise RuntimeError\n"
    tests_of(copy, test_a=f"{fixture}\ndef test_it(proxy, broken):\n    pass\n", test_b=ONE)
    ran = run("diff", "emulator", "emulator:1.40", "--root", copy)
    assert "1 test fails on emulator: tests/test_a.py::test_it" in ran.err
    assert ran.out.strip() == "emulator and emulator:1.40: no difference in 2 tests"


def test_a_test_file_that_can_not_be_imported_fails_as_in_test(copy):
    tests_of(copy, test_a="def broken(:\n", test_b=ONE)
    ran = run("diff", "emulator", "emulator:1.40", "--root", copy)
    assert ran.code == 1
    assert "SyntaxError" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--envoy", "1.39.3,1.40.0"), "compares the emulator with one Envoy"),
        (("--deployed",), "runs in its own Envoy"),
    ],
)
def test_all_is_refused_where_it_could_not_compare(crate, words, said):
    ran = run("test", "--host", "all", *words, "--root", crate)
    assert said in ran.err
    assert ran.code == 2
