"""What keeps an Envoy in the background: with a supervisor, which also is its upstream.

The supervisor is a process of its own (`supervisor.py`). Whoever starts it holds its standard input,
its lifeline, until the deployment is recorded: a deploy that dies half-way takes everything with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.core import files, process
from scaffold.core.events import Noted, emit, step
from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError, TargetError, of_exit_code
from scaffold.hosts import host as hosts
from scaffold.hosts.background import changes
from scaffold.hosts.background import record as deployments
from scaffold.hosts.background.record import Deployed, Deployment
from scaffold.hosts.envoy.folder import Folder
from scaffold.hosts.envoy.local import check_free
from scaffold.hosts.envoy.log import Line
from scaffold.hosts.envoy.origins import reachable
from scaffold.hosts.envoy.running import EnvoyHost
from scaffold.hosts.exchange import Request
from scaffold.hosts.options import Options
from scaffold.project.model import HostSettings, Plugin
from scaffold.project.plugins import chained

START_SECONDS = 60.0
PASS_SECONDS = 3.0  # that a network filter may hold a request's bytes before we go on


@dataclass(frozen=True)
class Background:
    """A target that runs the host of its name. `find` raises what keeps settings from being had there.

    `files` are a host's, of the folder that it was given.
    """

    name: str
    find: Callable[[HostSettings], object]
    files: Callable[[Path], Folder]

    def check(self, root: Path, settings: HostSettings) -> None:
        """Raise what would keep these settings from being deployed, before anything is built or ended."""
        self.find(settings)  # installed, or pulled, if need be
        now = deployments.load(root)
        port = now.port if now and now.alive else 0
        if settings.port != port:
            _check_free(root, settings.port, now)
        if settings.upstream:
            address = reachable(settings.upstream)
            here = address.host in ("localhost", "127.0.0.1", "::1")
            if here and address.port in {settings.port, port} - {0}:
                raise HostError(f"the upstream {settings.upstream} is where the plugin itself answers")

    def apply(self, root: Path, plugins: Sequence[Plugin], options: Options, probe: str | None) -> Deployment:
        """Deploy a chain of plugins for the project in `root`, whose lock the caller holds."""
        settings = options.settings().serving(*plugins)
        now = deployments.load(root)
        swaps = now and now.alive and now.target == self.name and settings.fit(now.settings, now.port)
        if now and swaps and not changes.of_places(now.plugins, plugins):
            with step(f"Replacing the filter in the running Envoy by {chained(plugins)}"), _going_on():
                self.attach(now).replace(*plugins)
            deployment = dataclasses.replace(
                now,
                plugins=list(map(Deployed.of, plugins)),
                options=options.record() | {"port": now.port},
                since=time.time(),
            )
            deployments.save(deployment)
        else:
            deployment = self._start(root, plugins, options, now)
        self._see_it_work(deployment, probe)
        return deployment

    def remove(self, deployment: Deployment) -> None:
        """End a deployment, and forget it."""
        forget(Path(deployment.folder))

    def log_lines(self, deployment: Deployment, follow: bool) -> Iterator[Line]:
        """What the plugin logged since Envoy started; with `follow`, on until the deployment ends."""
        log, at = self.attach(deployment).log, 0
        while True:
            alive = deployment.alive
            lines, at = log.read(at)
            yield from (line for line in lines if line.of_plugin or line.logger == "scaffold")
            if not follow:
                return
            if not alive:
                raise TargetError("the deployment has ended", hint="run `scaffold deploy`")
            time.sleep(0.05)

    def attach(self, deployment: Deployment) -> EnvoyHost:
        """A deployment as a host, to play requests against."""
        folder = self.files(Path(deployment.folder) / "envoy")
        return EnvoyHost(folder=folder, port=deployment.port, version=Version(deployment.envoy_version))

    def admin_port(self, deployment: Deployment) -> int | None:
        """The port of its Envoy's admin interface, which changes when Envoy is started again."""
        return self.files(Path(deployment.folder) / "envoy").admin_port()

    def _start(
        self, root: Path, plugins: Sequence[Plugin], options: Options, now: Deployment | None
    ) -> Deployment:
        settings, folder = options.settings().serving(*plugins), deployments.folder(root)
        if not (now and now.alive):
            end(folder)
        self.check(root, settings)
        if now and now.alive:
            self._validate(plugins, settings)
            told = changes.told(now, self.name, plugins, settings)
            emit(Noted(f"{told}; so Envoy restarts, and connections drop"))
            end(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        (folder / "envoy").mkdir(mode=0o700)
        with (
            step(f"Starting Envoy with {chained(plugins)}"),
            self._supervisor(folder, plugins, settings) as supervisor,
        ):
            ready = _await_ready(supervisor, folder / "supervisor.log")
            deployment = Deployment(
                root=str(root),
                target=self.name,
                folder=str(folder),
                plugins=list(map(Deployed.of, plugins)),
                settings=settings,
                options=options.record() | {"port": ready["port"]},
                pid=supervisor.pid,
                started=process.start_time(supervisor.pid) or 0.0,
                since=time.time(),
                **ready,
            )
            deployments.save(deployment)
            _say(supervisor, "commit\n")
        return deployment

    @contextmanager
    def _supervisor(
        self, folder: Path, plugins: Sequence[Plugin], settings: HostSettings
    ) -> Iterator[process.Child]:
        """A supervisor that ends with the block, unless it was told to commit."""
        order = {
            "host": self.name,
            "folder": str(folder / "envoy"),
            "log": str(self.files(folder / "envoy").log),
            "plugins": [
                vars(plugin)
                | {
                    "module": str(plugin.module.path),
                    "configuration": plugin.configuration.decode("latin-1"),
                }
                for plugin in plugins
            ],
            "settings": dataclasses.asdict(settings),
        }
        with (folder / "supervisor.log").open("wb") as log:
            argv = [sys.executable, "-m", deployments.SUPERVISOR]
            child = process.detach(argv, cwd=folder, env=os.environ, stderr=log)
        try:
            _say(child, json.dumps(order) + "\n")
            yield child
        except BaseException:
            if child.stdin:
                with suppress(OSError):  # it has ended already
                    child.stdin.close()
            try:
                child.wait(deployments.STOP_SECONDS)
            except process.TimeoutExpired:
                process.end(child.pid, deployments.STOP_SECONDS)
            forget(folder)
            raise

    def _validate(self, plugins: Sequence[Plugin], settings: HostSettings) -> None:
        """See whether Envoy takes the plugins, before what serves is ended for them."""
        with files.scratch() as folder:
            trial = dataclasses.replace(settings, port=0, anywhere=True)
            with _going_on(), hosts.find(self.name)(*plugins, folder=folder, settings=trial):
                pass

    def _see_it_work(self, deployment: Deployment, probe: str | None) -> None:
        """Send a request through the filter. Without a built-in upstream only where we were told to."""
        if self.attach(deployment).origin is None and probe is None:
            emit(Noted("not probed: the upstream is foreign, and no --probe PATH was given"))
            return
        path = probe or "/"
        deployed = f"{deployment.name} is deployed"
        try:
            if "http" not in deployment.settings.types and probe is None:
                self._see_it_pass(deployment)
                return
            seen = self.attach(deployment).play(Request("GET", path))
        except HostError as error:
            words = [line.text for line in self.log_lines(deployment, follow=False)][-5:]
            raise TargetError(
                "\n".join([*words, f"{deployed}, but doesn't answer: {error.message}"]),
                hint="does it loop, or wait for what never comes? --probe PATH sends another request",
            ) from error
        if seen.upstream is None and seen.status >= 500:
            words = [*seen.logs, seen.response.text.strip(), seen.details]
            said = dict.fromkeys(word for word in words if word)  # each once
            what = f"{deployed} in the place of what was, but a request got {seen.status}"
            raise TargetError(
                "\n".join([*said, what]),
                hint="mend it and deploy again; --probe PATH sends another request",
            )

    def _see_it_pass(self, deployment: Deployment) -> None:
        """Send a request's bytes through a network filter, which may hold or refuse them, but not crash."""
        host, came = self.attach(deployment), b""
        mark = host.log.size()
        with host.connect(timeout=PASS_SECONDS) as connection, suppress(HostError):
            connection.send("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            connection.finish()
            came = connection.receive()
        if connection.trapped:
            raise HostError("it crashed over a connection")
        if ended := [line.text for line in host.log.since(mark) if line.logger == "scaffold"]:
            raise HostError(ended[0])
        if not came:
            emit(Noted("the filter let no HTTP request through; --probe PATH asks for an answer"))


@contextmanager
def _going_on() -> Iterator[None]:
    """Say of a plugin that Envoy refuses that it took nothing away."""
    try:
        yield
    except ModuleError as error:
        raise ModuleError(f"{error.message}; what is deployed goes on", hint=error.hint) from error


def end(folder: Path) -> None:
    """End what serves in a deployment's folder, a container that outlived its supervisor too."""
    deployments.end(folder)
    if (folder / deployments.CONTAINER).exists():
        from scaffold.hosts.docker import host as container

        container.sweep(folder)


def forget(folder: Path) -> None:
    """End a deployment, and remove all that is kept of it."""
    end(folder)
    deployments.forget(folder)


def _check_free(root: Path, port: int, now: Deployment | None) -> None:
    """As the host's, but where what a kill left of ours may have the port: `_start` ends that."""
    try:
        check_free(port)
    except HostError:
        place = deployments.folder(root)
        left = place in deployments.supervisors().values() or (place / deployments.CONTAINER).exists()
        if (now and now.alive) or not left:
            raise


def _await_ready(supervisor: process.Child, log: Path) -> dict[str, Any]:
    """What the supervisor says when Envoy serves; its error is raised as ours."""
    assert supervisor.stdout  # noqa: S101 - for the type checker
    readable, _, _ = select.select([supervisor.stdout], [], [], START_SECONDS)
    answer = supervisor.stdout.readline() if readable else b""
    if not answer:
        words = log.read_text(errors="replace").splitlines()[-5:]
        why = "the supervisor ended" if readable else "Envoy did not become ready"
        raise HostError("\n".join([*words, why]))
    said: dict[str, Any] = json.loads(answer)
    if "error" in said:
        raise of_exit_code(said["code"])(said["error"], hint=said["hint"])
    return said


def _say(supervisor: process.Child, line: str) -> None:
    assert supervisor.stdin  # noqa: S101 - for the type checker
    try:
        supervisor.stdin.write(line.encode())
        supervisor.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended: its last words are read next
