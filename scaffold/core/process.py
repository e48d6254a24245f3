"""Start programs, see that they end, and look at processes that aren't our children.

No other module imports `subprocess`. A child that may run for long has a guard: a small shell that ends it
when we are killed with SIGKILL. (Linux's parent-death signal would need no shell, but it fires when the
thread that started the child ends, and no other system has it.)
"""

from __future__ import annotations

import os
import queue
import resource
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from scaffold.core import files
from scaffold.errors import MachineError

if TYPE_CHECKING:
    import psutil

Argv = Sequence[str | Path]
Child = subprocess.Popen[bytes]
Output = int | IO[Any] | None  # a descriptor, a file, one of the next three, or None: like ours
PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
TimeoutExpired = subprocess.TimeoutExpired  # raised by `Child.wait`

_MANY_FILES = 65_536
_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
# Reads the child's pid, then waits until we are gone. Then it ends three things: the group that the child may
# have made for itself, the child, and the guard's own group, 0, which comes last because the guard is in it.
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
    """A program that ran to its end: its exit code and, where captured, its output."""

    code: int
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class Program:
    """A command line and the folder to run it in."""

    argv: Argv
    cwd: Path


@dataclass(frozen=True)
class Result:
    """How one of several programs ended. `output` is its standard output and standard error."""

    index: int
    code: int
    output: str
    seconds: float


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    input: str | None = None,  # noqa: A002 - named like the parameter of `subprocess.run`
    guarded: bool = False,
) -> Completed:
    """Run a program to its end and capture its output. `input` is what it reads.

    A timeout, an exception or Ctrl-C ends the program and its process group. Without a guard, it runs to its
    end when we are killed with SIGKILL; let it be `guarded` if it takes long, may hang or is foreign.
    Raises `MachineError` when it can't be started or exceeds the timeout.
    """
    stdin = DEVNULL if input is None else PIPE
    options = {"cwd": cwd, "env": env, "stdin": stdin, "stdout": PIPE, "stderr": PIPE}
    with _started(argv, options, guarded=guarded) as child:
        try:
            stdout, stderr = child.communicate(None if input is None else input.encode(), timeout=timeout)
        except TimeoutExpired as error:
            raise MachineError(f"{argv[0]} didn't answer within {timeout:g} s") from error
    return Completed(child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def show(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> int:
    """Run a program to its end while the terminal shows what it writes; returns its exit code.

    All its output goes to standard error, which leaves standard output to our result. With `on_line`, each
    line of its standard output is passed to that instead. Raises `BrokenPipeError` if the program failed and
    nobody reads our standard error any more, which may be why.
    """
    stdout = PIPE if on_line else standard_error()
    options = {"cwd": cwd, "env": env, "stdin": DEVNULL, "stdout": stdout, "stderr": standard_error()}
    with _started(argv, options, shares_terminal=_has_terminal()) as child:
        if on_line and child.stdout:
            for line in child.stdout:
                on_line(line.decode(errors="replace"))
        code = child.wait()
    if code and _is_unread(standard_error()):
        raise BrokenPipeError
    return code


def _is_unread(descriptor: int) -> bool:
    """Whether it is a pipe whose other end has been closed."""
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are always reported
    return any(events & select.POLLERR for _, events in poll.poll(0))


@contextmanager
def spawn(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = DEVNULL,
    stdout: Output = DEVNULL,
    stderr: Output = DEVNULL,
    grace: float = _GRACE,
) -> Iterator[Child]:
    """A program that runs while the block does.

    At the block's end it and its process group get SIGTERM, and SIGKILL `grace` seconds later.
    Raises `MachineError` when it can't be started.
    """
    options = {"cwd": cwd, "env": env, "stdin": stdin, "stdout": stdout, "stderr": stderr}
    with _started(argv, options, grace=grace) as child:
        yield child


def detach(argv: Argv, *, cwd: Path, env: Mapping[str, str], stderr: IO[Any]) -> Child:
    """Start a program that outlives us. Its standard input is a lifeline: it should end when that closes."""
    return _popen(argv, cwd=cwd, env=env, stdin=PIPE, stdout=PIPE, stderr=stderr, start_new_session=True)


def run_many(programs: Sequence[Program], *, env: Mapping[str, str], limit: int) -> Iterator[Result]:
    """Run programs, at most `limit` at once, and yield each when it has ended.

    When the loop ends early, so do the programs. `Result.index` is the program's place in the sequence.
    """
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def wait(child: Child, index: int) -> None:
        child.wait()
        ended.put(index)

    with ExitStack() as stack:
        folder = stack.enter_context(files.scratch())
        running: dict[int, tuple[Child, ExitStack, float]] = {}
        waiting = list(enumerate(programs))
        while waiting or running:
            while waiting and len(running) < limit:
                index, program = waiting.pop(0)
                own = stack.enter_context(ExitStack())
                log = own.enter_context((folder / str(index)).open("wb"))
                child = own.enter_context(
                    spawn(program.argv, cwd=program.cwd, env=env, stdout=log, stderr=log)
                )
                running[index] = child, own, time.monotonic()
                threading.Thread(target=wait, args=(child, index), daemon=True).start()
            index = ended.get()
            child, own, begun = running.pop(index)
            seconds = time.monotonic() - begun
            own.close()
            output = (folder / str(index)).read_text(errors="replace")
            yield Result(index, child.returncode, output, seconds)


def cores() -> int:
    """How many programs this machine can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def standard_error() -> int:
    """The descriptor of our standard error, for a child's output."""
    if sys.stderr is None:  # it was closed when we were started
        return DEVNULL
    sys.stderr.flush()
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError):  # replaced by something without a descriptor
        return 2


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay signals until the block's end: an exception between a child's start and its record loses it."""
    delayed: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(
                    number, lambda number, frame: delayed.append((number, frame))
                )
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    for caught, frame in delayed:
        handlers[caught](caught, frame)


# --- processes that aren't our children


def readable(*streams: IO[Any] | int, seconds: float | None = None) -> bool:
    """Wait until one of the streams can be read, whatever its number is; False if none can in that time."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def allow_many_files() -> None:
    """Let this process, and what it starts, open as many files and connections as the system allows."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if most == resource.RLIM_INFINITY else min(most, _MANY_FILES)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        with suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def end(pid: int, grace: float) -> None:
    """End a process that isn't our child: SIGTERM, then SIGKILL to it and its group after `grace` seconds.

    A zombie, which only waits for its parent, counts as ended.
    """
    started = start_time(pid)
    for number, senders in ((signal.SIGTERM, (os.kill,)), (signal.SIGKILL, (os.kill, os.killpg))):
        if started is None or start_time(pid) != started:
            return
        for send in senders:
            with suppress(ProcessLookupError, PermissionError):
                send(pid, number)
        deadline = time.monotonic() + grace
        while start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(0.005)


def cpu_seconds(pid: int) -> float | None:
    """The processor time of a process and those below it; None if that can't be told.

    On Linux it is exact to microseconds, elsewhere to what the system says.
    """
    import psutil

    try:
        top = psutil.Process(pid)
        return sum(map(_cpu_seconds, (top, *top.children(recursive=True))))
    except psutil.Error:
        return None


def _cpu_seconds(one: psutil.Process) -> float:
    if sys.platform == "linux":
        with suppress(OSError):
            return time.clock_gettime(~one.pid << 3 | 2)  # the clock that clock_getcpuclockid(3) returns
    times = one.cpu_times()
    return times.user + times.system


def memory(pid: int) -> int | None:
    """The bytes of main memory that a process holds; None if that can't be told."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def start_time(pid: int) -> float | None:
    """When a process started, which tells it from a later one with the same pid; None if there is none.

    On Linux in clock ticks since the boot, which setting the clock doesn't change; elsewhere in
    seconds since 1970.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # its name may be any bytes
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends while we read
        if sys.platform == "linux":
            return None
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    fields = stat.rpartition(")")[2].split()  # the name before it may contain spaces and brackets
    return None if fields[0] in "ZX" else float(fields[19])


def find(*words: str) -> dict[int, Path]:
    """The processes whose command line ends in these words, as far as we may see: pid -> working folder.

    A working folder that has been removed keeps its name. Those in a container are left out, where the same
    name is another folder.
    """
    import psutil

    return {
        each.pid: Path(each.info["cwd"])
        for each in psutil.process_iter(["cmdline", "cwd"])
        if each.info["cwd"] and tuple(each.info["cmdline"] or ())[-len(words) :] == words
        if _shares_root(each.pid)
    }


def numbers(pid: int) -> set[int]:
    """The numbers of a process: a container's has one there, too."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return set(map(int, line.split()[1:]))
    return {pid}


def _shares_root(pid: int) -> bool:
    try:
        return os.path.samestat(Path(f"/proc/{pid}/root/").stat(), Path("/").stat())
    except OSError:
        return sys.platform != "linux"


def port_owner(port: int) -> str | None:
    """The process that listens on a TCP port, as "name (pid N)"; None if there is none or we may not know."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:  # macOS asks for root
        pass
    return None


# --- how a child starts and ends


@contextmanager
def _started(
    argv: Argv,
    options: Mapping[str, Any],
    *,
    guarded: bool = True,
    shares_terminal: bool = False,
    grace: float = _GRACE,
) -> Iterator[Child]:
    """A child that runs while the block does; `options` are what `subprocess.Popen` takes.

    It gets a process group of its own, so that what it starts ends with it. One that `shares_terminal` stays
    in ours: only a foreground process can read from the terminal and be interrupted there.
    """
    guard: _Guard | None = None
    child: Child | None = None
    if shares_terminal:
        options = {**options, "stdin": None}
    try:
        with uninterrupted():
            if guarded:
                guard = _Guard(shares_terminal)
            child = _popen(argv, **options, **(guard.options if guard else {"process_group": 0}))
            if guard:
                guard.watch(child.pid)
        yield child
    except KeyboardInterrupt:
        if child and shares_terminal:  # it got the Ctrl-C, too, and may be cleaning up
            with suppress(TimeoutExpired):
                child.wait(grace)
        raise
    finally:
        ended = False
        try:
            if child:
                _end_child(child, grace, guard.group if guard else None)
            ended = True
        finally:  # not ended: a second Ctrl-C
            if guard:
                guard.close(ended)
            elif child and not ended:
                _signal(child, None, signal.SIGKILL)
            for pipe in (child.stdin, child.stdout, child.stderr) if child else ():
                if pipe:
                    with suppress(BrokenPipeError):  # it ended before it read everything
                        pipe.close()


def _popen(argv: Argv, **options: Any) -> Child:
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


def _end_child(child: Child, grace: float, group: int | None) -> None:
    """End the child and the rest of its group, even when the child itself has ended."""
    if child.poll() is None:
        _signal(child, group, signal.SIGTERM)
        try:
            child.wait(grace)
        except TimeoutExpired:
            pass
        except BaseException:  # a second Ctrl-C while we wait
            _signal(child, group, signal.SIGKILL)
            child.wait()
            raise
    _signal(child, group, signal.SIGKILL)
    child.wait()


def _signal(child: Child, group: int | None, number: int) -> None:
    """Signal `group`, the group that the child made for itself (as `timeout` does), or else it alone."""
    groups = {group or child.pid, child.pid}
    with suppress(ProcessLookupError, PermissionError):
        if child.poll() is None and os.getpgid(child.pid) not in groups:
            os.kill(child.pid, number)
    for each in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(each, number)


class _Guard:
    """A shell beside a child, which ends it when our death closes our end of a pipe.

    The guard leads a group, and the child is in that from its first moment on. A child that shares our
    terminal stays in our own group, and sends its pid before it becomes the program that it is to be: we
    might be killed before we could. `options` are what `subprocess.Popen` needs for that.
    """

    def __init__(self, shares_terminal: bool) -> None:
        self._shell = _popen(
            ["/bin/sh", "-c", _GUARD, "guard", *([] if shares_terminal else ["0"])],
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            process_group=0,
        )
        self.group = None if shares_terminal else self._shell.pid
        self.options: dict[str, Any] = {"process_group": self.group}
        if shares_terminal:
            self.options["preexec_fn"] = self._watch_me

    def watch(self, pid: int) -> None:
        """Send the child's pid to the guard; without effect when the guard has been killed."""
        assert self._shell.stdin  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):
            os.write(self._shell.stdin.fileno(), b"%d\n" % pid)

    def _watch_me(self) -> None:
        """Called in the child, where Python has restored SIGPIPE: a broken pipe would end the process."""
        handler = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.watch(os.getpid())
        signal.signal(signal.SIGPIPE, handler)

    def close(self, ended: bool) -> None:
        """End the guard: at once when the child has `ended`, otherwise once it has ended the child."""
        with self._shell:
            if ended:
                self._shell.kill()
