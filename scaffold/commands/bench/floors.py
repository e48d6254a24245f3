"""The floor of a plugin: for each request a module with its hostcalls, read from Envoy's trace."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scaffold.commands.bench.starts import Load
from scaffold.hosts.envoy.hostcall_trace import callbacks, hostcalls
from scaffold.hosts.envoy.log import Line
from scaffold.hosts.envoy.side_by_side import Listener, Side, start
from scaffold.hosts.load import Client, Sent
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.load_requests import LoadRequest
from scaffold.wasm.floor import Callback, Hostcall, assemble
from scaffold.wasm.module import WasmModule

_SECONDS = 5.0  # for the trace of a request
_PSEUDO = (b":authority", b":method", b":path", b":scheme", b"x-request-id", b"x-forwarded-proto")


def floors(plugin: Plugin, load: Load, settings: HostSettings, folder: Path) -> list[Plugin]:
    """For each request a plugin that makes the same hostcalls; the same one where these are the same.

    Their modules are written into `folder`. Raises `NoFloor`.
    """
    trace = dataclasses.replace(settings, log_level="trace")
    made: dict[bytes, Plugin] = {}
    found: list[Plugin] = []
    listeners = [Listener("traced", plugin)]
    with start(listeners, folder / "trace", trace, load.traffic) as side:
        for request in load.traffic.requests:
            before, traced = _traced(side, request, load.sender)
            names = [*_PSEUDO, *(name.lower().encode() for name in request.headers)]
            content = assemble(plugin.module.file, traced, before, names)
            if content not in made:
                path = folder / f"floor-{len(made)}.wasm"
                path.write_bytes(content)
                module = WasmModule.read(path)
                made[content] = Plugin(f"floor-{len(made)}", plugin.root_id, module, type=plugin.type)
            found.append(made[content])
    return found


def _traced(side: Side, request: LoadRequest, sender: Client) -> tuple[list[Hostcall], list[Callback]]:
    """The hostcalls before a request, and its callbacks. It is the second of three.

    The first may do what is done once; when the third has begun, the second has ended.
    """
    log = side.host.log
    mark = log.size()
    (port,) = side.ports.values()
    for _ in range(3):
        sender.send([Sent(port, request.content, has_body=request.has_answer_body)], 10, 0.1)
    deadline = time.monotonic() + _SECONDS
    while len(streams := _by_stream(list(log.since(mark)))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    with suppress(IndexError):
        second = list(streams.values())[1]
        return hostcalls(_lines_before(log.since(0), second[0])), second
    return [], []  # it has no callback for a request


def _by_stream(lines: list[Line]) -> dict[int, list[Callback]]:
    """The callbacks of each request, by its context's id."""
    streams: dict[int, list[Callback]] = {}
    for each in callbacks(lines):
        if each.arguments:
            streams.setdefault(each.arguments[0], []).append(each)
    return streams


def _lines_before(lines: Iterator[Line], first: Callback) -> Iterator[Line]:
    """The lines before a request's first callback."""
    call = f"[host->vm] {first.name}({first.arguments[0]}"
    for line in lines:
        if line.text.startswith((f"{call},", f"{call})")):
            return
        yield line
