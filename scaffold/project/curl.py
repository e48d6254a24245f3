"""The request that a curl command line sends.

Options that only change what curl prints are taken and have no effect here. Any other that isn't known is
refused by name, since without it the request would be another one. Source: curl 8.5, docs/curl.1.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote_to_bytes, urlsplit

from scaffold.core.foreign_files import read_bytes
from scaffold.errors import UsageError, nearest

_AGENT = "curl/8.5.0"
_LIMIT = 64 << 20  # bytes of a body's file
_FORM = "application/x-www-form-urlencoded"
_SCHEMES = ("http", "https")
# short option -> long one
_SHORT = {
    "X": "request",
    "H": "header",
    "d": "data",
    "A": "user-agent",
    "e": "referer",
    "b": "cookie",
    "u": "user",
    "G": "get",
    "I": "head",
    "m": "max-time",
    "o": "output",
    "w": "write-out",
    "s": "silent",
    "S": "show-error",
    "v": "verbose",
    "i": "include",
    "f": "fail",
    "g": "globoff",
    "N": "no-buffer",
    "k": "insecure",
    "#": "progress-bar",
    "D": "dump-header",
    "0": "http1.0",
    "4": "ipv4",
    "6": "ipv6",
    "q": "disable",
}
_DATA = ("data", "data-ascii", "data-raw", "data-binary", "data-urlencode", "json")
_WITH_VALUE = {
    *_DATA,
    *("request", "header", "user-agent", "referer", "cookie", "user", "max-time", "url"),
    *("output", "write-out", "dump-header", "connect-timeout", "stderr"),
}
_PRINTING = {
    *("silent", "show-error", "verbose", "include", "fail", "fail-with-body", "globoff", "no-buffer"),
    *("no-progress-meter", "progress-bar", "output", "write-out", "dump-header", "stderr", "disable"),
    # how to connect, which isn't curl's to say here
    *("insecure", "ipv4", "ipv6", "http1.1", "connect-timeout", "path-as-is"),
}
_FLAGS = {"get", "head", "compressed"}
_KNOWN = sorted({*_WITH_VALUE, *_PRINTING, *_FLAGS})


@dataclass(frozen=True)
class CurlRequest:
    """A request: `target` is the path with its query, `headers` have no `host`, which is `authority`."""

    method: str
    scheme: str
    authority: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    seconds: float | None = None


@dataclass
class _Said:
    """What the options say."""

    urls: list[str] = field(default_factory=list)
    method: str = ""
    headers: list[tuple[str, str | None]] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)  # of options of their own, which the last one decides
    cookies: list[str] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    seconds: float | None = None


def in_one_word(words: Sequence[str]) -> Sequence[str]:
    """The words of a curl command line that somebody pasted between quotes; others as they are."""
    if len(words) != 1 or not words[0].startswith("curl "):
        return words
    try:
        return shlex.split(words[0].replace("\\\n", " "))
    except ValueError as error:
        raise UsageError(f"the curl command line isn't whole: {error}", hint="is a quote missing?") from None


def parse(command: Sequence[str], folder: Path = Path()) -> CurlRequest:
    """The request of a command line, whose first word may be `curl`; `@file` is looked for in `folder`.

    Raises `UsageError` for what isn't known, and for none or several URLs.
    """
    said = _Said()
    for name, value in _options(command[1:] if command[:1] == ["curl"] else command):
        _take(said, name, value, folder)
    if len(said.urls) != 1:
        message = "the curl command line has no URL" if not said.urls else "several URLs are several requests"
        raise UsageError(message, hint="such as `curl http://localhost:8080/headers`")
    return _request(said)


def _options(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, if it has one; a URL is the value of `url`."""
    rest = list(command)
    while rest:
        word = rest.pop(0)
        if word == "--":
            yield from (("url", each) for each in rest)
            return
        if word.startswith("--"):
            yield word[2:], _value(word[2:], word, rest)
        elif word.startswith("-") and word != "-":
            yield from _short(word, rest)
        else:
            yield "url", word


def _short(word: str, rest: list[str]) -> Iterator[tuple[str, str]]:
    """The options of a word such as `-sXPOST`."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter, "")
        if name in _WITH_VALUE and letters:
            yield name, letters
            return
        yield name, _value(name, f"-{letter}", rest)


def _value(name: str, word: str, rest: list[str]) -> str:
    if name not in _KNOWN:
        hint = "leave it out if the request is the same without it"
        if word.startswith("--") and "did you mean" in (near := nearest(name, _KNOWN)):
            hint = near.replace("`", "`--", 1)
        raise UsageError(f"curl's option `{word}` isn't known here", hint=hint)
    if name not in _WITH_VALUE:
        return ""
    if not rest:
        raise UsageError(f"curl's option `{word}` needs a value")
    return rest.pop(0)


def _take(said: _Said, name: str, value: str, folder: Path) -> None:
    if name == "url":
        said.urls.append(value)
    elif name == "request":
        said.method = value
    elif name == "header":
        said.headers.append(_header(value))
    elif name in ("user-agent", "referer"):
        said.own[name] = value
    elif name == "cookie":
        if "=" not in value:
            raise UsageError(f"curl's `--cookie {value}` names a file", hint="write the cookies: `-b 'a=b'`")
        said.cookies.append(value)
    elif name == "user":
        said.own["authorization"] = _basic(os.fsencode(value))
    elif name == "max-time":
        said.seconds = _seconds(value)
    elif name in _DATA:
        if name == "json":
            said.flags.add("json")
        said.parts.append(_data(name, value, folder))
    elif name in _FLAGS:
        said.flags.add(name)


def _request(said: _Said) -> CurlRequest:
    text = said.urls[0] if "://" in said.urls[0] else f"http://{said.urls[0]}"
    try:
        url = urlsplit(text)
        valid = url.scheme in _SCHEMES and bool(url.hostname) and (url.port is None or url.port >= 0)
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"{said.urls[0]!r} isn't the URL of a request", hint="such as http://localhost:8080/"
        )
    body = (b"" if "json" in said.flags else b"&").join(said.parts)
    query = [url.query] if url.query else []
    if "get" in said.flags and said.parts:
        query, body = [*query, quote(body, safe=string.punctuation)], b""
    target = (url.path or "/") + ("?" + "&".join(query) if query else "")
    sends_body = "get" not in said.flags and bool(said.parts)
    if "head" in said.flags and sends_body:
        raise UsageError("curl can't send a body with `--head`", hint="leave one of them out")
    user, sign, netloc = url.netloc.rpartition("@")
    if sign:
        said.own.setdefault("authorization", _basic(unquote_to_bytes(user)))
    method = said.method or _method(said, sends_body=sends_body)
    headers, host = _headers(said, has_body=sends_body)
    authority = host or netloc
    return CurlRequest(method, url.scheme, authority, target, headers, body, said.seconds)


def _method(said: _Said, *, sends_body: bool) -> str:
    return "HEAD" if "head" in said.flags else "POST" if sends_body else "GET"


def _headers(said: _Said, *, has_body: bool) -> tuple[tuple[tuple[str, str], ...], str]:
    """All headers, curl's own too, and the `host` that was written, "" if none was."""
    own = {"user-agent": _AGENT, "accept": "*/*"}
    if has_body:
        own["content-type"] = _FORM
    if "json" in said.flags:
        own |= {"content-type": "application/json", "accept": "application/json"}
    if "compressed" in said.flags:
        own["accept-encoding"] = "deflate, gzip"
    own |= said.own
    if said.cookies:
        own["cookie"] = "; ".join(said.cookies)
    written = {name.lower() for name, _ in said.headers}
    kept = [(name, value) for name, value in own.items() if name not in written and value]
    stated = [(name, value) for name, value in said.headers if value is not None]
    host = next((value for name, value in stated if name.lower() == "host"), "")
    return (*kept, *(each for each in stated if each[0].lower() != "host")), host


def _basic(user: bytes) -> str:
    return "Basic " + base64.b64encode(user).decode()


def _header(text: str) -> tuple[str, str | None]:
    """A header's name and value; None takes away one of curl's own."""
    if text.startswith("@"):
        raise UsageError(
            f"curl's `--header {text}` names a file", hint="write the header: `-H 'name: value'`"
        )
    name, colon, value = text.partition(":")
    if colon:
        return name.strip(), value.strip() or None
    if text.endswith(";"):
        return text[:-1].strip(), ""
    raise UsageError(f"{text!r} isn't a header", hint="such as `-H 'x-user: me'`")


def _data(name: str, value: str, folder: Path) -> bytes:
    if name == "data-urlencode":
        key, sign, content = value.partition("=")
        if not sign and "@" in value:
            raise UsageError("curl's `--data-urlencode` with a file isn't known here", hint="use --data")
        encoded = quote_plus(os.fsencode(content if sign else value)).replace("+", "%20")
        return os.fsencode(f"{key}={encoded}" if key and sign else encoded)
    if name == "data-raw" or not value.startswith("@"):
        return os.fsencode(value)
    if value == "@-":
        raise UsageError("the body can't come from standard input", hint="write it to a file: `-d @FILE`")
    try:
        content_of_file = read_bytes(folder / value[1:], _LIMIT)
    except OSError as error:
        raise UsageError(f"cannot read the body in {value[1:]}: {error.strerror}") from None
    if name in ("data", "data-ascii"):
        return re.sub(rb"[\r\n\0]", b"", content_of_file)
    return content_of_file


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e6:
        raise UsageError(f"curl's `--max-time {text}` isn't a number of seconds")
    return seconds
