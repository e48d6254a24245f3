"""One request at a time: redirects by our rules, nothing read without a bound, and what to try again.

Proxies and authorities are the environment's; ~/.netrc isn't read, and no cookie is kept.
"""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import BinaryIO, TypeVar

import certifi
import requests
import requests.utils
import urllib3

from scaffold import __version__
from scaffold.core.events import Noted, emit
from scaffold.core.net import is_loopback, is_own
from scaffold.errors import MachineError, RegistryError
from scaffold.oci.registry import errors as trouble
from scaffold.oci.registry.address import join, origin, place, split
from scaffold.oci.registry.errors import Temporary
from scaffold.oci.spec import Descriptor

T = TypeVar("T")
Progress = Callable[[int], object]

_CHUNK = 2**18  # bytes that are read or sent at once
_ERROR_LIMIT = 2**16  # bytes of an error that are read
_REDIRECTS = 5
_SLOWEST = 32_000  # bytes a second, which is granted on top of a pace
_LONGEST_PAUSE = 15.0
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class Pace:
    """How patient to be, in seconds: with one thing, its bytes aside; with a silence; and between tries."""

    total: float = 120.0
    silence: float = 30.0
    pause: float = 0.4  # doubled each time
    tries: int = 5


class Patience:
    """What is left of a pace for one thing of `size` bytes that the registry at `url` is asked for."""

    def __init__(self, pace: Pace, url: str, size: int = 0) -> None:
        self._pace, self._place = pace, place(url)
        self._seconds = pace.total + size / _SLOWEST
        self._until = time.monotonic() + self._seconds
        self._tried = 0

    def left(self) -> float:
        """Seconds. Raises `RegistryError` when there is none left."""
        left = self._until - time.monotonic()
        if left <= 0:
            message = f"{self._place} wasn't done within {self._seconds:.0f} s"
            raise RegistryError(message, hint="try again later, or over a faster line")
        return left

    def timeouts(self) -> tuple[float, float]:
        """Seconds to connect in, and that a silence may take."""
        seconds = min(self._pace.silence, self.left())
        return min(10.0, seconds), seconds

    def renew(self) -> None:
        """It got further: the tries are counted anew."""
        self._tried = 0

    def persist(self, attempt: Callable[[], T]) -> T:
        """Attempt it again while the trouble is temporary, with longer and longer pauses."""
        while True:
            try:
                return attempt()
            except Temporary as error:
                self._pause(error)

    def _pause(self, error: Temporary) -> None:
        self._tried += 1
        pause = self._pace.pause * 2 ** (self._tried - 1) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(pause, _LONGEST_PAUSE) if error.after is None else error.after
        if pause >= self._until - time.monotonic():
            asked = f"; it asks to be left alone for {pause:.0f} s" if error.after else ""
            raise RegistryError(f"{error.message}{asked}", hint=error.hint) from None
        if self._tried >= self._pace.tries:
            raise RegistryError(f"{error.message} (tried {self._tried} times)", hint=error.hint) from None
        emit(Noted(f"{error.message}; trying again"))
        time.sleep(pause)


class Body:
    """A blob to send; each time it is sent, it is read from the beginning."""

    def __init__(self, descriptor: Descriptor, source: BinaryIO, on_progress: Progress | None) -> None:
        self._descriptor, self._source, self._on_progress = descriptor, source, on_progress

    def __len__(self) -> int:
        return self._descriptor.size

    def __iter__(self) -> Iterator[bytes]:
        self._source.seek(0)
        rest = len(self)
        while rest:
            chunk = self._source.read(min(rest, _CHUNK))
            if not chunk:
                raise MachineError(f"the blob {self._descriptor.digest} ended {rest:,} bytes too early")
            yield chunk
            rest -= len(chunk)
            if self._on_progress:
                self._on_progress(len(self) - rest)


class _Session(requests.Session):
    """Without netrc, cookies, and what requests does with redirects: it reads their bodies whole."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # which would read ~/.netrc, too
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers.update(
            {"User-Agent": f"proxy-wasm-scaffold/{__version__}", "Accept-Encoding": "identity"}
        )

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None that it should follow."""


class Http:
    """Connections, kept open between requests."""

    def __init__(self) -> None:
        self._session = _Session()
        self._met: set[str] = set()

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def open(
        self,
        method: str,
        url: str,
        patience: Patience,
        *,
        authorization: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        follow: bool = True,
    ) -> requests.Response:
        """Send a request, once, and follow where it is redirected; the body is still to be read.

        `authorization` goes to the origin of `url` alone. Raises `Temporary` when no answer comes,
        and `RegistryError` for a redirect that can't be followed safely.
        """
        first = url
        for _ in range(_REDIRECTS + 1):
            sent = dict(headers or {}) | ({"Authorization": authorization} if authorization else {})
            response = self._send(method, url, patience, sent, body)
            if not (follow and _redirects(response, method)):
                return response
            target = join(url, response.headers.get("Location", ""))
            read_error(response, patience)
            _check_redirect(first, url, target)
            if origin(target) != origin(url):
                authorization = None
            url = target
        raise RegistryError(f"{place(first)} redirects on and on", hint="is it a registry?")

    def _send(
        self,
        method: str,
        url: str,
        patience: Patience,
        headers: Mapping[str, str],
        body: Body | bytes | None,
    ) -> requests.Response:
        split(url)
        proxies = {} if is_loopback(split(url).hostname) else requests.utils.get_environ_proxies(url)
        try:
            response = self._session.request(
                method,
                url,
                headers=headers,
                data=b"" if body is not None and len(body) == 0 else body,
                timeout=patience.timeouts(),
                allow_redirects=False,
                stream=True,
                proxies=proxies,
                verify=authorities() if url.startswith("https:") else True,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            patience.left()
            named = next((name for name in _AUTHORITIES if os.environ.get(name)), "SSL_CERT_FILE")
            met = place(url) in self._met
            raise trouble.of_transport(error, url, met=met, authorities=named) from None
        self._met.add(place(url))
        return response


def _redirects(response: requests.Response, method: str) -> bool:
    again = response.status_code in (307, 308)
    return again or (response.status_code in (301, 302, 303) and method in ("GET", "HEAD"))


def _check_redirect(first: str, url: str, target: str) -> None:
    """Not from TLS to plain text, nor from outside to this machine."""
    if origin(url)[0] == "https" and origin(target)[0] != "https":
        message = f"{place(url)} redirects to {place(target)} in plain text, which isn't followed"
        raise RegistryError(message, hint="its address is set wrong, or that of a proxy before it")
    if is_own(split(target).hostname) and not is_loopback(split(first).hostname):
        raise RegistryError(f"{place(url)} redirects to {place(target)}, this machine itself")


def authorities() -> str:
    """The certificates to trust: a file, or a folder. Raises `MachineError` when a variable names nothing."""
    for name in _AUTHORITIES:
        if path := os.environ.get(name):
            if not Path(path).exists():
                raise MachineError(f"${name} names {path}, which isn't there", hint=f"unset {name}")
            return path
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or certifi.where()


def chunks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The body as it comes, and as it is. Raises `Temporary` when it ends before its length."""
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            yield chunk
            patience.left()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        patience.left()
        raise trouble.of_transport(error, response.url, met=True) from None


def length_of(response: requests.Response) -> int | None:
    """How many bytes the body is said to have; what answers a HEAD has none, whatever it says."""
    if response.request.method == "HEAD":
        return None
    value = response.headers.get("Content-Length", "")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return int(value) if value.isdecimal() and len(value) < 20 and not chunked else None


def read(response: requests.Response, patience: Patience, limit: int, *, whole: bool = True) -> bytes:
    """The body to its end, which frees the connection for the next request.

    Raises `RegistryError` when it has more than `limit` bytes; unless it needn't be `whole`.
    """
    got = bytearray()
    with response:
        for chunk in chunks(response, patience):
            got += chunk
            if len(got) > limit:
                if whole:
                    raise RegistryError(
                        f"{place(response.url)} sent more than {limit:,} bytes where few belong"
                    )
                break
    return bytes(got[:limit])


def read_error(response: requests.Response, patience: Patience) -> bytes:
    """What of an error's body could be read."""
    try:
        return read(response, patience, _ERROR_LIMIT, whole=False)
    except RegistryError:
        return b""
