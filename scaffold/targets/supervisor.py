"""The background process of a deployment: the upstream, and Envoy's parent.

Reads its order, a line of JSON, from standard input, answers with one on standard output, and goes on
once it reads "commit"; the end of its input before that ends everything. SIGTERM ends it later.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from scaffold.errors import INTERNAL, ScaffoldError
from scaffold.hosts import envoy
from scaffold.project import Plugin
from scaffold.wasm import WasmModule


def main() -> None:
    """Supervise one deployment until it is ended."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    committed = threading.Event()
    threading.Thread(target=_hold_lifeline, args=(committed,), daemon=True).start()
    try:
        _supervise(order, committed)
    except ScaffoldError as error:
        _answer({"error": error.message, "hint": error.hint, "code": error.exit_code})
        raise
    except Exception as error:
        _answer({"error": f"a bug in scaffold: {error!r}", "hint": None, "code": INTERNAL})
        raise


def _supervise(order: dict[str, Any], committed: threading.Event) -> None:
    made = order["plugin"]
    plugin = Plugin(
        made["name"],
        made["root_id"],
        WasmModule.read(Path(made["module"])),
        made["configuration"].encode("latin-1"),
    )
    with envoy.start(plugin, folder=Path(order["folder"]), **order["settings"]) as running:
        _answer(
            {
                "port": running.port,
                "admin_port": running.admin_port,
                "envoy_version": running.version,
                "control": str(running.origin.control) if running.origin else None,
            }
        )
        committed.wait()
        assert running.process  # noqa: S101 - we started it
        code = running.process.wait()
        raise envoy.died(code, running.log.since(0))


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
