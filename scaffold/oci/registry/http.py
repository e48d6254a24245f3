"""HTTP requests, one at a time: our own rules for redirects, no unbounded reads, and retries."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import requests
import urllib3

from scaffold.core import http_session
from scaffold.core.events import Noted, emit
from scaffold.core.host_names import host_of, is_loopback, is_own
from scaffold.errors import MachineError, RegistryError
from scaffold.oci.registry import errors
from scaffold.oci.registry.address import join, origin, split
from scaffold.oci.registry.errors import Temporary
from scaffold.oci.spec import Descriptor

T = TypeVar("T")
Progress = Callable[[int], object]

_CHUNK = 2**18  # bytes sent at once
_ERROR_LIMIT = 2**16  # bytes of an error's body that are read
_REDIRECTS = 5
_SLOWEST = 32_000  # bytes a second: what a blob's size adds to the total timeout
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True)
class Timeouts:
    """Timeouts, in seconds: for an operation, its bytes aside; for a silence; between attempts."""

    total: float = 120.0
    silence: float = 30.0
    pause: float = 0.4  # doubled after each attempt
    attempts: int = 5


class Deadline:
    """The time and the attempts left for one operation, which moves `size` bytes, on the server at `url`."""

    def __init__(self, timeouts: Timeouts, url: str, size: int = 0) -> None:
        self._timeouts, self._host = timeouts, host_of(url)
        self._seconds = timeouts.total + size / _SLOWEST
        self._end = time.monotonic() + self._seconds
        self._attempts = 0

    def remaining(self) -> float:
        """Seconds left. Raises `RegistryError` when there are none."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            message = f"{self._host} didn't finish within {self._seconds:.0f} s"
            raise RegistryError(message, hint="try again later, or over a faster connection")
        return remaining

    def of_request(self) -> dict[str, float]:
        """The timeouts of one request, in seconds: of a silence, and of everything."""
        return {"silence": self._timeouts.silence, "remaining": self.remaining()}

    def restart_attempts(self) -> None:
        """Count attempts from zero again, after some progress."""
        self._attempts = 0

    def retry(self, attempt: Callable[[], T]) -> T:
        """Repeat an attempt as long as its errors are temporary, with ever longer pauses."""
        while True:
            try:
                return attempt()
            except Temporary as error:
                self._pause(error)

    def _pause(self, error: Temporary) -> None:
        self._attempts += 1
        pause = self._timeouts.pause * 2 ** (self._attempts - 1)
        pause *= random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(pause, _LONGEST_PAUSE) if error.after is None else error.after
        if pause >= self._end - time.monotonic():
            wait = f"; it asks us to wait {pause:.0f} s" if error.after else ""
            raise RegistryError(f"{error.message}{wait}", hint=error.hint) from None
        if self._attempts >= self._timeouts.attempts:
            raise RegistryError(f"{error.message} (tried {self._attempts} times)", hint=error.hint) from None
        emit(Noted(f"{error.message}; trying again"))
        time.sleep(pause)


class Body:
    """A blob to send. Each time it is sent, it is read from its start."""

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


class Http:
    """Connections, kept open between requests."""

    def __init__(self) -> None:
        self._session = http_session.Session()
        self._reached: set[str] = set()  # hosts that have answered

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def open(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        authorization: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        follow: bool = True,
    ) -> requests.Response:
        """Send a request once and follow redirects; the response's body is still to be read.

        `authorization` goes to the origin of `url` only. Raises `Temporary` when there is no response,
        and `RegistryError` for a redirect that can't be followed safely.
        """
        first = url
        for _ in range(_REDIRECTS + 1):
            all_headers = dict(headers or {}) | ({"Authorization": authorization} if authorization else {})
            response = self._send(method, url, deadline, all_headers, body)
            if not (follow and _redirects(response, method)):
                return response
            target = join(url, response.headers.get("Location", ""))
            read_error(response, deadline)
            _check_redirect(first, url, target)
            if origin(target) != origin(url):
                authorization = None
            url = target
        raise RegistryError(f"{host_of(first)} redirects in circles", hint="is it a registry?")

    def _send(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        headers: Mapping[str, str],
        body: Body | bytes | None,
    ) -> requests.Response:
        split(url)  # raises for an odd one
        try:
            response = self._session.send_once(
                method,
                url,
                headers=headers,
                data=b"" if body is not None and len(body) == 0 else body,
                **deadline.of_request(),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            deadline.remaining()
            variable = next(
                (name for name in http_session.AUTHORITIES if os.environ.get(name)), "SSL_CERT_FILE"
            )
            reached = host_of(url) in self._reached
            raise errors.of_transport(error, url, reached=reached, authorities=variable) from None
        self._reached.add(host_of(url))
        return response


def _redirects(response: requests.Response, method: str) -> bool:
    same_method = response.status_code in (307, 308)
    return same_method or (response.status_code in (301, 302, 303) and method in ("GET", "HEAD"))


def _check_redirect(first: str, url: str, target: str) -> None:
    """Refuse to go from TLS to plain text, and from another host to this machine."""
    if origin(url)[0] == "https" and origin(target)[0] != "https":
        message = f"{host_of(url)} redirects to {host_of(target)} in plain text, which we don't follow"
        raise RegistryError(message, hint="its address, or that of a proxy in front of it, is set wrong")
    if is_own(split(target).hostname) and not is_loopback(split(first).hostname):
        raise RegistryError(f"{host_of(url)} redirects to {host_of(target)}, which is this machine")


def chunks(response: requests.Response, deadline: Deadline) -> Iterator[bytes]:
    """The body in pieces, as they arrive, not decoded. Raises `Temporary` when it is cut short."""
    try:
        for chunk in http_session.chunks(response):
            yield chunk
            deadline.remaining()
        deadline.remaining()  # a connection that was cut may look like the body's end
    except (urllib3.exceptions.HTTPError, OSError) as error:
        deadline.remaining()
        raise errors.of_transport(error, response.url, reached=True) from None


def length_of(response: requests.Response) -> int | None:
    """The body's length, where the headers state it. A response to HEAD has no body, whatever they state."""
    if response.request.method == "HEAD":
        return None
    value = response.headers.get("Content-Length", "")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return int(value) if value.isdecimal() and len(value) < 20 and not chunked else None


def read(response: requests.Response, deadline: Deadline, limit: int, *, whole: bool = True) -> bytes:
    """The whole body, which frees the connection for the next request.

    Raises `RegistryError` when it has more than `limit` bytes; if not `whole`, returns that many.
    """
    body = bytearray()
    with response:
        for chunk in chunks(response, deadline):
            body += chunk
            if len(body) > limit:
                if whole:
                    raise RegistryError(
                        f"{host_of(response.url)} sent more than {limit:,} bytes where we expect a few"
                    )
                break
    return bytes(body[:limit])


def read_error(response: requests.Response, deadline: Deadline) -> bytes:
    """As much of an error's body as can be read."""
    try:
        return read(response, deadline, _ERROR_LIMIT, whole=False)
    except RegistryError:
        return b""
