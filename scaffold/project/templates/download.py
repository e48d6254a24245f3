"""Downloading a zip file: bounded in size and time, never in plain text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from scaffold import __version__
from scaffold.errors import MachineError, UsageError
from scaffold.project.templates import snapshot as snapshots
from scaffold.project.templates.git import PATIENCE, Address

if TYPE_CHECKING:
    import requests

STALLED = 20.0  # seconds without a byte


def download(address: Address, path: Path) -> Path:
    """Download a file to `path`.

    Raises `UsageError` when it isn't there, or a password is asked for; `MachineError` when it can't be had.
    """
    import requests
    import urllib3

    url = address.url
    user, _, password = address.user_info.partition(":")
    limit, deadline = snapshots.Limit(), time.monotonic() + PATIENCE
    try:
        with requests.get(
            url,
            stream=True,
            timeout=STALLED,
            auth=(unquote(user), unquote(password)) if user else None,
            headers={"User-Agent": f"proxy-wasm-scaffold/{__version__}", "Accept-Encoding": "identity"},
        ) as answer:
            _check(answer, url)
            with path.open("xb") as file:
                while chunk := answer.raw.read1(1 << 16, decode_content=False):  # as it comes: a trickle, too
                    limit.take(len(chunk), 0)
                    file.write(chunk)
                    if time.monotonic() > deadline:
                        raise MachineError(f"{url} didn't come within {PATIENCE:g} s")
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        # without its words: they may have the whole address
        raise MachineError(f"{url} can't be downloaded: {_why(error)}") from error
    return path


def _why(error: Exception) -> str:
    import requests
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate isn't trusted, or it speaks no TLS"
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return f"no answer within {STALLED:g} s"
    if isinstance(error, requests.ConnectionError | ProtocolError):
        return "its host can't be reached, or broke off"
    return type(error).__name__


def _check(answer: requests.Response, url: str) -> None:
    """That the answer is the file, and nobody between could change it."""
    passed = [urlsplit(each.url).scheme for each in (*answer.history, answer)]
    if url.startswith("https:") and {*passed} != {"https"}:
        raise UsageError(f"{url} leads to plain text, which anybody between can change")
    if answer.status_code in (401, 403, 407):
        raise UsageError(
            f"{url} asks for a password, and nobody is asked for one here",
            hint="download it yourself, and name the file",
        )
    if answer.status_code in (404, 410):
        raise UsageError(f"there is nothing at {url}")
    if answer.status_code != 200:
        raise MachineError(f"{url} answers {answer.status_code}, not with a file")
