"""What is known about a plugin: read from its project, or from the annotations of an image.

Sources: opencontainers/image-spec, annotations.md; solo-io/wasm, spec/ and tools/wasme.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from scaffold.core import process
from scaffold.core.events import Noted, emit
from scaffold.core.text import quoted
from scaffold.errors import UsageError
from scaffold.oci import schema_child
from scaffold.oci.reference import Reference
from scaffold.oci.spec import TITLE, ImageError, Manifest, document, dump
from scaffold.project.config_validation import FILE, Schema, refuse
from scaffold.project.crate import TYPES, Project
from scaffold.wasm.module import WasmModule

MODULE_DIGEST = "proxy-wasm.module/digest"
RUNTIME_CONFIG_NAME = "runtime-config.json"

# the fields of PluginInfo -> the annotations that hold them
_ANNOTATIONS = {
    "name": TITLE,
    "version": "org.opencontainers.image.version",
    "description": "org.opencontainers.image.description",
    "source": "org.opencontainers.image.source",
    "revision": "org.opencontainers.image.revision",
    "licenses": "org.opencontainers.image.licenses",
    "abi_versions": "module.wasm.runtime/abi_version",  # wasme's own
    "type": "proxy-wasm.plugin/type",
    "root_ids": "proxy-wasm.plugin/root-ids",
    "configuration": "proxy-wasm.plugin/configuration",
    "schema": "proxy-wasm.plugin/configuration-schema",
}
_RUNTIME_TYPE = {"module.wasm.runtime/type": "envoy_proxy"}
_LISTS = ("abi_versions", "root_ids")  # written with commas in between
_PATIENCE = 60.0  # seconds for a check on a busy machine; it is stopped after three of its own, or some more
_PATIENCE_PER_MB = 20.0  # of the configuration
_TEXT_LIMIT = 64 * 2**10  # bytes: a manifest travels with every request for the image


@dataclass(frozen=True)
class PluginInfo:
    """What is known about a plugin; empty where it isn't known.

    `abi_versions` are written like "v0.2.1"; wasme also has names that begin with "v0-". `configuration` is
    the default one, `schema` its JSON Schema as text, not parsed yet. `revision` is the commit of the
    repository `source`.
    """

    name: str
    version: str = ""
    description: str = ""
    source: str = ""
    revision: str = ""
    licenses: str = ""
    abi_versions: tuple[str, ...] = ()
    type: str = "http"
    root_ids: tuple[str, ...] = ()
    configuration: str = ""
    schema: str = ""

    @classmethod
    def of_module(cls, module: WasmModule) -> Self:
        """A plugin without a project."""
        return cls(module.path.stem, abi_versions=(f"v{module.abi_version}",))

    @classmethod
    def described(cls, project: Project) -> Self:
        """What Cargo.toml says of a project's plugin."""
        about = project.description
        return cls(
            name=project.name,
            version=about.get("version", ""),
            description=about.get("description", ""),
            source=about.get("repository", ""),
            licenses=about.get("license", ""),
            type=project.settings.type,
            root_ids=tuple(filter(None, [project.settings.root_id])),
        )

    @classmethod
    def of_project(cls, project: Project, module: WasmModule, *, revision: str = "") -> Self:
        """A project's plugin, compiled to `module`. Raises like `Project.configured`."""
        schema = Schema.of(project.root)
        return replace(
            cls.described(project),
            revision=revision,
            abi_versions=(f"v{module.abi_version}",),
            configuration=_annotation("default configuration", project.configured(schema=schema)),
            schema=_annotation("configuration's schema", dump(schema.content)) if schema else "",
        )

    @classmethod
    def of_image(cls, manifest: Manifest, reference: Reference, runtime_config: bytes | None = None) -> Self:
        """An image's plugin, as its annotations describe it, or else wasme's `runtime-config.json`.

        Without a printable title it is named after the image. Raises `ImageError` for an unknown type of
        plugin, or a broken runtime configuration.
        """
        known: dict[str, Any] = {}
        if runtime_config is not None:
            known["root_ids"], known["abi_versions"] = read_runtime_config(runtime_config)
        for field, annotation in _ANNOTATIONS.items():
            if annotation in manifest.annotations:
                text = manifest.annotations[annotation]
                known[field] = _parts(text) if field in _LISTS else text
        if not known.get("name", "").isprintable() or not known.get("name"):
            known["name"] = reference.repository.rpartition("/")[2]
        if known.get("type", "http") not in TYPES:
            raise ImageError(
                f"the image's plugin has the unknown type {quoted(known['type'])}",
                hint=f"known: {', '.join(TYPES)}",
            )
        return cls(**known)

    @property
    def root_id(self) -> str:
        """The first root id, or ""."""
        return self.root_ids[0] if self.root_ids else ""

    def annotations(self, module_digest: str) -> dict[str, str]:
        """The annotations of an image that holds the module, sorted; empty ones are left out."""
        values = {field: getattr(self, field) for field in _ANNOTATIONS}
        texts = {field: ",".join(value) if field in _LISTS else value for field, value in values.items()}
        annotations = {_ANNOTATIONS[field]: text for field, text in texts.items() if text}
        return dict(sorted((annotations | _RUNTIME_TYPE | {MODULE_DIGEST: module_digest}).items()))

    def runtime_config(self) -> bytes:
        """wasme's `runtime-config.json`. Source: solo-io/wasm, tools/wasme/pkg/config/runtime.proto."""
        config = {"rootIds": list(self.root_ids)}
        return dump({"type": "envoy_proxy", "abiVersions": list(self.abi_versions), "config": config})

    def configured(self, override: bytes | None = None) -> bytes:
        """The configuration from --config (`override`), or else the image's own, checked against the schema.

        Raises `UsageError` if the override doesn't fit it, `ImageError` if the image's own doesn't, the
        schema isn't one, or checking it takes too long.
        """
        content = self.configuration.encode() if override is None else override
        if self.schema:
            violations = _violations(self.schema, content)
            if override is not None:
                refuse(violations, "--config", UsageError)
            else:
                title = "the image's configuration" if content else "an empty configuration"
                refuse(violations, title, ImageError, hint="pass another with --config")
        return content


def _violations(schema: str, configuration: bytes) -> list[str]:
    """How a configuration violates an image's schema, which a child process checks within limits."""
    job = json.dumps({"schema": schema, "configuration": configuration.decode("latin-1")})
    # it ends by itself when we are killed: it waits for nothing but its standard input
    timeout = _PATIENCE + _PATIENCE_PER_MB * len(configuration) / 1_000_000
    argv = [sys.executable, "-P", "-m", schema_child.__name__]
    ran = process.run(argv, input=job, timeout=timeout)
    if ran.code > 0 and ran.code != schema_child.EXHAUSTED:
        raise RuntimeError(f"the check of a configuration failed: {ran.stderr}")
    if ran.code:
        raise ImageError(
            f"the image's {FILE} takes too much time or memory to check",
            hint="it may be hostile: use an image that you trust",
        )
    result = json.loads(ran.stdout)
    if "error" in result:
        raise ImageError(result["error"], hint=result["hint"])
    return list(result["violations"])


def read_runtime_config(content: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The root ids and the ABI versions in wasme's `runtime-config.json`; other fields are ignored.

    wasme writes `abiVersions` and `rootIds`; its specification's example has `abi_version` and `root_ids`.
    Raises `ImageError` if it isn't JSON, or has something else in these fields.
    """
    record = document(content, RUNTIME_CONFIG_NAME)
    config = record.get("config") or {}
    if not isinstance(config, dict):
        raise ImageError(f"its {RUNTIME_CONFIG_NAME} has a `config` that isn't an object: {quoted(config)}")
    return (
        _strings(config, "rootIds", "root_ids"),
        _strings(record, "abiVersions", "abi_versions", "abiVersion", "abi_version"),
    )


def _strings(record: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """The first of these fields that exists: a list of strings, or one string with commas."""
    key, value = next(((key, record[key]) for key in keys if record.get(key) is not None), ("", []))
    if isinstance(value, str):
        return _parts(value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageError(
            f"its {RUNTIME_CONFIG_NAME} has a `{key}` that isn't a list of strings: {quoted(value)}"
        )
    return tuple(value)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _annotation(what: str, content: bytes) -> str:
    """Text for an annotation; "", with a notice, if it can't be one."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if len(content) > _TEXT_LIMIT or (content and not text):
        emit(Noted(f"the {what} isn't in the image: it is binary, or larger than 64 kB"))
        return ""
    return text
