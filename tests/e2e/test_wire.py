"""What came on the wire is what a test sees; and a request without an answer says why."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.crates import PLUGINS
from support.origins import at_a_port

from scaffold.errors import HostError, UsageError
from scaffold.hosts.envoy import local
from scaffold.hosts.exchange import Request
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

TESTS = """
def test_lengthen(proxy):
    proxy.upstream.answer(200, body=b"x" * 50)
    proxy.get("/lengthen")

def test_pause(proxy):
    proxy.get("/pause", timeout=1)

def test_lengthen_on_purpose(proxy):
    proxy.upstream.answer(200, body=b"x" * 50)
    assert proxy.get("/lengthen", strict=False).response.surplus == 10

def test_what_is_right(proxy):
    exchange = proxy.get("/headers")
    assert (exchange.status, exchange.response.surplus) == (200, 0)
    assert proxy.request("HEAD", "/headers").response.surplus == 0
    assert proxy.get("/status/204").response.surplus == 0
    assert proxy.get("/local").response.surplus == 0
"""


@pytest.fixture(scope="module")
def host(probe, tmp_path_factory):
    with local.start(Plugin("probe", "", probe), folder=tmp_path_factory.mktemp("envoy")) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "why", "hint"),
    [
        ("/pause", "the plugin paused the request, and nothing resumed it", "resume_http_request"),
        ("/pause-response", "the plugin paused the answer, and nothing resumed it", "resume_http_response"),
        ("/shorten", "the answer's end never came", "has to remove its content-length"),
        ("/delay/5", "the upstream hasn't answered", "is it slow?"),
        ("/close", "the connection was closed early", "does the plugin end the stream?"),
    ],
)
def test_a_request_without_an_answer_says_why(host, path, why, hint):
    with pytest.raises(HostError) as caught:
        host.play(Request("GET", path), timeout=3)  # Envoy may take a second to close a connection
    assert caught.value.message.startswith(why)
    assert f": GET {path} got no whole answer" in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("timeout", [1.2, 10])
def test_a_callback_that_loops_is_named(probe, tmp_path, timeout):
    why = "the plugin doesn't return from a callback: GET /loop"
    with (
        local.start(Plugin("probe", "", probe), folder=tmp_path) as running,
        pytest.raises(HostError, match=why),
    ):
        running.play(Request("GET", "/loop"), timeout=timeout)


# what a request meets -> the line that says so
FAILURES = {
    "/pause": "the plugin paused the request, and nothing resumed it",
    "/loop": "the plugin doesn't return from a callback",
    "/panic": "the plugin crashed during GET /panic: panicked at src/lib.rs:",
    "/call-nowhere": "src/lib.rs calls the cluster `nowhere`, which isn't defined",
    "/call-nowhere-and-panic": "src/lib.rs calls the cluster `nowhere`, which isn't defined",
    "/call-nowhere-and-wait": "src/lib.rs calls the cluster `nowhere`, which isn't defined",
    "/lengthen": "says content-length: 50, but its body has 60 bytes",
    "/shorten": "49 of the 50 bytes that its content-length announces came",
}
FAILS = """
def test_{}(proxy):
    proxy.upstream.answer(200, body="x" * 50)
    assert proxy.get("{}", timeout=5).status == 201
"""


def test_a_test_that_fails_says_why_in_one_line(tmp_path, run, probe):
    crate = shutil.copytree(PLUGINS / "probe", tmp_path / "probe")
    (crate / "tests").mkdir()
    tests = "".join(FAILS.format(number, path) for number, path in enumerate(FAILURES))
    (crate / "tests" / "test_all.py").write_text(tests)
    ran = run("scaffold", "test", "--root", crate, "--module", probe.path)
    _, *reports = re.split(r"^_+ test_\d _+$", ran.stdout + ran.stderr, flags=re.MULTILINE)
    for (path, why), report in zip(FAILURES.items(), reports, strict=True):
        lines = [line for line in report.splitlines() if line.startswith("E  ") and why in line]
        assert len(lines) == 1, (path, report)
        assert "pytest_plugin.py" not in report, "our own frames say nothing to a user"


def test_a_body_that_is_longer_than_it_says_fails_a_test(copy, probe, run):
    for path in (copy / "tests").glob("*.py"):
        path.unlink()
    Path(copy, "tests", "test_wire.py").write_text(TESTS)
    ran = run("scaffold", "test", "--root", copy, "--module", probe.path)
    assert "2 failed, 2 passed" in ran.stderr + ran.stdout, ran
    said = ran.stdout + ran.stderr
    assert "says content-length: 50, but its body has 60 bytes" in said
    assert "the plugin paused the request, and nothing resumed it" in said
    assert "http/client.py" not in said, "our own frames, and the library's, say nothing to a user"
    assert "running.py" not in said


def test_what_a_foreign_upstream_received_is_not_known(probe, tmp_path):
    plugin = Plugin("probe", "", probe)
    (folder := tmp_path / "envoy").mkdir()
    with ExitStack() as stack:
        origin, port = stack.enter_context(at_a_port(tmp_path))
        settings = HostSettings(upstream=f"http://127.0.0.1:{port}")
        running = stack.enter_context(local.start(plugin, folder=folder, settings=settings))
        exchange = running.play(Request("GET", "/headers"))
        assert (exchange.status, len(origin.requests())) == (200, 1)
        assert "upstream=(not recorded)" in repr(exchange)
        with pytest.raises(UsageError, match="what your own upstream received isn't known"):
            _ = exchange.upstream
