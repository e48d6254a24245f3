"""Where a registry is, and whose address a URL names: rules about URLs that come from outside."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from scaffold.core.net import is_loopback
from scaffold.errors import RegistryError
from scaffold.oci.reference import DOCKER_HUB

_DOCKER_HUB_API = "registry-1.docker.io"
_PORTS = {"http": 80, "https": 443}
_ALERT_OR_HANDSHAKE = (b"\x15", b"\x16")  # how every record of TLS begins that answers a hello


def base(registry: str, *, plain_http: bool, seconds: float) -> str:
    """The URL of a registry's API, without a path: https, or http where that was asked for.

    On the loopback it is whichever the server speaks: nobody can listen there, so nobody need ask.
    """
    if registry == DOCKER_HUB:
        registry = _DOCKER_HUB_API
    there = split(f"https://{registry}")
    plain = plain_http or (is_loopback(there.hostname) and not _speaks_tls(there, seconds))
    return f"{'http' if plain else 'https'}://{registry}"


def _speaks_tls(there: SplitResult, seconds: float) -> bool:
    """Whether a hello of TLS is answered as such. No certificate is looked at: nothing is said yet."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    try:
        with socket.create_connection((there.hostname, there.port or 443), timeout=seconds) as connection:
            connection.sendall(outgoing.read())
            return connection.recv(1) in _ALERT_OR_HANDSHAKE
    except OSError:  # which the first request will tell about
        return False


def split(url: str) -> SplitResult:
    """A URL's parts. Raises `RegistryError` for one that two readers could take for two places."""
    try:
        parts = urlsplit(url)
        sane = parts.scheme in _PORTS and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sane = False
    if not sane or "@" in parts.netloc or "\\" in url or not url.isprintable() or " " in url:
        raise RegistryError(f"{url[:200]!r} is no address of a registry")
    return parts


def join(url: str, location: str) -> str:
    """Where a `Location` or a `Link` leads that came from `url`. Raises `RegistryError` as `split` does."""
    try:
        joined = urljoin(url, location)
    except ValueError:
        joined = location
    return split(joined)._replace(fragment="").geturl()


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what has to be equal for a secret to go there, too."""
    parts = split(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def place(url: str) -> str:
    """Host and port as they stand in the URL, to name it by."""
    return urlsplit(url).netloc.rpartition("@")[2]
