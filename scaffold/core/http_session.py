"""HTTP requests whose answer nobody can stretch: no redirect is followed, and a deadline ends every wait.

requests reads the body of a redirect whole, and its timeouts are for one read: a server that sends a byte now
and then is never given up. Proxies and certificate authorities come from the environment; ~/.netrc isn't
read, and no cookie is kept.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
import requests.adapters
import requests.utils
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError
from urllib3.util.connection import allowed_gai_family

from scaffold import __version__
from scaffold.core.host_names import is_loopback
from scaffold.errors import MachineError

AUTHORITIES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")  # the first that is set counts
_CHUNK = 2**18  # bytes read at once
_CONNECT = 10.0  # seconds for one address of a host
_LEAST = 0.01  # seconds for an address where no time is left
_MARGIN = 0.05  # seconds: our own deadline has passed when a connection is cut


class Session(requests.Session):
    """Connections, kept open between requests, which are sent one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # which would also read ~/.netrc
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers.update(
            {"User-Agent": f"proxy-wasm-scaffold/{__version__}", "Accept-Encoding": "identity"}
        )
        self._open = _Open()
        self._timer: threading.Timer | None = None
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._open))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: whoever calls `send_once` follows redirects."""

    def send_once(
        self, method: str, url: str, *, silence: float, remaining: float, **more: Any
    ) -> requests.Response:
        """Send a request; the response's body is still to be read, with `chunks`.

        A `silence` is waited for so many seconds. After the `remaining` ones all connections are cut, also
        while a body is read, unless another request was sent. `more` is what `requests.request` takes.
        """
        seconds, self._open.end = min(silence, remaining), time.monotonic() + remaining
        for connection in self._open:
            if connection.sock is None:  # closed, and nobody reads from it any more
                connection.release()
        self._cut_after(remaining)
        response = self.request(
            method,
            url,
            timeout=(min(_CONNECT, seconds), seconds),
            allow_redirects=False,
            stream=True,
            proxies={} if is_loopback(urlsplit(url).hostname) else requests.utils.get_environ_proxies(url),
            verify=authorities() if url.startswith("https:") else True,
            **more,
        )
        if time.monotonic() > self._open.end:  # http.client takes headers that were cut for all
            response.close()
            raise requests.Timeout
        return response

    def close(self) -> None:
        """Close the connections."""
        if self._timer:
            self._timer.cancel()
        super().close()
        for connection in self._open:
            connection.release()

    def _cut_after(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(seconds + _MARGIN, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        for connection in list(self._open):
            connection.cut()


class _Open(list["_Cuttable"]):
    """The connections of a session. `end` is when the time for its request is over."""

    end = 0.0


class _Cuttable:
    """Part of a connection: another thread can cut it, also in the middle of TLS's handshake.

    `handle` is a second handle of its socket. A closed connection keeps it, as a body may still be read.
    """

    handle: socket.socket | None = None
    sock: socket.socket | None
    among: _Open
    host: Any  # like the next two, urllib3's own
    timeout: Any
    _dns_host: Any

    def _new_conn(self) -> socket.socket:
        made = self._connected()
        self.release()
        self.handle = made.dup()  # TLS takes the first one over
        return made

    def _connected(self) -> socket.socket:
        """A connection to the first of the host's addresses that answers; they share the time that is left.

        urllib3 has the same seconds for each of them.
        """
        host, most = self._dns_host, self.timeout
        addresses = self._addresses()
        try:
            for left in range(len(addresses), 0, -1):
                self._dns_host = addresses[-left]
                self.timeout = min(most, max(_LEAST, (self.among.end - time.monotonic()) / left))
                try:
                    made: socket.socket = super()._new_conn()  # type: ignore[misc]
                except HTTPError:
                    if left == 1:
                        raise
                else:
                    return made
        finally:
            self._dns_host, self.timeout = host, most
        raise AssertionError

    def _addresses(self) -> list[str]:
        """The addresses of the host; its name where there is only one, or it isn't a valid name."""
        try:
            found = socket.getaddrinfo(self._dns_host, None, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]
        except UnicodeError:
            return [self._dns_host]
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        return addresses if len(addresses) > 1 else [self._dns_host]

    def cut(self) -> None:
        """End whatever waits for the other side."""
        if self.handle:
            with suppress(OSError):
                self.handle.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the second handle."""
        if self.handle:
            self.handle.close()
        self.handle = None


class _Adapter(requests.adapters.HTTPAdapter):
    """Keeps the connections that it opens in `connections`, where they can be cut."""

    def __init__(self, connections: _Open) -> None:
        self._pools = _pools(connections)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """Make the pools of connections to a proxy."""
        manager = super().proxy_manager_for(proxy, **more)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(connections: _Open) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(_Cuttable, HTTPConnection):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.among = connections
            connections.append(self)

    class Secure(_Cuttable, HTTPSConnection):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.among = connections
            connections.append(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def chunks(response: requests.Response) -> Iterator[bytes]:
    """The body in pieces, as they arrive, not decoded. Raises what urllib3 raises, and `OSError`.

    Where a connection was cut, it may look like the body's end: look at your deadline.
    """
    while chunk := response.raw.read1(_CHUNK, decode_content=False):
        yield chunk


def authorities() -> str:
    """The file or folder of trusted certificates. Raises `MachineError` if a variable's path is missing."""
    for name in AUTHORITIES:
        if path := os.environ.get(name):
            if not Path(path).exists():
                raise MachineError(f"${name} is {path}, which doesn't exist", hint=f"unset {name}")
            return path
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or certifi.where()
