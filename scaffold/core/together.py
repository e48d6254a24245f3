"""Programs that run side by side, the words of each kept together."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process


@dataclass(frozen=True)
class Program:
    """What is to be run, and where."""

    argv: process.Argv
    cwd: Path


@dataclass(frozen=True)
class Ended:
    """A program that ran to its end: which of them, its exit code, all that it said, and its seconds."""

    number: int
    code: int
    words: str
    seconds: float


def cores() -> int:
    """How many programs this machine runs at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(programs: Sequence[Program], *, env: Mapping[str, str], limit: int) -> Iterator[Ended]:
    """Run programs, at most `limit` at once, and yield each when it has ended; all end with the loop."""
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    with ExitStack() as stack:
        folder = stack.enter_context(files.scratch())
        running: dict[int, tuple[subprocess.Popen[bytes], ExitStack, float]] = {}
        waiting = list(enumerate(programs))
        while waiting or running:
            while waiting and len(running) < limit:
                number, program = waiting.pop(0)
                own = stack.enter_context(ExitStack())
                words = own.enter_context((folder / str(number)).open("wb"))
                child = own.enter_context(
                    process.spawn(program.argv, cwd=program.cwd, env=env, stdout=words, stderr=words)
                )
                running[number] = child, own, time.monotonic()
                threading.Thread(target=_tell, args=(child, number, ended), daemon=True).start()
            number = ended.get()
            child, own, begun = running.pop(number)
            seconds = time.monotonic() - begun
            own.close()
            said = (folder / str(number)).read_text(errors="replace")
            yield Ended(number, child.returncode, said, seconds)


def _tell(child: subprocess.Popen[bytes], number: int, ended: queue.SimpleQueue[int]) -> None:
    child.wait()
    ended.put(number)
