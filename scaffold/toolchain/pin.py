"""The Rust version that a project asks for in rust-toolchain.toml, where rustup isn't what chooses.

rustup follows the file by itself; other toolchains don't know it.
Source: the rustup book, overrides.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import foreign_files
from scaffold.core.text import quoted
from scaffold.toolchain.rustc import Toolchain, programs

_FILES = ("rust-toolchain", "rust-toolchain.toml")  # the older name takes precedence
_CHANNEL = re.compile(r"(\d+\.\d+(?:\.\d+)?|stable|beta|nightly)(?:-[\w.-]+)?")
_NAME = re.compile(r"[\w.-]{1,100}")


@dataclass(frozen=True)
class Unmet:
    """A toolchain that isn't the one that a project asks for: a sentence, and the remedy."""

    sentence: str
    remedy: str


def unmet(root: Path, tools: Toolchain, triple: str) -> Unmet | None:
    """How a toolchain differs from the one that the project in `root` asks for, if it does."""
    if "RUSTUP_TOOLCHAIN" in tools.env:  # rustup chose it
        return None
    pinned = next(filter(None, map(_pin, (root.resolve(), *root.resolve().parents))), None)
    if pinned is None or _fits(pinned[1], tools.version):
        return None
    path, channel = pinned
    if not _NAME.fullmatch(channel):
        return Unmet(f"{path} asks for {quoted(channel)}, which isn't a toolchain's name", f"correct {path}")
    install = f"`rustup toolchain install {channel} --target {triple}`"
    before = "" if next(programs("rustup"), None) else "install rustup, then "
    sentence = f"{path} asks for Rust {channel}, but Rust {tools.version} builds ({tools.origin})"
    return Unmet(sentence, f"{before}{install}, or change the file")


def _pin(folder: Path) -> tuple[Path, str] | None:
    """The file in a folder that names a toolchain, and the name."""
    for path in (folder / name for name in _FILES):
        with suppress(OSError, UnicodeDecodeError):
            text = foreign_files.read_text(path).strip()
            try:
                table = tomllib.loads(text).get("toolchain")
            except ValueError:  # the older form: the name alone
                return (path, text) if text and "\n" not in text else None
            channel = table.get("channel") if isinstance(table, dict) else None
            return (path, channel) if isinstance(channel, str) else None
    return None


def _fits(channel: str, version: str) -> bool:
    """Whether a version such as "1.85.1" or "1.87.0-nightly" is of a channel, whose date isn't compared."""
    match = _CHANNEL.fullmatch(channel)
    named = match[1] if match else channel
    if named == "stable":
        return "-" not in version
    if named in ("beta", "nightly"):
        return f"-{named}" in version
    return version == named or version.startswith((f"{named}.", f"{named}-"))
