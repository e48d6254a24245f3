"""A recorded request as a test: its text, without what nobody should find in a repository."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from scaffold.commands.record.replay import Facts, quoted
from scaffold.errors import UsageError
from scaffold.hosts.exchange import Headers, Request

SECRET = "SECRET"  # noqa: S105 - it stands for one
HEAD = '''"""Requests that `scaffold record` has made tests of."""

from scaffold.pytest_plugin import Proxy
'''
_WIDTH = 100
_MOST_BODY = 16_384  # bytes that a test may have
# as in the live view
_SECRETS = re.compile(
    "authorization|authentication|x-auth|cookie|session|token|jwt|secret|passw|credential|signature"
    "|csrf|xsrf|api[-_]?key|access[-_]?key|[-_]key$"
)
_SHORT_SECRETS = frozenset(["key", "sig", "code", "pwd", "pass", "auth"])  # as whole names of fields
_ALSO_COMMON = frozenset(["key", "code"])  # in JSON, where they are seldom secrets
_SCHEME = re.compile(r"(Basic|Bearer|Digest|Negotiate|Token) .*", re.DOTALL | re.IGNORECASE)
_URL_FIELDS = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#\s]+)")
# what says nothing about the request, or is made anew for each
_NOISE = re.compile(
    r"sec-.*|x-envoy-.*|x-forwarded-(for|proto)|x-request-id|user-agent|accept|accept-(encoding|language)|dnt"
    r"|priority|pragma|cache-control|upgrade-insecure-requests|origin|referer|if-none-match|if-modified-since"
)
_NEVER = frozenset(
    "connection content-length transfer-encoding keep-alive proxy-connection te upgrade".split()
)
_METHODS = {"GET": "get", "POST": "post"}


def bare(request: Request) -> Request:
    """The request without the headers that HTTP itself needs."""
    kept = [(name, value) for name, value in request.headers.iteritems() if name.lower() not in _NEVER]
    return replace(request, headers=Headers(kept))


def without_noise(request: Request) -> Request:
    """The request with those headers only that may matter to a plugin."""
    kept = [
        (name, value) for name, value in request.headers.iteritems() if not _NOISE.fullmatch(name.lower())
    ]
    return replace(request, headers=Headers(kept))


def without_secrets(request: Request) -> tuple[Request, list[str]]:
    """The request with a placeholder for each secret, and the names of what had one."""
    found: list[str] = []
    fields = []
    for name, value in request.headers.iteritems():
        if _SECRETS.search(name.lower()) or _SCHEME.fullmatch(value):
            found.append(name)
            value = _masked(name.lower(), value)
        elif (without := _without_fields(value, [])) != value:  # an address
            found.append(name)
            value = without
        fields.append((name, value))
    target = _without_fields(request.target, found)
    body = _without_in_body(request.body, found)
    changed = replace(request, target=target, headers=Headers(fields), body=body)
    return changed, list(dict.fromkeys(found))


def _is_secret(name: str) -> bool:
    plain = unquote(name).lower()
    return bool(_SECRETS.search(plain)) or plain in _SHORT_SECRETS


def _without_fields(text: str, found: list[str]) -> str:
    """A URL, or its query, with a placeholder for each secret; their names are added to `found`."""

    def masked(field: re.Match[str]) -> str:
        if not _is_secret(field[1]):
            return field[0]
        found.append(f"?{field[1]}")
        return f"{field[1]}={quote(SECRET)}"

    return _URL_FIELDS.sub(masked, text)


def _without_in_body(body: bytes, found: list[str]) -> bytes:
    """A form, or JSON, with a placeholder for each secret; any other body as it is."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body
    names: list[str] = []
    if text.lstrip()[:1] in ("{", "["):
        try:
            masked = json.dumps(_without_in_json(json.loads(text), names), ensure_ascii=False)
        except (ValueError, RecursionError):
            return body
    else:
        form: list[str] = []
        masked = _without_fields(f"?{text}", form)[1:]
        names = [name.removeprefix("?") for name in form]
    found += [f"{name} in the body" for name in names]
    return masked.encode() if names else body


def _without_in_json(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_without_in_json(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, each in value.items():
        if (
            _is_secret(name)
            and name.lower() not in _ALSO_COMMON
            and not isinstance(each, dict | list | bool | None)
        ):
            names.append(name)
            each = SECRET
        made[name] = _without_in_json(each, names)
    return made


def _masked(name: str, value: str) -> str:
    if name == "cookie":
        parts = (part.partition("=") for part in value.split(";"))
        return ";".join(
            f"{key}={SECRET}" if sign and key.strip() else f" {SECRET}" for key, sign, _ in parts
        ).strip()
    scheme = _SCHEME.fullmatch(value)
    return f"{scheme[1]} {SECRET}" if scheme else SECRET


def check(request: Request) -> None:
    """Raise `UsageError` for a request that is too large for a test."""
    if len(request.body) > _MOST_BODY:
        raise UsageError(
            f"a body of {len(request.body):,} bytes is too large for a test; it may have {_MOST_BODY:,}",
            hint="record a smaller request, or write the test by hand",
        )


def name_of(request: Request, taken: Iterable[str], wanted: str | None = None) -> str:
    """A name for the test that isn't taken. Raises `UsageError` if the `wanted` one is."""
    words = re.findall(r"[a-z0-9]+", f"{request.method} {request.target.partition('?')[0]}".lower())
    base = wanted or "_".join(["test", *words])[:60].rstrip("_")
    if base not in (known := set(taken)):
        return base
    if wanted:
        raise UsageError(f"there is a test called {wanted} already", hint="choose another --name")
    return next(name for number in range(2, len(known) + 3) if (name := f"{base}_{number}") not in known)


def text_of(name: str, request: Request, facts: Facts, *, annotated: bool = True) -> str:
    """The test; `annotated` if its file imports `Proxy`."""
    lines = []
    if facts.answer is not None:
        lines.append(f"proxy.upstream.answer({facts.answer}, path={quoted(facts.path)})")
    lines += _call(request)
    lines += facts.lines
    body = "\n".join(f"    {line}" for each in lines for line in each.split("\n"))
    return f"\n\ndef {name}(proxy{': Proxy' * annotated}):\n{body}\n"


def _call(request: Request) -> list[str]:
    if method := _METHODS.get(request.method):
        words = [quoted(request.target)]
    else:
        method, words = "request", [quoted(request.method), quoted(request.target)]
    fields = list(request.headers.iteritems())
    if fields:
        words.append(f"headers={_fields(fields)}")
    if request.body:
        words.append(f"body={_content(request.body)}")
    line = f"exchange = proxy.{method}({', '.join(words)})"
    if len(line) <= _WIDTH:
        return [line]
    inner = [each for word in words for each in _wrapped(word, fields)]
    return [f"exchange = proxy.{method}(", *(f"    {each}" for each in inner), ")"]


def _wrapped(word: str, fields: Sequence[tuple[str, str]]) -> list[str]:
    """An argument in lines: a long list of headers has one for each."""
    if len(word) <= _WIDTH - 8 or not word.startswith("headers="):
        return [f"{word},"]
    start, each, end = _parts(fields)
    return [f"headers={start}", *(f"    {one}," for one in each), f"{end},"]


def _fields(fields: Sequence[tuple[str, str]]) -> str:
    start, each, end = _parts(fields)
    return f"{start}{', '.join(each)}{end}"


def _parts(fields: Sequence[tuple[str, str]]) -> tuple[str, list[str], str]:
    """A dict of headers, or a list where names repeat."""
    if len({name.lower() for name, _ in fields}) == len(fields):
        return "{", [f"{quoted(name)}: {quoted(value)}" for name, value in fields], "}"
    return "[", [f"({quoted(name)}, {quoted(value)})" for name, value in fields], "]"


def _content(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return quoted(body)
    return quoted(text) if text.isprintable() else quoted(body)
