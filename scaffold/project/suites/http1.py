"""The head of a request or an answer as HTTP/1 writes it, made into headers as HTTP/2 has them.

Source: GoogleCloudPlatform/service-extensions, plugins/test/dynamic_test.cc.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")
_ORIGIN = re.compile(rb"/[!#-;=?-~]*")  # what needs no escape in a path or its query
_DEFAULT = {"http": 80, "ws": 80, "https": 443, "wss": 443, "ftp": 21}
_HTTP = b"HTTP/"

Field = tuple[bytes, bytes]


def fields(content: bytes, *, request: bool) -> list[Field]:
    """The fields, pseudo headers first, names in lower case. Raises `ValueError` with the reason."""
    head = content.lstrip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    first, *lines = head.split(b"\n")
    headers = [_field(line) for line in lines if line.strip()]
    if request:
        return _request(first, headers)
    words = first.split(None, 2)
    if len(words) < 2 or not words[0].startswith(_HTTP) or not re.fullmatch(rb"\d{3}", words[1]):
        raise ValueError(f"{_shown(first)} isn't the first line of an answer, such as `HTTP/1.1 200 OK`")
    return [(b":status", words[1]), *headers]


def _field(line: bytes) -> Field:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip():
        raise ValueError(f"{_shown(line)} isn't a header, such as `name: value`")
    return name.lower(), value.strip()


def _request(first: bytes, headers: list[Field]) -> list[Field]:
    words = first.split()
    if len(words) not in (2, 3) or (words[2:] and not words[2].startswith(_HTTP)):
        raise ValueError(f"{_shown(first)} isn't the first line of a request, such as `GET / HTTP/1.1`")
    method, target = words[:2]
    rest = [field for field in headers if field[0] != b"host"]
    if _ABSOLUTE.match(target):
        return [(b":method", method), *_absolute(target), *rest]
    if not _ORIGIN.fullmatch(target):
        raise ValueError(f"{_shown(target)} is neither a path nor a whole URL")
    host = next((value for name, value in headers if name == b"host"), b"")
    if not host:
        return [(b":method", method), (b":path", target), *headers]
    return [(b":method", method), (b":path", target), (b":authority", host), *rest]


def _absolute(target: bytes) -> list[Field]:
    try:
        url = urlsplit(target.decode())
        port = url.port
    except ValueError as error:
        raise ValueError(f"{_shown(target)} isn't a URL: {error}") from error
    if not url.hostname:
        raise ValueError(f"{_shown(target)} isn't a URL: it has no host")
    shown = "" if port in (None, _DEFAULT.get(url.scheme)) else f":{port}"
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    parts = {":scheme": url.scheme, ":path": path, ":authority": url.hostname + shown}
    return [(name.encode(), value.encode()) for name, value in parts.items()]


def _shown(text: bytes) -> str:
    return f"`{text[:60].decode(errors='replace')}`"
