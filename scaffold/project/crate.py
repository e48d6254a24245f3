"""A project: a plugin's crate, as its Cargo.toml describes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError, UsageError, nearest
from scaffold.project import cdylib_hint
from scaffold.project import envoy_clusters as clusters
from scaffold.project.budget import Budget
from scaffold.project.cargo_toml import FILE, NAME, locate, makes_cdylib, read_manifest, settings_in
from scaffold.project.config_validation import Schema, content_of
from scaffold.project.probe_request import Probe
from scaffold.project.template_record import Rendered
from scaffold.project.vm_environment import parse_variables
from scaffold.project.workspace import Workspace, choices, inherits, strings
from scaffold.wasm.module import WasmFile
from scaffold.wasm.proxy_features import FAILURE_POLICIES
from scaffold.wasm.targets import at_least, hold
from scaffold.wasm.targets import parse as parse_target

TYPES = ("http", "network", "service")
TRIPLES = ("wasm32-wasip1", "wasm32-unknown-unknown")
_RENAMED = {"wasm32-wasi": TRIPLES[0]}
TABLE = f"package.metadata.{NAME}"
_MAX_NAMED = 5  # plugins in an error's hint


@dataclass(frozen=True)
class Settings:
    """The settings in `[package.metadata.proxy-wasm]`, with defaults."""

    type: str = "http"
    root_id: str = ""
    triple: str = TRIPLES[0]
    configuration: str | None = None
    env: tuple[str, ...] = ()  # each "NAME=VALUE", or "NAME" for the proxy's own value
    vm_configuration: str | None = None
    features: tuple[str, ...] = ()  # cargo features that every build has
    default_features: bool = True
    trim: bool = True  # releases have only the callbacks that the plugin overrides
    clusters: Mapping[str, str] = field(default_factory=dict)  # name -> a URL, or "upstream"
    probe: Probe | None = None  # the request that shows whether a deploy works
    envoy: str | None = None  # ">=1.33": the Envoys that have to load the module
    targets: tuple[str, ...] = ()  # each "istio:1.24": more hosts that have to
    failure_policies: tuple[str, ...] = tuple(FAILURE_POLICIES)  # under which faults are played
    budget: Budget = field(default_factory=Budget)  # what it may cost at most
    template: Rendered | None = None


@dataclass(frozen=True)
class Project:
    """A crate that compiles to a plugin, read once. `root` is absolute, without symbolic links."""

    root: Path
    name: str
    version: str
    settings: Settings
    manifest: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    member_of: Workspace | None = field(default=None, repr=False, compare=False)  # if already known

    @classmethod
    def load(cls, root: Path) -> Project:
        """Read the crate in `root`.

        Raises `ProjectError` if there is no Cargo.toml, or if it isn't TOML, doesn't build a cdylib, or has
        an unknown or invalid setting.
        """
        root = locate(root)
        return cls.of(root, read_manifest(root / FILE))

    @classmethod
    def of(cls, root: Path, manifest: dict[str, Any], member_of: Workspace | None = None) -> Project:
        """The crate in `root` with this parsed Cargo.toml. Raises `ProjectError` like `load`."""
        path = root / FILE
        package = manifest.get("package")
        if not isinstance(package, dict) or not isinstance(package.get("name"), str):
            if "workspace" in manifest:
                message = f"{path} describes a workspace, but this command needs a single plugin"
            else:
                message = f"no [package] with a name in {path}"
            raise ProjectError(message, hint=_root_hint(root, manifest))
        if not makes_cdylib(manifest):
            is_workspace = "workspace" in manifest
            hint = _root_hint(root, manifest) if is_workspace else cdylib_hint.hint(root, manifest)
            raise ProjectError(f"{path} doesn't build a cdylib, the crate type of wasm modules", hint=hint)
        table = settings_in(package.get("metadata"), "package.metadata", path)
        settings = _settings(table, path, package["name"])
        project = cls(root.resolve(), package["name"], "0.0.0", settings, manifest, member_of)
        version = project._strings({"version": package.get("version")}).get("version", "0.0.0")
        return replace(project, version=version)

    def summary(self) -> str:
        """The project's folder."""
        return str(self.root)

    @cached_property
    def workspace(self) -> Workspace | None:
        """The cargo workspace that the crate belongs to."""
        return self.member_of or Workspace.of(self.root, self.manifest)

    @property
    def top(self) -> Path:
        """The folder with cargo's lock file and target folder."""
        return self.workspace.root if self.workspace else self.root

    def require_hosts(self, module: WasmFile) -> None:
        """Raise `ModuleError` for the first host in its settings that doesn't load a module."""
        named, least = self.settings.targets, self.settings.envoy
        hosts = [parse_target(each, "targets", ProjectError) for each in named]
        hold(module, self.name, [*hosts, *(at_least(least, "envoy", ProjectError) if least else ())])

    def require_policy(self, policy: str) -> None:
        """Raise `UsageError` for a failure policy that isn't among those in its settings."""
        if policy not in self.settings.failure_policies:
            passed = " or ".join(self.settings.failure_policies)
            raise UsageError(
                f"the failure policy {policy} isn't among the `failure-policies` of {self.name}",
                hint=f"pass --failure-policy {passed}, or add it in Cargo.toml",
            )

    @property
    def sets_timer(self) -> bool:
        """Whether its sources ask the host for a timer; a module can't tell: the SDK imports it anyway."""
        sources = (path for path in (self.root / "src").rglob("*.rs") if path.is_file())
        return any(b"set_tick_period" in path.read_bytes() for path in sources)

    @property
    def description(self) -> dict[str, str]:
        """The strings in `[package]`, including those inherited from the workspace."""
        return self._strings(self.manifest["package"])

    def _strings(self, package: dict[str, Any]) -> dict[str, str]:
        workspace = self.workspace if inherits(package) else None
        return workspace.describe(package) if workspace else strings(package, {})

    def configuration(self) -> bytes:
        """The plugin's default configuration, from the file in the settings, see `content_of`; or empty."""
        return self._content("configuration", self.settings.configuration)

    def vm_configuration(self) -> bytes:
        """The configuration of the plugin's VM, like `configuration`."""
        return self._content("vm-configuration", self.settings.vm_configuration)

    def _content(self, key: str, file: str | None) -> bytes:
        """The content of the file that is the setting `key`; empty without one."""
        if file is None:
            return b""
        try:
            path = (self.root / file).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a link to itself
            raise ProjectError(f"cannot read the {key} {file!r}: {error}") from error
        if not path.is_relative_to(self.root):
            raise ProjectError(f"{key} = {file!r} is outside the project", hint=f"name a file in {self.root}")
        return content_of(path, ProjectError)

    def configured(self, other: bytes | None = None, *, schema: Schema | None = None) -> bytes:
        """The configuration from --config (`other`) or else the default, validated against the schema.

        The `schema` is read unless it is passed.

        Raises `UsageError` if the one from --config isn't valid, `ProjectError` if the default isn't.
        """
        content = self.configuration() if other is None else other
        schema = schema or Schema.of(self.root)
        if schema and other is not None:
            schema.check(content, "--config", UsageError)
        elif schema and self.settings.configuration:
            schema.check(content, os.path.relpath(self.root / self.settings.configuration), ProjectError)
        elif schema:
            hint = f'name a file in [{TABLE}] of Cargo.toml: `configuration = "config.json"`'
            schema.check(content, f"the empty configuration of {self.name}", ProjectError, hint=hint)
        return content


def _root_hint(root: Path, manifest: dict[str, Any]) -> str:
    """What to pass as --root if `root` itself isn't a plugin."""
    workspace = Workspace.at(root, manifest)
    return choose_one(workspace.plugins() if workspace else [])


def choose_one(folders: Sequence[Path]) -> str:
    """The hint to choose one of some plugins by its folder."""
    if not folders:
        return "pass --root a plugin's crate"
    total = f" ({len(folders)} in all)" if len(folders) > _MAX_NAMED else ""
    return f"choose a plugin: {choices(folders[:_MAX_NAMED])}{total}"


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
        elif key == "probe":
            table = table | {key: Probe.parse(value, where)}
        elif key == "budget":
            table = table | {key: Budget.parse(value, where)}
        elif key == "env":
            table = table | {key: _variables(value, where)}
        elif key == "targets":
            table = table | {key: _strings(key, value, where, 'write `targets = ["istio:1.24", "gcp"]`')}
            for each in value:
                parse_target(each, f"`{key}` in {where}", ProjectError)
        elif key == "features":
            table = table | {key: _strings(key, value, where, 'write `features = ["a", "b"]`')}
        elif key == "failure-policies":
            table = table | {key: _policies(value, where)}
        elif key in ("default-features", "trim"):
            if not isinstance(value, bool):
                raise ProjectError(f"`{key}` in {where} is neither true nor false")
        elif not isinstance(value, str):
            raise ProjectError(f"`{key}` in {where} is not a string")
        elif key == "envoy":
            at_least(value, f"`{key}` in {where}", ProjectError)
    settings = Settings(**{"root_id": name, **{known[key]: value for key, value in table.items()}})
    for key, value, allowed in (
        ("type", settings.type, TYPES),
        ("triple", settings.triple, TRIPLES),
    ):
        if value not in allowed:
            renamed = _RENAMED.get(value)
            hint = f'write `{key} = "{renamed}"`, its new name' if renamed else f"known: {', '.join(allowed)}"
            raise ProjectError(f"`{key}` in {where} is {value!r}", hint=hint)
    return settings


def _policies(value: Any, where: str) -> tuple[str, ...]:
    """The setting `failure-policies`. Raises `ProjectError` unless it is a list of those that there are."""
    key, hint = "failure-policies", f"known: {', '.join(FAILURE_POLICIES)}"
    names = _strings(key, value, where, 'write `failure-policies = ["fail-closed", "fail-reload"]`')
    if not names:
        raise ProjectError(f"`{key}` in {where} is empty", hint=hint)
    for name in names:
        if name not in FAILURE_POLICIES:
            raise ProjectError(f"`{key}` in {where} has {name!r}", hint=hint)
    return tuple(dict.fromkeys(names))


def _variables(value: Any, where: str) -> tuple[str, ...]:
    """The setting `env`. Raises `ProjectError` unless it is a list of variables."""
    hint = 'write `env = ["NAME=VALUE", "NAME"]`; without a value, a variable has the proxy\'s own'
    texts = _strings("env", value, where, hint)
    try:
        parse_variables(texts, "it")
    except UsageError as error:
        raise ProjectError(f"`env` in {where} isn't valid: {error.message}", hint=hint) from error
    return texts


def _strings(key: str, value: Any, where: str, hint: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ProjectError(f"`{key}` in {where} is not a list of strings", hint=hint)
    return tuple(value)
