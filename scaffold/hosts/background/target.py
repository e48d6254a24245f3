"""The targets on this machine: a host of the same name that keeps running in the background."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import files, process
from scaffold.core.collected_errors import Failures
from scaffold.core.events import Logged, Moved, Noted, Requested, emit
from scaffold.core.versions import Version
from scaffold.errors import TargetError, UsageError
from scaffold.hosts import host as hosts
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import RESTART, STOP_SECONDS, Record, Status, Stopped
from scaffold.hosts.envoy.log import OURS, Log, Logs, Wanted
from scaffold.hosts.envoy.run_folder import ACCESS_LOG, LOG
from scaffold.project.workspace import choices

_HOLD = 0.2  # seconds that a line waits for its request's end, which names the request

if TYPE_CHECKING:
    from scaffold.hosts.envoy.admin import Admin
    from scaffold.hosts.envoy.run_folder import Folder


def status(roots: Sequence[Path] | None) -> list[Status]:
    """The deployments of these projects, or all of the user's."""
    return [_status(record) for record in _records(roots)]


def _status(record: Record) -> Status:
    host = attach(record)
    reverted = host.folder.reverted.exists()
    answers = record.alive and host.alive
    lines = [] if answers else [line for line in host.log.since(0) if line.logger == OURS]
    trouble = lines[-1].text.partition("\n")[0] if lines and lines[-1].serious else ""
    return Status.of(record, host.admin_address, answers=answers, reverted=reverted, trouble=trouble)


def remove(roots: Sequence[Path] | None) -> Iterator[Stopped | None]:
    """Stop the deployments of these projects, or all of the user's; None is one without a readable record."""
    own = None if roots is None else [deployments.folder(root) for root in roots]
    failures = Failures()
    for place in deployments.places():
        if own is None or place in own:
            with failures.kept(), deployments.lock(place):
                now = deployments.read(place)  # under the lock: a deploy may just have ended
                forget(place, now)
                yield Stopped(now.name, now.url, now.root) if now else None
    failures.end()


def log_lines(roots: Sequence[Path], wanted: Wanted, follow: bool) -> Iterator[Logged] | None:
    """What the plugin has logged; with `follow`, until the deployment ends. Raises as `chosen` does."""
    record = chosen(roots)
    if record is None:
        return None
    return _lines_of(record, wanted, follow)


def kept_log_lines(roots: Sequence[Path], wanted: Wanted) -> Iterator[Logged] | None:
    """What plugins have logged that were deployed from the one project whose log is kept; see `the_one`."""
    kept = logs_of(None, roots)
    if kept is None:
        return None
    from scaffold.hosts.envoy.live_view import with_requests  # http.client takes a while to import

    lines = wanted.of(kept.log.until(kept.log.size()))
    return with_requests(lines, kept.access_log, by_name=len(roots) > 1)


def logs_of(record: Record | None, roots: Sequence[Path]) -> Logs | None:
    """The logs of a deployment, or those of the one project whose logs are kept; see `the_one`."""
    if record:
        folder = _files(record)
        return Logs(Log(folder.log), folder.access_log)
    folders = {root: deployments.logs(deployments.folder(root)) for root in roots}
    logs = {root: Logs(Log(each / LOG), each / ACCESS_LOG) for root, each in folders.items()}
    root = the_one([root for root, each in logs.items() if each.log.size()], roots[0], "were")
    return None if root is None else logs[root]


def chosen(roots: Sequence[Path]) -> Record | None:
    """The one deployment of these projects, see `the_one`."""
    records = {Path(each.root): each for each in _records(roots)}
    root = the_one(list(records), roots[0], "are")
    return records[root] if root else None


def seen(roots: Sequence[Path]) -> list[Record]:
    """What `scaffold dev` runs from these folders, and the one deployment. Raises as `chosen` does."""
    developed = filter(None, map(deployments.developed, roots))
    return [*developed, *filter(None, [chosen(roots)])]


def the_one(found: Sequence[Path], first: Path, tense: str) -> Path | None:
    """The one of a workspace's projects that was found; `first` is the workspace's own folder.

    Raises `UsageError` for several, unless the chain of the whole workspace is among them.
    """
    if len(found) > 1 and found[0].resolve() != first.resolve():
        message = f"several plugins {tense} deployed from this workspace"
        raise UsageError(message, hint=f"choose one: {choices(found)}")
    return found[0] if found else None


def admin_of(record: Record) -> Admin:
    """The admin interface of a deployment. Raises `TargetError` if its Envoy doesn't run."""
    from scaffold.hosts.envoy.admin import Admin  # http.client takes a while to import

    if not record.alive:
        hint = "`scaffold deploy` starts it again; `scaffold logs` may say why it ended"
        raise TargetError(f"{record.name} doesn't run any more", hint=hint)
    admin = Admin(attach(record).admin_address)
    if not admin.address or admin.gone():
        hint = "it is started again; `scaffold status` shows whether it answers, and `scaffold logs` why not"
        raise TargetError(f"the Envoy of {record.name} isn't running", hint=hint)
    return admin


def _records(roots: Sequence[Path] | None) -> list[Record]:
    return list(deployments.every() if roots is None else filter(None, map(deployments.load, roots)))


def attach(record: Record) -> hosts.Running:
    """The host of a deployment."""
    from scaffold.hosts.envoy.running import EnvoyHost

    return EnvoyHost(
        _files(record),
        record.port,
        Version(record.envoy_version),
        find_loop=partial(hosts.load(record.target).find_loop, settings=record.settings),
        restart=partial(_restart, record),
    )


def _restart(record: Record) -> None:
    """Have the supervisor restart the host."""
    if record.is_visible and record.restarts:
        with suppress(ProcessLookupError):
            os.kill(record.pid, RESTART)


def _lines_of(record: Record, wanted: Wanted, follow: bool) -> Iterator[Logged]:
    from scaffold.hosts.envoy import live_view

    folder, by_name = _files(record), len(record.plugins) > 1
    log, access_log = Log(folder.log), folder.access_log
    at = log.size()
    yield from live_view.with_requests(wanted.of(log.until(at)), access_log, by_name=by_name)
    if not follow:
        return
    view = live_view.LiveView(
        Logs(log, access_log),
        _admin(record),
        fits=wanted,
        hold=_HOLD,
        by_name=by_name,
        log_at=at,
        says_so=False,
    )
    while True:
        alive = record.alive
        news = [line for each in view.look() for line in _logged(each)]
        yield from sorted(news, key=lambda line: line.time or 0)
        if not news and not alive:
            yield from view.unowned()
            record = renewed(record)
            view.admin = _admin(record)
        if not news:
            time.sleep(0.05)


def _admin(record: Record) -> Admin:
    from scaffold.hosts.envoy.admin import Admin

    return Admin(attach(record).admin_address)


def _logged(event: Requested | Logged | Moved) -> Sequence[Logged]:
    """The log lines in an event."""
    return event.logs if isinstance(event, Requested) else [event] if isinstance(event, Logged) else []


def renewed(record: Record) -> Record:
    """The deployment that took the place of one that ended, such as by a deploy that restarts the host.

    Waits for a deploy that is on its way. Raises `TargetError` if there is none.
    """
    folder = Path(record.folder)
    with deployments.lock(folder):
        now = deployments.read(folder)
    if now is None or not now.alive:
        raise TargetError("the deployment has ended", hint="run `scaffold deploy`")
    return now


def _files(record: Record) -> Folder:
    return hosts.load(record.target).files_in(Path(record.folder) / "envoy")


def end(folder: Path, record: Record | None) -> None:
    """End what runs in a deployment's folder: any supervisor, and a container that outlived it."""
    if record and record.is_visible:
        process.end(record.pid, STOP_SECONDS)
    for pid, place in deployments.supervisors().items():
        if place == folder:
            process.end(pid, STOP_SECONDS)
            emit(Noted(f"ended a supervisor that no record names (pid {pid})"))
    if files.in_use(folder):
        name = record.name if record else str(folder)
        message = f"{name} runs in another container, which shares your folders: this one can't end it"
        raise TargetError(message, hint="run `scaffold undeploy` there")
    if (folder / deployments.CONTAINER).exists():
        from scaffold.hosts.docker import host as container

        container.sweep(folder)


def forget(folder: Path, record: Record | None) -> None:
    """End a deployment, and remove its files, even without a readable record."""
    end(folder, record)
    shutil.rmtree(folder, ignore_errors=True)
