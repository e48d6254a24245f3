"""Where a recorded request comes from: curl's command line, the live view, an access log, or a HAR file."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scaffold.core.events import Requested
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts.envoy.resources import REQUEST_FIELD
from scaffold.hosts.exchange import Headers, Request
from scaffold.project import curl

# Envoy's default line, and Istio's, which has more between the status and the first text in quotes
_LINE = re.compile(r'\[[^\]]+\] "(?P<method>[A-Z]+) (?P<target>\S+) [^"]*" (?P<status>\d+) (?P<rest>.*)')
_QUOTED = re.compile(r'"([^"]*)"')
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SIZES = re.compile(r'(?:^|" |- )(\d+) \d+ \d+')
_AUTHORITY = ("authority", ":authority", "host")
# what fields of access logs in JSON are called: ours, Istio's, and those of Envoy's examples
_FIELDS = {
    "method": ("method", "request_method", ":method"),
    "target": ("path", "request_path", ":path", "x-envoy-original-path"),
    "status": ("status", "response_code", "code"),
    "authority": (*_AUTHORITY, "request_authority"),
    "agent": ("user_agent", "user-agent"),
    "size": ("received", "bytes_received"),
}


@dataclass(frozen=True)
class Recorded:
    """A request that somebody has seen, and the status that its client got, if that is known.

    `lacks` is what of the request isn't known: "" if nothing.
    """

    request: Request
    status: int | None = None
    lacks: str = ""

    def __str__(self) -> str:
        """Without the query, which may have secrets."""
        return f"{self.request.method} {self.request.target.partition('?')[0]}"


def of_curl(words: Sequence[str]) -> Recorded:
    """The request of a curl command line. Raises `UsageError` for what isn't known."""
    asked = curl.parse(words)
    headers = Headers([("host", asked.authority), *asked.headers])
    return Recorded(Request(asked.method, asked.target, headers, asked.body))


def of_live_view(request: Requested) -> Recorded:
    """A request of the live view, which knows those of its headers that the plugin changed."""
    if not request.method:
        raise UsageError("a TCP connection can't become a test", hint="write one with `proxy.connect()`")
    changed = request.request.headers if request.request else ()
    headers = Headers([(each.name, each.before) for each in changed if each.before is not None])
    lacks = "the live view has those headers only that the plugin changed"
    if request.received:
        lacks += f", and none of the {request.received} bytes of its body"
    return Recorded(Request(request.method, request.path, headers), request.status, lacks)


def of_file(text: str, name: str) -> list[Recorded]:
    """The requests of a HAR file, or of an access log. Raises `ProjectError` for anything else."""
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("{"):
        try:
            content = json.loads(stripped)
        except ValueError:
            content = None  # an access log in JSON has an object in each line
        if isinstance(content, dict) and not _is_entry(content):
            return _of_har(content, name)
    return _of_log(text, name)


# HAR


def _of_har(content: Mapping[str, Any], name: str) -> list[Recorded]:
    log = content.get("log")
    entries = log.get("entries") if isinstance(log, dict) else None
    if not isinstance(entries, list):
        raise ProjectError(
            f"{name} is no HAR file: it has no `log.entries`",
            hint="browsers write one: the network panel, `Save all as HAR`",
        )
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_of_entry(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProjectError(
                f"{name}: entry {number} isn't as in HAR 1.2: {type(error).__name__} {error}"
            ) from error
    return found


def _of_entry(entry: Mapping[str, Any]) -> Recorded:
    request, response = entry["request"], entry.get("response") or {}
    url = urlsplit(request["url"])
    if url.scheme not in ("http", "https"):
        raise ValueError(f"its URL begins with {url.scheme}")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [(each["name"].lower(), each["value"]) for each in request.get("headers", ())]
    headers = Headers([("host", url.netloc), *(each for each in fields if each[0][:1] not in ("", ":"))])
    if any(name == "host" for name, _ in fields):
        headers = Headers(list(headers.iteritems())[1:])
    body, lacks = _body(request.get("postData") or {}), ""
    if not body and (request.get("bodySize") or 0) > 0:
        lacks = f"the file doesn't have its body of {request['bodySize']} bytes"
    status = int(response.get("status") or 0)
    return Recorded(Request(request["method"].upper(), target, headers, body), status or None, lacks)


def _body(data: Mapping[str, Any]) -> bytes:
    text = data.get("text") or ""
    if data.get("encoding") == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError("its body isn't base64") from error
    return str(text).encode()


# access logs


def _of_log(text: str, name: str) -> list[Recorded]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            recorded = _of_line(line.strip())
            if recorded is None:
                raise ProjectError(
                    f"{name}, line {number} is no line of an access log",
                    hint="Envoy's default format, Istio's, and JSON with method, path and status are known",
                )
            found.append(recorded)
    return found


def _of_line(line: str) -> Recorded | None:
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return None
        return _of_json(entry) if isinstance(entry, dict) and _is_entry(entry) else None
    # a collector may have put a time or a name before it
    match = _LINE.search(line)
    if not match:
        return None
    rest = match["rest"]
    quoted = _QUOTED.findall(rest)
    ids = [at for at, each in enumerate(quoted) if _UUID.fullmatch(each)]
    authority = quoted[ids[0] + 1] if ids and ids[0] + 1 < len(quoted) else ""
    agent = quoted[ids[0] - 1] if ids and ids[0] else ""
    size = _SIZES.search(rest)
    return _of_fields(match["method"], match["target"], match["status"], authority, agent, size and size[1])


def _is_entry(entry: Mapping[str, Any]) -> bool:
    """Whether an object is one of an access log."""
    return REQUEST_FIELD in entry or all(_field(entry, name) for name in ("method", "target", "status"))


def _field(entry: Mapping[str, Any], name: str) -> Any:
    return next((entry[each] for each in _FIELDS[name] if entry.get(each) not in (None, "", "-")), None)


def _of_json(entry: Mapping[str, Any]) -> Recorded | None:
    values = [_field(entry, name) for name in ("method", "target", "status", "authority", "agent", "size")]
    return _of_fields(*values)


def _of_fields(
    method: Any, target: Any, status: Any, authority: Any = "", agent: Any = "", size: Any = 0
) -> Recorded | None:
    if not isinstance(method, str) or not isinstance(target, str) or not target.startswith("/"):
        return None
    said = (("host", authority), ("user-agent", agent))
    headers = Headers([(name, value) for name, value in said if value not in (None, "", "-")])
    code = int(status) if str(status).isdigit() else 0
    lacks = "an access log has few of the headers"
    if str(size or 0).isdigit() and int(size or 0):
        lacks += f", and none of the {size} bytes of the body"
    return Recorded(Request(method, target, headers), code or None, lacks)


def chosen(found: Sequence[Recorded], number: int | None, name: str) -> list[Recorded]:
    """The one with that number, from 1; or all, each once. Raises `UsageError` if there is none."""
    if not found:
        raise UsageError(f"there is no request in {name}")
    if number is not None:
        if number > len(found):
            raise UsageError(f"--request can't be {number}: {name} has {len(found)}")
        return [found[number - 1]]
    return list(_once(found))


def _once(found: Sequence[Recorded]) -> Iterator[Recorded]:
    seen: set[str] = set()
    for each in found:
        key = repr((each.request.method, each.request.target, each.request.body, list(each.request.headers)))
        if key not in seen:
            seen.add(key)
            yield each


def read(path: Path | None, content: bytes) -> list[Recorded]:
    """The requests in a file's content; `path` is None for standard input."""
    return of_file(content.decode(errors="replace"), str(path) if path else "standard input")
