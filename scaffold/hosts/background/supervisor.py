"""The background process of a deployment: the upstream, and Envoy's parent.

Reads its order, a line of JSON, from standard input, answers with one on standard output, and goes on
once it reads "commit"; the end of its input before that ends everything. SIGTERM ends it later. An
Envoy that ends by itself is started again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from scaffold.core import process
from scaffold.errors import INTERNAL, ScaffoldError, of_os_error
from scaffold.hosts import host as hosts
from scaffold.hosts.envoy.running import EnvoyHost, died
from scaffold.project.model import HostSettings, Plugin
from scaffold.wasm.module import WasmModule

FIRST_PAUSE = 0.25  # seconds before Envoy is started again; doubled each time
LONGEST_PAUSE = 30.0
CAP_SECONDS = 5.0  # between two looks at how large the logs are
Life = AbstractContextManager[EnvoyHost]
GOOD_LIFE = 60.0  # seconds after which an Envoy that ended counts as the first


def main() -> None:
    """Supervise one deployment until it is ended."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    log = Path(order["log"])
    settings = HostSettings.of(order["settings"])
    begin = cast(Callable[..., Life], partial(hosts.find(order["host"]), folder=Path(order["folder"])))
    committed = threading.Event()
    threading.Thread(target=_hold_lifeline, args=(committed,), daemon=True).start()
    try:
        port = _first_life(begin(*map(_plugin, order["plugins"]), settings=settings), committed, log)
    except ScaffoldError as error:
        _answer({"error": error.message, "hint": error.hint, "code": error.exit_code})
        raise
    except OSError as error:
        refused = of_os_error(error) or ScaffoldError(f"a bug in scaffold: {error!r}")
        _answer({"error": refused.message, "hint": None, "code": refused.exit_code})
        raise
    except Exception as error:
        _answer({"error": f"a bug in scaffold: {error!r}", "hint": None, "code": INTERNAL})
        raise
    _further_lives(lambda: begin(settings=replace(settings, port=port)), log)


def _first_life(begun: Life, committed: threading.Event, log: Path) -> int:
    """Run Envoy until it ends by itself; returns the port, which stays for the lives that follow."""
    with begun as running:
        _answer(
            {
                "port": running.port,
                "envoy_version": running.version,
            }
        )
        committed.wait()
        _live(running, log)
        return running.port


def _further_lives(begin: Callable[[], Life], log: Path) -> None:
    """Start Envoy again whenever it ends, with what is deployed then; ever later when it never lives long."""
    pause = FIRST_PAUSE
    while True:
        time.sleep(pause)
        begun = time.monotonic()
        try:
            with begin() as running:
                _log(log, f"Envoy runs again, after {pause:g} s")
                _live(running, log)
        except ScaffoldError as error:
            _log(log, error.message)
        lived = time.monotonic() - begun
        pause = FIRST_PAUSE if lived > GOOD_LIFE else min(2 * pause, LONGEST_PAUSE)


def _live(running: EnvoyHost, log: Path) -> None:
    assert running.process  # noqa: S101 - we started it
    mark = running.log.size()
    while (code := running.process.poll()) is None:
        with suppress(process.TimeoutExpired):
            running.process.wait(CAP_SECONDS)
        running.folder.cap_logs()
    _log(log, died(code, running.log.since(mark)).message)


def _log(log: Path, text: str) -> None:
    """Say it where `scaffold logs` shows it."""
    record = {"level": "critical", "logger": "scaffold", "message": text}
    with log.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _plugin(made: dict[str, Any]) -> Plugin:
    module, configuration = WasmModule.read(Path(made["module"])), made["configuration"].encode("latin-1")
    return Plugin(**made | {"module": module, "configuration": configuration})


def _answer(said: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        pass


def _hold_lifeline(committed: threading.Event) -> None:
    if sys.stdin.readline() == "commit\n":
        committed.set()
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
