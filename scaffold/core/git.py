"""Run git with the user's settings, but without the environment of another git.

A git hook or alias that runs us sets GIT_DIR, GIT_INDEX_FILE and the like; with these, git would read that
repository instead of the one in its working folder.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process
from scaffold.errors import MachineError

# the user's settings for all repositories; git's other variables come from the git that runs us
_SETTINGS = re.compile(
    r"GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|(AUTHOR|COMMITTER)_(NAME|EMAIL)|ASKPASS"
    r"|TERMINAL_PROMPT|EXEC_PATH|SSH.*|SSL_.*|HTTP_.*|PROXY_.*)"
)
_LITTLE = 1_000_000  # bytes free on a disk on which git couldn't write a file
# no settings of the user: an attribute in a repository may name one of their programs
NO_SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "0",
    "GIT_ATTR_NOSYSTEM": "1",
}


def program() -> str:
    """The path of git. Raises `MachineError` when it isn't installed."""
    if path := shutil.which("git"):
        return path
    raise MachineError("there is no `git` on PATH", hint="install it: `apt-get install git`, for example")


def environment() -> dict[str, str]:
    """Our environment with the user's settings for git, but without another git's repository."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    settings = {key: value for key, value in os.environ.items() if _SETTINGS.fullmatch(key)}
    return kept | settings


def run(
    *words: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    timeout: float | None = None,
    guarded: bool = False,
) -> process.Completed:
    """Run git to its end; `text` is its input. It prints English, whatever the user's locale."""
    return process.run(
        [program(), *words], cwd=cwd, env=_with(env), input=text, timeout=timeout, guarded=guarded
    )


@dataclass(frozen=True)
class Head:
    """A repository's commit, and whether anything has changed since."""

    commit: str
    changed: bool


def head(root: Path) -> Head | None:
    """The commit of the repository around a folder; None if there is none, or no git.

    Changes anywhere in the repository count: a crate may depend on other crates, and on a lock file.
    """
    if not any((folder / ".git").exists() for folder in [root.resolve(), *root.resolve().parents]):
        return None
    env = {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        commit = run("rev-parse", "--verify", "HEAD", cwd=root, env=env)
        if commit.code:
            return None
        changes = run("status", "--porcelain", cwd=root, env=env)
    except MachineError:  # git isn't installed
        return None
    return Head(commit.stdout.strip(), bool(changes.code or changes.stdout))


@contextmanager
def spawn(
    *words: str,
    cwd: Path,
    stdout: process.Output = process.DEVNULL,
    stderr: process.Output = process.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> Iterator[process.Child]:
    """Git as a process that runs while the block does: its output can be read as a stream, or limited."""
    with process.spawn([program(), *words], cwd=cwd, env=_with(env), stdout=stdout, stderr=stderr) as child:
        yield child


def check_disk(message: str, path: Path) -> None:
    """Raise `OSError` when git failed as the disk of `path` is full, which its message may only hint at."""
    code = next((code for code in files.FULL if os.strerror(code) in message), None)
    if "unable to write file" in message and shutil.disk_usage(path.parent).free < _LITTLE:
        code = errno.ENOSPC
    if code:
        raise OSError(code, os.strerror(code), str(path))


def _with(env: Mapping[str, str] | None) -> dict[str, str]:
    return environment() | {"LC_ALL": "C"} | dict(env or {})
