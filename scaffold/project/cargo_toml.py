"""Finding, parsing and reading a Cargo.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from scaffold.core import foreign_files
from scaffold.errors import ProjectError

FILE = "Cargo.toml"
NAME = "proxy-wasm"  # the SDK's crate, and our table in [package.metadata]


def locate(root: Path) -> Path:
    """Like cargo: for the current folder, the nearest parent with a Cargo.toml; otherwise `root`."""
    if root != Path() or (root / FILE).exists():
        return root
    here = root.absolute()
    return next((folder for folder in here.parents if (folder / FILE).exists()), root)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and parse a Cargo.toml. Raises `ProjectError`, with line and column if it isn't TOML."""
    try:
        return read_toml(path)
    except ProjectError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        hint = "run `scaffold new NAME` first, or pass --root"
        place = "the current folder" if path.parent == Path() else path.parent
        raise ProjectError(f"no Cargo.toml in {place}", hint=hint) from error.__cause__


def read_toml(path: Path) -> dict[str, Any]:
    """Read and parse a file of TOML. Raises `ProjectError` like `read_manifest`."""
    try:
        text = foreign_files.read_text(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_manifest(text, path)


def parse_manifest(text: str, path: Path) -> dict[str, Any]:
    """Parse the text of a Cargo.toml; `path` is for errors. Raises `ProjectError` like `read_manifest`."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError as error:
        raise ProjectError(f"{path} is not TOML: nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, or a number that is too long for Python
        raise ProjectError(f"{path} is not TOML: {error}") from error


def read_config(path: Path) -> dict[str, Any]:
    """One of cargo's configuration files; empty if it can't be read, as cargo has the better message."""
    try:
        return tomllib.loads(foreign_files.read_text(path))
    except (OSError, ValueError):
        return {}


def table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The table `key`, or an empty one if it is missing or, an error for cargo to report, no table."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def settings_in(metadata: object, named: str, path: Path) -> dict[str, Any]:
    """Our table in the `metadata` of the Cargo.toml at `path`, called `named` in errors.

    Raises `ProjectError` if its name is misspelt or it is not a table.
    """
    metadata = metadata if isinstance(metadata, dict) else {}
    for key in metadata.keys() - {NAME}:
        import difflib

        if difflib.get_close_matches(key, [NAME], cutoff=0.8):
            raise ProjectError(f"[{named}.{key}] in {path} is misspelt", hint=f"write [{named}.{NAME}]")
    settings = metadata.get(NAME, {})
    if not isinstance(settings, dict):
        raise ProjectError(f"{named}.{NAME} in {path} is not a table")
    return settings


def makes_cdylib(manifest: dict[str, Any]) -> bool:
    """Whether the crate's library is a cdylib, which compiles to a wasm module."""
    lib = table(manifest, "lib")
    kinds = lib.get("crate-type", lib.get("crate_type"))
    return isinstance(kinds, list) and "cdylib" in kinds


def is_plugin(manifest: dict[str, Any]) -> bool:
    """Whether a crate is a plugin: it has our table, or it builds a cdylib with the SDK."""
    if NAME in table(table(manifest, "package"), "metadata"):
        return True
    dependencies = table(manifest, "dependencies").items()
    crates = {value.get("package", name) if isinstance(value, dict) else name for name, value in dependencies}
    return makes_cdylib(manifest) and NAME in crates
