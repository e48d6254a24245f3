"""Envoy's wasm filter for a plugin, as tests of its configuration build it."""

from __future__ import annotations

from typing import Any

from scaffold.hosts.envoy.resources import local_file, reloading, wasm_filter, wasm_vm


def plugin_filter(
    module: object = "/p.wasm",
    configuration: bytes = b"",
    version: tuple[int, ...] = (1, 40, 0),
    kind: str = "http",
) -> dict[str, Any]:
    """The filter that runs the module at a path, for an Envoy of that version."""
    return wasm_filter(
        wasm_vm(local_file(str(module)), vm_id="vm"),
        name="hello",
        root_id="greeter",
        configuration=configuration,
        more=reloading(version),
        kind=kind,
    )
