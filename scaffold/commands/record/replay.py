"""What a plugin does with a recorded request, as assertions of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile

from scaffold.core import files
from scaffold.errors import HostError
from scaffold.hosts import host as hosts
from scaffold.hosts.exchange import Exchange, Headers, Incomplete, Request, Response
from scaffold.hosts.host import EMULATOR, Played
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.recording import is_plugins

_OF_PROXY = ("x-envoy-", "x-forwarded-for", "x-forwarded-proto", "x-request-id")
_FRAMING = frozenset("content-length transfer-encoding connection date server host".split())
_LEAST = 10  # characters that the beginning of a log line has
_MOST_LINES = 5  # of a log that a test asserts
_LONGEST = 200  # bytes of a body that a test asserts


@dataclass(frozen=True)
class Facts:
    """What became of a request, as far as it is the same each time.

    `answer` is the status that the upstream gave, or None if the request never arrived there; it arrived at
    `path`.
    """

    status: int
    answer: int | None
    path: str = ""
    lines: tuple[str, ...] = field(default=())


class Stage:
    """A plugin in a host, and a host without one, on which requests are played."""

    def __init__(self, host: Played, plain: Played, plugin: Plugin) -> None:
        self._host, self._plain, self._plugin = host, plain, plugin

    def facts(self, request: Request, status: int | None) -> Facts:
        """Play a request once without the plugin, and twice with it; the upstream answers with `status`.

        The second time the plugin has seen a request already, as in a test after another one. Raises
        `HostError` where the plugin gives no answer.
        """
        answer = Response(status or 200)
        path = request.path
        plain = _play(self._plain, request, answer, path)
        for _ in range(2):
            self._host.replace(self._plugin, fresh=True)
            first, second = (_play(self._host, request, answer, path) for _ in range(2))
            if first.upstream is None or first.upstream.path == path:
                break
            path = first.upstream.path  # the plugin sends it elsewhere
        arrived = answer.status if first.upstream else None
        return Facts(first.status, arrived, path, tuple(_lines(plain, first, second)))


@contextmanager
def staged(plugin: Plugin, host: str, run: RunOptions) -> Iterator[Stage]:
    """The plugin in a host while the block runs."""
    settings = replace(run.settings, anywhere=True, adds_clusters=True, changes=False)
    with (
        files.scratch() as folder,
        files.scratch() as other,
        hosts.player(EMULATOR)(folder=other, settings=RunOptions(port=0).settings) as plain,
        hosts.player(host)(plugin, folder=folder, settings=settings) as with_it,
    ):
        yield Stage(with_it, plain, plugin)


def _play(host: Played, request: Request, answer: Response, path: str) -> Exchange:
    if host.origin is None:
        raise HostError("the host has no upstream that can be told what to answer")
    host.origin.forget_answers()
    host.origin.answer(answer, path=path)
    try:
        return host.play(replace(request, headers=Headers([*request.headers.iteritems()])))
    except Incomplete as error:
        return error.exchange


def _lines(plain: Exchange, first: Exchange, second: Exchange) -> Iterator[str]:
    """The assertions: what the plugin does differently from no plugin, if it does it each time."""
    yield f"assert exchange.status == {first.status}"
    if first.trapped:
        yield "assert exchange.trapped"
    if first.upstream is None:
        yield "assert exchange.upstream is None  # the plugin answers itself"
    else:
        yield from _of_request(plain, first, second)
    known = plain.response.headers if first.upstream else Headers()
    yield from _of_headers("response", known, first.response.headers, second.response.headers)
    if first.response.body and first.response.body == second.response.body:
        yield from _of_body("response", first.response.body)
    for each in list(dict.fromkeys(_logged(first.logs, second.logs)))[:_MOST_LINES]:
        yield f"assert {quoted(each)} in exchange.logs"
    for name, value in first.metrics.items():
        if is_plugins(name) and second.metrics.get(name) == value:
            number = int(value) if value == int(value) else value
            yield f"assert exchange.metrics[{quoted(name)}] == {number}"


def _logged(first: Sequence[str], second: Sequence[str]) -> Iterator[str]:
    """What the plugin logs both times; of lines that end in a number of their own, the beginning."""
    if len(first) != len(second):
        yield from (each for each in first if each in tuple(second) and "\n" not in each)
        return
    for one, other in zip(first, second, strict=True):
        same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        common = "".join(each for each, _ in same).partition("\n")[0]
        if one == other or len(common) >= _LEAST:
            yield common


def _of_request(plain: Exchange, first: Exchange, second: Exchange) -> Iterator[str]:
    """What the upstream gets."""
    before, after, again = plain.upstream, first.upstream, second.upstream
    if before is None or after is None or again is None:
        return
    for name in ("method", "target", "cluster"):
        value = getattr(after, name)
        if value != getattr(before, name) and value == getattr(again, name):
            yield f"assert exchange.upstream.{name} == {quoted(value)}"
    authority = after.headers["host"]
    if authority != before.headers["host"] and authority == again.headers["host"]:
        yield f'assert exchange.upstream.headers["host"] == {quoted(authority)}'
    yield from _of_headers("upstream", before.headers, after.headers, again.headers)
    if after.body != before.body and after.body == again.body:
        yield from _of_body("upstream", after.body)


def _of_headers(side: str, before: Headers, after: Headers, again: Headers) -> Iterator[str]:
    where = f"exchange.{side}.headers"
    for name in dict.fromkeys(each.lower() for each in (*after, *before)):
        if name in _FRAMING or name.startswith(_OF_PROXY) or before.getlist(name) == after.getlist(name):
            continue
        if name not in after:
            yield f"assert {quoted(name)} not in {where}"
        elif after.getlist(name) == again.getlist(name):
            yield f"assert {where}[{quoted(name)}] == {quoted(after[name])}"
        else:  # it is another each time
            yield f"assert {quoted(name)} in {where}"


def _of_body(side: str, body: bytes) -> Iterator[str]:
    if len(body) <= _LONGEST:
        yield f"assert exchange.{side}.body == {quoted(body)}"
    else:
        yield f"assert len(exchange.{side}.body) == {len(body)}"


def quoted(value: str | bytes) -> str:
    """A text in Python, in double quotes where that needs no backslash, as the templates write them."""
    shown = repr(value)
    start = "b" if isinstance(value, bytes) else ""
    inner = shown[len(start) + 1 : -1]
    return f'{start}"{inner}"' if shown.endswith("'") and '"' not in inner else shown
