"""A deploy: the plugins in a running Envoy are replaced, or it is started, or restarted, with them."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scaffold.core import files, process, records
from scaffold.core.events import Noted, Warned, emit, step
from scaffold.core.foreign_files import read_bytes
from scaffold.core.option_fields import supported_by
from scaffold.errors import HostError, ModuleError, ScaffoldError, UsageError
from scaffold.hosts import host as hosts
from scaffold.hosts.background import deployments, history, supervisor
from scaffold.hosts.background.deployments import DeployedPlugin, Record, Status, check_free
from scaffold.hosts.background.target import attach, end, forget
from scaffold.hosts.background.verification import Verification
from scaffold.hosts.envoy.clusters import reachable
from scaffold.hosts.envoy.log import Log
from scaffold.hosts.envoy.log_files import note
from scaffold.hosts.envoy.run_folder import LOGS
from scaffold.hosts.options import HostSettings, RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project.probe_request import Probe
from scaffold.project.projects import Named, chained

_LABELS = {"types": "type", "tls": "TLS"}
_EDITED = {"tls_digest": "tls", "bootstrap_digest": "bootstrap"}  # each is of the files in the other field


@dataclass
class Deployment:
    """What a deploy of one project holds.

    `target` is a host's name; `record` is what was deployed before, if anything. `options` are the user's,
    completed by those of that record as far as they fit the target; `keeps_config` says that `config` is one
    of those.
    """

    root: Path
    target: str
    options: RunOptions
    settings: HostSettings
    record: Record | None
    keeps_config: bool = False

    @property
    def folder(self) -> Path:
        """Where the deployment's files are."""
        return deployments.folder(self.root)

    def check(self) -> None:
        """Raise what would keep these settings from being deployed, before anything is built or ended."""
        hosts.load(self.target).check(self.settings)
        self._check_port()
        if self.settings.upstream:
            address = reachable(self.settings.upstream)
            here = address.host in ("localhost", "127.0.0.1", "::1")
            if here and address.port in {self.settings.port, self._port} - {0}:
                raise HostError(f"the upstream {self.settings.upstream} is where the plugin itself answers")

    def apply(self, plugins: Sequence[Plugin], probe: Probe | None, *, again: int = 0) -> Status:
        """Deploy the plugins in the order of their chain, and send a request through them.

        `probe` is the one that the user chose; `again` is the number of the deploy that is brought back.
        Raises `ModuleError` when the host refuses a plugin (the previous version keeps serving),
        `TargetError` when they are deployed but don't answer.
        """
        if probe and probe.sent and all(plugin.is_service for plugin in plugins):
            raise UsageError("--probe sends a request, and none passes a service", hint="leave it out")
        settings, now = self.settings.serving(*plugins), self.record
        host = attach(now) if now and self._fits(now, plugins, settings) else None
        if now and host and host.alive:
            trial = partial(self._trial, plugins, settings)
            verified = self._swap(Verification(host, trial, plugins, probe), now)
        else:
            verified = self._start(plugins, settings, probe)
        assert self.record  # noqa: S101 - just saved
        modules = ", ".join(f"{each.name} ({each.module_digest})" for each in self.record.plugins)
        note(verified.host.folder.log, "info", f"deployed {modules}")
        said = verified.error.message.partition("\n")[0] if verified.error else ""
        self.record = dataclasses.replace(self.record, said=said)
        deployments.save(dataclasses.replace(self.record, number=self._remember(plugins, again)))
        if verified.error:
            if now:
                verified.error.hint = (
                    f"{verified.error.hint}; `scaffold rollback` brings the previous version back"
                )
            raise verified.error
        return Status.of(self.record, verified.host.admin_address)

    def _remember(self, plugins: Sequence[Plugin], again: int) -> int:
        """Put what was deployed into the history; its number there, or 0 if that can't be."""
        assert self.record  # noqa: S101 - just saved
        try:
            return history.add(self.record, plugins, again=again)
        except (OSError, ScaffoldError) as error:
            emit(Warned(f"this deploy isn't in the history: {error}"))
            return 0

    def _fits(self, now: Record, plugins: Sequence[Plugin], settings: HostSettings) -> bool:
        """Whether the deployed host can take the plugins as it is, if it answers."""
        same = now.alive and now.target == self.target and settings.fit(now.settings, now.port)
        same = same and not any(plugin.is_service for plugin in plugins)
        return same and not _moved(now.plugins, plugins) and now.restarts

    @property
    def _port(self) -> int:
        """The port of the running deployment; 0 if there is none."""
        return self.record.port if self.record and self.record.alive else 0

    def _check_port(self) -> None:
        """Raise `HostError` when the port is taken, except by what a killed deploy left, which is ended."""
        if self.settings.port == self._port:
            return
        try:
            check_free(self.settings.port)
        except HostError:
            left = self.folder in deployments.supervisors().values()
            if self._port or not (left or (self.folder / deployments.CONTAINER).exists()):
                raise

    def _swap(self, verified: Verification, now: Record) -> Verification:
        name = chained(verified.plugins)
        with step(f"Replacing the plugin in the running Envoy with {name}"), _keeps_serving():
            verified.host.replace(*verified.plugins, check=verified.check)
        self._save(now, verified.plugins)
        return verified

    def _start(self, plugins: Sequence[Plugin], settings: HostSettings, probe: Probe | None) -> Verification:
        now = self.record
        if now and now.alive:
            self._validate(plugins, settings)
            self._check_port()  # another program may have taken it during the build
            why = "a service starts with its Envoy" if settings.has_service else "its Envoy is started anew"
            changes = _changes(now, self.target, plugins, settings) or why
            emit(Noted(f"{changes}; Envoy restarts, and open connections drop"))
            if not (settings.port or settings.bootstrap or now.settings.bootstrap):
                settings = dataclasses.replace(settings, port=now.port)  # its clients know it
        with self._lost_by_failing(now):
            return self._replace_host(plugins, settings, probe)

    @contextmanager
    def _lost_by_failing(self, now: Record | None) -> Iterator[None]:
        """If the block fails or is interrupted, say how what it has ended comes back."""
        had_number = now.number if now and now.alive else 0
        try:
            yield
        except BaseException:
            if now and had_number and not now.alive:
                again = f"`scaffold rollback {had_number}` starts it again"
                emit(Warned(f"{now.name} was ended for the new version: {again}"))
            raise

    def _replace_host(
        self, plugins: Sequence[Plugin], settings: HostSettings, probe: Probe | None
    ) -> Verification:
        """End what runs, and start the host with the plugins."""
        logs = deployments.logs(self.folder, make=True)
        end(self.folder, self.record)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        own = self.folder / "envoy"
        own.mkdir(mode=0o700)
        (own / LOGS).symlink_to(logs)
        begun = Log(hosts.load(self.target).files_in(own).log).size()
        try:
            with (
                step(f"Starting Envoy with {chained(plugins)}"),
                supervisor.started(self.target, self.folder, plugins, settings) as child,
            ):
                record = Record(
                    root=str(self.root),
                    target=self.target,
                    folder=str(self.folder),
                    plugins=[],
                    settings=settings,
                    options={},
                    pid=child.pid,
                    since=0,
                    restarts=True,
                    **child.ready(),
                    started=process.start_time(child.pid) or 0.0,
                )
                self._save(record, plugins)
                trial = partial(self._trial, plugins, settings)
                verified = Verification(attach(record), trial, plugins, probe, begun)
                verified.check()
                child.commit()
        except BaseException:
            forget(self.folder, None)  # `supervisor.started` has ended it
            raise
        return verified

    def _save(self, record: Record, plugins: Sequence[Plugin]) -> None:
        self.record = dataclasses.replace(
            record,
            plugins=list(map(DeployedPlugin.of, plugins)),
            options=self.options.record() | {"port": record.port},
            since=time.time(),
            config=deployments.config_source(self.options.record(), plugins, earlier=self.keeps_config),
            said="",
            number=0,
        )
        deployments.save(self.record)

    def _validate(self, plugins: Sequence[Plugin], settings: HostSettings) -> None:
        """Try the plugins in another Envoy, before the one that serves is ended for them."""
        with _keeps_serving(), self._trial(plugins, settings):
            pass

    @contextmanager
    def _trial(self, plugins: Sequence[Plugin], settings: HostSettings) -> Iterator[hosts.Running]:
        """Another host with the same plugins, which no client knows."""
        trial = dataclasses.replace(settings, port=0, anywhere=True)
        start = hosts.find(self.target)
        with files.scratch() as folder, start(*plugins, folder=folder, settings=trial) as host:
            yield host


@contextmanager
def deploying(
    root: Path, target: str, typed: RunOptions, *, chain: bool, reset: bool = False
) -> Iterator[Deployment]:
    """A deploy of the project in `root`, which keeps others from changing its deployment meanwhile.

    `typed` are the user's options, completed by those of the last deploy unless this is a `reset`; of a
    `chain` those of a single plugin aren't remembered.
    """
    folder = deployments.folder(root)
    with deployments.lock(folder):
        record = deployments.read(folder)
        remembered = (record.options if record and not reset else {}).items()
        supported = supported_by(RunOptions, target)
        fitting = {name: value for name, value in remembered if name in supported}
        options = typed.over(fitting, chain=chain)
        kept = typed.config is None and options.config is not None
        if kept:
            config = deployments.shown_config(options.record())
            emit(Noted(f"--config {config} of an earlier deploy is kept; --reset forgets earlier options"))
        yield Deployment(root.resolve(), target, options, options.settings, record, kept)


@contextmanager
def rolling_back(
    root: Path, choose: Callable[[Record | None], history.Deployed], port: int | None
) -> Iterator[tuple[Deployment, history.Deployed]]:
    """The same, with the options of the chosen deploy; what runs keeps its port unless there is another.

    The plugins' configurations are in the entry, and so is a bootstrap: the files that they were read from
    may have changed. A certificate is the one that the files have now.
    """
    folder = deployments.folder(root)
    with deployments.lock(folder):
        record = deployments.read(folder)
        entry = choose(record)
        entry.check()
        options = RunOptions(**records.fields(RunOptions, entry.options))
        kept = record.port if record and record.alive and not options.bootstrap else None
        if port is not None or kept is not None:
            options = dataclasses.replace(options, port=kept if port is None else port)
        settings = dataclasses.replace(
            options, config=None, vm_config=None, bootstrap=_bootstrap_of(entry, options)
        ).settings
        if entry.tls_digest not in (None, settings.tls_digest) and not settings.authority:
            emit(Noted(f"{settings.tls[0]} has changed since deploy {entry.number}: what it has now is used"))
        yield Deployment(root.resolve(), entry.target, options, settings, record), entry


def _bootstrap_of(entry: history.Deployed, options: RunOptions) -> Path | None:
    """The user's bootstrap, or the copy of what was deployed if they have edited or removed it."""
    if not (options.bootstrap and entry.bootstrap):
        return options.bootstrap
    copy = Path(entry.bootstrap)
    with suppress(OSError):
        if read_bytes(options.bootstrap) == copy.read_bytes():
            return options.bootstrap
    emit(Noted(f"{options.bootstrap} has changed since deploy {entry.number}: {copy} is as it was"))
    return copy


@contextmanager
def _keeps_serving() -> Iterator[None]:
    """Add to Envoy's refusal of a plugin that nothing is lost."""
    try:
        yield
    except ModuleError as error:
        then = {
            None: "the previous version keeps serving",
            True: "Envoy was restarted with the previous version",
            False: "Envoy hasn't come back with the previous version yet",
        }[getattr(error, "restarted", None)]
        message = f"{error.message}; {then}"
        raise ModuleError(message, hint=error.hint) from error


def _moved(before: Sequence[Named], after: Sequence[Named]) -> bool:
    """Whether plugins of a chain come, go or move: replaced one by one, some would be missing meanwhile."""
    return max(len(before), len(after)) > 1 and _names(before) != _names(after)


def _changes(now: Record, target: str, plugins: Sequence[Named], settings: HostSettings) -> str:
    """A line about what changes, compared with the deployment that runs."""
    port, types = settings.port or now.port, settings.types
    before = dataclasses.replace(now.settings, port=now.port)
    changes = []
    if now.target != target:
        changes.append(f"target: {now.target} -> {target}")
    if _moved(now.plugins, plugins):
        changes.append(f"plugins: {_names(now.plugins)} -> {_names(plugins)}")
        before = dataclasses.replace(before, types=types)
    after = dataclasses.replace(settings, port=port)
    for field in dataclasses.fields(after):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name in _EDITED:
            if old != new and getattr(before, _EDITED[field.name]) == getattr(after, _EDITED[field.name]):
                is_ours = field.name == "tls_digest" and after.authority
                file = after.bootstrap if field.name == "bootstrap_digest" else after.tls[0]
                changes.append("our certificate was renewed" if is_ours else f"{file} has changed")
        elif old != new:
            if field.name == "tls":
                old, new = _shown_tls(before), _shown_tls(after)
            label = _LABELS.get(field.name) or field.name.replace("_", " ")
            changes.append(f"{label}: {_shown(old)} -> {_shown(new)}")
    return ", ".join(changes)


def _names(plugins: Sequence[Named]) -> str:
    return ", ".join(plugin.name for plugin in plugins)


def _shown_tls(settings: HostSettings) -> str:
    if not settings.tls:
        return "off"
    return "on, our certificate" if settings.authority else f"on, certificate {settings.tls[0]}"


def _shown(value: object) -> object:
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} = {target}" for name, target in value.items())
    elif isinstance(value, tuple):
        value = " ".join(value)
    return value or "the default"
