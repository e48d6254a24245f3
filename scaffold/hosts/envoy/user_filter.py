"""The place that a plugin already has in a bootstrap of the user's: what it says there, and replacing it.

It is known by its name, its root id or its module's file, whether written with `-` or `_`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from scaffold.hosts.envoy.resources import TYPES, Config

FAILURES = ("failure_policy", "fail_open")
_KEPT = (
    *(*FAILURES, "reload_config", "capability_restriction_config"),
    "allow_on_headers_stop_iteration",
)


@dataclass(frozen=True)
class Slot:
    """What a bootstrap says of a plugin that it runs as `kind`; None where it says nothing that we can read.

    `env` are the variables of its VM, each "NAME=VALUE", or "NAME" for the proxy's own value. `more` are
    other fields of the plugin, as they are there.
    """

    kind: str
    root_id: str | None
    configuration: bytes | None
    vm_configuration: bytes | None = None
    env: tuple[str, ...] = ()
    vm_id: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def every(chains: Iterator[list[Any]], kind: str) -> Iterator[tuple[frozenset[str], Slot]]:
    """Every slot of a plugin of that kind, with the names that it is known by, see `plain`."""
    for chain in chains:
        for each in chain:
            config = _config(each, kind)
            if config is not None:
                yield _names(config), _slot(config, kind)


def _slot(config: Config, kind: str) -> Slot:
    root_id, vm = config.get("root_id"), config.get("vm_config")
    vm = vm if isinstance(vm, dict) else {}
    return Slot(
        kind,
        root_id if isinstance(root_id, str) else None,
        _configuration(config.get("configuration")),
        _configuration(vm.get("configuration")),
        _environment(vm.get("environment_variables")),
        vm["vm_id"] if isinstance(vm.get("vm_id"), str) else "",
        {name: config[name] for name in _KEPT if name in config},
    )


def _environment(variables: Any) -> tuple[str, ...]:
    variables = variables if isinstance(variables, dict) else {}
    values, names = variables.get("key_values"), variables.get("host_env_keys")
    own = [names] if isinstance(names, str) else names if isinstance(names, list) else []
    return (
        *(f"{name}={value}" for name, value in (values if isinstance(values, dict) else {}).items()),
        *(name for name in own if isinstance(name, str)),
    )


def replace(chains: Iterator[list[Any]], kind: str, name: str, slot: Config) -> bool:
    """Put `slot` where the plugin called `name` is, each time; returns whether it is anywhere."""
    found = False
    for chain in chains:
        for place, each in enumerate(chain):
            config = _config(each, kind)
            if config is not None and plain(name) in _names(config):
                chain[place] = slot
                found = True
    return found


def _config(entry: Any, kind: str) -> Config | None:
    """The configuration of a wasm filter of that kind; None for any other filter."""
    typed = entry.get("typed_config") if isinstance(entry, dict) else None
    if not isinstance(typed, dict):
        return None
    if str(typed.get("@type", "")).endswith(".TypedStruct"):  # as istio writes it
        value = typed.get("value")
        typed = {**(value if isinstance(value, dict) else {}), "@type": typed.get("type_url")}
    config = typed.get("config")
    is_wasm = str(typed.get("@type", "")).rpartition("/")[2] == TYPES[kind].rpartition("/")[2]
    return config if is_wasm and isinstance(config, dict) else None


def _names(config: Config) -> frozenset[str]:
    names = (config.get("name"), config.get("root_id"), PurePosixPath(_file(config)).stem)
    return frozenset(plain(each) for each in names if isinstance(each, str) and each)


def plain(name: str) -> str:
    """A name as those compare that are written with `-` or `_`, or in capital letters."""
    return name.lower().replace("-", "_")


def _file(config: Config) -> str:
    value: Any = config
    for key in ("vm_config", "code", "local", "filename"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _configuration(value: Any) -> bytes | None:
    """The bytes that Envoy would hand to the plugin."""
    content = value.get("value") if isinstance(value, dict) else None
    match str(value.get("@type", "")).rpartition(".")[2] if isinstance(value, dict) else "":
        case "StringValue" if isinstance(content, str):
            return content.encode()
        case "BytesValue" if isinstance(content, str):
            try:
                return base64.b64decode(content, validate=True)
            except binascii.Error:
                return None
        case "Struct":
            return json.dumps(content).encode()
    return None
