"""A request that is sent to the deployed plugin, with tracing switched on meanwhile."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from scaffold.commands.deploy_targets import nothing_deployed, roots_of
from scaffold.commands.explain.past import MIXED, changes, constants, during, ending, title
from scaffold.core import files, locks
from scaffold.core.events import Noted, Requested, emit
from scaffold.errors import HostError
from scaffold.hosts import timeline
from scaffold.hosts.background import target as here
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.envoy.access_log import newest
from scaffold.hosts.envoy.admin import Admin
from scaffold.hosts.exchange import REQUEST_ID, Headers, Incomplete, Request
from scaffold.hosts.explanation import Explanation, explain_timeline
from scaffold.hosts.host import Running
from scaffold.hosts.timeline import Timeline
from scaffold.hosts.traps import Ending
from scaffold.project.curl import CurlRequest
from scaffold.wasm.hostcalls import Read

_SECONDS = 10.0  # for an answer, unless curl's `--max-time` says otherwise
_END_SECONDS = 2.0  # in which the plugin's last callbacks come after the answer
_TRACE = "trace"


def explained(asked: CurlRequest, root: Path) -> Explanation:
    """Send the request to what is deployed from `root`, and explain it.

    Raises `TargetError` if nothing is.
    """
    roots = roots_of(root)
    record = next(iter(here.seen(roots)), None)
    if record is None:
        raise nothing_deployed(roots)
    admin = here.admin_of(record)
    host = here.attach(record)
    sent = _request(asked, record)
    answer = Ending()
    place = files.state_dir() / "explain" / f"{files.digest(str(record.url).encode())[7:23]}.lock"
    with (
        locks.lock(place, doing="tracing the calls of this plugin"),  # or one would switch it off for another
        tracing(admin, record.settings.log_level),
    ):
        begun, mark = time.time(), host.log.size()
        try:
            exchange = host.play(sent, timeout=asked.seconds or _SECONDS)
            body = exchange.response.body[:1000].decode(errors="replace")
            answer = Ending(exchange.status, "", exchange.details, body)
        except Incomplete as error:
            answer = Ending(error.exchange.status, "", error.message)
        except HostError as error:
            answer = Ending(None, "", error.message)
        found, request = _traced(host, sent, mark, begun, constants(record))
    if request:
        answer = dataclasses.replace(ending(request), body=answer.body)
    notes = (MIXED.format(len(found)),) if len(found) > 1 else ()
    return explain_timeline(
        found[0] if found else None,
        request=title(request) if request else f"{sent.method} {sent.target}",
        ending=answer,
        notes=notes,
        changes=changes(request) if request else (),
    )


@contextmanager
def tracing(admin: Admin, usual: str) -> Iterator[None]:
    """Have Envoy log every call of a plugin while the block runs; then the level is what it was.

    One that is `trace` already, such as by an explain that was killed, becomes the deployment's `usual`.
    """
    _, levels = admin.ask("/logging", post=True)
    before = next((line.split()[-1] for line in levels.splitlines() if line.split()[:1] == ["wasm:"]), usual)
    try:
        admin.ask(f"/logging?wasm={_TRACE}", post=True)
        yield
    finally:
        with suppress(HostError):  # it has ended, and its successor has the usual level
            admin.ask(f"/logging?wasm={usual if before == _TRACE else before}", post=True)


def _request(asked: CurlRequest, record: Record) -> Request:
    """The request as it is sent. It goes to the deployed plugin, whatever its URL."""
    if asked.authority != urlsplit(record.url).netloc:
        emit(Noted(f"sent to {record.url} with the host {asked.authority}"))
    headers = Headers([("host", asked.authority), *asked.headers])
    headers.setdefault(REQUEST_ID, str(uuid.uuid4()))
    return Request(asked.method, asked.target, headers, asked.body)


def _traced(
    host: Running, sent: Request, mark: int, begun: float, constants: Read
) -> tuple[list[Timeline], Requested | None]:
    """What was traced since, the most probable first, once the plugin has forgotten the request."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        request = next((each for each in _recent(host, begun) if each.id == sent.headers[REQUEST_ID]), None)
        found = [
            each
            for each in timeline.read(host.log.since(mark), constants)
            if timeline.CUT_AT_START not in each.notes  # an earlier request's end
        ]
        if request:
            found = during(found, request)
        is_over = bool(found) and found[0].is_over and request is not None
        if is_over or time.monotonic() > deadline:
            return found, request
        time.sleep(0.05)


def _recent(host: Running, begun: float) -> Iterator[Requested]:
    """The requests that have ended since."""
    for each in newest(host.folder.access_log):
        if each.ended < begun - 1:
            return
        yield each
