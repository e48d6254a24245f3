"""What a repository's build files say: the triple that they compile to, and the Rust that they ask for."""

from __future__ import annotations

import posixpath
import re

from scaffold.commands.adopt.committed import Committed
from scaffold.core.versions import Version
from scaffold.errors import ProjectError
from scaffold.project.crate import TRIPLES
from scaffold.project.templates.sdk_dependency import parse
from scaffold.toolchain.rustc import OLDEST

_PINS = ("rust-toolchain", "rust-toolchain.toml")  # the older name takes precedence
_NUMBERED = re.compile(r"\d+\.\d+(\.\d+)?")


def check_pin(committed: Committed, triple: str) -> None:
    """Raise `ProjectError` if the repository pins a Rust that is too old for the triple."""
    for folder in committed.folders():
        for path in (posixpath.join(folder, name) for name in _PINS):
            if path not in committed.entries:
                continue
            channel = _channel(committed.read(path))
            if triple == TRIPLES[0] and _NUMBERED.match(channel) and Version.find(channel) < OLDEST:
                raise ProjectError(
                    f"{path} asks for Rust {channel}, and {triple} needs {OLDEST} or later",
                    hint=f'write `channel = "stable"` in it, or a version from {OLDEST} on, and commit that',
                )
            return


def _channel(text: str) -> str:
    table = parse(text).get("toolchain")
    channel = table.get("channel", "") if isinstance(table, dict) else text.strip()
    return str(channel)
