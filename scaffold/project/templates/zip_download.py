"""Download a template's zip file: bounded in size and time, and never in plain text."""

from __future__ import annotations

import shlex
import time
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from scaffold.core.host_names import host_of, is_loopback, is_own
from scaffold.errors import MachineError, UsageError
from scaffold.project.templates import snapshot
from scaffold.project.templates.git import FETCH_SECONDS, Address, NoTemplate

if TYPE_CHECKING:
    import requests

    from scaffold.core.http_session import Session

STALL_SECONDS = 20.0  # without a byte
_REDIRECTS = 5


def content(address: Address) -> bytes:
    """The file at an address.

    Raises `UsageError` when it isn't there or asks for a password, `MachineError` when the download fails.
    """
    import requests
    import urllib3

    from scaffold.core.http_session import Session, chunks

    limit, deadline, body = snapshot.Limit(), _Deadline(address.url), bytearray()
    try:
        with closing(Session()) as session, _opened(session, address, deadline) as response:
            _check_response(response, address.url)
            for chunk in chunks(response):
                limit.take(len(chunk), 0)
                body += chunk
                deadline.remaining()
            deadline.remaining()  # a connection that was cut may look like the file's end
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        deadline.remaining()
        # not its message: that may contain the whole address
        hint = f"`curl -I {shlex.quote(address.url)}` asks for the same file"
        raise MachineError(f"{address.url} can't be downloaded: {_reason(error)}", hint=hint) from error
    return bytes(body)


class _Deadline:
    def __init__(self, url: str) -> None:
        self._url, self._end = url, time.monotonic() + FETCH_SECONDS

    def remaining(self) -> float:
        """Seconds left. Raises `MachineError` when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise MachineError(f"{self._url} didn't arrive within {FETCH_SECONDS:g} s")
        return left


def _opened(session: Session, address: Address, deadline: _Deadline) -> requests.Response:
    """The response at the end of all redirects. Their own bodies are never read."""
    url = address.url
    user, _, password = address.user_info.partition(":")
    for _ in range(_REDIRECTS + 1):
        same = urlsplit(url)[:2] == urlsplit(address.url)[:2]
        auth = (unquote(user), unquote(password)) if user and same else None
        response = session.send_once(
            "GET", url, silence=STALL_SECONDS, remaining=deadline.remaining(), auth=auth
        )
        if not response.is_redirect:
            return response
        response.close()
        url = _target(address.url, url, response.headers["Location"])
    raise MachineError(f"{address.url} redirects in circles")


def _target(first: str, url: str, location: str) -> str:
    """Where a redirect leads. Nobody on the way may change the file, and nobody far away reaches us."""
    target = urljoin(url, location)
    parts = urlsplit(target)
    encrypted = parts.scheme == "https"
    if not encrypted and (url.startswith("https:") or not is_loopback(parts.hostname)):
        raise UsageError(f"{first} redirects to plain text, which anybody on the way can change")
    if is_own(parts.hostname) and not is_loopback(urlsplit(first).hostname):
        raise UsageError(f"{first} redirects to {host_of(target)}, which is this machine")
    return target


def _reason(error: Exception) -> str:
    import requests
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate isn't trusted, or it doesn't speak TLS"
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return f"no answer within {STALL_SECONDS:g} s"
    if isinstance(error, requests.ConnectionError | ProtocolError | OSError):
        return "its host can't be reached, or hung up"
    return type(error).__name__


def _check_response(response: requests.Response, url: str) -> None:
    """Raise unless the response is the file."""
    if response.status_code in (401, 403, 407):
        raise UsageError(
            f"{url} asks for a password, which scaffold never asks you for",
            hint="download it yourself, and pass the file",
        )
    if response.status_code in (404, 410):
        raise NoTemplate(f"there is nothing at {url}")
    if response.status_code != 200:
        raise MachineError(f"{url} answers {response.status_code}, not with a file")
