"""`scaffold record`: a request becomes a test, with real cargo and pytest; one comes from a real Envoy."""

from __future__ import annotations

import json
import stat

import pytest
from support.places import get, until

import scaffold
from scaffold.core.events import Requested

COOKIE = "sid=0123456789"


def test_a_curl_command_line_and_a_file_become_tests(copy, run, tmp_path):
    """The second is added to the first; both pass on their own, and have no secret."""
    curl = ("curl", "http://shop.example/cart?token=0123456789", "-H", f"cookie: {COOKIE}", "-d", "a=b")
    ran = run("scaffold", "record", "--root", copy, "--", *curl)
    assert ran.returncode == 0, ran.stderr
    assert "wrote a test to" in ran.stdout and "it passes: test_post_cart" in ran.stdout
    assert "POST /cart: a placeholder stands for the value of cookie, ?token" in ran.stderr
    entry = {
        "request": {"method": "GET", "url": "http://h/missing", "headers": []},
        "response": {"status": 404},
    }
    har = tmp_path / "x.har"
    har.write_text(json.dumps({"log": {"version": "1.2", "entries": [entry]}}))
    ran = run("scaffold", "record", "--root", copy, har, "--host", "envoy", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["tests"] == ["test_get_missing"]
    text = (copy / "tests/test_recorded.py").read_text()
    assert '"cookie": "sid=SECRET"' in text and "0123456789" not in text + ran.stdout + ran.stderr
    assert 'assert exchange.upstream.headers["x-hello"] == "Hello world from shop.example"' in text
    assert 'proxy.upstream.answer(404, path="/missing")' in text
    assert text.count("assert exchange.status == ") == 2
    ran = run("pytest", "-q", "--proxy-host=emulator", "tests/test_recorded.py", cwd=copy)
    assert "2 passed" in ran.stdout, ran.stdout


def test_a_request_of_the_live_view(copy, run):
    deployed = scaffold.deploy(copy, run=scaffold.RunOptions(port=0))
    get(deployed.url, "/anything")
    found: list[Requested] = []
    until(lambda: found.extend(scaffold.requests(copy, path="/anything")) or found)
    ran = run("scaffold", "record", "--root", copy, found[0].id[:8], "--name", "test_seen")
    assert "it passes: test_seen" in ran.stdout, ran.stderr
    assert "the live view has those headers only that the plugin changed" in ran.stderr
    assert "Hello world from " in (copy / "tests/test_recorded.py").read_text()
    ran = run("scaffold", "record", "--root", copy, "ffffffff")
    assert (ran.returncode, "no request's id begins with ffffffff" in ran.stderr) == (2, True)


def test_a_test_that_does_not_pass_leaves_the_file_as_it_was(copy, run):
    """Its file raises an error at the import, as any file may that a person has written."""
    path = copy / "tests/test_recorded.py"
    before = b"raise RuntimeError('not today')\r\n"
    real = copy / "tests/elsewhere.py"
    real.write_bytes(before)
    real.chmod(0o600)
    path.symlink_to(real.name)
    ran = run("scaffold", "record", "--root", copy, "--", "curl", "http://h/")
    assert (ran.returncode, real.read_bytes(), path.is_symlink()) == (1, before, True)
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert "not today" in ran.stderr and "isn't kept" in ran.stderr
    real.write_bytes(b"import os\r\n")
    ran = run("scaffold", "record", "--root", copy, "--", "curl", "http://h/")
    assert (ran.returncode, path.is_symlink()) == (0, True), ran.stderr
    assert real.read_bytes().count(b"\n") == real.read_bytes().count(b"\r\n") > 3
    real.write_bytes(b"\xff")
    ran = run("scaffold", "record", "--root", copy, "--", "curl", "http://h/")
    assert (ran.returncode, "isn't text in UTF-8" in ran.stderr) == (3, True), ran.stderr
    real.write_bytes(b"def broken(:")
    ran = run("scaffold", "record", "--root", copy, "--", "curl", "http://h/")
    assert (ran.returncode, "isn't valid Python" in ran.stderr) == (3, True), ran.stderr


def test_the_upstream_answers_where_the_plugin_sends_the_request(copy, run):
    source = copy / "src/lib.rs"
    sets = '        self.set_http_request_header(":path", Some("/new"));\n        // as bytes'
    source.write_text(source.read_text().replace("        // as bytes", sets, 1))
    entry = {
        "request": {"method": "GET", "url": "http://h/old?a", "headers": []},
        "response": {"status": 418},
    }
    har = copy / "x.har"
    har.write_text(json.dumps({"log": {"version": "1.2", "entries": [entry]}}))
    ran = run("scaffold", "record", "--root", copy, har)
    assert ran.returncode == 0, ran.stderr
    text = (copy / "tests/test_recorded.py").read_text()
    assert 'proxy.upstream.answer(418, path="/new")' in text
    assert "assert exchange.status == 418" in text
    assert 'assert exchange.upstream.target == "/new"' in text


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ([], 2, "which request is to become a test?"),
        (["no-such.har"], 2, "no-such.har is neither a file nor a request's id"),
        (["Cargo.toml"], 3, "Cargo.toml, line 1 is no line of an access log"),
        (["src"], 3, "cannot read src"),
        (["a" * 300], 3, "File name too long"),
        (["--", "curl", "--frobnicate", "http://h/"], 2, "--frobnicate"),
        (["--name", "Greets", "--", "curl", "http://h/"], 2, "--name can't be `Greets`"),
        (["--host", "docker", "--", "curl", "http://h/"], 2, "no host named `docker`"),
        (["--output", "tests/x.txt", "--", "curl", "http://h/"], 2, "tests are in .py files"),
        (["--output", "../../x.py", "--", "curl", "http://h/"], 2, "it isn't in the project"),
        (["--request", "2", "--", "curl", "http://h/"], 2, "--request chooses a request of a file"),
    ],
)
def test_what_cannot_become_a_test(crate, run, words, code, why):
    ran = run("scaffold", "record", *words, cwd=crate)
    assert (ran.returncode, why in ran.stderr) == (code, True), ran.stderr
