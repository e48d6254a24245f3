"""What can go wrong with a registry, in sentences that name it. Its own text is made safe first."""

from __future__ import annotations

import email.utils
import http
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Set
from typing import Any

import requests
import urllib3

from scaffold.core.host_names import host_of
from scaffold.core.text import one_line
from scaffold.errors import RegistryError

_READING = ("read", "list")
# A blob that was just stored may not be seen yet: docker-registry writes the links to it bit by bit, and
# storage on several machines takes time to agree.
_BLOB_UNKNOWN = {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}
_TEXT_LIMIT = 300  # characters of a registry's own text that are shown
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


class Temporary(RegistryError):
    """It may pass: worth another attempt, after `after` seconds if the registry names them."""

    def __init__(self, message: str, *, hint: str | None = None, after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class Refused(RegistryError):
    """The registry refused; `status` is HTTP's, `text` is the registry's own."""

    def __init__(self, message: str, *, hint: str | None = None, status: int, text: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.text = status, text


def of_status(
    status: int,
    headers: Mapping[str, str],
    text: str,
    *,
    registry: str,
    by: str,
    doing: str,
    thing: str,
    codes: Set[str] = frozenset(),
) -> RegistryError:
    """What an unwelcome response of the server `by` means, when we were `doing` ("push to") a `thing`.

    `text` is the registry's own (`text_of`), without our secrets; `codes` are OCI's (`codes_of`).
    """
    text = one_line(text, _TEXT_LIMIT)
    because = f": {text}" if text else ""
    task = f"{doing} {thing}".strip()
    login = f"`scaffold login {registry}`"
    # many registries don't tell strangers whether a repository exists
    private = f"is the name right? if so, it is private: {login}" if thing and doing in _READING else ""
    if status in (400, 404) and doing == "push" and codes & _BLOB_UNKNOWN:
        return Temporary(f"{by} doesn't see the blobs of {thing} yet{because}", hint="push again")
    is_image = ":" in thing and " " not in thing  # not a blob
    repository = thing.partition("@")[0].rpartition(":")[0] if is_image else ""
    tags = f" `scaffold tags {registry}/{repository}` lists its tags" if repository else ""
    refusals = {
        401: (f"doesn't let you {task} without the right credentials", private or login),
        403: (f"doesn't let you {task}", private or f"{login} as a user who may"),
        404: (f"has no {thing or 'registry API'}", f"is the name right?{tags}"),
        405: (f"has no way to {task}", "is it a registry, and is it writable?"),
        413: (f"refused to {task}, as it is too large", "the limit is set there or by a proxy"),
    }
    if status in refusals:
        refusal, hint = refusals[status]
        return Refused(f"{by} {refusal}{because}", hint=hint, status=status, text=text)
    if status == 429:
        hint = f"wait a while; after {login} the limit may be higher"
        return Temporary(f"{by} got too many requests{because}", hint=hint, after=_after(headers))
    phrase = f"{status} {_phrase(status)}".strip()
    if status == 408 or status >= 500:
        message = f"{by} failed to {task}, {phrase}{because}"
        return Temporary(message, hint="try again later", after=_after(headers))
    return Refused(f"{by} refused to {task}, {phrase}{because}", status=status)


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase if status in http.HTTPStatus._value2member_map_ else ""


def _after(headers: Mapping[str, str]) -> float | None:
    """The seconds in Retry-After, which is a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def of_transport(
    error: Exception, url: str, *, reached: bool, authorities: str = "SSL_CERT_FILE"
) -> RegistryError:
    """What it means that there was no response, or only part of one.

    A host that was never `reached` is more likely misspelled than out of order for a moment, so it isn't
    tried again. `authorities` is the variable that names the trusted certificates.
    """
    host = host_of(url)
    causes = list(_causes(error))
    tls = _of_tls(causes, host, authorities)
    if tls:
        return tls

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    unreachable = (
        (
            urllib3.exceptions.ProxyError,
            f"cannot reach {host} through the proxy",
            "check HTTPS_PROXY and HTTP_PROXY, or add the registry to NO_PROXY",
        ),
        (socket.gaierror, f"there is no host named {host}", "check its spelling and the network"),
        (ConnectionRefusedError, f"nothing listens at {host}", "is it running, and the port right?"),
        (requests.ConnectTimeout, f"cannot reach {host}: it didn't answer in time", "is the network up?"),
    )
    for kind, message, hint in unreachable:
        if caused_by(kind):
            return (Temporary if reached else RegistryError)(message, hint=hint)
    if caused_by(TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        return Temporary(f"{host} stopped answering", hint="try again later")
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.HTTPError | OSError):
        reasons = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
        reason = next(reasons, "")
        return Temporary(f"the connection to {host} was lost{f': {reason}' if reason else ''}")
    return RegistryError(f"cannot talk to {host}: {type(error).__name__}")  # its text may hold a secret


def _of_tls(causes: list[BaseException], host: str, authorities: str) -> RegistryError | None:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            message = f"the certificate of {host} can't be trusted: {one_line(cause.verify_message)}"
            return RegistryError(message, hint=f"if its authority is your own: export {authorities}=FILE")
        if isinstance(cause, ssl.SSLError) and not isinstance(
            cause, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            hint = "if it is plain HTTP on purpose: --plain-http" if cause.reason in _NOT_TLS else None
            return RegistryError(f"{host} doesn't speak TLS properly: {cause.reason}", hint=hint)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def codes_of(body: bytes) -> set[str]:
    """The codes of OCI's errors in a body."""
    codes = [each.get("code") for each in _listed(_record(body))]
    return {code for code in codes if isinstance(code, str)}


def text_of(body: bytes) -> str:
    """The text in an error's body: OCI's errors, or what token servers write; "" if it is neither.

    It may still contain anything.
    """
    record = _record(body)
    texts = [each.get("message") or each.get("code") for each in _listed(record)]
    texts += [record[key] for key in ("error_description", "details", "message", "error") if key in record][
        :1
    ]
    return "; ".join(text for text in texts if isinstance(text, str) and text)


def _record(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one if there is none."""
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _listed(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first of OCI's errors."""
    errors = record.get("errors")
    return [each for each in errors[:3] if isinstance(each, dict)] if isinstance(errors, list) else []
