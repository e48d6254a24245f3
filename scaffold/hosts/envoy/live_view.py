"""What plugins do to each request: the access log, with the log lines and the metrics that belong to it.

Envoy's log names no request, and its metrics are those of the whole process. A log line belongs to a request
if no other was being served when it was written, and so do the metrics that moved.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scaffold.core.events import Logged, Moved, Noted, Requested, emit
from scaffold.errors import HostError, UsageError
from scaffold.hosts.envoy import plugin_metrics
from scaffold.hosts.envoy.access_log import WantedRequests, newest, parse
from scaffold.hosts.envoy.log import Line, Log, Logs, Wanted, lines_from

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin  # http.client takes a while to import

HOLD = 2.0  # seconds that a log line waits for the end of its request
_SOON, _RARELY = 0.04, 1.0  # seconds between two readings of the metrics: for a single request, for many
_RECENT = 1000  # requests that are remembered, to know when several were served at once
_OLDER = 500  # entries in a row from before a moment: all others are older, too
_NOT_CLIENTS = ("http.admin.", "http.grpc ")  # our questions, and calls behind our bridge for gRPC
_COUNTS = r"^http\..*\.downstream_rq_(active|completed)$"


def past(
    logs: Logs, wanted: WantedRequests, *, until: int | None = None, by_name: bool = False
) -> list[Requested]:
    """The requests that have ended and fit, the first that ended first, with their log lines.

    Those after the position `until` of the access log are left out.
    """
    served, chosen = _served(logs.access_log, wanted, until)
    if not chosen:
        return []
    lines = _lines_since(logs.log, min(served[place].time for place in chosen))
    by_request: dict[int, list[Logged]] = {}
    for line, places in served_during(lines, served):
        if len(places) == 1:
            by_request.setdefault(places[0], []).append(_event(line, served[places[0]], by_name=by_name))
    return [replace(served[place], logs=tuple(by_request.get(place, ()))) for place in chosen]


def with_id(logs: Logs, request_id: str) -> Requested:
    """The request whose id begins like this. Raises `UsageError` if there is none, or more than one."""
    found = [each for each in past(logs, WantedRequests()) if each.id.startswith(request_id.lower())]
    if not found:
        hint = "`scaffold requests` lists the requests"
        raise UsageError(f"no request's id begins with {request_id}", hint=hint)
    if len({each.id for each in found}) > 1:
        raise UsageError(f"several ids begin with {request_id}", hint="write more of it")
    return found[-1]


def with_requests(lines: Iterable[Line], access_log: Path, *, by_name: bool = False) -> Iterator[Logged]:
    """Log lines as events, with the requests to which they belong."""
    served = [*newest(access_log)][::-1]
    for line, places in served_during(lines, served):
        yield _event(line, served[places[0]] if len(places) == 1 else None, by_name=by_name)


def _event(line: Line, request: Requested | None, *, by_name: bool) -> Logged:
    event = line.event(by_name=by_name)
    return replace(event, request=request.id) if request else event


def _served(access_log: Path, wanted: WantedRequests, until: int | None) -> tuple[list[Requested], list[int]]:
    """The requests since the first that is wanted began, in the order of their ends; which are wanted."""
    served: list[Requested] = []
    chosen: list[int] = []
    begun, older = float("inf"), 0
    for request in newest(access_log, until):
        is_full = wanted.tail is not None and len(chosen) >= wanted.tail
        if not is_full and wanted(request):
            chosen.append(len(served))
            begun = min(begun, request.time)
        older = older + 1 if request.ended < begun else 0
        if is_full and older > _OLDER:
            break
        served.append(request)
    last = len(served) - 1
    return served[::-1], [last - place for place in reversed(chosen)]


def _lines_since(log: Log, moment: float) -> list[Line]:
    """The log lines since a moment; the clock may have been set back meanwhile."""
    lines, older = [], 0
    for line in log.backwards():
        older = older + 1 if (line.moment or 0) < moment else 0
        if older > _OLDER:
            break
        lines.append(line)
    return lines[::-1]


def in_request(line: Line) -> bool:
    """Whether a line was written while a plugin served a request, and not by its timer or at its start."""
    return line.of_plugin and line.plugin != ""


def served_during(lines: Iterable[Line], served: Sequence[Requested]) -> Iterator[tuple[Line, list[int]]]:
    """Each line with the places of the requests that were being served when it was written.

    A line that was written during no request has none.
    """
    order = sorted(range(len(served)), key=lambda place: served[place].time)
    begun, serving = 0, set[int]()
    for line in lines:
        moment = line.moment if in_request(line) else None
        if moment is None:
            yield line, []
            continue
        while begun < len(order) and served[order[begun]].time <= moment:
            serving.add(order[begun])
            begun += 1
        serving = {place for place in serving if served[place].ended >= moment}
        yield line, list(serving)


class _Reading(NamedTuple):
    """The metrics at a moment, how many requests are being served, and how many have ended until then."""

    moment: float
    metrics: dict[str, int]
    active: int
    ended: int


class LiveView:
    """What happens in one Envoy from now on; each look yields what is new.

    Requests come in the order in which they ended. A log line waits `hold` seconds for the end of its
    request; one that belongs to none comes alone, and so does a metric. `wanted` and `fits` choose requests
    and lines. Without `admin` there are no metrics. With `says_so`, a note tells of requests that overlap.
    """

    def __init__(
        self,
        logs: Logs,
        admin: Admin | None,
        *,
        wanted: WantedRequests = WantedRequests(),
        fits: Callable[[Line], bool] = Wanted(),
        hold: float = HOLD,
        by_name: bool = False,
        log_at: int | None = None,
        says_so: bool = True,
    ) -> None:
        self._log, self._access_log, self.admin = logs.log, logs.access_log, admin
        self._wanted, self._fits, self._hold, self._by_name = wanted, fits, hold, by_name
        self._says_so = says_so
        self._log_at = logs.log.size() if log_at is None else log_at
        self.begun_at = self._access_at = logs.access_log.stat().st_size if logs.access_log.exists() else 0
        self._held: deque[tuple[float, Line]] = deque()
        self._shared: list[Line] = []  # of requests that were served at once
        self._recent: deque[Requested] = deque(maxlen=_RECENT)
        self._unread = 0  # requests since the last reading of the metrics
        self._last = self._read() or _Reading(time.monotonic(), {}, 0, 0)

    def look(self) -> Iterator[Requested | Logged | Moved]:
        """What has happened since the last look."""
        ended = list(self._ended())  # read first: what was logged during them is in the log by now
        now = time.monotonic()
        for line in self._logged():
            if self._fits(line) and in_request(line):
                self._held.append((now, line))
            elif self._fits(line) and not self._wanted.chooses:
                yield line.event(by_name=self._by_name)
        self._unread += len(ended)
        moved, is_alone = self._moved(now, len(ended))
        by_request = self._attributed(ended)
        for place, request in enumerate(ended):
            if self._wanted(request):
                metrics = moved.metrics if moved and is_alone else {}
                yield replace(request, logs=tuple(by_request.get(place, ())), metrics=metrics)
        if moved and moved.metrics and not (is_alone and ended) and not self._wanted.chooses:
            yield moved
        yield from self.unowned(now - self._hold)

    def _ended(self) -> Iterator[Requested]:
        while True:
            try:
                lines, self._access_at = lines_from(self._access_log, self._access_at)
            except FileNotFoundError:
                return
            if not lines:
                return
            yield from filter(None, map(parse, lines))

    def _logged(self) -> Iterator[Line]:
        while True:
            lines, self._log_at = self._log.read(self._log_at)
            if not lines:
                return
            yield from lines

    def _attributed(self, ended: Sequence[Requested]) -> dict[int, list[Logged]]:
        """The held lines that belong to the requests that have ended; they are held no longer."""
        if not ended:
            return {}
        before = len(self._recent)
        served = [*self._recent, *ended]
        self._recent.extend(ended)
        by_request: dict[int, list[Logged]] = {}
        held, self._held = self._held, deque()
        during = served_during([line for _, line in held], served)
        for (since, line), (_, places) in zip(held, during, strict=True):
            if len(places) > 1 or (places and (places[0] < before or self._last.active)):
                self._shared.append(line)
            elif places:
                event = _event(line, served[places[0]], by_name=self._by_name)
                by_request.setdefault(places[0] - before, []).append(event)
            else:
                self._held.append((since, line))
        return by_request

    def unowned(self, since: float = math.inf) -> Iterator[Logged]:
        """The lines of several requests, and those that have waited for theirs since then."""
        lines, self._shared = self._shared, []
        if lines and self._says_so and not self._wanted.chooses:
            self._says_so = False
            emit(Noted("requests overlap: the log lines of these are shown separately"))
        while self._held and self._held[0][0] < since:
            lines.append(self._held.popleft()[1])
        if not self._wanted.chooses:
            yield from (line.event(by_name=self._by_name) for line in lines)

    def _moved(self, now: float, ended: int) -> tuple[Moved | None, bool]:
        """What moved since the last reading, if it is time for another; whether a single request moved it."""
        pause = _SOON if ended == self._unread == 1 else _RARELY
        if now - self._last.moment < pause or (reading := self._read()) is None:
            return None, False
        before, self._last = self._last, reading
        requests, self._unread = self._unread, 0
        old = before.metrics if reading.ended >= before.ended else {}  # or Envoy was restarted
        moved = {name: value - old.get(name, 0) for name, value in reading.metrics.items()}
        metrics = {name: by for name, by in moved.items() if by}
        is_alone = requests == self._last.ended - before.ended == 1
        is_alone = is_alone and not before.active and not self._last.active
        return Moved(requests, self._last.moment - before.moment, metrics), is_alone

    def _read(self) -> _Reading | None:
        """Read the metrics; None if Envoy doesn't answer, such as while it is being restarted."""
        if self.admin is None:
            return None
        moment = time.monotonic()
        try:
            metrics, counts = plugin_metrics.values(self.admin, _COUNTS)
        except (HostError, ValueError):
            return None
        own = {name: value for name, value in counts.items() if not name.startswith(_NOT_CLIENTS)}
        active = sum(value for name, value in own.items() if name.endswith("rq_active"))
        ended = sum(value for name, value in own.items() if name.endswith("rq_completed"))
        return _Reading(moment, metrics, active, ended)
