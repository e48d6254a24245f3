"""Cargo.toml as it is written: which one is meant, and what is in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError

FILE = "Cargo.toml"
NAME = "proxy-wasm"  # the SDK's, and that of our table in [package.metadata]


def locate(root: Path) -> Path:
    """The folder that is meant by `root`: for the current one, the nearest above it with a Cargo.toml."""
    if root != Path() or (root / FILE).exists():
        return root
    here = root.absolute()
    return next((folder for folder in here.parents if (folder / FILE).exists()), root)


def read_manifest(path: Path) -> dict[str, Any]:
    """Parse a Cargo.toml. Raises `ProjectError`, with line and column where it isn't TOML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        hint = "run `scaffold new NAME` first, or pass --root"
        raise ProjectError(f"no Cargo.toml in {path.parent}", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_manifest(text, path)


def parse_manifest(text: str, path: Path) -> dict[str, Any]:
    """Parse what a Cargo.toml, at `path`, has or had in it. Raises `ProjectError` as `read_manifest` does."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError as error:
        raise ProjectError(f"{path} is not TOML: nested too deeply") from error
    except ValueError as error:  # not TOMLDecodeError alone: a number may be too long for Python
        raise ProjectError(f"{path} is not TOML: {error}") from error


def table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The table `key`, or an empty one: where something else stands, it is not ours to judge."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def settings_in(metadata: object, named: str, path: Path) -> dict[str, Any]:
    """Our table in a `metadata` of the Cargo.toml at `path`; errors call that `named`.

    Raises `ProjectError` where it is misspelt, or no table.
    """
    metadata = metadata if isinstance(metadata, dict) else {}
    for key in metadata.keys() - {NAME}:
        import difflib

        if difflib.get_close_matches(key, [NAME], cutoff=0.8):
            raise ProjectError(f"[{named}.{key}] in {path} is misspelt", hint=f"write [{named}.{NAME}]")
    found = metadata.get(NAME, {})
    if not isinstance(found, dict):
        raise ProjectError(f"{named}.{NAME} in {path} is not a table")
    return found


def makes_cdylib(manifest: dict[str, Any]) -> bool:
    """Whether a crate's library is what a wasm module is."""
    lib = table(manifest, "lib")
    kinds = lib.get("crate-type", lib.get("crate_type"))
    return isinstance(kinds, list) and "cdylib" in kinds


def is_plugin(manifest: dict[str, Any]) -> bool:
    """Whether a crate is a plugin's: it says so in our table, or makes a cdylib with the SDK."""
    if NAME in table(table(manifest, "package"), "metadata"):
        return True
    used = table(manifest, "dependencies").items()
    renamed = {value.get("package", name) if isinstance(value, dict) else name for name, value in used}
    return makes_cdylib(manifest) and NAME in renamed
