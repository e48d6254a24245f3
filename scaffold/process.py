"""Start programs and see that they end: the only module that does.

Every child is known to a guard, a small process that outlives a kill -9 of ours just long enough to
end what we left. (Linux's parent-death signal would do without one, but fires when the spawning
*thread* ends, and no other system has it.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import IO, Any

from scaffold.errors import MachineError

Argv = Sequence[str | Path]

_GUARD = """
import os, signal, sys, time
known = {}
for line in sys.stdin:
    name, _, pid = line[1:].partition(" ")
    if line[0] == "+":
        known[name.strip()] = int(pid)
    else:
        known.pop(name.strip(), None)
pids = set(known.values())
def send(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        try:
            os.kill(pid, number)
        except OSError:
            pids.discard(pid)
for number in (signal.SIGTERM, signal.SIGKILL):
    for pid in list(pids):
        send(pid, number)
    until = time.monotonic() + 1
    while pids and number == signal.SIGTERM and time.monotonic() < until:
        time.sleep(0.02)
        for pid in list(pids):
            send(pid, 0)
"""


@dataclass(frozen=True)
class Completed:
    """A program that ran to its end: its exit code and, where captured, what it printed."""

    code: int
    stdout: str = ""
    stderr: str = ""


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    input: str | None = None,  # noqa: A002 - as `subprocess.run` has it
) -> Completed:
    """Run a program to its end and capture what it prints; `input` is what it reads.

    Raises `MachineError` when it can't start.
    """
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    pipe = subprocess.PIPE
    with spawn(argv, cwd=cwd, env=env, stdin=stdin, stdout=pipe, stderr=pipe) as child:
        try:
            stdout, stderr = child.communicate(None if input is None else input.encode(), timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{argv[0]} gave no answer within {timeout:g} s") from error
    return Completed(child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def show(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    """Run a program to its end with its words going to the terminal as it writes them; its exit code.

    All it says goes to standard error, which leaves standard output to our result; with `on_line`,
    the lines of its standard output are handed over instead.
    """
    stdout = subprocess.PIPE if on_line else standard_error()
    with spawn(
        argv,
        cwd=cwd,
        env=env,
        stdout=stdout,
        stderr=standard_error(),
        shares_terminal=True,
        pass_fds=pass_fds,
    ) as child:
        if on_line and child.stdout:
            for line in child.stdout:
                on_line(line.decode(errors="replace"))
        return child.wait()


def standard_error() -> int:
    """The descriptor of our standard error, for what a child says."""
    if sys.stderr is None:  # it was closed when we were started
        return subprocess.DEVNULL
    sys.stderr.flush()
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError):  # replaced by something without a descriptor
        return 2


@contextmanager
def spawn(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = subprocess.DEVNULL,
    stderr: int | IO[Any] | None = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    shares_terminal: bool = False,
    grace: float = 2.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs while the block does: then it is asked to end, waited for, and killed.

    It gets a process group of its own, so that what it starts ends with it; unless it shares our
    terminal, where it must stay in the foreground to read and be interrupted.
    """
    shares_terminal = shares_terminal and _has_terminal()
    guard = _Guard.get()
    name = guard.name()
    child: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted():
            child = _popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=None if shares_terminal else stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                process_group=None if shares_terminal else 0,
                preexec_fn=partial(guard.watch_me, name),
            )
        yield child
    except KeyboardInterrupt:
        if child and shares_terminal:  # the Ctrl-C was for it, too: it may be putting its things in order
            with suppress(subprocess.TimeoutExpired):
                child.wait(grace)
        raise
    finally:
        try:
            if child:
                _end(child, grace, group=not shares_terminal)
        finally:
            guard.forget(name)
            if child:
                for pipe in (child.stdin, child.stdout, child.stderr):
                    if pipe:
                        pipe.close()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals back for a moment: an exception between a child's start and its record loses it."""
    held: list[tuple[int, FrameType | None]] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    for caught, frame in held:
        before[caught](caught, frame)


def detach(argv: Argv, *, cwd: Path, env: Mapping[str, str], stderr: IO[Any]) -> subprocess.Popen[bytes]:
    """Start a program that outlives us. Its standard input is a lifeline: it should end when that does."""
    return _popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )


def _popen(argv: Argv, **options: Any) -> subprocess.Popen[bytes]:
    words = [str(word) for word in argv]
    try:
        return subprocess.Popen(words, **options)
    except OSError as error:
        raise MachineError(f"cannot run {words[0]}: {error.strerror}") from error


def _has_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def _end(child: subprocess.Popen[bytes], grace: float, *, group: bool) -> None:
    """End the child and, with `group`, whatever it started, even when the child itself is gone."""
    if child.poll() is None:
        _signal(child.pid, signal.SIGTERM, group)
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        except BaseException:  # a second Ctrl-C while we wait
            _signal(child.pid, signal.SIGKILL, group)
            child.wait()
            raise
    _signal(child.pid, signal.SIGKILL, group) if group or child.poll() is None else None
    child.wait()


def _signal(pid: int, number: int, group: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


class _Guard:
    """Our side of the guard: it reads pids from a pipe, and ends those it still has when the pipe does."""

    _current: _Guard | None = None
    _starting = threading.Lock()

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._names = count()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal isn't for it
        )
        assert self._process.stdin  # noqa: S101 - for the type checker
        self._pipe = self._process.stdin.fileno()

    @classmethod
    def get(cls) -> _Guard:
        with cls._starting:
            if cls._current is None or cls._current._pid != os.getpid():
                cls._current = cls()
            return cls._current

    def name(self) -> int:
        """What we call the next child, whose pid is known too late."""
        return next(self._names)

    def watch_me(self, name: int) -> None:
        """Said by a child of ours before it becomes the program that it is to be.

        We would be too late where we are killed just then. The pipe doesn't end while the child has it,
        too, which is until it is that program; and a line is written whole.
        """
        before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the guard may have been killed
        self._say(f"+{name} {os.getpid()}\n")
        signal.signal(signal.SIGPIPE, before)

    def forget(self, name: int) -> None:
        """Said when a child has ended, or could not become its program."""
        self._say(f"-{name}\n")

    def _say(self, line: str) -> None:
        with suppress(OSError):
            os.write(self._pipe, line.encode())
