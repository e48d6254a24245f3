"""What names a request on the command line: a curl command line, an id of the live view, or a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaffold.commands.deploy_targets import nothing_deployed, roots_of
from scaffold.core.events import Requested
from scaffold.core.foreign_files import read_bytes, remedy
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts.background import target as here
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.envoy.live_view import with_id
from scaffold.hosts.envoy.log import Logs
from scaffold.project import curl

_ID = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{3,63}")  # of a request, or its beginning


@dataclass(frozen=True)
class Named:
    """A name: the words of curl's command line, an id, or a file's path, "-" for standard input."""

    kind: Literal["curl", "id", "file"]
    words: Sequence[str]

    @property
    def word(self) -> str:
        """The id, or the file."""
        return self.words[0]

    @property
    def of_file(self) -> str:
        """The file as a sentence names it."""
        return "standard input" if self.word == "-" else self.word


def named(what: Sequence[object], *, command: str, question: str) -> Named:
    """What the words of a `command` name. Raises `UsageError` where they name nothing."""
    words = curl.in_one_word([str(each) for each in what])
    line = f"scaffold {command} -- curl http://localhost:8080/"
    hint = f"such as `{line}`, an id from `scaffold requests`, or a file"
    if not words:
        raise UsageError(question, hint=hint)
    if words[0] == "curl":
        return Named("curl", words)
    if len(words) > 1:
        raise UsageError(f"`{words[0]}` isn't a curl command line", hint=hint)
    is_id = bool(_ID.fullmatch(words[0])) and not Path(words[0]).exists()  # of 64 characters at most
    if not is_id and words[0] != "-" and not _may_exist(words[0]):
        message = f"{words[0]} is neither a file nor a request's id (4 characters or more)"
        raise UsageError(message, hint=hint)
    return Named("id" if is_id else "file", words)


def _may_exist(name: str) -> bool:
    """Whether a file may have this name; of one that is too long, reading it tells."""
    try:
        Path(name).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def content(name: str, limit: int, *, hint: str) -> bytes:
    """What is in a file, or comes on standard input, of at most `limit` bytes."""
    if name == "-":
        came = sys.stdin.buffer.read(limit + 1) if sys.stdin else b""
        if len(came) > limit:
            raise UsageError(f"standard input can't be larger than {limit >> 20} MiB", hint=hint)
        return came
    return content_of(Path(name), limit)


def content_of(path: Path, limit: int) -> bytes:
    """The content of a file. Raises `ProjectError` where it can't be read."""
    try:
        return read_bytes(path, limit)
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}", hint=remedy(error)) from error


def found(request_id: str, root: Path) -> tuple[Requested, Logs, Record | None]:
    """The request whose id begins like this, the logs it is in, and what runs: by `dev`, or deployed."""
    roots = roots_of(root)
    running: Sequence[Record | None] = here.seen(roots) or [None]
    places = [(logs, record) for record in running if (logs := here.logs_of(record, roots))]
    if not places:
        raise nothing_deployed(roots)
    for logs, record in places[:-1]:
        with suppress(UsageError):
            return with_id(logs, request_id), logs, record
    logs, record = places[-1]
    return with_id(logs, request_id), logs, record
