"""The target `higress`: its own WasmPlugin, which applies to all that its gateway serves.

Source: higress-group/higress, api/extensions/v1alpha1/wasmplugin.proto.
"""

from __future__ import annotations

from scaffold.errors import UsageError
from scaffold.kubernetes import common, istio
from scaffold.kubernetes.common import Document
from scaffold.kubernetes.options import PHASES, ClusterOptions
from scaffold.kubernetes.pins import Pin

TARGET = "higress"
NAMESPACE = "higress-system"
API = "extensions.higress.io/v1alpha1"

_TAKES = frozenset(
    "name namespace whole_namespace phase priority failure_policy configuration root_id pull_secret env"
    " url".split()
)
_EVERYWHERE = "it applies to all that the gateway serves: pass --whole-namespace"
_INSTEAD = {"selector": _EVERYWHERE, "target_ref": _EVERYWHERE, "match": _EVERYWHERE, "file": "pass --url"}


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The resource that has Higress put the plugin into its gateway. Raises as `istio.documents` does."""
    options.only(TARGET, _TAKES, _INSTEAD)
    common.check_type(pin, TARGET, "http")
    if not options.whole_namespace:
        raise UsageError("nothing says where it applies, and Higress has no selector", hint=_EVERYWHERE)
    if options.failure_policy == "fail-reload":
        raise UsageError("Higress has no fail-reload", hint="pass --failure-policy fail-closed or fail-open")
    placement = common.without_none(
        {"phase": PHASES[options.phase] if options.phase else None, "priority": options.priority}
    )
    return [
        {
            "apiVersion": API,
            "kind": "WasmPlugin",
            "metadata": common.metadata(pin, options, NAMESPACE),
            "spec": placement | istio.plugin(pin, options, TARGET),
        }
    ]
