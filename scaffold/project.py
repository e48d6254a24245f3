"""A plugin's crate: what its Cargo.toml says."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError

TYPES = ("http", "network", "service")
TRIPLES = ("wasm32-wasip1", "wasm32-unknown-unknown")
TABLE = "package.metadata.proxy-wasm"


@dataclass(frozen=True)
class Settings:
    """The table `[package.metadata.proxy-wasm]`, with its defaults."""

    type: str = "http"
    root_id: str = ""
    triple: str = TRIPLES[0]
    configuration: str | None = None


@dataclass(frozen=True)
class Project:
    """A crate that compiles to a plugin. `root` is absolute and real; `name` is the package's."""

    root: Path
    name: str
    version: str
    settings: Settings

    @classmethod
    def load(cls, root: Path) -> Project:
        """Read the crate in `root`.

        Raises `ProjectError` when there is no Cargo.toml, it isn't TOML, isn't a cdylib, or has a
        setting that doesn't exist or can't be.
        """
        path = root / "Cargo.toml"
        manifest = read_manifest(path)
        package = manifest.get("package")
        if not isinstance(package, dict) or not isinstance(package.get("name"), str):
            raise ProjectError(
                f"no [package] with a name in {path}", hint="give --root a plugin's crate, not a workspace"
            )
        lib = manifest.get("lib", {})
        crate_type = lib.get("crate-type", lib.get("crate_type", []))
        if "cdylib" not in crate_type:
            raise ProjectError(
                f"{path} does not build a cdylib, which a wasm module is",
                hint='add `[lib]` with `crate-type = ["cdylib"]`',
            )
        version = package.get("version", "0.0.0")
        table = package.get("metadata", {}).get("proxy-wasm", {})
        return cls(
            root=root.resolve(),
            name=package["name"],
            version=version if isinstance(version, str) else "0.0.0",  # a workspace's: cargo knows it
            settings=_settings(table, path, package["name"]),
        )

    def configuration(self) -> bytes:
        """The plugin's default configuration: the bytes of the file that the settings name, or none."""
        if self.settings.configuration is None:
            return b""
        path = (self.root / self.settings.configuration).resolve()
        if not path.is_relative_to(self.root):
            raise ProjectError(
                f"configuration = {self.settings.configuration!r} leads out of the project",
                hint=f"name a file below {self.root}",
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise ProjectError(f"cannot read the configuration {path}: {error.strerror}") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Parse a Cargo.toml. Raises `ProjectError`, with line and column where it isn't TOML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        hint = "run `scaffold new NAME` first, or pass --root"
        raise ProjectError(f"no Cargo.toml in {path.parent}", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ProjectError(f"{path} is not TOML: {error or 'nested too deeply'}") from error


def _settings(table: object, path: Path, name: str) -> Settings:
    where = f"[{TABLE}] of {path}"
    if not isinstance(table, dict):
        raise ProjectError(f"{TABLE} in {path} is not a table")
    known = {field.name.replace("_", "-"): field.name for field in fields(Settings)}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
            raise ProjectError(f"unknown key `{key}` in {where}", hint=hint)
        if not isinstance(value, str):
            raise ProjectError(f"`{key}` in {where} is not a string")
    settings = Settings(**{"root_id": name, **{known[key]: value for key, value in table.items()}})
    for key, value, allowed in (
        ("type", settings.type, TYPES),
        ("triple", settings.triple, TRIPLES),
    ):
        if value not in allowed:
            raise ProjectError(f"`{key}` in {where} is {value!r}", hint=f"known: {', '.join(allowed)}")
    return settings
