"""The rule of this folder: no process, no socket, no git, no cookiecutter. A test that breaks it fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3  # noqa: F401 - it binds a socket when it is imported, which may happen in any test
from support.users import home, said, users_folders

__all__ = ["home", "said", "users_folders"]

HERE = Path(__file__).parent
FORBIDDEN = {
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
}
TEMPLATE = "<template>"  # what Jinja, and so cookiecutter, calls the code that it compiles


class Guard:
    """What a running test has done that it mustn't."""

    def __init__(self) -> None:
        self.armed = False
        self.broken: list[str] = []

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Take note, and end the test there and then, unless it catches that."""
        if self.armed and (event in FORBIDDEN or (event == "compile" and args[1] == TEMPLATE)):
            self.broken.append(f"{event} {args}"[:120])
            pytest.fail(f"a unit test mustn't do this, it belongs to component/: {self.broken[-1]}")


guard = Guard()
sys.addaudithook(guard.audit)

os.fsync = os.fstat  # nor does a test here wait for the disk; `support.power` is about that


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Arm the guard while a test of this folder, and its fixtures, run."""
    guard.armed = HERE in item.path.parents
    try:
        return (yield)
    finally:
        guard.armed = False


@pytest.fixture(autouse=True)
def _guarded() -> Iterator[None]:
    """Fail a test that caught the guard's objection, too."""
    guard.broken.clear()
    yield
    assert not guard.broken
