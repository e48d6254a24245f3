"""The target `higress`: its own WasmPlugin, which applies to everything that its gateway serves.

Source: higress-group/higress, api/extensions/v1alpha1/wasmplugin.proto.
"""

from __future__ import annotations

from scaffold.core.option_fields import check_target
from scaffold.errors import UsageError
from scaffold.kubernetes import istio
from scaffold.kubernetes.documents import (
    Document,
    check_type,
    refuse_reload,
    resource_metadata,
    without_none,
)
from scaffold.kubernetes.options import PHASES, ClusterOptions
from scaffold.kubernetes.pinned_plugin import Pin

TARGET = "higress"
NAMESPACE = "higress-system"
API = "extensions.higress.io/v1alpha1"

_EVERYWHERE = "pass --whole-namespace: the plugin applies to everything that the gateway serves"
_INSTEAD = {"selector": _EVERYWHERE, "target_ref": _EVERYWHERE, "match": _EVERYWHERE, "file": "pass --url"}


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The resource that adds the plugin to Higress's gateway. Raises like `istio.documents`."""
    check_target(options, TARGET, instead=_INSTEAD)
    check_type(pin, TARGET, "http")
    if not options.whole_namespace:
        raise UsageError("no option says where it applies, and Higress has no selector", hint=_EVERYWHERE)
    refuse_reload(options, "Higress")
    placement = without_none(
        {"phase": PHASES[options.phase] if options.phase else None, "priority": options.priority}
    )
    return [
        {
            "apiVersion": API,
            "kind": "WasmPlugin",
            "metadata": resource_metadata(pin, options, NAMESPACE),
            "spec": placement | istio.plugin(pin, options, TARGET),
        }
    ]
