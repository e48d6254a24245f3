"""Where a registry is, and rules for URLs that come from outside."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from scaffold.core.host_names import DOCKER_HUB, is_loopback
from scaffold.errors import RegistryError

_DOCKER_HUB_API = "registry-1.docker.io"
_PORTS = {"http": 80, "https": 443}
_ALERT_OR_HANDSHAKE = (b"\x15", b"\x16")  # the first byte of every TLS record that answers a ClientHello


def base(registry: str, *, plain_http: bool, seconds: float) -> str:
    """The URL of a registry's API, without a path: https, or http if that was asked for.

    On the loopback it is whichever the server speaks: nobody else can listen in there.
    """
    if registry == DOCKER_HUB:
        registry = _DOCKER_HUB_API
    url = split(f"https://{registry}")
    plain = plain_http or (is_loopback(url.hostname) and not _speaks_tls(url, seconds))
    return f"{'http' if plain else 'https'}://{registry}"


def _speaks_tls(url: SplitResult, seconds: float) -> bool:
    """Whether a server answers a TLS ClientHello. No certificate is checked, as no secret is sent yet."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    try:
        with socket.create_connection((url.hostname, url.port or 443), timeout=seconds) as connection:
            connection.sendall(outgoing.read())
            return connection.recv(1) in _ALERT_OR_HANDSHAKE
    except OSError:  # the first request reports it
        return False


def split(url: str) -> SplitResult:
    """A URL's parts. Raises `RegistryError` for a URL that two parsers could take for two different hosts."""
    try:
        parts = urlsplit(url)
        sane = parts.scheme in _PORTS and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sane = False
    if not sane or "@" in parts.netloc or "\\" in url or not url.isprintable() or " " in url:
        raise RegistryError(f"{url[:200]!r} isn't a valid registry address")
    return parts


def join(url: str, location: str) -> str:
    """Where a `Location` or `Link` header in the response from `url` leads. Raises like `split`."""
    try:
        joined = urljoin(url, location)
    except ValueError:
        joined = location
    return split(joined)._replace(fragment="").geturl()


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. A secret for one URL may go to another one only if these are equal."""
    parts = split(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]
