"""A plugin's crate: what its Cargo.toml says."""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError, UsageError
from scaffold.wasm import WasmModule

TYPES = ("http", "network", "service")
TRIPLES = ("wasm32-wasip1", "wasm32-unknown-unknown")
NAME = "proxy-wasm"
TABLE = f"package.metadata.{NAME}"


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
        root = locate(root)
        path = root / "Cargo.toml"
        manifest = read_manifest(path)
        package = manifest.get("package")
        if not isinstance(package, dict) or not isinstance(package.get("name"), str):
            raise ProjectError(
                f"no [package] with a name in {path}", hint="give --root a plugin's crate, not a workspace"
            )
        lib = _table(manifest, "lib")
        crate_type = lib.get("crate-type", lib.get("crate_type"))
        if not isinstance(crate_type, list) or "cdylib" not in crate_type:
            raise ProjectError(
                f"{path} does not build a cdylib, which a wasm module is",
                hint='add `[lib]` with `crate-type = ["cdylib"]`',
            )
        version = package.get("version", "0.0.0")
        metadata = _table(package, "metadata")
        for key in metadata:
            if key != NAME and difflib.get_close_matches(key, [NAME], cutoff=0.8):
                raise ProjectError(f"[package.metadata.{key}] in {path} is misspelt", hint=f"write [{TABLE}]")
        table = metadata.get(NAME, {})
        return cls(
            root=root.resolve(),
            name=package["name"],
            version=version if isinstance(version, str) else "0.0.0",  # a workspace's: cargo knows it
            settings=_settings(table, path, package["name"]),
        )

    def summary(self) -> str:
        """Where it is."""
        return str(self.root)

    def about(self) -> dict[str, str]:
        """What Cargo.toml says of the package in words; what it leaves to its workspace, from there."""
        package = read_manifest(self.root / "Cargo.toml")["package"]
        left = [key for key, value in package.items() if isinstance(value, dict) and value.get("workspace")]
        shared = _of_workspace(self.root) if left else {}
        said = package | {key: shared.get(key) for key in left}
        return {key: value for key, value in said.items() if isinstance(value, str)}

    def configuration(self) -> bytes:
        """The plugin's default configuration: the bytes of the file that the settings name, or none."""
        if self.settings.configuration is None:
            return b""
        try:
            path = (self.root / self.settings.configuration).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, a link to itself
            raise ProjectError(
                f"cannot read the configuration {self.settings.configuration!r}: {error}"
            ) from error
        if not path.is_relative_to(self.root):
            raise ProjectError(
                f"configuration = {self.settings.configuration!r} leads out of the project",
                hint=f"name a file below {self.root}",
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise ProjectError(f"cannot read the configuration {path}: {error.strerror}") from error


@dataclass(frozen=True)
class Plugin:
    """What a host is to run: a module, under which name and root id, with which configuration.

    `image` names the image that the module is from, with its digest; "" where it is from none.
    """

    name: str
    root_id: str
    module: WasmModule
    configuration: bytes = b""
    image: str = ""

    @classmethod
    def load(
        cls,
        root: Path,
        module: WasmModule,
        configuration: str | None = None,
        *,
        name: str | None = None,
        root_id: str | None = None,
    ) -> Plugin:
        """The plugin of the project in `root`, or of no project, by the module's file name.

        `configuration` is JSON or names a file; without it the project's default counts, as its name
        and root id do.
        """
        if (root / "Cargo.toml").exists():
            project = Project.load(root)
            if project.settings.type != "http":
                kind = project.settings.type
                raise ProjectError(
                    f'{root / "Cargo.toml"}: plugins of type "{kind}" can be built, not run yet'
                )
            own_name, own_root_id = project.name, project.settings.root_id
            default = project.configuration() if configuration is None else b""
        else:
            own_name, own_root_id, default = module.path.stem, "", b""
        given = default if configuration is None else read_configuration(configuration)
        return cls(name or own_name, own_root_id if root_id is None else root_id, module, given)


@dataclass(frozen=True)
class HostSettings:
    """How a host is to run a plugin; what of it can't change while it runs.

    `port` 0 is any free one; `upstream` a URL, None for the built-in one; `envoy` names an Envoy;
    `bootstrap` is the path of a configuration of the user's own, which then says port and upstream;
    its digest tells an edited one. `envoy_image` is the image whose Envoy runs in a container, and
    `docker_args` are arguments of `docker run` for that. `anywhere` puts any free port in the place of
    those in the bootstrap.
    """

    port: int = 0
    upstream: str | None = None
    envoy: str | None = None
    log_level: str = "info"
    bootstrap: str | None = None
    bootstrap_digest: str | None = None
    envoy_args: tuple[str, ...] = ()
    envoy_image: str | None = None
    docker_args: tuple[str, ...] = ()
    anywhere: bool = False

    def fit(self, running: HostSettings, port: int) -> bool:
        """Whether a host that runs with the settings `running`, on `port`, is what these ask for."""
        return self.port in (0, port) and replace(self, port=0) == replace(running, port=0)


def read_configuration(value: str) -> bytes:
    """A plugin's configuration as the command line gives it: a file's bytes as they are, or JSON."""
    path = Path(value)
    try:
        if _is_file(path):
            return path.read_bytes()
        content = value.encode()
        json.loads(value)
    except OSError as error:
        raise UsageError(f"cannot read the configuration {value}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if path.suffix in (".json", ".yaml", ".yml", ".toml", ".txt"):
            raise UsageError(f"there is no file {value}, which --config names") from error
        raise UsageError(
            f"--config is neither a file nor JSON: {error}",
            hint="""for example --config '{"key": "value"}'""",
        ) from error
    return content


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # JSON may well be too long for a name
        return False


def locate(root: Path) -> Path:
    """The folder that is meant by `root`: for the current one, the nearest above it with a Cargo.toml."""
    if root != Path() or (root / "Cargo.toml").exists():
        return root
    here = root.absolute()
    return next((folder for folder in here.parents if (folder / "Cargo.toml").exists()), root)


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
    except RecursionError as error:
        raise ProjectError(f"{path} is not TOML: nested too deeply") from error
    except ValueError as error:  # not TOMLDecodeError alone: a number may be too long for Python
        raise ProjectError(f"{path} is not TOML: {error}") from error


def _of_workspace(root: Path) -> dict[str, Any]:
    for folder in (root, *root.parents):
        path = folder / "Cargo.toml"
        if path.is_file():
            workspace = read_manifest(path).get("workspace")
            if isinstance(workspace, dict):
                return _table(workspace, "package")
    return {}


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The table `key`, or an empty one: where something else stands, it is not ours to judge."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


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
