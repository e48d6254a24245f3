"""Find the callback from which a plugin doesn't return: the trace of an Envoy of its own shows it.

A plugin that loops while Envoy starts it holds up Envoy's main thread for ever, which looks like a large
module that is being compiled. In a trace every call is a line, and so is its return.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from scaffold.core import files
from scaffold.errors import ScaffoldError
from scaffold.hosts.envoy.admin import Admin
from scaffold.hosts.envoy.log import Line, Log
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.envoy.running import Child, Loop, Program, patience, started
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

_CALL = re.compile(r"\[host->vm\] (\w+)\(")
_RETURN = re.compile(r"\[host<-vm\] (\w+) return|Function: (\w+) failed")
# a call that takes longer doesn't return; a busy machine gives it less of the processor's time
_PROCESSOR_SECONDS, _SECONDS = 3.0, 20.0
_FIRST_TICK = 4.0  # seconds after the start in which a timer's first call is waited for


def find(
    program: Program,
    plugins: Sequence[Plugin],
    folder_in: Callable[[Path], Folder],
    settings: HostSettings,
) -> Loop | None:
    """The error that names the first of `plugins` that loops when it starts, or at its first tick.

    Each is started alone, and without traffic. `folder_in` makes the files of an Envoy in a folder.
    """
    trial = dataclasses.replace(settings, port=0, anywhere=True, log_level="trace")
    for plugin in plugins:
        with files.scratch() as scratch, suppress(ScaffoldError):  # it doesn't even start
            folder = folder_in(scratch)
            with started(copy.copy(program), [plugin], folder, trial) as (child, _):
                callback = _open_call(child, folder, patience([plugin]) + _SECONDS).removeprefix("proxy_")
                child.kill()  # its main thread may not come back to end it
            if callback:
                return Loop(
                    f"the plugin {plugin.name} doesn't return from {callback}",
                    hint="is there an endless loop, or a wait for something?",
                )
    return None


def _open_call(child: Child, folder: Folder, seconds: float) -> str:
    """The function of the plugin that doesn't return; "" if all do, for a while after Envoy is ready."""
    log, at = Log(folder.log), 0
    calls = _Calls(child)
    deadline = time.monotonic() + seconds
    ready = False
    # a call that is open when the time is up gets what it takes to tell: the machine may be busy
    while (now := time.monotonic()) < deadline or (calls.any_open and now < deadline + _SECONDS):
        ended = child.poll() is not None
        lines, at = log.read(at)
        calls.look()
        for line in (*lines, *(log.since(at) if ended else ())):
            calls.take(line)
        if looping := calls.hung(ended=ended):
            return looping
        if ended:
            return ""
        if not ready and (address := folder.admin_address()) and Admin(address, timeout=1).live():
            ready = True
            deadline = time.monotonic() + _FIRST_TICK
        time.sleep(0.05)
    return ""


class _Calls:
    """The calls that Envoy's threads have made into the plugin, and that haven't returned."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._now = (0.0, 0.0)  # by the clock, and by the processor's time
        self._open: list[tuple[str, tuple[float, float]]] = []  # the function, and since when

    @property
    def any_open(self) -> bool:
        """Whether a call hasn't returned."""
        return bool(self._open)

    def look(self) -> None:
        """Take the time, once for all lines that have come since the last look."""
        self._now = time.monotonic(), self._child.cpu_seconds() or 0

    def take(self, line: Line) -> None:
        """Take in a line of the trace."""
        if call := _CALL.match(line.text):
            self._open.append((call[1], self._now))
        elif ended := _RETURN.match(line.text):
            name = ended[1] or ended[2]
            place = next((at for at, each in reversed([*enumerate(self._open)]) if each[0] == name), None)
            if place is not None:
                del self._open[place]

    def hung(self, *, ended: bool) -> str:
        """The first function that has taken too long, or that Envoy was in when it `ended`; "" if none."""
        if not self._open:
            return ""
        name, since = self._open[0]
        taken, used = (now - then for now, then in zip(self._now, since, strict=True))
        return name if ended or taken > _SECONDS or used > _PROCESSOR_SECONDS else ""
