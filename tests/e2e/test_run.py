"""`scaffold run`: the foreground."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import psutil
import pytest
from support import foreground, wasm_asm
from support.processes import gone

from scaffold.hosts.envoy.admin import Admin

running = partial(foreground.running, "run")


def get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


URL = r"answers at (http://localhost:\d+)\nAsk Envoy: curl --unix-socket (\S+) http://envoy/stats\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_prints_where_and_what_is_logged_and_ends_when_asked(crate, number, code):
    with running("--root", crate, "--port", 0) as run:
        url, admin = run.until(URL).groups()
        assert get(f"{url}/headers") == 200
        assert Admin(admin).live()
        run.until(r"\[info\] Got \d+ HTTP headers in #2\.")
        children = psutil.Process(run.process.pid).children(recursive=True)
        assert run.end(number) == code
        assert gone(*[child.pid for child in children])


def test_a_plugin_that_logged_nothing_is_told_of_at_the_end(probe, tmp_path):
    """Not every plugin logs, so only then, and with what to do about it."""
    (tmp_path / "silent.wasm").write_bytes(wasm_asm.plugin())
    for module, told in ((tmp_path / "silent.wasm", True), (probe.path, False)):
        with running(module, "--root", tmp_path, "--port", 0) as run:
            url = run.until(URL).group(1)
            assert get(f"{url}/headers") == 200
            if not told:
                run.until("saw /headers")
            assert run.end(signal.SIGINT) == 0
        assert ("the plugin has logged nothing yet" in run.text) is told
        assert ("`scaffold run --log-level debug` shows more" in run.text) is told


@pytest.mark.faults("R10", injected="SIGKILL of run", seen="Envoy gone within 3 s")
def test_kill_9_takes_envoy_along(probe, tmp_path):
    with running(probe.path, "--root", tmp_path, "--port", 0) as run:
        run.until(URL)
        children = psutil.Process(run.process.pid).children(recursive=True)
        assert any(child.name() == "envoy" for child in children)
        run.end(signal.SIGKILL)
        assert gone(*[child.pid for child in children])


def test_a_module_runs_without_a_project(probe, tmp_path):
    with running(probe.path, "--root", tmp_path, "--port", 0, "--config", '{"a": 1}') as run:
        url = run.until(URL).group(1)
        with urllib.request.urlopen(f"{url}/headers") as answer:
            assert answer.headers["x-configuration"] == '{"a": 1}'


def test_a_looping_filter_ends_it_with_the_reason(probe, tmp_path):
    with running(probe.path, "--root", tmp_path, "--port", 0) as run:
        url = run.until(URL).group(1)
        with pytest.raises(OSError):
            get(f"{url}/loop")
        assert run.process.wait(20) == 8
        run.until("watchdog sends when a plugin doesn't return")


def test_a_foreign_upstream_is_reached(crate, tmp_path):
    """PyPI's httpbin stands for somebody's service."""
    serve = (
        "from wsgiref.simple_server import make_server; from httpbin import app;"
        "server = make_server('127.0.0.1', 0, app); print(server.server_port, flush=True);"
        "server.serve_forever()"
    )
    argv = [sys.executable, "-W", "ignore", "-c", serve]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as httpbin:
        try:
            assert httpbin.stdout
            upstream = f"http://localhost:{int(httpbin.stdout.readline())}"
            with running("--root", crate, "--port", 0, "--upstream", upstream) as run:
                url = run.until(URL).group(1)
                with urllib.request.urlopen(f"{url}/headers") as answer:
                    said = answer.read().decode()
                assert f'"X-Hello": "Hello world from {url.removeprefix("http://")}"' in said
        finally:
            httpbin.kill()


def test_the_log_level_decides_what_is_kept(probe, tmp_path):
    with running(probe.path, "--root", tmp_path, "--port", 0, "--log-level", "error") as run:
        url = run.until(URL).group(1)
        get(f"{url}/headers")
        get(f"{url}/panic")
        run.until("asked to panic")
        assert "saw /headers" not in run.text


def test_its_files_are_gone_when_it_ends(probe, tmp_path: Path):
    before = set(Path("/tmp").glob("scaffold-run-*"))
    with running(probe.path, "--root", tmp_path, "--port", 0) as run:
        run.until(URL)
        run.end(signal.SIGINT)
    assert set(Path("/tmp").glob("scaffold-run-*")) <= before
