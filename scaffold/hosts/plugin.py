"""The plugin that a host runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from scaffold.wasm.module import WasmModule

_BYTES = ("configuration", "vm_configuration")  # the fields that JSON can't have as they are
SERVICE = "service"  # the type of plugins that no traffic meets, and that start and end with their host


@dataclass(frozen=True)
class Plugin:
    """What a host runs: a module, with a name, a root id and a configuration.

    `image` names the image that the module is from, with its digest; "" where it is from none. `type` is
    "http", "network" or "service"; `clusters` are those that it may call or route to, beside the upstream.
    `ticks` says whether it may have a timer. `env` is its VM's environment, each "NAME=VALUE", or "NAME" for
    Envoy's own value; `vm_configuration` is what its VM is started with. `allow_stop_iteration` sets Envoy's
    `allow_on_headers_stop_iteration`. If the plugin is `in_bootstrap`, the user's own, it takes that place,
    and keeps its VM's id and `more` of Envoy's fields.
    """

    name: str
    root_id: str
    module: WasmModule
    configuration: bytes = b""
    clusters: Mapping[str, str] = field(default_factory=dict)
    type: str = "http"
    image: str = ""
    ticks: bool = False
    env: tuple[str, ...] = ()
    vm_configuration: bytes = b""
    allow_stop_iteration: bool = False
    vm_id: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    in_bootstrap: bool = False

    @property
    def is_service(self) -> bool:
        """Whether it runs beside the traffic, and is replaced with its host."""
        return self.type == SERVICE

    @property
    def capabilities(self) -> frozenset[str]:
        """The callbacks and hostcalls that Envoy's configuration restricts it to; empty if it has all."""
        restriction = self.more.get("capability_restriction_config") or {}
        return frozenset(restriction.get("allowed_capabilities") or ())

    def to_json(self) -> dict[str, Any]:
        """It as JSON, with its module's path and digest: whoever reads it need not read the module."""
        module = asdict(self.module) | {"path": str(self.module.path)}
        return vars(self) | {"module": module} | {name: vars(self)[name].decode("latin-1") for name in _BYTES}

    @classmethod
    def from_json(cls, made: dict[str, Any]) -> Self:
        """A plugin from what `to_json` made."""
        module = made["module"] | {"path": Path(made["module"]["path"])}
        content = {name: made[name].encode("latin-1") for name in _BYTES}
        return cls(**made | content | {"module": WasmModule(**module), "env": tuple(made["env"])})
