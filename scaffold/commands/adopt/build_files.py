"""What a repository's build files say: the triple that they compile to, and the Rust that they ask for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from scaffold.commands.adopt.committed import Committed
from scaffold.core.versions import Version
from scaffold.errors import ProjectError
from scaffold.project.crate import TRIPLES
from scaffold.project.templates.sdk_dependency import parse
from scaffold.project.templates.sdk_renames import is_bazels
from scaffold.toolchain.rustc import OLDEST

_PINS = ("rust-toolchain", "rust-toolchain.toml")  # the older name takes precedence
_CONFIGS = ("config", "config.toml")  # cargo's, in a folder .cargo
_SCRIPTS = re.compile(
    r"(GNU)?[Mm]akefile(\.toml)?|.*\.(mk|sh|bash|ps1|py|ya?ml)|[Jj]ustfile|.*Dockerfile.*|Containerfile|package\.json"
)
_RUST = re.compile(  # of an image, of a workflow's step, of a command
    r"""(?:\brust:|\btoolchain["']?\s*[:=]\s*["']?|\brustup\s+(?:default|toolchain\s+install)\s+)(1\.\d+(?:\.\d+)?)"""
)
_NUMBERED = re.compile(r"\d+\.\d+(\.\d+)?")


def triple(committed: Committed, texts: Mapping[str, str]) -> str:
    """The triple that the files which build the crate name, the nearest first; wasip1 if there are none.

    In one folder, cargo's own configuration counts first, then scripts and the like, then rustup's file.
    """
    ranked: dict[tuple[int, int], set[str]] = {}
    for path, text in texts.items():
        if path.endswith((".rs", ".lock")) or is_bazels(path) or not committed.is_related(path):
            continue
        above = enumerate(committed.folders())
        distance = next(place for place, each in above if not each or path.startswith(f"{each}/"))
        rank, build = _of_build(PurePosixPath(path), text)
        found = ranked.setdefault((distance, rank), set())
        found |= {each for each in TRIPLES if each in build}
    named = next((found for _, found in sorted(ranked.items()) if found), {TRIPLES[0]})
    return next(each for each in TRIPLES if each in named)


def _of_build(path: PurePosixPath, text: str) -> tuple[int, str]:
    """How much a file says about the build, 0 is the most, and the part of it that does."""
    if path.parent.name == ".cargo" and path.name in _CONFIGS:
        build = parse(text).get("build")
        target = build.get("target") if isinstance(build, dict) else None
        return (0, str(target)) if target else (3, text)
    return 1 if _SCRIPTS.fullmatch(path.name) else 2 if path.name in _PINS else 3, text


def old_rusts(committed: Committed, texts: Mapping[str, str]) -> list[str]:
    """Which scripts, workflows and images build the crate with a Rust without wasip1: sentences."""
    found = []
    for path, text in sorted(texts.items()):
        if _SCRIPTS.fullmatch(PurePosixPath(path).name) and committed.is_related(path) and TRIPLES[0] in text:
            old = [each for each in _RUST.findall(text) if Version.find(each) < OLDEST]
            found += [
                f"{path} uses Rust {each}, and {TRIPLES[0]} needs {OLDEST} or later" for each in old[:1]
            ]
    return found


def is_of_build(path: str) -> bool:
    """Whether a file, by its path from a folder, may say how the source there is built or run."""
    name = PurePosixPath(path)
    if len(name.parts) > 1:
        return name.parts[0] == ".cargo" and name.name in _CONFIGS
    return bool(_SCRIPTS.fullmatch(name.name)) or name.name in _PINS or name.suffix == ".json"


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
