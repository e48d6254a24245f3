"""`requests`: show what the deployed plugin does to each request."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of
from scaffold.core import times
from scaffold.core.events import Logged, Moved, Noted, Requested, emit, until_interrupted
from scaffold.errors import UsageError
from scaffold.hosts.background import target as here
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.envoy.access_log import WantedRequests
from scaffold.hosts.envoy.admin import Admin
from scaffold.hosts.envoy.live_view import LiveView, past
from scaffold.hosts.envoy.log import Logs

_PAUSE = 0.05  # seconds between two looks
_STATUS = re.compile(r"[1-5]([0-9]{2}|xx)")


def requests(
    root: Path = Path(),
    *,
    follow: bool = False,
    path: str | None = None,
    status: str | None = None,
    failed: bool = False,
    slow: str | None = None,
    since: str | None = None,
    tail: int | None = None,
) -> Iterator[Requested | Logged | Moved]:
    """The requests that the deployed plugin has served; with `follow`, new ones too, until Ctrl-C.

    Where nothing is deployed any more, those of the last deployment. `path` is how a path begins, with `*`
    for anything; `status` is `404`, `5xx`, or several with commas between them; `slow` is a duration such as
    `100ms`; `since` is a time, or how long ago: `10m`. Of those that fit come the last `tail`.

    With `follow` there are also log lines and metrics that belong to no single request, unless only some
    requests are shown.
    """
    if tail is not None and tail < 0:
        raise UsageError(f"--tail can't be {tail}", hint="0 shows none, and 10 the last ten requests")
    wanted = WantedRequests(
        path=None if path is None else re.compile(".*".join(map(re.escape, path.split("*")))),
        statuses=None if status is None else _statuses(status),
        failed=failed,
        slow=0.0 if slow is None else 1000 * times.duration(slow, "--slow"),
        since=None if since is None else times.parse(since, "--since"),
        tail=tail,
    )
    roots = roots_of(root)
    record = here.chosen(roots)
    logs = here.logs_of(record, roots)
    if logs is None or (record is None and follow):
        raise nothing_deployed(roots)
    if record is None:
        emit(Noted("nothing is deployed now; these are the requests of the last deployment"))
    by_name = len(record.plugins) > 1 if record else len(roots) > 1
    view = _view(record, wanted, by_name) if record and follow else None
    until = view.begun_at if view else None
    found = past(logs, wanted, until=until, by_name=by_name)
    return _shown(found, record, view, wanted)


def _shown(
    found: list[Requested], record: Record | None, view: LiveView | None, wanted: WantedRequests
) -> Iterator[Requested | Logged | Moved]:
    with until_interrupted():
        yield from found
        if not found and record and view is None:
            none_fits = wanted.chooses or wanted.tail == 0
            emit(Noted("no request fits" if none_fits else f"no request yet; try `curl {record.url}`"))
        if view and record:
            emit(Noted("Press Ctrl-C to stop"))
            yield from _followed(record, view)


def _followed(record: Record, view: LiveView) -> Iterator[Requested | Logged | Moved]:
    while True:
        time.sleep(_PAUSE)
        alive = record.alive
        news = list(view.look())
        yield from news
        if not news and not alive:
            yield from view.unowned()
            record = here.renewed(record)
            view.admin = Admin(here.attach(record).admin_address)


def _view(record: Record, wanted: WantedRequests, by_name: bool) -> LiveView:
    host = here.attach(record)
    admin = Admin(host.admin_address)
    wanted = replace(wanted, since=None, tail=None)  # whatever comes from now on
    return LiveView(Logs(host.log, host.folder.access_log), admin, wanted=wanted, by_name=by_name)


def _statuses(text: str) -> re.Pattern[str]:
    each = [one.strip().lower() for one in text.split(",")]
    for one in each:
        if not _STATUS.fullmatch(one):
            raise UsageError(f"--status can't be `{one}`", hint="such as `404`, `5xx`, or `401,403`")
    return re.compile("|".join(each).replace("x", "[0-9]"))
