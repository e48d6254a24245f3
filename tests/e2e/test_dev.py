"""`scaffold dev`: what is saved is live, and what is broken changes nothing."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from support.foreground import Running, running

import scaffold

pytestmark = pytest.mark.usefixtures("own_target")


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
        dev.until("tests: none of 1 played, since none had failed and none was saved")

        mark = len(dev.text)
        source.write_text(good.replace("fn ", "fnn ", 1))
        dev.until("error: expected one of .*", 60, since=mark)
        dev.until("warning: rustc failed", since=mark)
        dev.until("the plugin of before serves on", since=mark)
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


def saved(source: Path, text: str) -> None:
    """Save as an editor does."""
    source.with_name("new.tmp").write_text(text)
    source.with_name("new.tmp").replace(source)


def slow_rustc(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment in which rustc, once it has compiled a plugin, waits while a file is there."""
    wrapper, slow = folder / "slow-rustc", folder / "slow"
    wait = f'[ -z "$CARGO_PRIMARY_PACKAGE" ] || while [ -e {slow} ]; do sleep 0.1; done'
    wrapper.write_text(f'#!/bin/sh\n"$@" || exit\n{wait}\n')
    wrapper.chmod(0o755)
    return {"RUSTC_WRAPPER": str(wrapper)}, slow


def test_a_save_during_a_build_is_built_next_and_requests_are_shown_meanwhile(quick, tmp_path):
    source = quick / "src/lib.rs"
    good = source.read_text()
    env, slow = slow_rustc(tmp_path)
    with running("dev", "--root", quick, "--port", "0", "--no-tests", env=env) as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        mark = len(dev.text)
        slow.touch()
        saved(source, good.replace("Hello world", "Hello one"))
        dev.until("Building", since=mark)
        assert "Hello world" in answer(url)
        dev.until("200 GET .*/headers", since=mark)
        saved(source, good.replace("Hello world", "Hello two"))
        time.sleep(0.5)
        slow.unlink()
        dev.until("live after [^$]*live after", 60, since=mark)
        assert "Hello two" in answer(url)
        assert "Hello one" not in dev.text.partition("Hello two")[0]

        mark = len(dev.text)
        slow.touch()
        saved(source, good.replace("Hello world", "Hello three"))
        dev.until("Building", since=mark)
        saved(source, good.replace("Hello world", "Hello two"))  # and back
        time.sleep(0.5)
        slow.unlink()
        dev.until("live after|unchanged", 60, since=mark)
        await_quiet(dev)
        assert "Hello two" in answer(url)


def await_quiet(dev: Running, seconds: float = 2) -> None:
    """Wait until it has said nothing for a while."""
    length, since = len(dev.text), time.monotonic()
    while time.monotonic() - since < seconds:
        if len(dev.text) != length:
            length, since = len(dev.text), time.monotonic()
        time.sleep(0.05)


def test_ctrl_c_during_a_build_ends_rustc_too(quick, tmp_path):
    env, slow = slow_rustc(tmp_path)
    source = quick / "src/lib.rs"
    good = source.read_text()
    with running("dev", "--root", quick, "--port", "0", "--no-tests", env=env) as dev:
        dev.until("Press Ctrl-C to stop", 120)
        for name in ("one", "two"):  # cargo's build, and one of rustc alone
            mark = len(dev.text)
            saved(source, good.replace("Hello world", f"Hello {name}"))
            dev.until("live after", 60, since=mark)
        slow.touch()
        mark = len(dev.text)
        saved(source, good.replace("Hello world", "Hello three"))
        dev.until("Building", since=mark)
        time.sleep(0.5)
        children = psutil.Process(dev.process.pid).children(True)
        assert any("slow-rustc" in " ".join(each.cmdline()) for each in children)
        assert dev.end(signal.SIGINT) == 0
    slow.unlink()
    assert not any(each.is_running() for each in children)


def test_a_plugin_that_envoy_refuses_changes_nothing(quick):
    source = quick / "src/lib.rs"
    good = source.read_text()
    with running("dev", "--root", quick, "--port", "0", "--no-tests") as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        dev.until("Press Ctrl-C to stop")
        mark = len(dev.text)
        saved(source, good.replace("main! {{", 'main! {{\n    assert!(cfg!(test), "not today");', 1))
        dev.until("warning: .*", 60, since=mark)
        dev.until("Envoy refused the plugin hello_world", since=mark)
        assert "not today" in dev.text[mark:]
        assert "Hello world" in answer(url)
        mark = len(dev.text)
        saved(source, good.replace("Hello world", "Hello again"))
        dev.until("live after", 60, since=mark)
        assert "Hello again" in answer(url)


def test_an_envoy_that_ends_again_is_started_after_a_delay_that_grows(quick):
    with running("dev", "--root", quick, "--port", "0", "--no-tests") as dev:
        dev.until("Press Ctrl-C to stop", 120)
        for said in ("Envoy has ended\n", "Envoy has ended; it is started again in 1 s\n"):
            mark = len(dev.text)
            children = psutil.Process(dev.process.pid).children(True)
            (envoy,) = [each for each in children if "envoy" in each.name()]
            envoy.kill()
            dev.until(said, since=mark)
            url = dev.until(r"answers at (http://localhost:\d+)", since=mark)[1]
            assert "Hello world" in answer(url)


def test_all_tests_play_each_time_if_asked(quick):
    source = quick / "src/lib.rs"
    with running("dev", "--root", quick, "--port", "0", "--test", "all") as dev:
        dev.until("tests: 1 passed, 0 failed", 120)
        mark = len(dev.text)
        saved(source, source.read_text().replace("Hello world", "Hello all"))
        dev.until("tests: 1 passed, 0 failed", 60, since=mark)


def test_a_port_that_is_taken_is_said_before_anything_is_built(quick, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("scaffold", "dev", "--root", quick, "--port", port)
    assert (ran.returncode, f"port {port} is taken by" in ran.stderr) == (8, True), ran.stderr
    assert "Building" not in ran.stderr


def test_plugins_of_a_workspace_run_together_and_what_they_share_is_watched(tmp_path, crate):
    root = tmp_path / "ws"
    (root / "shared/src").mkdir(parents=True)
    (root / "Cargo.toml").write_text('[workspace]\nmembers = ["shared", "plugins/*"]\nresolver = "2"\n')
    (root / "shared/Cargo.toml").write_text(
        '[package]\nname = "shared"\nversion = "0.1.0"\nedition = "2021"\n'
    )
    (root / "shared/src/lib.rs").write_text('pub const WORD: &str = "shared one";\n')
    for name in ("first", "second"):
        scaffold.new(name, output_dir=root / "plugins", no_input=True)
        shutil.rmtree(root / "plugins" / name / "tests")
    shutil.copy(crate / "Cargo.lock", root)
    first, second = (root / "plugins" / name / "src/lib.rs" for name in ("first", "second"))
    manifest = second.parents[1] / "Cargo.toml"
    needs = '[dependencies]\nshared = { path = "../../shared" }\n'
    manifest.write_text(manifest.read_text().replace("[dependencies]\n", needs))
    first.write_text(first.read_text().replace("x-hello", "x-first"))
    text = second.read_text().replace("x-hello", "x-second")
    second.write_text(text.replace('b"Hello world from "', "shared::WORD.as_bytes()"))
    with running("dev", "--root", root, "--port", "0") as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        assert all(word in answer(url) for word in ("Hello world", "shared one"))
        for source, old, new in (
            (root / "shared/src/lib.rs", "shared one", "shared two"),
            (first, "Hello world", "Hello first"),
            (first, "Hello first", "Hello one"),
        ):
            dev.until("Press Ctrl-C to stop")
            mark = len(dev.text)
            saved(source, source.read_text().replace(old, new))
            dev.until("live after", 60, since=mark)
            assert new in answer(url)
        assert "shared two" in answer(url)


def test_what_it_shows_is_explained_and_recorded(quick, run):
    with running("dev", "--root", quick, "--port", "0", "--no-tests") as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        answer(url)
        request_id = dev.until(r"200 GET .*/headers.* ([0-9a-f]{8})\n")[1]
        shown = run("scaffold", "explain", "--root", quick, request_id)
        assert "added request x-hello: Hello world from " in shown.stdout, shown.stderr
        shown = run("scaffold", "explain", "--root", quick, "--", "curl", "http://h/anything")
        assert shown.stdout.startswith("GET /anything in ") and "→ Continue" in shown.stdout, shown.stderr
        ran = run("scaffold", "record", "--root", quick, request_id)
        assert "it passes: test_get_headers" in ran.stdout, ran.stderr
        assert dev.end(signal.SIGINT) == 0
    ran = run("scaffold", "explain", "--root", quick, request_id)
    assert (ran.returncode, "nothing is deployed from here" in ran.stderr) == (9, True), ran.stderr


def test_a_folder_of_sources_that_is_replaced_is_built(quick):
    source = quick / "src/lib.rs"
    with running("dev", "--root", quick, "--port", "0", "--no-tests") as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        dev.until("Press Ctrl-C")
        for name in ("one", "two"):
            text = source.read_text()
            mark = len(dev.text)
            shutil.rmtree(quick / "src")
            dev.until("warning: .* failed", 60, since=mark)
            mark = len(dev.text)
            (quick / "src").mkdir()
            source.write_text(re.sub("Hello [a-z]+", f"Hello {name}", text))
            dev.until("live after", 60, since=mark)
            assert f"Hello {name}" in answer(url)


def test_tests_that_are_renamed_or_saved_with_an_error_are_played(quick):
    source, tests = quick / "src/lib.rs", quick / "tests/test_new.py"
    good = source.read_text()
    tests.write_text("def test_old(proxy):\n    assert False\n")
    (quick.parent / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")  # of somebody above
    with running("dev", "--root", quick, "--port", "0") as dev:
        dev.until("tests: 1 passed, 1 failed", 120)
        dev.until("Press Ctrl-C")
        mark = len(dev.text)
        saved(source, good.replace("Hello world", "Hello one"))
        dev.until("tests: 0 passed, 1 failed", 60, since=mark)

        mark = len(dev.text)
        saved(tests, "def test_new(proxy):\n    assert True\n")
        dev.until("tests: 1 passed, 0 failed", since=mark)
        mark = len(dev.text)
        saved(source, good.replace("Hello world", "Hello two"))
        dev.until("live after", 60, since=mark)
        dev.until("tests: none of 2 played, since none had failed and none was saved", since=mark)

        mark = len(dev.text)
        saved(tests, "def test_newest(proxy):\n    assert False\n")
        saved(source, good.replace("fn ", "fnn ", 1))
        dev.until("warning: .* failed", 60, since=mark)
        mark = len(dev.text)
        saved(source, good)
        dev.until("tests: 0 passed, 1 failed", 60, since=mark)
        mark = len(dev.text)
        saved(tests, "def test_renamed(proxy):\n    assert True\n")
        dev.until("tests: 1 passed, 0 failed", since=mark)


def test_a_save_ends_tests_that_take_long(quick):
    source, tests = quick / "src/lib.rs", quick / "tests/test_long.py"
    with running("dev", "--root", quick, "--port", "0") as dev:
        url = dev.until(r"answers at (http://localhost:\d+)", 120)[1]
        dev.until("Press Ctrl-C")
        tests.write_text("import time\n\ndef test_long(proxy):\n    time.sleep(1000)\n")
        for _ in range(200):
            if any("pytest" in each.cmdline() for each in psutil.Process(dev.process.pid).children(True)):
                break
            time.sleep(0.05)
        mark = len(dev.text)
        saved(source, source.read_text().replace("Hello world", "Hello soon"))
        dev.until("live after", 60, since=mark)
        assert "Hello soon" in answer(url)
        mark = len(dev.text)
        saved(tests, "def test_long(proxy):\n    pass\n")
        dev.until("tests: 1 passed, 0 failed", since=mark)
