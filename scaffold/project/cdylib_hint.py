"""A crate that builds no cdylib: where its plugin is, in an example or a binary, and what to move where."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaffold.core import foreign_files
from scaffold.project.cargo_toml import table

_LARGEST = 1_000_000  # bytes of a source file
_IS_PLUGIN = re.compile(r"\bproxy_wasm::main!|\bset_(?:root|http|stream)_context\(")
_LIB = 'add `[lib]` with `crate-type = ["cdylib"]`'
_LISTED = 5


def hint(root: Path, manifest: dict[str, Any]) -> str:
    """What to do so that the crate in `root`, with this parsed Cargo.toml, builds a module."""
    if (root / "src/lib.rs").is_file() and _holds_plugin(root / "src/lib.rs"):
        return _LIB
    if examples := list(_targets(root, manifest, "example", "examples")):
        return _of_examples(root, examples)
    for _, source in _targets(root, manifest, "bin", "src/bin"):
        return f"the plugin is a binary: move {source} to src/lib.rs, without its `fn main`, and {_LIB}"
    if (root / "src/main.rs").is_file() and not (root / "src/lib.rs").exists():
        return f"a plugin is a library: move src/main.rs to src/lib.rs, without its `fn main`, and {_LIB}"
    return _LIB


def _of_examples(root: Path, examples: list[tuple[str, str]]) -> str:
    name, source = examples[0]
    if len(examples) == 1:
        return f"the plugin is the example `{name}`: move {source} to src/lib.rs, and {_LIB}"
    names = ", ".join(name for name, _ in examples[:_LISTED]) + (", …" if len(examples) > _LISTED else "")
    command = f"scaffold adopt {shlex.quote(os.path.relpath(root / source))}"
    return f"its examples are plugins ({names}): `{command}` makes a crate of the first"


def _targets(root: Path, manifest: dict[str, Any], kind: str, folder: str) -> Iterator[tuple[str, str]]:
    """The targets of a kind that hold a plugin, as cargo finds them: their names, and their sources."""
    listed = manifest.get(kind)
    named = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    names = [str(each.get("name")) for each in named]
    paths = [str(each.get("path") or f"{folder}/{name}.rs") for each, name in zip(named, names, strict=True)]
    places = dict(zip(names, paths, strict=True))
    if kind == "bin" and (root / "src/main.rs").is_file():
        places.setdefault(str(table(manifest, "package").get("name")), "src/main.rs")
    for path in sorted([*(root / folder).glob("*.rs"), *(root / folder).glob("*/main.rs")]):
        name = path.parent.name if path.name == "main.rs" else path.stem
        places.setdefault(name, str(path.relative_to(root)))
    for name, place in places.items():
        if (root / place).resolve().is_relative_to(root.resolve()) and _holds_plugin(root / place):
            yield name, place


def _holds_plugin(path: Path) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        return bool(_IS_PLUGIN.search(foreign_files.read_text(path, _LARGEST)))
    return False
