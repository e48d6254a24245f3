"""`dev`: build, run, and play the tests; and again whenever a file is saved."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from scaffold.commands.dev.replaying import Tests
from scaffold.commands.dev.watching import Watch, watching
from scaffold.core import files, locks, process, records
from scaffold.core.events import Noted, Warned, emit, step, until_interrupted
from scaffold.errors import MachineError, ScaffoldError, TestsFailed, choose
from scaffold.hosts import source as plugins
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import DeployedPlugin, Record
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy import local as host
from scaffold.hosts.envoy.admin import Admin
from scaffold.hosts.envoy.live_view import LiveView
from scaffold.hosts.envoy.log import Logs
from scaffold.hosts.host import Running
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.source import Source
from scaffold.project.cargo_toml import locate
from scaffold.project.projects import chained, projects_at
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rebuild import Rebuild

WHICH = {"failed": "those that failed, and those that were saved", "all": "all of them"}
_LOOK = 0.05  # seconds between two looks at what Envoy says
_DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds until an Envoy that has ended again is started again
_STEADY = 60.0  # seconds after which an Envoy counts as one that serves


def dev(
    root: Path = Path(),
    options: RunOptions = RunOptions(),
    *,
    profile: str = "dev",
    test: str = "failed",
    no_tests: bool = False,
    once: bool = False,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build the plugin, run it, and play its tests; again whenever a file is saved, until interrupted.

    Envoy goes on with the last plugin that it has taken, and loses no request. `test` says which tests are
    played again: those that "failed" or were saved, or "all". With `once` it ends after the first round.
    Raises `TestsFailed` then, if one fails; and `MachineError` where another `dev` runs.
    """
    choose("--test", test, WHICH)
    options.check_for("envoy")
    root = locate(root)
    projects = projects_at(root)
    envoys.find(options.envoy)  # installs it if necessary
    another = MachineError(
        f"another `scaffold dev` runs in {root.resolve()}",
        hint="stop it first; two would build in the same folder",
    )
    place = deployments.development(root).with_suffix(".lock")
    with (
        locks.lock(place, doing="developing this project", otherwise=another),
        files.scratch() as folder,
        watching(projects) as watch,
        ExitStack() as stack,
    ):
        deployments.check_free(options.settings.port)
        session = _Session(root, options, replace(build, profile=profile), folder, stack)
        if once:
            session.build_and_run()
            if not (no_tests or session.play(every=True)):
                raise TestsFailed("tests failed")
            return
        with until_interrupted():
            _go_on(session, watch, None if no_tests else test)


class _Session:
    """The plugins, and the Envoy that runs them."""

    def __init__(
        self, root: Path, options: RunOptions, build: BuildOptions, folder: Path, stack: ExitStack
    ) -> None:
        self.root, self.options, self.build = root, options, build
        self.running: Running | None = None
        commands = folder / "rustc"
        commands.mkdir()
        self.rebuild = Rebuild(commands)
        self._viewer: _Viewer | None = None
        self._folder, self._stack = folder, stack
        self._chain: list[Plugin] = []
        self._tests: dict[Path, Tests] = {}
        self.unplayed: set[Path] = set()  # what was saved since the tests were last played
        self._started = 0
        self._place = folder  # of the Envoy that runs

    def build_and_run(self) -> None:
        """Build, and have Envoy run what was built. Raises what keeps it from that."""
        begun = time.monotonic()
        sources = plugins.choose(None, self.root, self.options).load(self.build, self.rebuild)
        chain = [source.plugin(self.options) for source in sources]
        self._know(sources)
        if self.running and self.running.alive and list(map(_kept, chain)) == list(map(_kept, self._chain)):
            if list(map(_shown, chain)) == list(map(_shown, self._chain)):
                emit(Noted("unchanged"))
            else:
                self.running.replace(*chain)
                self._record(chain)
                emit(Noted(f"live after {time.monotonic() - begun:.2f} s"))
        else:
            self._start_anew(chain)
        self._chain = chain

    def has_ended(self) -> bool:
        """Whether Envoy should serve, and doesn't. Raises what ended the live view."""
        if self._viewer and self._viewer.error:
            raise self._viewer.error
        return bool(self._chain) and not (self.running and self.running.alive)

    def _start_anew(self, chain: list[Plugin]) -> None:
        """Start Envoy for what it can't replace while it runs; if it refuses that, with what ran before."""
        if self.running:
            emit(Noted("this takes another Envoy: requests meanwhile are lost"))
        try:
            self.start(chain)
        except ScaffoldError:
            if self._chain:
                self.start()
            raise

    def start(self, chain: list[Plugin] | None = None) -> None:
        """Start Envoy, in place of one that runs, at the same address."""
        chain = self._chain if chain is None else chain
        self._stack.close()
        self.running = self._viewer = None
        self._started += 1
        self._place = self._folder / str(self._started)
        folder = self._place / "envoy"
        folder.mkdir(parents=True)
        with step(f"Starting Envoy with {chained(chain)}"):
            running = self._stack.enter_context(
                host.start(*chain, folder=folder, settings=self.options.settings)
            )
        self.running = running
        self.options = replace(self.options, port=running.port)
        logs = Logs(running.log, running.folder.access_log)
        view = LiveView(logs, Admin(running.admin_address), by_name=len(chain) > 1)
        self._viewer = self._stack.enter_context(closing(_Viewer(view)))
        self._record(chain)
        self._stack.callback(deployments.development(self.root).unlink, missing_ok=True)
        emit(Noted(f"{chained(chain)} answers at {running.url}"))

    def _record(self, chain: list[Plugin]) -> None:
        """Let `explain` and `record` find what runs."""
        assert self.running  # noqa: S101 - it has just been started, or replaced its plugins
        record = Record(
            root=str(self.root.resolve()),
            target="envoy",
            folder=str(self._place),
            plugins=[DeployedPlugin.of(plugin) for plugin in chain],
            port=self.running.port,
            settings=self.options.settings,
            options={},
            envoy_version=list(self.running.version),
            pid=os.getpid(),
            started=process.start_time(os.getpid()) or 0,
            since=time.time(),
        )
        records.write(deployments.development(self.root), record)

    def play(self, *, every: bool, stop: Callable[[], bool] = lambda: False) -> bool:
        """Play the tests, until `stop`; whether all pass."""
        saved = {path.resolve() for path in self.unplayed}
        results = [each.play(saved, every=every, stop=stop) for each in self._tests.values()]
        if None not in results:
            self.unplayed.clear()
        return all(results)

    def _know(self, sources: list[Source]) -> None:
        known: dict[Path, Tests] = {}
        for source in sources:
            if source.project:
                root = source.project.root
                cache = self._folder / f"tests-{deployments.development(root).stem}"
                cache.mkdir(exist_ok=True)
                known[root] = self._tests.get(root) or Tests(source, cache)
                known[root].source = source
        self._tests = known


class _Viewer:
    """A live view that a thread of its own shows: builds and tests don't hold it up."""

    def __init__(self, view: LiveView) -> None:
        self.error: Exception | None = None
        self._view, self._stop = view, threading.Event()
        self._thread = threading.Thread(target=self._show, name="live view", daemon=True)
        self._thread.start()

    def _show(self) -> None:
        try:
            while not self._stop.wait(_LOOK):
                for event in self._view.look():
                    emit(event)
        except Exception as error:  # such as when nobody reads what we print
            self.error = error

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()


def _kept(plugin: Plugin) -> object:
    """What of a plugin Envoy can't replace while it runs."""
    return plugin.name, plugin.type, plugin.is_service and _shown(plugin), tuple(plugin.clusters.items())


def _shown(plugin: Plugin) -> object:
    """What of a plugin makes it another one."""
    settings = (plugin.root_id, plugin.configuration, plugin.vm_configuration, plugin.env)
    return plugin.module.digest, *settings


def _go_on(session: _Session, watch: Watch, test: str | None) -> None:
    """Rounds until Ctrl-C: each after something was saved."""
    again = _Again()
    saved: set[Path] = set()
    first = True
    while True:
        if first or saved:
            _round(session, watch, saved, test)
            if first:
                emit(Noted("Press Ctrl-C to stop; whatever you save is built"))
            first = False
        saved = watch.changes(_LOOK)
        if session.has_ended() and again.is_due():
            _tried(session.start)


def _round(session: _Session, watch: Watch, saved: set[Path], test: str | None) -> None:
    session.rebuild.saved |= saved
    session.unplayed |= saved
    tests_alone = bool(saved) and all("tests" in path.parts and path.suffix == ".py" for path in saved)
    if not (tests_alone and session.running) and not _tried(session.build_and_run):
        if session.running:
            emit(Noted("the plugin of before serves on"))
        return
    _tried(lambda: watch.follow(projects_at(session.root)))
    if test:
        _tried(lambda: session.play(every=test == "all", stop=watch.waits))


def _tried(work: Callable[[], object]) -> bool:
    """Do something; an error is shown, and all goes on as it was. Whether there was none."""
    try:
        work()
    except ScaffoldError as error:
        emit(Warned(error.message))
        if error.hint:
            emit(Noted(f"hint: {error.hint}"))
        return False
    return True


class _Again:
    """When an Envoy that has ended is to be started again: after a delay that grows if that happens often."""

    def __init__(self) -> None:
        self._count, self._last, self._due = -1, 0.0, math.inf

    def is_due(self) -> bool:
        """Whether it is time; the first call after an end says when that will be."""
        now = time.monotonic()
        if self._due == math.inf:
            self._count = 0 if now - self._last > _STEADY else min(self._count + 1, len(_DELAYS) - 1)
            delay = _DELAYS[self._count]
            self._last = self._due = now + delay
            emit(Warned("Envoy has ended" + (f"; it is started again in {delay:g} s" if delay else "")))
        if now < self._due:
            return False
        self._due = math.inf
        return True
