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

from scaffold.core.events import Noted, Requested, emit
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts.envoy.resources import LONGEST_PATH, REQUEST_FIELD
from scaffold.hosts.exchange import Headers, Request
from scaffold.project import curl

# Envoy's default line, and Istio's, which has more between the status and the first text in quotes
_LINE = re.compile(
    r'\[[^\][]+\] "(?P<method>[A-Z-]+) (?P<target>\S+) [^"]*" (?P<status>[0-9]+) (?P<rest>.*)', re.DOTALL
)
_QUOTED = re.compile(r'"([^"]*)"')
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SIZES = re.compile(r'(?:^|" |- )(\d+) \d+ \d+')
_CUT = re.compile(r"\([0-9]+ bytes\)|.*\.\.\. \([0-9]+ bytes more\)", re.DOTALL)  # of the live view
_UPGRADED = 101
_SHOWN = 5  # of what is left out
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
    if len(request.path) >= LONGEST_PATH:
        hint = "record it from a curl command line"
        raise UsageError(
            f"the live view has only the first {LONGEST_PATH:,} characters of its path", hint=hint
        )
    known = [(each.name, each.before) for each in changed if each.before is not None]
    headers = Headers([each for each in known if not _CUT.fullmatch(each[1])])
    lacks = "the live view has those headers only that the plugin changed"
    if cut := [name for name, value in known if name not in headers]:
        lacks += f", and not the value of {', '.join(dict.fromkeys(cut))}"
    if request.received:
        lacks += f", and none of the {request.received} bytes of its body"
    return Recorded(Request(request.method, request.path, headers), request.status, lacks)


def of_file(text: str, name: str) -> list[Recorded | str]:
    """The requests of a HAR file, or of an access log; in the place of one that no test can send, why.

    Raises `ProjectError` for a file of another kind.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("{"):
        try:
            content = json.loads(stripped)
        except (ValueError, RecursionError) as error:
            content = None  # an access log in JSON has an object in each line
            if '"entries"' in stripped:
                message = f"{name} isn't a whole HAR file: {error}"
                raise ProjectError(message, hint="was it cut? save it again") from error
        if isinstance(content, dict) and not _is_entry(content):
            return _of_har(content, name)
    return _of_log(text, name)


# HAR


def _of_har(content: Mapping[str, Any], name: str) -> list[Recorded | str]:
    log = content.get("log")
    entries = log.get("entries") if isinstance(log, dict) else None
    if not isinstance(entries, list):
        raise ProjectError(
            f"{name} is no HAR file: it has no `log.entries`",
            hint="browsers write one: the network panel, `Save all as HAR`",
        )
    found: list[Recorded | str] = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_of_entry(entry))
        except (KeyError, TypeError, AttributeError):
            found.append(f"entry {number} isn't as in HAR 1.2")
        except ValueError as error:
            found.append(f"entry {number} {error}")
    return found


def _of_entry(entry: Mapping[str, Any]) -> Recorded:
    request, response = entry["request"], entry.get("response") or {}
    url = urlsplit(_text(request["url"]))
    if url.scheme not in ("http", "https"):
        raise ValueError(f"is no request by HTTP: its URL begins with {url.scheme}:")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [(_text(each["name"]).lower(), _text(each["value"])) for each in request.get("headers", ())]
    headers = Headers(
        [("host", url.netloc.rpartition("@")[2]), *(each for each in fields if each[0][:1] not in ("", ":"))]
    )
    if any(name == "host" for name, _ in fields):
        headers = Headers(list(headers.iteritems())[1:])
    body, lacks = _body(request.get("postData") or {}), ""
    if not body and (request.get("bodySize") or 0) > 0:
        lacks = f"the file doesn't have its body of {request['bodySize']} bytes"
    status = _status(response.get("status"))
    return Recorded(Request(_text(request["method"]).upper(), target, headers, body), status, lacks)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _status(value: Any) -> int | None:
    """An answer's status; None if there was none. Raises `ValueError` for one of no answer."""
    text = str(value)
    status = int(text) if re.fullmatch("[0-9]{3}", text) else 0
    if status == _UPGRADED:
        raise ValueError("became a WebSocket, which no test can play")
    return status or None


def _body(data: Mapping[str, Any]) -> bytes:
    text = data.get("text") or ""
    if data.get("encoding") == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError("has a body that isn't base64") from error
    return str(text).encode()


# access logs


def _of_log(text: str, name: str) -> list[Recorded | str]:
    found: list[Recorded | str] = []
    # splitlines() would split at other characters, too
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in lines:
        try:
            found.append(_of_line(line) or f"line {number} is no line of an access log")
        except ValueError as error:
            found.append(f"line {number} {error}")
    if lines and all(isinstance(each, str) for each in found):
        raise ProjectError(
            f"{name}, {found[0]}",
            hint="Envoy's default format, Istio's, and JSON with method, path and status are known",
        )
    return found


def _of_line(line: str) -> Recorded | None:
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return _of_json(entry) if isinstance(entry, dict) and _is_entry(entry) else None
    # a collector may have put a time or a name before it
    match = _LINE.search(line)
    if not match:
        return None
    rest = match["rest"]
    quoted = _QUOTED.findall(rest)
    ids = [at for at, each in enumerate(quoted) if _UUID.fullmatch(each)]
    at = ids[0] if ids else len(quoted) - 3  # of the last five that both formats have
    authority = quoted[at + 1] if 0 < at < len(quoted) - 1 else ""
    agent = quoted[at - 1] if at > 0 else ""
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
    if not isinstance(method, str) or not isinstance(target, str):
        return None
    if not target.startswith("/"):
        raise ValueError("has a request without a path, which no test can send")
    said = (("host", authority), ("user-agent", agent))
    headers = Headers([(name, value) for name, value in said if isinstance(value, str)])
    kept = Headers([each for each in headers.iteritems() if each[1] not in ("", "-")])
    lacks = "an access log has few of the headers"
    if re.fullmatch("[0-9]{1,18}", str(size)) and int(size):
        lacks += f", and none of the {size} bytes of the body"
    return Recorded(Request(method, target, kept), _status(status), lacks)


def chosen(found: Sequence[Recorded | str], number: int | None, name: str) -> list[Recorded]:
    """The one with that number, from 1; or all, each once, and a note of those that no test can send.

    Raises `UsageError` if there is none.
    """
    if not found:
        raise UsageError(f"there is no request in {name}")
    if number is not None:
        if number > len(found):
            raise UsageError(f"--request can't be {number}: {name} has {len(found)}")
        one = found[number - 1]
        if isinstance(one, str):
            raise UsageError(f"{name}: {one}")
        return [one]
    left = [each for each in found if isinstance(each, str)]
    if len(left) == len(found):
        raise UsageError(f"there is no request in {name} that a test can send: {left[0]}")
    if left:
        emit(Noted(f"left out of {name}: {', '.join(left[:_SHOWN])}{', …' * (len(left) > _SHOWN)}"))
    return list(_once([each for each in found if not isinstance(each, str)]))


def _once(found: Sequence[Recorded]) -> Iterator[Recorded]:
    seen: set[str] = set()
    for each in found:
        sent = each.request
        key = repr((sent.method, sent.target, sent.body, [*sent.headers.iteritems()], each.status))
        if key not in seen:
            seen.add(key)
            yield each


def read(path: Path | None, content: bytes) -> list[Recorded | str]:
    """The requests in a file's content; `path` is None for standard input."""
    return of_file(content.decode(errors="replace"), str(path) if path else "standard input")
