"""The clusters that a plugin asks, or routes to, beside the upstream: by name "upstream", or a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from scaffold.errors import ProjectError, UsageError

UPSTREAM = "upstream"  # the cluster that every request is routed to
GRPC = "grpc://"  # before the place of one that is asked by gRPC
_PORTS = {"http": 80, "https": 443}
_HINT = f'write `clusters = {{ authz = "http://host:port", beta = "{UPSTREAM}", users = "{GRPC}host:port" }}`'


@dataclass(frozen=True)
class Address:
    """Where an origin is: a host and port, or the path of a Unix socket; false when it is nowhere.

    `internal` is the name of a listener in the same Envoy. `tls`, for https, is the file with the
    certificates of the authorities that are trusted. `http2` says what it speaks, and `bridged` that it is
    to be asked by gRPC, though it speaks HTTP/1.
    """

    host: str = ""
    port: int = 0
    pipe: str = ""
    internal: str = ""
    tls: str = ""
    http2: bool = False
    bridged: bool = False

    def __bool__(self) -> bool:
        return bool(self.host or self.pipe or self.internal)


def check(table: object, where: str) -> None:
    """Raise `ProjectError` unless they are names, and where each leads; `where` they stand is said."""
    if not isinstance(table, dict):
        raise ProjectError(f"`clusters` in {where} is not a table", hint=_HINT)
    for name, leads in table.items():
        if name == UPSTREAM or not re.fullmatch(r"[!-~]{1,255}", name):
            raise ProjectError(f"`clusters` in {where} can't have one named {name!r}", hint=_HINT)
        try:
            _address(leads if isinstance(leads, str) else "", Address())
        except UsageError as error:
            raise ProjectError(f"the cluster `{name}` in {where} leads to {leads!r}", hint=_HINT) from error


def addresses(upstream: Address, clusters: Mapping[str, str]) -> dict[str, Address]:
    """Where every cluster is, by its name: the upstream, and those that a plugin asks for."""
    return {UPSTREAM: upstream} | {name: _address(leads, upstream) for name, leads in clusters.items()}


def _address(leads: str, upstream: Address) -> Address:
    """Raises `UsageError` when it leads neither to the upstream nor to a URL, by gRPC or not."""
    place = leads.removeprefix(GRPC)
    if place == UPSTREAM:
        return replace(upstream, bridged=place != leads)
    if place != leads:
        return replace(parse_upstream(f"http://{place}"), http2=True)
    return parse_upstream(leads)


def parse_upstream(url: str) -> Address:
    """An origin's address from its URL, which is http(s)://host[:port] or tcp://host:port.

    Raises `UsageError` for anything else.
    """
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme) if parts.port is None else parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:  # a port, or a name, that can't be one
        parts, port, host = urlsplit(""), None, ""
    known = parts.scheme in ("http", "https", "tcp") and host and port
    more = parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment
    if not known or more:
        raise UsageError(f"`{url}` is no upstream", hint="write it as http://host:port")
    return Address(host, port or 0, tls=_authorities() if parts.scheme == "https" else "")


def _authorities() -> str:
    """The certificates that the system trusts, or else those that came with us."""
    import ssl

    if found := ssl.get_default_verify_paths().cafile:
        return found
    import certifi

    return certifi.where()
