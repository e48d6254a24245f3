"""A plugin's crate: what its Cargo.toml says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError, UsageError, nearest
from scaffold.project import clusters
from scaffold.project.manifest import FILE, NAME, locate, makes_cdylib, read_manifest, settings_in
from scaffold.project.provenance import Rendered
from scaffold.project.schema import Schema
from scaffold.project.workspace import Workspace, about, choices
from scaffold.wasm.module import WasmModule

TYPES = ("http", "network", "service")
RUNNABLE = ("http", "network")
TRIPLES = ("wasm32-wasip1", "wasm32-unknown-unknown")
TABLE = f"package.metadata.{NAME}"
_FEW = 5  # that an error names


@dataclass(frozen=True)
class Settings:
    """The table `[package.metadata.proxy-wasm]`, with its defaults."""

    type: str = "http"
    root_id: str = ""
    triple: str = TRIPLES[0]
    configuration: str | None = None
    clusters: Mapping[str, str] = field(default_factory=dict)  # name -> a URL, or "upstream"
    template: Rendered | None = None


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
            why = f"{path} is a workspace's, and this is about one plugin"
            lacking = f"no [package] with a name in {path}"
            raise ProjectError(why if "workspace" in manifest else lacking, hint=_which(root))
        if not makes_cdylib(manifest):
            add = 'add `[lib]` with `crate-type = ["cdylib"]`'
            hint = _which(root) if "workspace" in manifest else add
            raise ProjectError(f"{path} does not build a cdylib, which a wasm module is", hint=hint)
        own = settings_in(package.get("metadata"), "package.metadata", path)
        return cls(
            root=root.resolve(),
            name=package["name"],
            version=about({"version": package.get("version")}, root).get("version", "0.0.0"),
            settings=_settings(own, path, package["name"]),
        )

    def summary(self) -> str:
        """Where it is."""
        return str(self.root)

    def about(self) -> dict[str, str]:
        """What Cargo.toml says of the package in words; what it leaves to its workspace, from there."""
        return about(read_manifest(self.root / FILE)["package"], self.root)

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

    def configured(self, given: bytes | None = None) -> bytes:
        """The configuration that was `given` by --config, or else the default, once it fits the schema.

        Raises `UsageError` when what was given doesn't, `ProjectError` when the default doesn't.
        """
        content = self.configuration() if given is None else given
        schema = Schema.of(self.root)
        if schema and given is not None:
            schema.check(content, "--config", UsageError)
        elif schema and self.settings.configuration:
            schema.check(content, os.path.relpath(self.root / self.settings.configuration), ProjectError)
        elif schema:
            hint = f'name a file in [{TABLE}] of Cargo.toml: `configuration = "config.json"`'
            schema.check(content, f"an empty configuration of {self.name}", ProjectError, hint=hint)
        return content


@dataclass(frozen=True)
class Plugin:
    """What a host is to run: a module, under which name and root id, with which configuration.

    `image` names the image that the module is from, with its digest; "" where it is from none.
    `type` is "http" or "network"; `clusters` are those that it may ask or route to, beside the upstream.
    """

    name: str
    root_id: str
    module: WasmModule
    configuration: bytes = b""
    clusters: Mapping[str, str] = field(default_factory=dict)
    type: str = "http"
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
        and root id do. A project's must fit its schema: see `Project.configured`.
        """
        given = None if configuration is None else read_configuration(configuration)
        if (root / "Cargo.toml").exists():
            project = Project.load(root)
            settings = project.settings
            if settings.type not in RUNNABLE:
                raise ProjectError(
                    f'{root / "Cargo.toml"}: plugins of type "{settings.type}" can be built, not run yet'
                )
            own = cls(project.name, settings.root_id, module, clusters=settings.clusters, type=settings.type)
            given = project.configured(given)
        else:
            own = cls(module.path.stem, "", module)
        return replace(
            own,
            name=name or own.name,
            root_id=own.root_id if root_id is None else root_id,
            configuration=given or b"",
        )


@dataclass(frozen=True)
class HostSettings:
    """How a host is to run a plugin; what of it can't change while it runs.

    `port` 0 is any free one; `upstream` a URL, None for the built-in one; `envoy` names an Envoy;
    `bootstrap` is the path of a configuration of the user's own, which then says port and upstream;
    its digest tells an edited one. `envoy_image` is the image whose Envoy runs in a container, and
    `docker_args` are arguments of `docker run` for that. `anywhere` puts any free port in the place of
    those in the bootstrap. `types` are the plugins', in the order in which traffic meets them, and
    `clusters` those of them all.
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
    clusters: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ("http",)

    def serving(self, *plugins: Plugin) -> HostSettings:
        """These, and what a chain of plugins needs beside them.

        Raises `ProjectError` where two of them want to be led to different places by one name.
        """
        led: dict[str, str] = {}
        for plugin in plugins:
            for name, leads in plugin.clusters.items():
                if led.setdefault(name, leads) != leads:
                    what = f"the cluster `{name}` leads to {leads} for {plugin.name}"
                    hint = "let them agree, or rename it"
                    raise ProjectError(f"{what}, to {led[name]} for one before it in the chain", hint=hint)
        return replace(self, clusters=led, types=tuple(plugin.type for plugin in plugins))

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


def _which(root: Path) -> str:
    """What to give --root, where `root` is of no plugin."""
    workspace = Workspace.at(root)
    folders = workspace.plugins() if workspace else []
    more = f" ({len(folders)} in all)" if len(folders) > _FEW else ""
    return f"choose a plugin: {choices(folders[:_FEW])}{more}" if folders else "give --root a plugin's crate"


def _settings(table: dict[str, Any], path: Path, name: str) -> Settings:
    where = f"[{TABLE}] of {path}"
    known = {field.name.replace("_", "-"): field.name for field in fields(Settings)}
    for key, value in table.items():
        if key not in known:
            raise ProjectError(f"unknown key `{key}` in {where}", hint=nearest(key, list(known)))
        if key == "clusters":
            clusters.check(value, where)
        elif key == "template":
            table = table | {key: Rendered.parse(value, path)}
        elif not isinstance(value, str):
            raise ProjectError(f"`{key}` in {where} is not a string")
    settings = Settings(**{"root_id": name, **{known[key]: value for key, value in table.items()}})
    for key, value, allowed in (
        ("type", settings.type, TYPES),
        ("triple", settings.triple, TRIPLES),
    ):
        if value not in allowed:
            raise ProjectError(f"`{key}` in {where} is {value!r}", hint=f"known: {', '.join(allowed)}")
    return settings
