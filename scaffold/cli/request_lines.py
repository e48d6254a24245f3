"""A request as lines for a terminal: what it was, and below it what the plugins did to it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from scaffold.core.events import Changes, HeaderChange, Requested
from scaffold.core.text import cut, line
from scaffold.core.times import shown

_LEAST_PATH = 12  # columns that a path has at least
_INDENT = "  "
ID = 8  # the first characters of a request's id, which are enough to find it
_COLOURS = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}
_SIGNS = {"+": "green", "-": "red", "~": "yellow"}


def request_lines(request: Requested, columns: int | None) -> Iterator[str]:
    """The lines, with colours; without `columns` they are as long as they get, and paths come whole."""
    yield _first(request, columns)
    if request.flags or request.details:
        yield _below(" ", "ended", " ".join(filter(None, [request.flags, request.details])), columns)
    if request.recorded and request.request is None:
        yield _below(" ", "answer", "by a plugin, or by Envoy: it didn't get to the upstream", columns)
    yield from _changed("request", request.request, request.received, columns)
    yield from _changed("answer", request.response, request.sent, columns, came_from_upstream=True)
    for name, by in request.metrics.items():
        yield _below(" ", "metric", f"{name} {by:+,}", columns)
    for each in request.logs:
        source = f"{each.source}: " if each.by_name else ""
        yield _below(" ", "log", f"[{each.level}] {source}{each.text}", None)


def _first(request: Requested, columns: int | None) -> str:
    time, duration = shown(request.time), _duration(request.milliseconds)
    status = "---" if request.status is None else str(request.status)
    method = line(request.method) or "connection"
    end = f"{duration:>8} {line(request.id)[:ID]:<{ID}}".rstrip()
    path = line(request.path) if request.method else _bytes_both_ways(request)
    if columns:
        room = columns - len(f"{time} {status} {method:<4}  {duration:>8} ") - ID
        path = cut(path, max(room, _LEAST_PATH)).ljust(room)
    colour = "red" if request.status is None and request.method else _COLOURS.get(status[0])
    parts = [click.style(time, dim=True), click.style(status, fg=colour, bold=True), f"{method:<4}", path]
    return " ".join([*parts, click.style(end, dim=True)])


def _bytes_both_ways(request: Requested) -> str:
    return f"{request.received:,} bytes received, {request.sent:,} sent"


def _duration(milliseconds: float) -> str:
    if milliseconds >= 10_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.1f} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def _changed(
    name: str, changes: Changes | None, size: int, columns: int | None, *, came_from_upstream: bool = False
) -> Iterator[str]:
    """What changed in a message. `size` is its body's at the client's side."""
    if changes is None:
        return
    for each in changes.headers:
        yield _below(_sign(each), name, _header(each), columns)
    if changes.left_out:
        yield _below(" ", name, f"and {changes.left_out} more header lines", columns)
    if changes.body is not None and changes.body != size:
        before, after = (changes.body, size) if came_from_upstream else (size, changes.body)
        yield _below("~", name, f"body {before:,} → {after:,} bytes", columns)


def _sign(change: HeaderChange) -> str:
    return "+" if change.before is None else "-" if change.after is None else "~"


def _header(change: HeaderChange) -> str:
    values = [line(each) for each in (change.before, change.after) if each is not None]
    return f"{line(change.name)}: {' → '.join(values)}"


def _below(sign: str, title: str, text: str, columns: int | None) -> str:
    """A line below a request's first."""
    start = f"{_INDENT}{sign} {title:<7} "
    text = line(text)
    if columns and len(start) + len(text) > columns:
        text = text[: max(columns - len(start) - 1, 0)] + "…"
    coloured = click.style(sign, fg=_SIGNS.get(sign))
    return f"{_INDENT}{coloured} {click.style(f'{title:<7}', dim=True)} {text}"
