"""Processes that aren't our children: told apart, found, ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def end(pid: int, grace: float) -> None:
    """End a process that isn't our child: ask, wait until it is gone, then kill it and its group.

    One that only waits for its parent to notice (a zombie) counts as gone.
    """
    started = start_time(pid)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        if started is None or start_time(pid) != started:
            return
        for send in (os.kill, os.killpg) if number == signal.SIGKILL else (os.kill,):
            with suppress(ProcessLookupError, PermissionError):
                send(pid, number)
        deadline = time.monotonic() + patience
        while start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(0.005)


def start_time(pid: int) -> float | None:
    """When a process started, to tell it from a later one of the same number; None when there is none.

    On Linux in clock ticks since the boot, which setting the clock doesn't change; elsewhere in
    seconds since 1970.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # a name may be any bytes
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends while we read
        if sys.platform == "linux":
            return None
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else float(fields[19])


def find(*words: str) -> dict[int, Path]:
    """The processes whose command line ends in these words, as far as we may see: the folder each works in.

    One that has been removed is named as it was.
    """
    import psutil

    return {
        each.pid: Path(each.info["cwd"])
        for each in psutil.process_iter(["cmdline", "cwd"])
        if each.info["cwd"] and tuple(each.info["cmdline"] or ())[-len(words) :] == words
    }


def port_owner(port: int) -> str | None:
    """Who listens on a TCP port, as "name (pid N)"; None when nobody does or we may not know."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:  # macOS asks for root
        pass
    return None
