"""Start programs and see that they end: the only module that does.

Every child has a guard, a small shell that outlives a kill -9 of ours just long enough to end it.
(Linux's parent-death signal would do without one, but fires when the spawning *thread* ends, and no
other system has it.)
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
from pathlib import Path
from types import FrameType
from typing import IO, Any

from scaffold.errors import MachineError

Argv = Sequence[str | Path]

# reads the child's pid, then nothing until we are gone; then ends the group that the child may have made for
# itself, and the guard's own, 0, which is last since the guard is in it; or else that one process
_GUARD = """
trap "" INT TERM HUP
while read -r line; do pid=$line; done
all="${pid:+-$pid} ${1:-$pid}"
kill -s TERM -- $all
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 $pid && sleep 0.1; done
kill -s KILL -- $all
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
    guard: _Guard | None = None
    child: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted():
            guard = _Guard(shares_terminal)
            child = _popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=None if shares_terminal else stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                **guard.options,
            )
            guard.watch(child.pid)
        yield child
    except KeyboardInterrupt:
        if child and shares_terminal:  # the Ctrl-C was for it, too: it may be putting its things in order
            with suppress(subprocess.TimeoutExpired):
                child.wait(grace)
        raise
    finally:
        ended = False
        try:
            if child and guard:
                _end(child, grace, guard.group)
            ended = True
        finally:  # where a second Ctrl-C came, the guard ends the child
            if guard:
                guard.close(ended)
            for pipe in (child.stdin, child.stdout, child.stderr) if child else ():
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


def _end(child: subprocess.Popen[bytes], grace: float, group: int | None) -> None:
    """End the child and whatever is in its group, even when the child itself is gone."""
    if child.poll() is None:
        _signal(child, group, signal.SIGTERM)
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        except BaseException:  # a second Ctrl-C while we wait
            _signal(child, group, signal.SIGKILL)
            child.wait()
            raise
    _signal(child, group, signal.SIGKILL)
    child.wait()


def _signal(child: subprocess.Popen[bytes], group: int | None, number: int) -> None:
    """To all in the group, or in one that the child made for itself (as `timeout` does); else to it alone."""
    groups = {group or child.pid, child.pid}
    with suppress(ProcessLookupError, PermissionError):
        if child.poll() is None and os.getpgid(child.pid) not in groups:
            os.kill(child.pid, number)
    for each in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(each, number)


class _Guard:
    """A shell beside a child of ours, which ends it when our end of a pipe is closed by our death.

    It leads a group, and the child is in that from its first moment on. A child that shares our terminal
    stays in our own group, and says its pid before it becomes the program that it is to be: we might be
    killed before we can. `options` are what `subprocess.Popen` needs for that.
    """

    def __init__(self, shares_terminal: bool) -> None:
        self._shell = _popen(
            ["/bin/sh", "-c", _GUARD, "guard", *([] if shares_terminal else ["0"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            process_group=0,
        )
        self.group = None if shares_terminal else self._shell.pid
        self.options: dict[str, Any] = {"process_group": self.group}
        if shares_terminal:
            self.options["preexec_fn"] = self._watch_me

    def watch(self, pid: int) -> None:
        """Tell it the child's pid; nobody hears it where the guard was killed."""
        assert self._shell.stdin  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):
            os.write(self._shell.stdin.fileno(), b"%d\n" % pid)

    def _watch_me(self) -> None:
        """Said by the child, where Python has given back what a broken pipe does: it ends the process."""
        before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.watch(os.getpid())
        signal.signal(signal.SIGPIPE, before)

    def close(self, ended: bool) -> None:
        """End it, without a word to the child where that has `ended`; else it does what it is for."""
        with self._shell:
            if ended:
                self._shell.kill()
