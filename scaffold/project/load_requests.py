"""The requests with which a plugin is measured: those in its project's bench/*.toml.

A file has a table `[[request]]` for each, and `[response]` for what the upstream answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError, nearest
from scaffold.project.cargo_toml import read_toml
from scaffold.project.probe_request import VALID, Probe

FOLDER = "bench"  # in the crate
_HINT = 'write `[[request]]` with `path = "/"` and, if need be, `method`, `headers`, `body` and `weight`'
_HEADERS = {"user-agent": "curl/8.5.0", "accept": "*/*"}  # of the request of a project that describes none
_LARGEST = 1000  # weight, and requests in all
_HEAD = "HEAD"


@dataclass(frozen=True)
class LoadRequest:
    """A request, and how often it is sent compared with the others."""

    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    weight: int = 1

    @property
    def content(self) -> bytes:
        """It as HTTP/1.1 has it. Its `host` is localhost, unless its headers have another."""
        names = {name.lower() for name in self.headers}
        more = {} if "host" in names else {"host": "localhost"}
        body = self.body.encode()
        if body and not names & {"content-length", "transfer-encoding"}:
            more["content-length"] = str(len(body))
        lines = [f"{name}: {value}" for name, value in {**more, **self.headers}.items()]
        head = "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *lines, "", ""])
        return head.encode() + body

    @property
    def has_answer_body(self) -> bool:
        """Whether its answer may have a body."""
        return self.method != _HEAD

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class LoadResponse:
    """What the upstream answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = "ok\n"


@dataclass(frozen=True)
class Traffic:
    """The requests, and what the upstream answers. `source` says where that comes from."""

    requests: tuple[LoadRequest, ...]
    response: LoadResponse = LoadResponse()
    source: str = "a default request"


_OF_REQUEST: dict[str, Callable[[Any], bool]] = {
    **{name: VALID[name] for name in ("path", "method", "headers", "body")},
    "weight": lambda value: type(value) is int and 1 <= value <= _LARGEST,
}
_OF_RESPONSE: dict[str, Callable[[Any], bool]] = {
    "status": lambda value: type(value) is int and 200 <= value <= 599,
    **{name: VALID[name] for name in ("headers", "body")},
}


def traffic(root: Path | None, probe: Probe | None = None) -> Traffic:
    """What the files of the project in `root` describe; else its probe, or a GET of /.

    Raises `ProjectError` for a file that isn't TOML, has an unknown key or an impossible value, or if there
    are files and none has a request.
    """
    files = sorted((root / FOLDER).glob("*.toml")) if root else []
    if not files:
        if probe and probe.sent:
            asked = LoadRequest(probe.path, probe.method, {**_HEADERS, **probe.headers}, probe.body)
            return Traffic((asked,), source="the probe in Cargo.toml")
        return Traffic((LoadRequest(headers=_HEADERS),))
    requests: list[LoadRequest] = []
    response: dict[Path, LoadResponse] = {}
    for path in files:
        found = read_toml(path)
        for key in found.keys() - {"request", "response"}:
            raise ProjectError(f"unknown key `{key}` in {path}", hint=nearest(key, ["request", "response"]))
        tables = found.get("request", [])
        if not isinstance(tables, list):
            raise ProjectError(f"`request` in {path} is no list of tables", hint=_HINT)
        requests += [_made(LoadRequest, each, _OF_REQUEST, f"[[request]] of {path}") for each in tables]
        if "response" in found:
            response[path] = _made(LoadResponse, found["response"], _OF_RESPONSE, f"[response] of {path}")
    if not requests:
        raise ProjectError(f"no request in {', '.join(map(str, files))}", hint=_HINT)
    if len(requests) > _LARGEST:
        raise ProjectError(f"{len(requests):,} requests in {files[0].parent}: {_LARGEST:,} is the limit")
    if len(response) > 1:
        both = " and in ".join(map(str, response))
        raise ProjectError(f"[response] is in {both}", hint="the upstream answers all requests alike")
    one = next(iter(response.values()), LoadResponse())
    return Traffic(tuple(requests), one, ", ".join(f"{FOLDER}/{path.name}" for path in files))


def _made(kind: type[Any], table: object, valid: Mapping[str, Callable[[Any], bool]], where: str) -> Any:
    if not isinstance(table, dict):
        raise ProjectError(f"{where} is not a table", hint=_HINT)
    known = [each.name for each in fields(kind)]
    for key, value in table.items():
        if key not in known:
            raise ProjectError(f"unknown key `{key}` in {where}", hint=nearest(key, known))
        if not valid[key](value):
            raise ProjectError(f"`{key}` in {where} isn't valid: {value!r}")
    return kind(**table)
