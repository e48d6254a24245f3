"""What is said of a plugin in a cluster: where it applies, in which order, and what happens when it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from scaffold.core.versions import Version
from scaffold.errors import UsageError, choose
from scaffold.kubernetes import names
from scaffold.kubernetes.names import TargetRef
from scaffold.project.clusters import parse_upstream
from scaffold.wasm import compat as versions

PHASES = {"authn": "AUTHN", "authz": "AUTHZ", "stats": "STATS"}
MODES = {"client": "CLIENT", "server": "SERVER", "both": "CLIENT_AND_SERVER"}
# a policy's name, and what Envoy calls it
FAILURE_POLICIES = {"fail-closed": "FAIL_CLOSED", "fail-open": "FAIL_OPEN", "fail-reload": "FAIL_RELOAD"}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_VALUE_LIMIT = 2048
_INT32 = range(-(2**31) + 1, 2**31)  # without the one that has no negative


@dataclass(frozen=True)
class Match:
    """Which traffic passes the plugin; no ports are all."""

    mode: str
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Variable:
    """An environment variable of the VM; without a value it is the proxy's own."""

    name: str
    value: str | None = None


@dataclass(frozen=True)
class ClusterOptions:
    """What was typed, as it was typed; making one raises `UsageError` for what can't be.

    `name` and `root_id` None are the plugin's own, `namespace` None is the target's usual one,
    `configuration` None is the plugin's default. `url` and `file` say where the module itself is had
    from, in the place of the image; `envoy` None is the one that the Istio has.
    """

    name: str | None = None
    namespace: str | None = None
    selector: tuple[str, ...] = ()
    target_ref: tuple[str, ...] = ()
    whole_namespace: bool = False
    phase: str | None = None
    priority: int | None = None
    match: tuple[str, ...] = ()
    failure_policy: str = "fail-closed"
    configuration: bytes | None = None
    root_id: str | None = None
    pull_secret: str | None = None
    env: tuple[str, ...] = ()
    istio: str = versions.ISTIO
    envoy: str | None = None
    traffic_extension: bool = False
    allow_stop_iteration: bool = False
    url: str | None = None
    file: str | None = None
    upstream: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            names.check_name(self.name, "resource's name")
        if self.namespace is not None:
            names.check_namespace(self.namespace)
        if self.pull_secret is not None:
            names.check_name(self.pull_secret, "secret's name")
        if self.phase is not None:
            choose("phase", self.phase, PHASES)
        choose("failure policy", self.failure_policy, FAILURE_POLICIES)
        if self.priority is not None and self.priority not in _INT32:
            raise UsageError(f"--priority {self.priority} doesn't fit into 32 bits")
        if self.upstream:
            parse_upstream(self.upstream)
        self._check_scope()
        self._check_source()
        _ = self.matches, self.variables, self.istio_version, self.envoy_version

    def _check_scope(self) -> None:
        said = [
            flag
            for flag, value in (
                ("--selector", self.labels),
                ("--target-ref", self.refs),
                ("--whole-namespace", self.whole_namespace),
            )
            if value
        ]
        if len(said) > 1:
            raise UsageError(f"{' and '.join(said)} both say where it applies", hint="give one of them")

    def _check_source(self) -> None:
        if self.url is not None and self.file is not None:
            raise UsageError("--url and --file both say where the module is", hint="give one of them")
        if self.url is not None and self.pull_secret is not None:
            raise UsageError("--pull-secret is for images, and --url names none", hint="leave one out")
        if self.url is not None:
            _check_url(self.url)
        if self.file is not None and not PurePosixPath(self.file).is_absolute():
            raise UsageError(
                f"--file {self.file} is a path in the proxy's container", hint="begin it with a `/`"
            )

    @property
    def labels(self) -> dict[str, str]:
        """What selects workloads."""
        return names.labels(self.selector)

    @property
    def refs(self) -> tuple[TargetRef, ...]:
        """What the plugin is attached to."""
        return tuple(dict.fromkeys(map(names.target_ref, self.target_ref)))

    @property
    def matches(self) -> tuple[Match, ...]:
        """Which traffic passes it."""
        return tuple(dict.fromkeys(map(_match, self.match)))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The VM's environment, each name once."""
        found = tuple(map(_variable, self.env))
        if len({one.name for one in found}) != len(found):
            raise UsageError("--env sets a variable twice", hint="give each name once")
        return found

    @property
    def istio_version(self) -> Version:
        """The Istio that it is for."""
        version = versions.parse(self.istio, "--istio")
        if version[0] != 1:
            raise UsageError(f"there is no Istio {self.istio}", hint=f"for example --istio {versions.ISTIO}")
        return version

    @property
    def envoy_version(self) -> Version:
        """The Envoy that it is for: the one named, else the one in that Istio."""
        return versions.parse(self.envoy, "--envoy") if self.envoy else versions.envoy_in(self.istio_version)

    def only(self, target: str, takes: frozenset[str], instead: Mapping[str, str]) -> None:
        """Raise `UsageError` for an option that `target` can't express; `instead` has hints by field."""
        for field in fields(self):
            if getattr(self, field.name) != field.default and field.name not in takes:
                raise UsageError(
                    f"{_flag(field.name)} can't be said to the target `{target}`",
                    hint=instead.get(field.name, "leave it out"),
                )


def _flag(name: str) -> str:
    return "--config" if name == "configuration" else f"--{name.replace('_', '-')}"


def _match(text: str) -> Match:
    mode, colon, ports = text.partition(":")
    choose("mode of --match", mode, MODES)
    try:
        numbers = tuple(int(port) for port in ports.split(",")) if colon else ()
    except ValueError:
        numbers = (0,)
    if any(number not in range(1, 2**16) for number in numbers):
        raise UsageError(f"`{text}` matches no ports", hint="write it as server:8080,8443")
    return Match(mode, tuple(dict.fromkeys(numbers)))


def _variable(text: str) -> Variable:
    name, equals, value = text.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"`{name}` is no variable's name", hint="write NAME=VALUE, or NAME for the proxy's")
    if len(value) > _VALUE_LIMIT or not value.isprintable():
        raise UsageError(f"the value of {name} is no line of at most {_VALUE_LIMIT} characters")
    return Variable(name, value if equals else None)


def _check_url(url: str) -> None:
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise UsageError("--url holds credentials, and anyone who reads the manifest would have them")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"`{url}` is no http source", hint="write it as https://host/plugin.wasm")
