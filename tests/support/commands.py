"""The doors as a user opens them: processes of our own, with or without a terminal, and this process."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from scaffold.cli.commands import cli, enter

SCAFFOLD = (sys.executable, "-m", "scaffold")
INVOKE = (sys.executable, "-m", "invoke")
TASKS = "from scaffold.tasks import ns\n\n__all__ = ['ns']\n"


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run(*words: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> Ran:
    """Run a command to its end, without a terminal."""
    ran = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    return Ran(
        ran.returncode,
        ran.stdout.decode(errors="surrogateescape"),
        ran.stderr.decode(errors="surrogateescape"),
    )


def entered(capsys: pytest.CaptureFixture[str], *words: object) -> Ran:
    """What `scaffold WORDS` does, in this process: quicker, where its start doesn't matter."""
    capsys.readouterr()
    code = 0
    try:
        enter(cli, [str(word) for word in words], "scaffold")
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)


@dataclass
class Terminal:
    """A command that runs in a terminal of its own, and what has appeared there."""

    child: subprocess.Popen[bytes]
    master: int
    seen: str = ""

    def until(self, text: str, within: float = 20) -> str:
        """Wait until a text appears; returns all that was seen so far."""
        deadline = time.monotonic() + within
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            self._read(0.05)
        return self.seen

    def asks(self, text: str) -> None:
        """Wait until it has asked, and is waiting for the answer: a signal before that can be missed."""
        self.until(text)
        process = psutil.Process(self.child.pid)
        deadline = time.monotonic() + 10
        while process.status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline, "it doesn't wait"

    def type(self, text: str) -> None:
        """Type; "\\x03" is Ctrl-C."""
        os.write(self.master, text.encode())

    def end(self, within: float = 60) -> int:
        """Wait for the end; returns the exit code."""
        deadline = time.monotonic() + within
        while self.child.poll() is None:
            assert time.monotonic() < deadline, f"it doesn't end: {self.seen!r}"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.child.returncode

    def _read(self, patience: float) -> bool:
        if not select.select([self.master], [], [], patience)[0]:
            return False
        try:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # Linux's way of saying that nobody has the other side any more
            return False
        return True


@contextmanager
def terminal(*words: object, cwd: Path, stdout: int | None = None) -> Iterator[Terminal]:
    """Run a command in a terminal, its standard output elsewhere if you say so."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\x00\x50\x00\x00\x00\x00\x00")  # 24 lines, 80 columns
    takes_it = "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    heeds_it = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # which nohup has children ignore
    goes_on = "os.execvp(sys.argv[1], sys.argv[1:])"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{takes_it}; {heeds_it}; {goes_on}", *map(str, words)],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "CI"} | {"TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave if stdout is None else stdout,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(child, master)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        os.close(master)


def listing(folder: Path) -> list[str]:
    """All that is in a folder, and below."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def error(message: str, hint: str | None = None) -> str:
    """What standard error shows of an error, where it is no terminal."""
    return f"error: {message}\n" + (f"\nhint: {hint}\n" if hint else "")


def suggested(err: str, begins: Sequence[str]) -> str:
    """The word that a hint suggests after these."""
    found = re.search(rf"{' '.join(begins)} (\S+?)`?$", err, re.MULTILINE)
    assert found, err
    return found[1]
