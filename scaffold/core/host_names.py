"""Classify hosts by their name or address alone: nothing is looked up."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

_OF_CLUSTERS = (".svc", ".local", ".internal", ".consul")
DOCKER_HUB = "docker.io"  # the registry of an image's name that names none


def host_of(url: str) -> str:
    """Host and port as the URL has them, for messages."""
    return urlsplit(url).netloc.rpartition("@")[2]


def is_loopback(host: str | None) -> bool:
    """Whether the name or address is this machine's."""
    address = _address(host or "")
    return address.is_loopback if address else _is_localhost(host or "")


def is_name(host: str) -> bool:
    """Whether it is a name for others to resolve: neither an address nor this machine's."""
    return bool(host) and _address(host) is None and not _is_localhost(host)


def is_inner(host: str | None) -> bool:
    """Whether the name or address exists only in a private network."""
    address = _address(host or "")
    return not address.is_global if address else _is_localhost(host or "")


def is_own(host: str | None) -> bool:
    """Whether the address is this machine's or link-local, where clouds serve their secrets."""
    address = _address(host or "")
    return is_loopback(host) or bool(address and (address.is_link_local or address.is_unspecified))


def is_of_containers(host: str) -> bool:
    """Whether only containers know a name: it is a service of Docker Compose, or of a cluster."""
    name = host.lower().rstrip(".")
    if _address(name) or _is_localhost(name):
        return False
    return "." not in name or name.endswith(_OF_CLUSTERS)


def _is_localhost(host: str) -> bool:
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in a text, including the short forms that `connect` accepts: 127.1, 0x7f000001."""
    bare = host.strip("[]").rstrip(".").partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(bare))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
