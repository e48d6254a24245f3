"""What an image says of its plugin, and how that is to be configured.

Source: solo-io/wasm, spec/ and tools/wasme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaffold.errors import UsageError
from scaffold.oci.layout import RUNTIME_CONFIG_NAME
from scaffold.oci.spec import ImageError, Manifest, document, shown
from scaffold.oci.variants import ABI_VERSION, CONFIGURATION, CONFIGURATION_SCHEMA, PLUGIN_TYPE, ROOT_IDS
from scaffold.project.model import TYPES
from scaffold.project.schema import FILE, Schema


@dataclass(frozen=True)
class PluginFacts:
    """What an image says of its plugin; `type` is "http" and `configuration` None where nothing is said.

    `abi_versions` as they were written: "v0.2.1", or a name of wasme's that begins with "v0-". `schema` is
    the JSON Schema of the configuration, as text that nobody has read yet.
    """

    root_ids: tuple[str, ...] = ()
    type: str = "http"
    abi_versions: tuple[str, ...] = ()
    configuration: str | None = None
    schema: str | None = None

    @property
    def root_id(self) -> str:
        """The first, or ""."""
        return self.root_ids[0] if self.root_ids else ""

    def configured(self, given: bytes | None = None) -> bytes:
        """The configuration that was `given` by --config, or else the image's own, once it fits the schema.

        Raises `UsageError` when what was given doesn't, `ImageError` when the image's own doesn't, or the
        schema is none.
        """
        content = (self.configuration or "").encode() if given is None else given
        if self.schema is not None:
            schema = Schema.parsed(self.schema.encode(), f"the image's {FILE}", ImageError)
            if given is not None:
                schema.check(content, "--config", UsageError)
            else:
                called = "the image's configuration" if content else "an empty configuration"
                schema.check(content, called, ImageError, hint="give another by --config")
        return content


def plugin_facts(manifest: Manifest, runtime_config: bytes | None = None) -> PluginFacts:
    """What an image says of its plugin: by its annotations, else by wasme's `runtime-config.json`.

    Raises `ImageError` for a type of plugin that there isn't, or a broken runtime configuration.
    """
    said, less = manifest.annotations, PluginFacts()
    if runtime_config is not None:
        less = read_runtime_config(runtime_config)
    kind = said.get(PLUGIN_TYPE, less.type)
    if kind not in TYPES:
        raise ImageError(
            f"the image says that its plugin is of type {shown(kind)}: known are {', '.join(TYPES)}"
        )
    return PluginFacts(
        root_ids=_parts(said[ROOT_IDS]) if ROOT_IDS in said else less.root_ids,
        type=kind,
        abi_versions=_parts(said[ABI_VERSION]) if ABI_VERSION in said else less.abi_versions,
        configuration=said.get(CONFIGURATION),
        schema=said.get(CONFIGURATION_SCHEMA),
    )


def read_runtime_config(content: bytes) -> PluginFacts:
    """What wasme's `runtime-config.json` says: root ids and ABI versions; other fields are left alone.

    wasme writes `abiVersions` and `rootIds`; its specification's example has `abi_version` and `root_ids`.
    Raises `ImageError` when it is no JSON, or says something else there than names.
    """
    record = document(content, RUNTIME_CONFIG_NAME)
    config = record.get("config") or {}
    if not isinstance(config, dict):
        raise ImageError(f"its {RUNTIME_CONFIG_NAME} has a `config` that is no object: {shown(config)}")
    return PluginFacts(
        root_ids=_names(config, "rootIds", "root_ids"),
        abi_versions=_names(record, "abiVersions", "abi_versions", "abiVersion", "abi_version"),
    )


def _names(record: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """The first of these fields that is there: a list of texts, or one with commas."""
    key, value = next(((key, record[key]) for key in keys if record.get(key) is not None), ("", []))
    if isinstance(value, str):
        return _parts(value)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ImageError(f"its {RUNTIME_CONFIG_NAME} has a `{key}` that is no list of texts: {shown(value)}")
    return tuple(value)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
