"""What an Envoy shows of one request, or one connection: in its logs, at its upstream, in its metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from scaffold.errors import HostError
from scaffold.hosts.envoy.log import Log, lines_since
from scaffold.hosts.exchange import LogLines, Request, of_request

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin
    from scaffold.hosts.envoy.run_folder import Folder
    from scaffold.hosts.upstream.control import Origin

LOG_SECONDS = 5.0


class Observer:
    """Observes what goes through one Envoy."""

    def __init__(self, folder: Folder, admin: Admin, origin: Origin | None, log: Log) -> None:
        self.folder = folder
        self.admin = admin
        self.origin = origin
        self.log = log
        self.begun = 0  # how many observations
        self.unsettled: WeakSet[Observation] = WeakSet()

    def begin(self) -> Observation:
        """Begin to observe, just before a request is sent or a connection is opened."""
        before = self.admin.stats()
        self._complete(before)
        self.begun += 1
        return Observation(self, before)

    def settle(self) -> None:
        """Complete what anyone still has of earlier observations.

        Call it before anything that a later look at their metrics, or at the upstream, would include.
        """
        if self.unsettled:
            self._complete(self.admin.stats())

    def _complete(self, now: str) -> None:
        for observation in list(self.unsettled):
            observation.settle(now)


class Observation:
    """What happened between its beginning and the next one's: `exchange.Sides`.

    What takes a question to Envoy or to the upstream is asked when it is first looked at, or by `settle`.
    """

    def __init__(self, observer: Observer, before: str) -> None:
        self._observer = observer
        self._number = observer.begun
        self._log = observer.log.size()
        access_log = observer.folder.access_log
        self._access_log = access_log.stat().st_size if access_log.exists() else 0
        self._arrived = observer.origin.mark() if observer.origin else 0
        self._before = before
        self._after: str | None = None
        self.request_id: str | None = None
        self.sent: int | None = None  # bytes of an HTTP answer's body, once its end is known

    def await_end(self, request_id: str | None, port: int) -> str:
        """Wait for the end of a request, or of the connection from `port`; returns Envoy's word for it.

        The request's id, in the header `x-request-id`, finds its end in the access log, and the request at
        the upstream. Behind a network filter only the end of the connection is logged.
        """
        self.request_id = request_id
        deadline = time.monotonic() + LOG_SECONDS
        while not (end := self._end(request_id, port)) and time.monotonic() < deadline:
            time.sleep(0.001)
        self._observer.unsettled.add(self)
        self.sent = end["sent"] if end and end.get("method") else None  # of a connection, it counts all bytes
        return str((end or {}).get("details") or (end or {}).get("closed") or "")

    def settle(self, now: str) -> None:
        """Ask for everything that nobody has looked at yet, with the metrics as they are `now`."""
        if self._after is None:
            self._after = now
        with suppress(HostError):  # the upstream has ended: whoever looks gets this error
            _ = self.requests if self.request_id is None else self.upstream
            self._observer.unsettled.discard(self)

    @property
    def knows_upstream(self) -> bool:
        """Whether there is a built-in upstream."""
        return self._observer.origin is not None

    @cached_property
    def requests(self) -> list[Request]:
        """What arrived at the built-in upstream."""
        origin = self._observer.origin
        return origin.requests(since=self._arrived) if origin else []

    @cached_property
    def upstream(self) -> Request | None:
        """The request as the built-in upstream received it."""
        origin = self._observer.origin
        if origin is None:
            return None
        with_id = origin.requests(self.request_id, since=self._arrived)
        return of_request(with_id or self.requests, self.request_id)

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """The metrics that changed, as `Exchange.metrics` has them."""
        from scaffold.hosts.envoy.admin import changes

        if self._after is None:
            self._after = self._observer.admin.stats()
        return changes(self._before, self._after)

    @cached_property
    def logs(self) -> LogLines:
        """What the plugin logged, and what Envoy logged about it."""
        return LogLines.of(self._observer.log.since(self._log))

    @property
    def trapped(self) -> bool:
        """Whether the plugin crashed."""
        return self.logs.trapped

    def _end(self, request_id: str | None, port: int) -> dict[str, Any] | None:
        """The record of the end, once it is in the access log.

        A request whose id the plugin changed, and a connection, are known by where they came from. An
        Envoy in a container doesn't see that, since Docker forwards the connections: there, the id must be
        the request's own, or be gone, and then everything that was begun since must have ended.
        """
        access_log = self._observer.folder.access_log
        records = list(filter(None, map(_record, lines_since(access_log, self._access_log))))
        if self._observer.folder.enclosed:
            unnamed = [record for record in records if not record["request_id"]]
            ends = unnamed[self._observer.begun - self._number :]
        else:
            ends = [record for record in records if str(record.get("peer")).endswith(f":{port}")]
        named = [record for record in records if record["request_id"] and record["request_id"] == request_id]
        return next(iter([*named, *ends]), None)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # it was cut, or somebody damaged it
        return None
    return record if isinstance(record, dict) and "request_id" in record else None
