"""The clusters that a plugin calls or routes to, besides the upstream: each is "upstream" or a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from scaffold.core.host_names import is_name
from scaffold.errors import ProjectError, UsageError

UPSTREAM = "upstream"  # the cluster to which every request goes
GRPC = "grpc://"  # the scheme of a cluster that is called by gRPC
NAME = re.compile(r"[!-~]{1,255}")  # of a cluster
_PORTS = {"http": 80, "https": 443, "grpc": 80}
_SCHEMES = (*_PORTS, "tcp")
_HINT = f'write `clusters = {{ authz = "http://host:port", beta = "{UPSTREAM}", users = "{GRPC}host:port" }}`'


@dataclass(frozen=True)
class Address:
    """Where a server is: a host and port, or the path of a Unix socket; false if it is nowhere.

    `internal` is the name of a listener in the same Envoy. `tls`, for https, is the file with the trusted
    authorities' certificates. `http2` is for servers that speak HTTP/2, `bridged` for one that is called by
    gRPC but speaks HTTP/1. `at` is the IP address to connect to where the host's name doesn't lead there.
    """

    host: str = ""
    port: int = 0
    pipe: str = ""
    internal: str = ""
    tls: str = ""
    http2: bool = False
    bridged: bool = False
    at: str = ""

    @property
    def hosted_as(self) -> str:
        """The `host` by which a server that has a name knows its requests; "" for one without a name.

        Behind such a name there are often several sites, told apart by that header.
        """
        if not is_name(self.host):
            return ""
        standard = _PORTS["https" if self.tls else "http"]
        return self.host if self.port == standard else f"{self.host}:{self.port}"

    def __bool__(self) -> bool:
        return bool(self.host or self.pipe or self.internal)


def check(table: object, where: str) -> None:
    """Raise `ProjectError` unless the table maps names to places; `where` names the table in the message."""
    if not isinstance(table, dict):
        raise ProjectError(f"`clusters` in {where} is not a table", hint=_HINT)
    for name, place in table.items():
        if name == UPSTREAM or not NAME.fullmatch(name):
            raise ProjectError(f"`clusters` in {where} can't contain {name!r}", hint=_HINT)
        try:
            _address(place if isinstance(place, str) else "", Address())
        except UsageError as error:
            raise ProjectError(
                f"the cluster `{name}` in {where} can't be at {place!r}", hint=_HINT
            ) from error


def addresses(upstream: Address, clusters: Mapping[str, str]) -> dict[str, Address]:
    """The addresses of all clusters, by name: the upstream, and the plugin's own."""
    return {UPSTREAM: upstream} | {name: _address(place, upstream) for name, place in clusters.items()}


def _address(place: str, upstream: Address) -> Address:
    """The address of "upstream", "grpc://upstream" or a URL; raises `UsageError` otherwise."""
    if place == UPSTREAM:
        return upstream
    if place == f"{GRPC}{UPSTREAM}":
        return replace(upstream, bridged=not upstream.http2)  # one that speaks HTTP/2 takes the call itself
    return parse_upstream(place)


def parse_upstream(url: str) -> Address:
    """A server's address from its URL: http(s)://host[:port], grpc://host[:port] or tcp://host:port.

    Raises `UsageError` for anything else.
    """
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme) if parts.port is None else parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:  # an invalid port or name
        parts, port, host = urlsplit(""), None, ""
    known = parts.scheme in _SCHEMES and host and port
    more = parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment
    if not known or more:
        hint = f"write it as http://host:port, or {GRPC}host:port"
        raise UsageError(f"`{url}` isn't a valid upstream URL", hint=hint)
    tls = _authorities() if parts.scheme == "https" else ""
    return Address(host, port or 0, tls=tls, http2=parts.scheme == "grpc")


def _authorities() -> str:
    """The certificates that the system trusts, or else those of certifi."""
    import ssl

    if file := ssl.get_default_verify_paths().cafile:
        return file
    import certifi

    return certifi.where()
