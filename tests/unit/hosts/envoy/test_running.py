"""What is said when Envoy refuses a plugin."""

from __future__ import annotations

import json
import threading

from scaffold.hosts.envoy import running
from scaffold.hosts.envoy.log import Log


def line(level: str, logger: str, message: str) -> str:
    return json.dumps({"time": "0", "level": level, "logger": logger, "message": message}) + "\n"


def test_a_reason_that_comes_after_the_verdict_is_waited_for(tmp_path):
    """From a container the log comes by another way than the counters."""
    path = tmp_path / "envoy.log"
    path.write_text(line("critical", "wasm", "of an earlier plugin"))
    log = Log(path)
    mark = log.size()

    def write() -> None:
        with path.open("a") as file:
            file.write(line("info", "wasm", "not the reason") + line("error", "wasm", "the reason"))

    late = threading.Timer(0.3, write)
    late.start()
    error = running.refused("hello", log, mark)
    late.join()
    assert error.message == "the reason\nEnvoy refused the plugin hello"


def test_a_reason_that_never_comes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "REASON_SECONDS", 0.05)
    assert running.refused("", Log(tmp_path / "none"), 0).message == "Envoy refused the plugin that ran"
