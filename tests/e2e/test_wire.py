"""What came on the wire is what a test sees; and a request without an answer says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaffold.errors import HostError
from scaffold.hosts.envoy import local
from scaffold.hosts.exchange import Request
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
        ("/pause", "it never reached the upstream: the plugin paused the request", "resume_http_request"),
        (
            "/pause-response",
            "it reached the upstream: is that slow",
            "resume_http_response",
        ),
    ],
)
def test_a_request_without_an_answer_says_why(host, path, why, hint):
    with pytest.raises(HostError) as caught:
        host.play(Request("GET", path), timeout=1)
    assert caught.value.message.startswith(f"GET {path} got no whole answer within 1 s; {why}")
    assert hint in (caught.value.hint or "")


def test_a_callback_that_loops_is_named(probe, tmp_path):
    why = "Envoy doesn't run any more, or doesn't answer: does a callback loop"
    with (
        local.start(Plugin("probe", "", probe), folder=tmp_path) as running,
        pytest.raises(HostError, match=why),
    ):
        running.play(Request("GET", "/loop"), timeout=10)


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
