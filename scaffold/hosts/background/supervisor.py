"""The background process of a deployment: it serves the upstream, and Envoy is its child.

The command that starts it (`started`) writes its order to its standard input, a line of JSON, reads one
line from its standard output, and writes "commit" once the deployment is recorded. If its standard input
ends before that, it ends too, so a deploy that dies leaves nothing behind. Later SIGTERM ends it. It
restarts an Envoy that ends by itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from scaffold.core import files, process, records
from scaffold.core.events import Noted, emit
from scaffold.errors import INTERNAL, HostError, ScaffoldError, of_exit_code, of_os_error
from scaffold.hosts import host as hosts
from scaffold.hosts.background.deployments import RESTART, STOP_SECONDS, SUPERVISOR
from scaffold.hosts.envoy.log_files import note
from scaffold.hosts.envoy.running import ABORTED, RUNS_AGAIN, died
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

START_SECONDS = 60.0
_SOON = 5.0  # in which Envoy is ready, unless something is wrong
FIRST_PAUSE = 0.25  # seconds before Envoy is restarted; doubled each time
LONGEST_PAUSE = 30.0
MOST_ABORTS = 2  # after the first
LONG_RUN = 60.0  # seconds after which the next pause is the first again
Start = AbstractContextManager[hosts.Running]

# --- the command's side


class Supervisor:
    """A supervisor that this command started; it ends with this command unless that commits."""

    def __init__(self, child: process.Child, folder: Path) -> None:
        self.pid = child.pid
        self._child = child
        self._log = folder / "supervisor.log"

    def ready(self) -> dict[str, Any]:
        """Wait until Envoy serves; returns `port` and `envoy_version`. Raises what the supervisor reports."""
        assert self._child.stdout  # noqa: S101 - for the type checker
        readable = process.readable(self._child.stdout, seconds=_SOON)
        if not readable:
            emit(Noted("Envoy isn't ready yet: maybe a callback of the plugin hangs"))
            readable = process.readable(self._child.stdout, seconds=START_SECONDS)
        answer = self._child.stdout.readline() if readable else b""
        if not answer:
            words = self._log.read_text(errors="replace").splitlines()[-5:]
            why = "the supervisor ended" if readable else "Envoy did not become ready"
            raise HostError("\n".join([*words, why]))
        ready: dict[str, Any] = json.loads(answer)
        if "error" in ready:
            raise of_exit_code(ready["code"])(ready["error"], hint=ready["hint"])
        return ready

    def commit(self) -> None:
        """Let it run on when this command ends."""
        self.tell("commit\n")

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self._child.stdin  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):  # it has ended: `ready` reads its last words
            self._child.stdin.write(line.encode())
            self._child.stdin.flush()

    def end(self) -> None:
        """End it, as it was not committed."""
        if self._child.stdin:
            with suppress(OSError):  # it has ended already
                self._child.stdin.close()
        try:
            self._child.wait(STOP_SECONDS)
        except process.TimeoutExpired:
            process.end(self.pid, STOP_SECONDS)


@contextmanager
def started(
    host: str, folder: Path, plugins: Sequence[Plugin], settings: HostSettings
) -> Iterator[Supervisor]:
    """Start the supervisor of the deployment in `folder`; it ends if the block fails."""
    own = folder / "envoy"
    order = {
        "host": host,
        "folder": str(own),
        "log": str(hosts.load(host).files_in(own).log),
        "plugins": [plugin.to_json() for plugin in plugins],
        "settings": asdict(settings),
    }
    with (folder / "supervisor.log").open("wb") as log:
        argv = [sys.executable, "-m", SUPERVISOR]
        supervisor = Supervisor(process.detach(argv, cwd=folder, env=os.environ, stderr=log), folder)
    try:
        supervisor.tell(json.dumps(order) + "\n")
        yield supervisor
    except BaseException:
        supervisor.end()
        raise


# --- the supervisor's side


def main() -> None:
    """Supervise one deployment, whose folder is the current one, until it is ended."""
    with files.using(Path.cwd()):  # so that others know that it runs
        _supervise()


def _supervise() -> None:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(RESTART, signal.SIG_IGN)  # nothing runs yet
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    log = Path(order["log"])
    settings = records.parse(HostSettings, order["settings"])
    begin = partial(hosts.find(order["host"]), folder=Path(order["folder"]))
    committed = threading.Event()
    threading.Thread(target=_wait_for_commit, args=(committed,), daemon=True).start()
    try:
        port = _run_first(begin(*map(Plugin.from_json, order["plugins"]), settings=settings), committed, log)
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
    _run_again(lambda: begin(settings=replace(settings, port=port)), log)


def _run_first(start: Start, committed: threading.Event, log: Path) -> int:
    """Run Envoy until it ends by itself. Returns its port, which it keeps when it is restarted."""
    with start as running:
        _answer({"port": running.port, "envoy_version": running.version})
        committed.wait()
        _await_end(running, log)
        return running.port


def _run_again(begin: Callable[[], Start], log: Path) -> None:
    """Restart Envoy with what is deployed whenever it ends; the pause grows unless it runs for long.

    After three lives in a row that its watchdog ended soon, it gets the previous plugins.
    """
    pause, aborts = FIRST_PAUSE, 0
    while True:
        time.sleep(pause)
        begun = time.monotonic()
        try:
            with begin() as running:
                note(log, "critical", f"{RUNS_AGAIN}, after {pause:g} s")
                end = _await_end(running, log)
                aborts = aborts + 1 if end == "aborted" and time.monotonic() - begun < LONG_RUN else 0
                if aborts == MOST_ABORTS and running.folder.revert():
                    end, aborts = "reverted", 0
                    note(
                        log,
                        "critical",
                        "the plugin hangs again and again; the previous version runs instead",
                    )
        except (ScaffoldError, OSError) as error:
            end = "failed"
            note(log, "critical", str(error))
        long = time.monotonic() - begun > LONG_RUN
        fresh = long or end in ("asked", "reverted")
        pause = FIRST_PAUSE if fresh else min(2 * pause, LONGEST_PAUSE)


class _Restart(Exception):
    """A command asks for a new Envoy: the one that runs doesn't answer any more."""


def _await_end(running: hosts.Running, log: Path) -> str:
    """Wait until Envoy ends: its watchdog aborts it, it ends by itself, or a command asks for another."""
    assert running.process  # noqa: S101 - we started it
    mark = running.log.size()
    try:
        signal.signal(RESTART, _raise_restart)
        code = running.process.wait()
        signal.signal(RESTART, signal.SIG_IGN)
    except _Restart:
        signal.signal(RESTART, signal.SIG_IGN)
        running.process.kill()
        note(log, "critical", "Envoy didn't answer any more, so it is restarted")
        return "asked"
    note(log, "critical", died(code, running.log.since(mark)).message)
    return "aborted" if code == ABORTED else "ended"


def _raise_restart(_number: int, _frame: object) -> None:
    raise _Restart


def _answer(answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _wait_for_commit(committed: threading.Event) -> None:
    if sys.stdin.readline() == "commit\n":
        committed.set()
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
