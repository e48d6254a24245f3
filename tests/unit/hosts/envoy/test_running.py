"""What is said when Envoy refuses a plugin."""

from __future__ import annotations

import json
import threading

import pytest
from support import wasm_asm
from support.odd_modules import build

from scaffold.core.versions import Version
from scaffold.hosts.envoy import running
from scaffold.hosts.envoy.log import Line, Log
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule


def line(level: str, logger: str, message: str) -> str:
    return json.dumps({"time": "0", "level": level, "logger": logger, "message": message}) + "\n"


def test_a_reason_that_comes_after_the_verdict_is_waited_for(tmp_path):
    """From a container the log comes by another way than the counters."""
    (tmp_path / "hello.wasm").write_bytes(wasm_asm.plugin())
    plugin = Plugin("hello", "", WasmModule.read(tmp_path / "hello.wasm"))
    path = tmp_path / "envoy.log"
    path.write_text(line("critical", "wasm", "of an earlier plugin"))
    log = Log(path)
    mark = log.size()

    def write() -> None:
        with path.open("a") as file:
            file.write(line("info", "wasm", "not the reason") + line("error", "wasm", "the reason"))

    late = threading.Timer(0.3, write)
    late.start()
    error = running.refused(plugin, log, mark, Version((1, 40)))
    late.join()
    assert error.message == "the reason\nEnvoy refused the plugin hello"


def test_a_reason_that_never_comes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "REASON_SECONDS", 0.05)
    error = running.refused(None, Log(tmp_path / "none"), 0, Version((1, 40)))
    assert error.message == "Envoy refused the plugin that ran"


@pytest.mark.parametrize(
    ("version", "since"), [((1, 20), "1.21"), ((1, 40), None)], ids=["an early Envoy", "a later Envoy"]
)
def test_the_hint_is_what_we_know_of_that_envoy_and_module(version, since, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "REASON_SECONDS", 0.05)
    newer = [("wasi_snapshot_preview1", "fd_prestat_get", "ii>i")]
    (tmp_path / "a.wasm").write_bytes(build(newer))
    plugin = Plugin("a", "", WasmModule.read(tmp_path / "a.wasm"))
    error = running.refused(plugin, Log(tmp_path / "none"), 0, Version(version))
    assert error.hint == (since and f"Envoy {since} and later have it")


@pytest.mark.parametrize(
    ("words", "configuration", "hinted"),
    [
        ("Wasm VM failed Failed to configure base Wasm plugin", b"", True),
        ("Function: proxy_on_configure failed: Uncaught RuntimeError: unreachable", b"", True),
        ("Wasm VM failed Failed to configure base Wasm plugin", b"{}", False),
        ("Plugin configured to fail closed failed to load", b"", False),
    ],
)
def test_a_plugin_that_refuses_to_have_no_configuration(tmp_path, words, configuration, hinted):
    (tmp_path / "hello.wasm").write_bytes(wasm_asm.plugin())
    plugin = Plugin("hello", "", WasmModule.read(tmp_path / "hello.wasm"), configuration)
    path = tmp_path / "envoy.log"
    path.write_text(line("error", "wasm", words))
    error = running.refused(plugin, Log(path), 0, Version((1, 40)))
    assert ("which has no configuration" in error.message) is hinted
    assert ("--config FILE" in (error.hint or "")) is hinted
    assert ("`configuration = " in (error.hint or "")) is hinted


def test_a_crash_is_one_line_without_the_addresses():
    texts = [
        "Caught Segmentation fault, suspect faulting address 0x2fa0",
        "Backtrace (use tools/stack_decode.py)",
    ]
    lines = [Line("critical", "backtrace", text) for text in [*texts, "#0: [0x7f7c750b4050]", "#1: [0x55a5]"]]
    lines.insert(0, Line("error", "wasm", "Function: proxy_on_request_headers failed"))
    assert running.died(-11, lines).message.splitlines() == [
        "Envoy ended by signal 11",
        "Function: proxy_on_request_headers failed",
        "Caught Segmentation fault, suspect faulting address 0x2fa0",
    ]
