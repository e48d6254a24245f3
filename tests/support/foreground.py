"""Commands in the foreground, and what they print meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class Running:
    """A command and what it printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = ""
        self._threads = [
            threading.Thread(target=self._read, args=(pipe,)) for pipe in (process.stdout, process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, pipe: Iterable[str]) -> None:
        for line in pipe:
            self.text += line

    def until(self, pattern: str, seconds: float = 30, since: int = 0) -> re.Match[str]:
        """Wait until it has printed a pattern, since so many characters."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text[since:])):
            assert time.monotonic() < deadline, self.text
            assert self.process.poll() is None or re.search(pattern, self.text[since:]), self.text
            time.sleep(0.01)
        return found

    def end(self, number: int) -> int:
        """Send it a signal, and wait for its end."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        for thread in self._threads:
            thread.join()
        return code


@contextmanager
def running(*words: object, env: Mapping[str, str] = {}) -> Iterator[Running]:
    """Run `scaffold WORDS` while the block does, with `env` added to our environment."""
    argv = [sys.executable, "-m", "scaffold", *map(str, words)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, env=os.environ | env, stdout=pipe, stderr=pipe, text=True, bufsize=1)
    run = Running(process)
    try:
        yield run
    finally:
        run.end(signal.SIGKILL)
