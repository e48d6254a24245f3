"""Names, labels and references as Kubernetes takes them.

Source: Kubernetes' documentation, "Object Names and IDs" and "Labels and Selectors" (RFC 1123).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from scaffold.errors import UsageError, choose

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_NAME_LIMIT = 253
_LABEL_LIMIT = 63

GATEWAY_API = "gateway.networking.k8s.io"
# the kinds that something may be aimed at, and the group of each
GROUPS = {
    **dict.fromkeys(
        "Gateway GatewayClass ListenerSet HTTPRoute GRPCRoute TCPRoute TLSRoute UDPRoute".split(),
        GATEWAY_API,
    ),
    "Service": "",
    "ServiceEntry": "networking.istio.io",
}


@dataclass(frozen=True)
class TargetRef:
    """What a policy is attached to, in its own namespace."""

    kind: str
    name: str

    def write(self) -> dict[str, str]:
        """As a manifest has it."""
        return {"group": GROUPS[self.kind], "kind": self.kind, "name": self.name}


def check_name(text: str, what: str) -> None:
    """Raise `UsageError` unless it can be a resource's name."""
    if len(text) > _NAME_LIMIT or not _SUBDOMAIN.fullmatch(text):
        raise UsageError(
            f"`{text}` is no {what}",
            hint="lower-case letters and digits, with `-` and `.` between them, 253 at the most",
        )


def check_namespace(text: str) -> None:
    """Raise `UsageError` unless it can be a namespace's name."""
    if not _LABEL.fullmatch(text):
        raise UsageError(
            f"`{text}` is no namespace",
            hint="lower-case letters and digits, with `-` between them, 63 at the most",
        )


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """Read labels, each "key=value". Raises `UsageError`, naming the one that can't be."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"`{pair}` is no label", hint="write it as key=value")
        _check_label(key, value)
        if found.setdefault(key, value) != value:
            raise UsageError(f"the label `{key}` is to be `{found[key]}` and `{value}`, and it has one value")
    return found


def _check_label(key: str, value: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > _NAME_LIMIT or not _SUBDOMAIN.fullmatch(prefix)):
        raise UsageError(f"`{prefix}` can't come before the `/` of a label's key", hint="a DNS name does")
    if not _QUALIFIED.fullmatch(name):
        raise UsageError(
            f"`{key}` is no label's key",
            hint="letters and digits, with `-`, `_` and `.` between them, 63 at the most",
        )
    if value and not _QUALIFIED.fullmatch(value):
        raise UsageError(
            f"`{value}` is no value for the label `{key}`",
            hint="letters and digits, with `-`, `_` and `.` between them, 63 at the most",
        )


def target_ref(text: str) -> TargetRef:
    """Read "Kind/name". Raises `UsageError` for a kind that nothing can be attached to."""
    kind, slash, name = text.partition("/")
    if not slash:
        raise UsageError(f"`{text}` names no target", hint="write it as Kind/name: Gateway/public")
    choose("kind of target", kind, GROUPS)
    check_name(name, f"{kind}'s name")
    return TargetRef(kind, name)


def resource_name(title: str) -> str:
    """A plugin's title as a resource's name: "hello_world" gives "hello-world"."""
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower())[:_LABEL_LIMIT]
    return plain.strip("-") or "plugin"
