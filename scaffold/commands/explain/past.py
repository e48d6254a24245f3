"""A request that has ended: what the logs still know of it."""

from __future__ import annotations

import re

from scaffold.core.events import Changes, HeaderChange, Requested
from scaffold.hosts import timeline
from scaffold.hosts.background import target as here
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.envoy.log import Line, Logs
from scaffold.hosts.explanation import Explanation, Step, explain_timeline
from scaffold.hosts.timeline import CUT_AT_START, Callback, Hostcall, Said, Timeline
from scaffold.hosts.traps import Ending
from scaffold.wasm.floor import constant_data
from scaffold.wasm.hostcalls import Read, short
from scaffold.wasm.module import WasmFile

_SLACK = 0.0005  # seconds by which a plugin may seem to be called before its request began
_KINDS = {(True, False): "added", (False, True): "removed", (False, False): "changed"}
_FAILED = re.compile(r"Function: (\w+) failed: (.*)", re.DOTALL)
MIXED = "{} requests were served meanwhile, or several plugins; this is the one that began closest to it"
_OLDER = 5000  # lines in a row from before a moment: all others are older, too
NOT_TRACED = "Envoy didn't trace its calls then; `scaffold explain -- curl …` sends a request with tracing"


def of_past(request: Requested, logs: Logs, record: Record | None) -> Explanation:
    """What is known of a request that has ended; `record` is what runs."""
    known, notes = _logged(request), [NOT_TRACED]
    read = constants(record) if record else timeline.no_constants
    if traced := during(timeline.read(_lines(logs, request), read), request):
        known, notes = traced[0], [MIXED.format(len(traced))] * (len(traced) > 1)
    return explain_timeline(
        known,
        request=title(request),
        ending=ending(request),
        notes=tuple(notes),
        changes=changes(request),
        only_logs=not traced,
    )


def _logged(request: Requested) -> Timeline:
    """What the plugin has logged, and whether it crashed, as if in one callback."""
    steps: list[Hostcall | Said] = [
        Said(each.level, each.text, each.time) for each in request.logs if not _FAILED.match(each.text)
    ]
    logged = Callback("a callback", (0,), steps=steps)
    for each in request.logs:
        if failed := _FAILED.match(each.text):
            logged.name, logged.failed = short(failed[1]), failed[2]
    return Timeline(0, callbacks=[logged] if request.logs else [])


def constants(record: Record) -> Read:
    """What lies in the constant data of the module that runs; nothing if there are several."""
    modules = {each.module_digest.removeprefix("sha256:") for each in record.plugins}
    path = here.attach(record).folder.modules / f"{min(modules)}.wasm"
    if len(modules) > 1 or not path.exists():
        return timeline.no_constants
    return constant_data(WasmFile.read(path))


def during(found: list[Timeline], request: Requested) -> list[Timeline]:
    """The timelines that began while a request was served, the nearest to its beginning first."""
    within = [
        each
        for each in found
        if each.time is not None
        and request.time - _SLACK <= each.time <= request.ended + _SLACK
        and CUT_AT_START not in each.notes  # an earlier request's end
    ]
    return sorted(within, key=lambda each: abs((each.time or 0) - request.time))


def title(request: Requested) -> str:
    """A request in a line."""
    return f"{request.method or 'connection'} {request.path} in {request.milliseconds:.1f} ms"


def ending(request: Requested) -> Ending:
    """How a request ended."""
    return Ending(request.status, request.flags, request.details)


def changes(request: Requested) -> tuple[Step, ...]:
    """What the plugin changed in the request and in its answer."""
    return (*_changed("request", request.request), *_changed("answer", request.response))


def _changed(side: str, changed: Changes | None) -> list[Step]:
    return [
        Step(
            "change", f"{side} {each.name}: {_values(each)}", _KINDS[each.before is None, each.after is None]
        )
        for each in (changed.headers if changed else ())
    ]


def _values(change: HeaderChange) -> str:
    return " → ".join(each for each in (change.before, change.after) if each is not None)


def _lines(logs: Logs, request: Requested) -> list[Line]:
    """The lines of the log while a request was served."""
    lines, older = [], 0
    for line in logs.log.backwards():
        moment = line.moment
        if moment is None or moment > request.ended + 1:
            continue
        older = older + 1 if moment < request.time - _SLACK else 0
        if older > _OLDER:
            break
        if not older:
            lines.append(line)
    return lines[::-1]
