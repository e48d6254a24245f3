"""`scaffold dev`: what is saved is live, and what is broken changes nothing."""

from __future__ import annotations

import signal
import urllib.request

import psutil
import pytest
from support.foreground import running

import scaffold


@pytest.fixture
def quick(copy):
    """A crate whose own tests don't take long."""
    (copy / "tests/test_plugin.py").write_text(
        "def test_greets(proxy):\n    assert 'x-hello' in proxy.get('/').upstream.headers\n"
    )
    return copy


def answer(url: str) -> str:
    with urllib.request.urlopen(f"{url}/headers", timeout=20) as response:
        return response.read().decode()


def test_what_is_saved_is_live_and_what_is_broken_changes_nothing(quick):
    source, manifest = quick / "src/lib.rs", quick / "Cargo.toml"
    good, settings = source.read_text(), manifest.read_text()
    with running("dev", "--root", quick, "--port", "0") as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        dev.until(r"tests: 1 passed, 0 failed")
        dev.until("Press Ctrl-C to stop")
        assert "Hello world" in answer(url)

        source.with_name("new.rs").write_text(good.replace("Hello world", "Hullo world"))
        source.with_name("new.rs").replace(source)  # as editors do it
        dev.until(r"live after [\d.]+ s", 60)
        assert "Hullo world" in answer(url)
        assert dev.text.count("tests: ") == 1, "none had failed, and none was saved"

        mark = len(dev.text)
        source.write_text(good.replace("fn ", "fnn ", 1))
        dev.until("error: expected one of .*", 60, since=mark)
        dev.until("warning: cargo build failed", since=mark)
        manifest.write_text("[package\n")
        dev.until("warning: .*is not TOML", since=mark)
        assert "Hullo world" in answer(url)

        mark = len(dev.text)
        manifest.write_text(settings)
        source.write_text(good)
        dev.until(r"live after [\d.]+ s", 60, since=mark)
        assert "Hello world" in answer(url)

        mark = len(dev.text)
        new = "def test_new(proxy):\n    assert proxy.get('/').status == 500\n"
        (quick / "tests/test_new.py").write_text(new)
        dev.until("tests: 0 passed, 1 failed", since=mark)
        mark = len(dev.text)
        source.write_text(good + "\n")
        dev.until("unchanged", 60, since=mark)
        dev.until("tests: 0 passed, 1 failed", since=mark)  # it failed before

        mark = len(dev.text)
        (quick / "tests/conftest.py").write_text("")
        dev.until("tests: 1 passed, 1 failed", since=mark)  # whose results may depend on it

        mark = len(dev.text)
        manifest.write_text(settings + "\n[package.metadata.proxy-wasm.clusters]\nother = 'upstream'\n")
        dev.until("this takes another Envoy", 60, since=mark)
        dev.until(f"answers at {url}\n", since=mark)

        mark = len(dev.text)
        (envoy,) = [each for each in psutil.Process(dev.process.pid).children(True) if "envoy" in each.name()]
        envoy.kill()
        dev.until("warning: Envoy has ended", since=mark)
        dev.until(f"answers at {url}\n", since=mark)
        children = psutil.Process(dev.process.pid).children(True)
        assert dev.end(signal.SIGINT) == 0
    assert not any(each.is_running() for each in children)


def test_once_ends_with_the_tests_exit_code_and_leaves_nothing(quick, run):
    ran = run("scaffold", "dev", "--once", "--root", quick, "--port", "0", "--profile", "release")
    assert (ran.returncode, "tests: 1 passed, 0 failed" in ran.stderr) == (0, True), ran.stderr
    (quick / "tests/test_bad.py").write_text("def test_bad(): assert 0\n")
    ran = run("scaffold", "dev", "--once", "--root", quick, "--port", "0", "--profile", "release")
    assert (ran.returncode, "1 failed" in ran.stderr) == (1, True), ran.stderr
    ran = run(
        "scaffold", "dev", "--once", "--no-tests", "--root", quick, "--port", "0", "--profile", "release"
    )
    assert (ran.returncode, "tests: " in ran.stderr) == (0, False), ran.stderr
    assert scaffold.status(quick) == []


def test_a_second_one_in_the_same_crate_is_refused(quick, run):
    with running("dev", "--root", quick, "--port", "0", "--no-tests", "--profile", "release") as dev:
        dev.until("answers at", 120)
        ran = run("scaffold", "dev", "--root", quick, "--port", "0")
        assert (ran.returncode, "another `scaffold dev` runs in" in ran.stderr) == (4, True)


def test_which_tests_is_a_choice(quick, run):
    ran = run("scaffold", "dev", "--root", quick, "--test", "some")
    assert (ran.returncode, "no --test named `some`" in ran.stderr) == (2, True), ran.stderr
