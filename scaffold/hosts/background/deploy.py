"""A deploy: the plugins in a running Envoy are replaced, or it is started, or restarted, with them."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process, records
from scaffold.core.events import Noted, emit, step
from scaffold.core.option_fields import supported_by
from scaffold.core.text import escaped
from scaffold.errors import HostError, ModuleError, TargetError, UsageError
from scaffold.hosts import host as hosts
from scaffold.hosts.background import deployments, history, supervisor
from scaffold.hosts.background.deployments import DeployedPlugin, Record, Status, check_free
from scaffold.hosts.background.target import attach, end, forget
from scaffold.hosts.envoy.clusters import reachable
from scaffold.hosts.envoy.log import OURS, Log
from scaffold.hosts.envoy.log_files import note
from scaffold.hosts.envoy.run_folder import LOGS
from scaffold.hosts.exchange import Exchange, LogLines, Request
from scaffold.hosts.options import HostSettings, RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import UPSTREAM
from scaffold.project.projects import Named, chained

TICK_SECONDS = 0.6  # that a plugin with a timer is watched; Envoy reports a stuck thread after 0.2
PASS_SECONDS = 3.0  # that a network filter may hold back a request's bytes
_ONLY_ROOT = "missing ContextType"  # the SDK's words, where a plugin has no context for a request
_LABELS = {"types": "type"}


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

    def apply(self, plugins: Sequence[Plugin], probe: str | None, *, again: int = 0) -> Status:
        """Deploy the plugins in the order of their chain, and send a request through them.

        `probe` is the path to ask for; `again` is the number of the deploy that is brought back. Raises
        `ModuleError` when the host refuses a plugin (the previous version keeps serving), `TargetError` when
        they are deployed but don't answer.
        """
        if probe is not None and all(plugin.is_service for plugin in plugins):
            raise UsageError("--probe sends a request, and none passes a service", hint="leave it out")
        settings, now = self.settings.serving(*plugins), self.record
        host = attach(now) if now and self._fits(now, plugins, settings) else None
        if now and host and host.alive:
            verified = self._swap(_Verified(host, plugins, probe), now)
        else:
            verified = self._start(plugins, settings, probe)
        assert self.record  # noqa: S101 - just saved
        modules = ", ".join(f"{each.name} ({each.module_digest})" for each in self.record.plugins)
        note(verified.host.folder.log, "info", f"deployed {modules}")
        history.add(self.record, plugins, again=again)
        if verified.error:
            said = verified.error.message.splitlines()[-1]
            deployments.save(dataclasses.replace(self.record, said=said))
            raise verified.error
        return Status.of(self.record, verified.host.admin_address)

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

    def _swap(self, verified: _Verified, now: Record) -> _Verified:
        name = chained(verified.plugins)
        with step(f"Replacing the plugin in the running Envoy with {name}"), _keeps_serving():
            verified.host.replace(*verified.plugins, check=verified.check)
        self._save(now, verified.plugins)
        return verified

    def _start(self, plugins: Sequence[Plugin], settings: HostSettings, probe: str | None) -> _Verified:
        now = self.record
        if now and now.alive:
            self._validate(plugins, settings)
            self._check_port()  # another program may have taken it during the build
            why = "a service starts with its Envoy" if settings.has_service else "its Envoy is started anew"
            changes = _changes(now, self.target, plugins, settings) or why
            emit(Noted(f"{changes}; Envoy restarts, and open connections drop"))
            if not (settings.port or settings.bootstrap or now.settings.bootstrap):
                settings = dataclasses.replace(settings, port=now.port)  # its clients know it
        end(self.folder, now)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        own = self.folder / "envoy"
        own.mkdir(mode=0o700)
        (own / LOGS).symlink_to(deployments.logs(self.folder, make=True))
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
                verified = _Verified(attach(record), plugins, probe, begun)
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
            config=self._config(plugins),
            said="",
        )
        deployments.save(self.record)

    def _config(self, plugins: Sequence[Plugin]) -> str:
        """Where the configuration of the plugins comes from; "" if they have none."""
        if self.options.config is not None:
            earlier = ", of an earlier deploy" if self.keeps_config else ""
            return f"--config {escaped(str(self.options.config))}{earlier}"
        if not any(plugin.configuration for plugin in plugins):
            return ""
        return "the image's" if any(plugin.image for plugin in plugins) else "the project's"

    def _validate(self, plugins: Sequence[Plugin], settings: HostSettings) -> None:
        """Try the plugins in another Envoy, before the one that serves is ended for them."""
        with files.scratch() as folder:
            trial = dataclasses.replace(settings, port=0, anywhere=True)
            with _keeps_serving(), hosts.find(self.target)(*plugins, folder=folder, settings=trial):
                pass


@dataclass
class _Verified:
    """A request through deployed plugins; to the user's own upstream only if there is a `probe`, its path.

    `begun` is where the log was when Envoy started; `error` is what went wrong although they are deployed.
    """

    host: hosts.Running
    plugins: Sequence[Plugin]
    probe: str | None
    begun: int = 0
    error: TargetError | None = None

    def check(self) -> None:
        """Send it. Raises `ModuleError` if a plugin loops, and can't stay."""
        if not self._services and self.host.origin is None and self.probe is None:
            emit(Noted("not verified: this is your own upstream; pass --probe PATH"))
            return
        mark = self.host.log.size()
        is_stuck = self.host.is_stuck() if any(plugin.ticks for plugin in self.plugins) else None
        try:
            if not self._services:
                self._send()
            if is_stuck:
                self._await_tick(is_stuck)
        except HostError as error:
            if loop := self.host.find_loop(self.plugins):
                raise loop from error
            words = self._words(mark)
            name = chained(self.plugins)
            self.error = TargetError(
                "\n".join([*words, f"{name} is deployed, but doesn't answer: {error.message}"]),
                hint="does it loop, or wait for something?"
                + ("" if self._services else " --probe PATH sends another request"),
            )
        if self._services and not self.error:
            self._check_services()

    @property
    def _services(self) -> bool:
        """Whether no request passes any of the plugins."""
        return all(plugin.is_service for plugin in self.plugins)

    def _check_services(self) -> None:
        """See whether services have crashed."""
        lines = LogLines(line.text for line in self.host.log.since(self.begun) if line.of_plugin)
        if lines.trapped:
            self.error = TargetError(
                "\n".join([*lines[-5:], f"{chained(self.plugins)} is deployed, but crashed"]),
                hint="fix it and deploy again: Envoy starts a crashed service only when it starts itself",
            )

    def _words(self, mark: int) -> list[str]:
        lines = self.host.log.since(mark)
        return [line.text for line in lines if line.is_shown][-5:]

    def _await_tick(self, is_stuck: Callable[[], bool]) -> None:
        """Give a timer the time for a first call. Raises `HostError` when Envoy gets stuck."""
        deadline = time.monotonic() + TICK_SECONDS
        while time.monotonic() < deadline:
            if is_stuck():
                raise HostError("it got stuck" + ("" if self._services else " after the first request"))
            time.sleep(0.05)

    def _send(self) -> None:
        if self.probe is None and all(plugin.type != "http" for plugin in self.plugins):
            _pass(self.host)
            return
        exchange = self.host.play(Request("GET", self.probe or "/"))
        if exchange.status < 500 or exchange.upstream is not None:
            return
        if not exchange.details and not exchange.trapped:  # Envoy has a word for each answer of its own
            emit(Noted(f"{chained(self.plugins)} answered the request itself, with {exchange.status}"))
            return
        words = [*exchange.logs, exchange.response.text.strip(), exchange.details]
        why = f"{chained(self.plugins)} is deployed, but a request got"
        self.error = TargetError(
            "\n".join([*dict.fromkeys(filter(None, words)), f"{why} {exchange.status}"]),
            hint=self._hint(exchange),
        )

    def _hint(self, exchange: Exchange) -> str:
        """What to do about a request that failed."""
        if "BadArgument" in exchange.logs and self.host.origin:
            known = ", ".join(dict.fromkeys([UPSTREAM, *(n for each in self.plugins for n in each.clusters)]))
            return (
                "did it call a cluster? a call to one that isn't defined fails with BadArgument;"
                f" defined: {known};"
                ' add yours to Cargo.toml, such as `clusters = { NAME = "http://host:port" }`'
            )
        if _ONLY_ROOT in exchange.logs:
            return 'if no request shall pass it, set `type = "service"` in Cargo.toml'
        return "fix it and deploy again; --probe PATH sends another request"


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
            config = escaped(str(options.config))
            emit(Noted(f"--config {config} of an earlier deploy is kept; --reset forgets earlier options"))
        yield Deployment(root.resolve(), target, options, options.settings, record, kept)


@contextmanager
def rolling_back(root: Path, entry: history.Deployed) -> Iterator[Deployment]:
    """The same, with the options of an earlier deploy; one that runs keeps its port.

    The plugins' configurations are in the entry: the files that they were read from may have changed.
    """
    folder = deployments.folder(root)
    with deployments.lock(folder):
        record = deployments.read(folder)
        options = RunOptions(**records.fields(RunOptions, entry.options))
        if record and record.alive and not options.bootstrap:
            options = dataclasses.replace(options, port=record.port)
        settings = dataclasses.replace(options, config=None, vm_config=None).settings
        yield Deployment(root.resolve(), entry.target, options, settings, record)


def _pass(host: hosts.Running) -> None:
    """Send a request's bytes through network filters, which may hold or refuse them, but not crash."""
    received = b""
    mark = host.log.size()
    with host.connect(timeout=PASS_SECONDS) as connection, suppress(HostError):
        connection.send("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        connection.finish()
        received = connection.receive()
    if connection.trapped:
        raise HostError("it crashed when a connection came")
    if ended := [line.text for line in host.log.since(mark) if line.logger == OURS]:
        raise HostError(ended[0])
    if not received:
        emit(Noted("the plugin let no HTTP request through; --probe PATH asks for an answer"))


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
        if old != new:
            label = _LABELS.get(field.name) or field.name.replace("_", " ")
            changes.append(f"{label}: {_shown(old)} -> {_shown(new)}")
    return ", ".join(changes)


def _names(plugins: Sequence[Named]) -> str:
    return ", ".join(plugin.name for plugin in plugins)


def _shown(value: object) -> object:
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} = {target}" for name, target in value.items())
    elif isinstance(value, tuple):
        value = " ".join(value)
    return value or "the default"
