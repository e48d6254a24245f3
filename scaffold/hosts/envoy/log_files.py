"""Write what an Envoy says to log files of bounded size.

Envoy writes to pipes, never to a disk: once a write of its own has failed, it logs nothing more until it
ends. Here a full disk costs lines, and no more than that.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from scaffold.core import process
from scaffold.hosts.envoy.log import OURS, set_aside

LARGEST = 8 << 20  # bytes of a log; then it is set aside, in place of what was set aside before
LONGEST = 64 << 10  # bytes of a line, whose rest is cut
_PIPE = 1 << 20  # bytes that a pipe holds at most; a plugin that logs more at once waits for us
_END_SECONDS = 5.0  # for what an Envoy that has ended wrote last


class Lines:
    """Divides a stream into complete lines, in little memory however long one is."""

    def __init__(self) -> None:
        self._rest = b""
        self._cut = 0  # bytes of the unfinished line that were dropped

    def feed(self, part: bytes) -> bytes:
        """The lines that are complete with this part of the stream."""
        return b"".join(self._feed(part[at : at + LONGEST]) for at in range(0, len(part), LONGEST))

    def end(self) -> bytes:
        """The last line, which the stream's end completes."""
        return self._finished() if self._rest else b""

    def _feed(self, part: bytes) -> bytes:
        first, found, others = part.partition(b"\n")
        self._hold(first)
        if not found:
            return b""
        line = self._finished()
        whole = others.rfind(b"\n") + 1
        self._hold(others[whole:])
        return line + others[:whole]

    def _hold(self, part: bytes) -> None:
        room = LONGEST - len(self._rest)
        self._rest += part[:room]
        self._cut += len(part[room:])

    def _finished(self) -> bytes:
        line, cut = self._rest, self._cut
        self._rest, self._cut = b"", 0
        if cut:
            is_json = line.startswith(b"{")  # then its message, which comes last, is what is so long
            line = _without_half_escape(line) if is_json else line
            line += f" ... ({cut:,} bytes more)".encode() + (b'"}' if is_json else b"")
        return line + b"\n"


def _without_half_escape(text: bytes) -> bytes:
    r"""A text in JSON that was cut, without the beginning of an escape such as \n or \u0041 at its end."""
    at = text.rfind(b"\\", max(len(text) - 5, 0))
    escapes = at >= 0 and (at + 1 - len(text[: at + 1].rstrip(b"\\"))) % 2 == 1
    half = text[at + 1 :] == b"" or (text[at + 1 : at + 2] == b"u" and len(text) - at < 6)
    return text[:at] if escapes and half else text


class LogFile:
    """A file of complete lines. Once it is open, nothing that happens to the disk is raised."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _opened(path)
        self._lost = 0
        self._why = ""

    def append(self, lines: bytes) -> None:
        """Append lines. Those that the disk doesn't take are counted, and the next that it takes say so."""
        if not lines or self._file < 0:
            return
        if os.fstat(self._file).st_size + len(lines) > LARGEST:
            self._set_aside()
        size = os.fstat(self._file).st_size
        content = self._note() + lines if self._lost else lines
        try:
            if os.write(self._file, content) == len(content):
                self._lost = 0
                return
            self._why = "the disk is full"
        except OSError as error:
            self._why = error.strerror or str(error)
        self._lost += lines.count(b"\n")
        with suppress(OSError):  # a part may have been written
            os.ftruncate(self._file, size)

    def close(self) -> None:
        """Close the file; what is appended later is dropped."""
        os.close(self._file)
        self._file = -1

    def _note(self) -> bytes:
        text = f"{self._lost:,} lines of the log are lost: {self._why}"
        return _line("warning", text)

    def _set_aside(self) -> None:
        """Go on in a new file; at any time there is one for readers. Without room for it, empty this one."""
        old, new = set_aside(self._path), self._path.with_suffix(".new")
        file: int | None = None
        try:
            file = _opened(new)
            old.unlink(missing_ok=True)
            os.link(self._path, old)
            new.replace(self._path)
        except OSError:
            if file is not None:
                os.close(file)
            with suppress(OSError):
                os.ftruncate(self._file, 0)
            for path in (new, old):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        else:
            os.close(self._file)
            self._file = file


def note(path: Path, level: str, text: str) -> None:
    """Append a line of our own to a log, where a disk that is full doesn't matter."""
    with suppress(OSError), path.open("ab") as file:
        file.write(_line(level, text))


def _line(level: str, text: str) -> bytes:
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "level": level, "logger": OURS, "message": text}).encode() + b"\n"


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class Copied:
    """A started Envoy whose output is copied: the part of `process.Child` that a host needs."""

    def __init__(self, child: process.Child, copying: threading.Thread) -> None:
        self._child, self._copying = child, copying

    def poll(self) -> int | None:
        """Its exit code, once it has ended and the logs have all that it wrote."""
        code = self._child.poll()
        if code is not None:
            self._copying.join(_END_SECONDS)
        return code

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def cpu_seconds(self) -> float | None:
        """The processor time that it has taken."""
        return process.cpu_seconds(self._child.pid)

    def memory(self) -> int | None:
        """The bytes of main memory that it holds."""
        return process.memory(self._child.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `process.TimeoutExpired`."""
        code = self._child.wait(timeout)
        self._copying.join(_END_SECONDS)
        return code


@contextmanager
def spawn(
    argv: process.Argv, *, cwd: Path, log: Path, access_log: Path, access_pipe: Path
) -> Iterator[Copied]:
    """An Envoy that runs while the block does.

    Its output goes to the file `log`, what it writes to `access_pipe` to the file `access_log`. There, the
    end of a request comes after all that was logged during the request.
    """
    files = LogFile(log), LogFile(access_log)
    access_pipe.unlink(missing_ok=True)
    os.mkfifo(access_pipe, 0o600)
    access = os.open(access_pipe, os.O_RDWR | os.O_NONBLOCK)  # for writing too: then it never ends
    source, sink = os.pipe()
    if sys.platform == "linux":
        with suppress(OSError):  # this user has many pipes
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE)
    copying = threading.Thread(target=_copy, args=(source, access, *files), name="logs", daemon=True)
    copying.start()
    try:
        with ExitStack() as stack:
            output = stack.enter_context(os.fdopen(sink, "wb", buffering=0))
            child = stack.enter_context(process.spawn(argv, cwd=cwd, stdout=output, stderr=output))
            output.close()  # so that the stream ends with Envoy
            yield Copied(child, copying)
    finally:
        copying.join(_END_SECONDS)


def _copy(source: int, access: int, log: LogFile, access_log: LogFile) -> None:
    """Copy until the end of `source`, which is Envoy's."""
    os.set_blocking(source, False)
    lines, ends = Lines(), Lines()
    part: bytes | None = None
    while part != b"":
        process.readable(source, access)
        ended = _read(access)  # read first, and written last: what was logged before it is in the pipe by now
        part = _read(source)
        log.append(lines.feed(part or b""))
        access_log.append(ends.feed(ended or b""))
    log.append(lines.end())
    while ended := _read(access):
        access_log.append(ends.feed(ended))
    for each in (log, access_log):
        each.close()
    for pipe in (source, access):
        os.close(pipe)


def _read(pipe: int) -> bytes | None:
    """All that is in a pipe; None if that is nothing, b"" at its end."""
    try:
        return os.read(pipe, _PIPE)
    except BlockingIOError:
        return None
