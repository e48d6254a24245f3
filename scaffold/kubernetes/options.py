"""The options of a plugin in a cluster: where it applies, in which order, and what happens when it fails.

Source of what names and labels may be: Kubernetes' documentation, "Object Names and IDs" and "Labels and
Selectors" (RFC 1123).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from scaffold.core.option_fields import check_values, option
from scaffold.core.versions import Version
from scaffold.errors import UsageError, choose
from scaffold.project.envoy_clusters import parse_upstream
from scaffold.project.vm_environment import Variable, parse_variables
from scaffold.wasm import proxy_features as versions

PHASES = {"authn": "AUTHN", "authz": "AUTHZ", "stats": "STATS"}
MODES = {"client": "CLIENT", "server": "SERVER", "both": "CLIENT_AND_SERVER"}

_INT32 = range(-(2**31) + 1, 2**31)  # without the one that has no negative

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_NAME_LIMIT = 253
_LABEL_LIMIT = 63
_LABELS_LIMIT = 256  # of an EnvoyFilter

GATEWAY_API = "gateway.networking.k8s.io"
# the kinds that a policy can be attached to, and the API group of each
GROUPS = {
    **dict.fromkeys(
        "Gateway GatewayClass ListenerSet HTTPRoute GRPCRoute TCPRoute TLSRoute UDPRoute".split(),
        GATEWAY_API,
    ),
    "Service": "",
    "ServiceEntry": "networking.istio.io",
}


@dataclass(frozen=True)
class Match:
    """Which traffic passes through the plugin; no ports means all ports."""

    mode: str
    ports: tuple[int, ...] = ()


CLUSTERS = ("istio", "istio-envoyfilter", "envoy-gateway", "higress")  # what `deploy` applies to
PULLING = ("istio", "envoy-gateway", "higress")  # their control planes get plugins from a registry
_CLUSTER = f"With a control plane ({', '.join(CLUSTERS)})"
_IMAGE = "The image or module for a control plane"
DEPLOY_ONLY = ("context", "dry_run", "wait")


@dataclass(frozen=True)
class TargetRef:
    """What a policy is attached to, in its own namespace."""

    kind: str
    name: str

    def write(self) -> dict[str, str]:
        """The reference as a manifest has it."""
        return {"group": GROUPS[self.kind], "kind": self.kind, "name": self.name}


@dataclass(frozen=True)
class ClusterOptions:
    """How a plugin runs in a cluster. Making one raises `UsageError` for an impossible value.

    `config` may be the bytes themselves. Of `name`, `root_id` and `config`, None is the plugin's own; of
    `namespace` it is the target's usual one, of `envoy` the one in that Istio.
    """

    config: str | bytes | None = option(
        None,
        "Plugin configuration; a .yaml file is sent as JSON.",
        metavar="JSON|FILE",
        standard="the image's, or the one in Cargo.toml",
    )
    root_id: str | None = option(
        None, "Root id of the plugin.", metavar="NAME", standard="the image's, or the one in Cargo.toml"
    )
    envoy: str | None = option(
        None,
        "Envoy version to support.",
        metavar="VERSION",
        standard="the one in that Istio",
        targets=("istio-envoyfilter", "envoy"),
    )
    upstream: str | None = option(
        None, "For target `envoy`: send the traffic to this URL.", metavar="URL", targets=("envoy",)
    )
    name: str | None = option(
        None, "Name of the resource.", metavar="NAME", standard="the plugin's name", heading=_CLUSTER
    )
    namespace: str | None = option(
        None,
        "Namespace of the resource.",
        metavar="NAME",
        standard="default; higress-system for higress",
        heading=_CLUSTER,
        targets=CLUSTERS,
    )
    selector: tuple[str, ...] = option(
        (),
        "Apply it to workloads with this label.",
        metavar="KEY=VALUE",
        heading=_CLUSTER,
        targets=("istio", "istio-envoyfilter"),
    )
    target_ref: tuple[str, ...] = option(
        (),
        "Attach it to this resource: Gateway/public, HTTPRoute/web, Service/web.",
        metavar="KIND/NAME",
        heading=_CLUSTER,
        targets=("istio", "envoy-gateway"),
    )
    whole_namespace: bool = option(
        False,
        "Apply it to every proxy in the namespace.",
        heading=_CLUSTER,
        targets=("istio", "istio-envoyfilter", "higress"),
    )
    phase: str | None = option(
        None,
        "Run it before Istio's authn, authz or stats, but after custom authorization.",
        metavar="PHASE",
        heading=_CLUSTER,
        targets=("istio", "higress"),
    )
    priority: int | None = option(
        None,
        "Order within the phase; the highest runs first.",
        metavar="NUMBER",
        limits=(_INT32.start, _INT32.stop - 1),
        heading=_CLUSTER,
        targets=("istio", "istio-envoyfilter", "higress"),
    )
    match: tuple[str, ...] = option(
        (),
        "Only this traffic: client, server or both, with ports: server:80,443.",
        metavar="MODE[:PORTS]",
        heading=_CLUSTER,
        targets=("istio", "istio-envoyfilter"),
    )
    failure_policy: str = option(
        "fail-closed",
        "When the plugin fails: fail-closed, fail-open or fail-reload.",
        metavar="POLICY",
        heading=_CLUSTER,
    )
    env: tuple[str, ...] = option(
        (),
        "Set an environment variable; without a value, pass the proxy's.",
        metavar="NAME[=VALUE]",
        heading=_CLUSTER,
    )
    vm_config: str | None = option(
        None,
        "Configuration of the plugin's VM.",
        metavar="JSON|FILE",
        heading=_CLUSTER,
        targets=("istio-envoyfilter", "envoy"),
    )
    istio: str = option(
        versions.ISTIO,
        "Istio version to support.",
        metavar="VERSION",
        heading=_CLUSTER,
        targets=("istio", "istio-envoyfilter"),
    )
    traffic_extension: bool = option(
        False, "Use a TrafficExtension instead of a WasmPlugin.", heading=_CLUSTER, targets=("istio",)
    )
    allow_stop_iteration: bool = option(
        False,
        "Set Envoy's allow_on_headers_stop_iteration.",
        heading=_CLUSTER,
        targets=("istio-envoyfilter", "envoy"),
    )
    context: str | None = option(
        None, "Kubernetes context for kubectl.", metavar="NAME", standard="the current one", heading=_CLUSTER
    )
    dry_run: bool = option(False, "Validate on the server without changing anything.", heading=_CLUSTER)
    wait: int = option(
        60,
        "Seconds to wait for the control plane to accept it.",
        metavar="SECONDS",
        limits=(0, 3600),
        heading=_CLUSTER,
    )
    pull_secret: str | None = option(
        None,
        "Secret with which the cluster pulls the image.",
        metavar="NAME",
        heading=_IMAGE,
        targets=PULLING,
    )
    plain_http: bool = option(
        False, "Use HTTP instead of HTTPS; anyone on the network can change the image.", heading=_IMAGE
    )
    url: str | None = option(
        None, "URL to download the module from, instead of an image.", metavar="URL", heading=_IMAGE
    )
    file: str | None = option(
        None,
        "Path of the module in the proxy's container.",
        metavar="PATH",
        heading=_IMAGE,
        targets=("istio-envoyfilter", "envoy"),
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.name is not None:
            check_name(self.name, "resource name")
        if self.namespace is not None:
            check_namespace(self.namespace)
        if self.pull_secret is not None:
            check_name(self.pull_secret, "secret name")
        if self.phase is not None:
            choose("phase", self.phase, PHASES)
        choose("failure policy", self.failure_policy, versions.FAILURE_POLICIES)
        if self.upstream:
            parse_upstream(self.upstream)
        self._check_scope()
        self._check_source()
        _ = self.configuration, self.vm_configuration, self.matches, self.variables
        _ = self.istio_version, self.envoy_version

    def _check_scope(self) -> None:
        flags = [
            flag
            for flag, value in (
                ("--selector", self.labels),
                ("--target-ref", self.refs),
                ("--whole-namespace", self.whole_namespace),
            )
            if value
        ]
        if len(flags) > 1:
            raise UsageError(f"{' and '.join(flags)} can't be combined", hint="pass one of them")

    def _check_source(self) -> None:
        if self.url is not None and self.file is not None:
            raise UsageError("--url and --file can't be combined", hint="pass one of them")
        if self.url is not None and self.pull_secret is not None:
            raise UsageError(
                "--pull-secret is for an image, and --url replaces the image", hint="leave one out"
            )
        if self.url is not None:
            _check_url(self.url)
        if self.file is not None and not PurePosixPath(self.file).is_absolute():
            raise UsageError(
                f"--file {self.file} isn't an absolute path in the proxy's container",
                hint="begin it with `/`",
            )

    @property
    def labels(self) -> dict[str, str]:
        """The labels that select workloads."""
        return parse_labels(self.selector)

    @property
    def refs(self) -> tuple[TargetRef, ...]:
        """The resources that the plugin is attached to."""
        return tuple(dict.fromkeys(map(parse_target_ref, self.target_ref)))

    @property
    def matches(self) -> tuple[Match, ...]:
        """Which traffic passes through the plugin."""
        return tuple(dict.fromkeys(map(_match, self.match)))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The VM's environment variables, each name once."""
        return parse_variables(self.env)

    @property
    def istio_version(self) -> Version:
        """The Istio version to write for."""
        version = versions.parse(self.istio, "--istio")
        if version[0] != 1:
            raise UsageError(f"there is no Istio {self.istio}", hint=f"for example --istio {versions.ISTIO}")
        return version

    @property
    def envoy_version(self) -> Version:
        """The Envoy version to write for: `envoy`, or else the one in that Istio."""
        return versions.parse(self.envoy, "--envoy") if self.envoy else versions.envoy_in(self.istio_version)

    @cached_property
    def configuration(self) -> bytes | None:
        """What `config` stands for, read once; None where it isn't set. Raises `UsageError`."""
        from scaffold.project.config_validation import read_configuration

        return read_configuration(self.config) if isinstance(self.config, str) else self.config

    @cached_property
    def vm_configuration(self) -> bytes:
        """What `vm_config` stands for, read once; empty where it isn't set. Raises `UsageError`."""
        from scaffold.project.config_validation import read_configuration

        return read_configuration(self.vm_config, "--vm-config") if self.vm_config is not None else b""


def _match(text: str) -> Match:
    mode, colon, ports = text.partition(":")
    choose("mode of --match", mode, MODES)
    try:
        numbers = tuple(int(port) for port in ports.split(",")) if colon else ()
    except ValueError:
        numbers = (0,)
    if any(number not in range(1, 2**16) for number in numbers):
        raise UsageError(f"`{text}` has no valid ports", hint="write it like server:8080,8443")
    return Match(mode, tuple(dict.fromkeys(numbers)))


def _check_url(url: str) -> None:
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise UsageError("--url contains credentials, which anyone who reads the manifest would see")
    if not is_http(url) or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"`{url}` isn't a valid HTTP URL", hint="write it like https://host/plugin.wasm")


def is_http(url: str) -> bool:
    """Whether it is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_name(text: str, what: str) -> None:
    """Raise `UsageError` unless it is a valid resource name."""
    if len(text) > _NAME_LIMIT or not _SUBDOMAIN.fullmatch(text):
        raise UsageError(
            f"`{text}` isn't a valid {what}",
            hint="use lower-case letters and digits, with `-` and `.` between them, at most 253",
        )


def check_namespace(text: str) -> None:
    """Raise `UsageError` unless it is a valid namespace name."""
    if not _LABEL.fullmatch(text):
        raise UsageError(
            f"`{text}` isn't a valid namespace name",
            hint="use lower-case letters and digits, with `-` between them, at most 63",
        )


def parse_labels(pairs: Iterable[str]) -> dict[str, str]:
    """Parse labels, each "key=value". Raises `UsageError` for the first invalid one."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"`{pair}` isn't a label", hint="write it like key=value")
        _check_label(key, value)
        if labels.setdefault(key, value) != value:
            raise UsageError(f"the label `{key}` can't be both `{labels[key]}` and `{value}`")
    if len(labels) > _LABELS_LIMIT:
        raise UsageError(f"a selector of {len(labels)} labels is too long", hint=f"at most {_LABELS_LIMIT}")
    return labels


def _check_label(key: str, value: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > _NAME_LIMIT or not _SUBDOMAIN.fullmatch(prefix)):
        raise UsageError(
            f"`{prefix}` isn't a valid prefix of a label key", hint="write a DNS name before the `/`"
        )
    if not _QUALIFIED.fullmatch(name):
        raise UsageError(
            f"`{key}` isn't a valid label key",
            hint="use letters and digits, with `-`, `_` and `.` between them, at most 63",
        )
    if value and not _QUALIFIED.fullmatch(value):
        raise UsageError(
            f"`{value}` isn't a valid value for the label `{key}`",
            hint="use letters and digits, with `-`, `_` and `.` between them, at most 63",
        )


def parse_target_ref(text: str) -> TargetRef:
    """Parse "Kind/name". Raises `UsageError` for a kind that nothing can be attached to."""
    kind, slash, name = text.partition("/")
    if not slash:
        raise UsageError(f"`{text}` isn't a target reference", hint="write it like Gateway/public")
    choose("kind of target", kind, GROUPS)
    check_name(name, f"{kind} name")
    return TargetRef(kind, name)


def resource_name(title: str) -> str:
    """A resource name made from a plugin's title: "hello-world" from "hello_world"."""
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower())[:_LABEL_LIMIT]
    return plain.strip("-") or "plugin"
