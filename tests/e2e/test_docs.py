"""The pages of docs/ as a reader follows them: each in one shell, in an empty folder (see `documents.py`).

Only the ports are others, so that a page needs none that another program has.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.documents import ROOT, Step, blocks, steps
from support.ports import moved

from scaffold.core import files

PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```console" in path.read_text()]
COMMAND_SECONDS = 180
PROGRAMS = ("curl", "cargo", "docker", "docker-registry", "git")  # that the pages call and aren't ours


class Shell:
    """A bash that goes on from one command to the next, and shows standard output and error as one."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end; its exit code, and what it printed, without colours."""
        end = f"end-of-{uuid.uuid4().hex}"
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write(f"{{ {command}\n}} </dev/null\necho {end} $?\n".encode())
        self._child.stdin.flush()
        said, deadline = b"", time.monotonic() + COMMAND_SECONDS
        while not (ended := re.search(rf"{end} (\d+)\n".encode(), said)):
            waited = select.select([self._child.stdout], [], [], max(0, deadline - time.monotonic()))[0]
            read = os.read(self._child.stdout.fileno(), 65536) if waited else b""
            assert read, f"$ {command}\ndoes not come back\n{said.decode(errors='replace')}"
            said += read
        text = said[: ended.start()].decode(errors="replace")
        return int(ended[1]), re.sub(r"\x1b\[[0-9;]*m", "", text)


def data_of_a_reader(folder: Path) -> Path:
    """Images of their own; toolchains and Envoys stay the user's, where they are dear to make."""
    ours = folder / "data" / files.APP
    ours.mkdir(parents=True)
    for name in ("toolchains", "envoys"):
        (files.data_dir() / name).mkdir(parents=True, exist_ok=True)
        (ours / name).symlink_to(files.data_dir() / name)
    return folder / "data"


@contextmanager
def shell(folder: Path, more: dict[str, str]) -> Iterator[Shell]:
    """A shell of a reader: none of the tests' own settings, no proxy between us and localhost."""
    ours = ("CARGO_TARGET_DIR", "PYTHONPATH", "RUST_BACKTRACE")
    env = {key: value for key, value in os.environ.items() if key not in ours}
    env |= {"no_proxy": "localhost,127.0.0.1", "LC_ALL": "C.UTF-8", "CI": "1"} | more
    env |= {"XDG_STATE_HOME": str(folder / "state"), "XDG_DATA_HOME": str(data_of_a_reader(folder))}
    here = folder / "here"
    here.mkdir()
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=here,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as child:
        try:
            yield Shell(child)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            subprocess.run(["scaffold", "undeploy", "--all"], env=env, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    text, ports = moved(page.read_text())
    check_can_run(text)
    with shell(tmp_path, ports) as reader:
        for block in blocks(text):
            if block.kind == "console":
                for step in steps(block):
                    follow(reader, page, step)
            elif block.path:
                _, folder = reader.run("pwd")
                (Path(folder.strip()) / block.path).write_text(block.text)


def follow(reader: Shell, page: Path, step: Step) -> None:
    """Run a command as it stands: it ends well, and shows what the page says it does."""
    code, said = reader.run(step.command)
    print(f"$ {step.command}\n{said}", end="")  # pytest shows it when the page fails, as a transcript
    where = f"line {step.line} of {page.name}: `{step.command}`"
    assert code == 0, f"{where} ends with exit code {code}"
    if step.shows:
        expected = "\n".join(step.shows)
        assert re.search(step.pattern(), f"{said}\n"), f"{where} shows nothing like\n{expected}"


def check_can_run(text: str) -> None:
    """Skip a page that calls a program that can't be had here."""
    missing = [name for name in PROGRAMS if f"$ {name} " in text and not runs(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on PATH")


def runs(name: str) -> bool:
    """Whether a program is there and works: rustup's proxies without a toolchain are, and don't."""
    if not shutil.which(name):
        return False
    words = "version" if name == "docker" else "--version"  # which asks the daemon, too
    return subprocess.run([name, words], capture_output=True).returncode == 0
