"""What can go wrong with a registry, in sentences that name it; its own words are cleaned first."""

from __future__ import annotations

import email.utils
import http
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3

from scaffold.errors import RegistryError
from scaffold.oci.registry.address import place

_READING = ("read", "look into", "list")
_WORDS = 300  # characters of a registry's own that are shown
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


class Temporary(RegistryError):
    """It may pass: worth another try, after `after` seconds where the registry said so."""

    def __init__(self, message: str, *, hint: str | None = None, after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class Refused(RegistryError):
    """The registry said no; `status` is HTTP's, `words` are its own."""

    def __init__(self, message: str, *, hint: str | None = None, status: int, words: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.words = status, words


def of_status(
    status: int, headers: Mapping[str, str], words: str, *, registry: str, by: str, doing: str, thing: str
) -> RegistryError:
    """What an answer of `by` means that isn't the one hoped for: `doing` ("push to") is done to `thing`.

    `words` are the registry's own (`said`), without our secrets in them.
    """
    because = f": {clean(words)}" if words else ""
    task = f"{doing} {thing}".strip()
    login = f"`scaffold login {registry}`"
    # many don't tell those whom they don't know that there is nothing of that name
    private = f"is the name right? if it is, it is private: {login}" if thing and doing in _READING else ""
    match status:
        case 401:
            message = f"{by} lets nobody {task} without the right credentials{because}"
            return Refused(message, hint=private or login, status=401, words=clean(words))
        case 403:
            message = f"{by} doesn't let you {task}{because}"
            return Refused(message, hint=private or f"{login} as somebody who may", status=403)
        case 404:
            return Refused(
                f"{by} has no {thing or 'API of a registry'}{because}", hint="is the name right?", status=404
            )
        case 405:
            message = f"{by} has no way to {task}{because}"
            return Refused(message, hint="is it a registry, and may it be written to?", status=405)
        case 413:
            message = f"{by} takes nothing that big: it refused to {task}{because}"
            return Refused(message, hint="its owner sets the limit, or that of a proxy before it", status=413)
        case 429:
            message = f"{by} has had too many requests{because}"
            return Temporary(
                message, hint=f"wait a while; after {login} it may take more", after=_after(headers)
            )
    phrase = f"{status} {_phrase(status)}".strip()
    if status == 408 or status >= 500:
        message = f"{by} failed to {task}, {phrase}{because}"
        return Temporary(message, hint="try again later", after=_after(headers))
    return Refused(f"{by} refused to {task}, {phrase}{because}", status=status)


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase if status in http.HTTPStatus._value2member_map_ else ""


def _after(headers: Mapping[str, str]) -> float | None:
    """The seconds that Retry-After asks for, as a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def of_transport(
    error: Exception, url: str, *, met: bool, authorities: str = "SSL_CERT_FILE"
) -> RegistryError:
    """What it means that no answer came, or not all of it; `met`: this place has answered before.

    A place that never did is more likely misspelt than out of order for a moment, so it isn't asked
    again. `authorities` is the variable that names the trusted certificates.
    """
    there = place(url)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            message = f"the certificate of {there} can't be trusted: {clean(cause.verify_message)}"
            return RegistryError(message, hint=f"if its authority is one of yours: export {authorities}=FILE")
        if isinstance(cause, ssl.SSLError) and not isinstance(
            cause, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            hint = "if it is meant to be plain HTTP: --plain-http" if cause.reason in _NOT_TLS else None
            return RegistryError(f"{there} doesn't speak TLS as it should: {cause.reason}", hint=hint)
    kinds = tuple(map(type, causes))
    if _any(kinds, urllib3.exceptions.ProxyError):
        hint = "see to HTTPS_PROXY and HTTP_PROXY, or name the registry in NO_PROXY"
        return _passing(f"the proxy didn't lead to {there}", hint, met)
    if _any(kinds, socket.gaierror):
        return _passing(
            f"there is no host of the name {there}", "is it spelt right, and the network up?", met
        )
    if _any(kinds, ConnectionRefusedError):
        return _passing(f"nothing listens at {there}", "is it running, and the port right?", met)
    if _any(kinds, requests.ConnectTimeout):
        return _passing(f"{there} can't be reached: it gave no answer in time", "is the network up?", met)
    if _any(kinds, TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        return Temporary(f"{there} fell silent", hint="try again later")
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.HTTPError | OSError):
        system = next(
            (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), ""
        )
        return Temporary(f"the connection to {there} was lost{f': {system}' if system else ''}")
    return RegistryError(f"cannot talk with {there}: {type(error).__name__}")  # its text may hold a secret


def _passing(message: str, hint: str, met: bool) -> RegistryError:
    return Temporary(message, hint=hint) if met else RegistryError(message, hint=hint)


def _any(kinds: tuple[type, ...], *wanted: type) -> bool:
    return any(issubclass(kind, wanted) for kind in kinds)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def said(body: bytes) -> str:
    """What the body of an error says: OCI's errors, or what token servers write; "" when it is neither.

    As it came: to be cleaned before it is shown.
    """
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(record, dict):
        return ""
    errors = record.get("errors")
    told = (
        [_message(each) for each in errors[:3] if isinstance(each, dict)] if isinstance(errors, list) else []
    )
    told += [record[key] for key in ("error_description", "details", "message", "error") if key in record][:1]
    return "; ".join(each for each in told if isinstance(each, str) and each)


def _message(error: Mapping[str, Any]) -> Any:
    return error.get("message") or error.get("code")


def clean(text: str) -> str:
    """Words from outside, fit for a terminal: one line, nothing that controls it, not too long."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= _WORDS else line[:_WORDS] + "..."
