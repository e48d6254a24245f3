"""The target `envoy`: a local Envoy in the background, with a supervisor that also is its upstream.

The supervisor is a process of its own (`supervisor.py`). Whoever starts it holds its standard input,
its lifeline, until the deployment is recorded: a deploy that dies half-way takes everything with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold import deployments, process
from scaffold.deployments import Deployment
from scaffold.errors import HostError, ModuleError, TargetError, of_exit_code
from scaffold.events import Noted, emit, step
from scaffold.exchange import Request
from scaffold.hosts import envoy as host
from scaffold.hosts.envoy_log import Line
from scaffold.project import Plugin
from scaffold.upstream import Origin

START_SECONDS = 60.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Settings:
    """What of a deployment can't change while it runs."""

    port: int
    upstream: str | None
    envoy: str | None
    log_level: str

    def fit(self, deployment: Deployment) -> bool:
        """Whether the deployment has these settings; any port will do for port 0."""
        same = (self.upstream, self.envoy, self.log_level)
        port = self.port in (0, deployment.port)
        return port and same == (deployment.upstream, deployment.envoy, deployment.log_level)


def apply(root: Path, plugin: Plugin, settings: Settings, probe: str | None) -> Deployment:
    """Deploy `plugin` for the project in `root`, whose lock the caller holds."""
    envoy = (
        str(Path(settings.envoy).resolve()) if settings.envoy and "/" in settings.envoy else settings.envoy
    )
    settings = dataclasses.replace(settings, envoy=envoy)
    now = deployments.load(root)
    if now and now.alive and settings.fit(now):
        with step(f"Replacing the filter in the running Envoy by {plugin.name}"):
            attach(now).replace(plugin)
        deployment = dataclasses.replace(
            now, name=plugin.name, module_digest=plugin.module.digest, since=time.time()
        )
        deployments.save(deployment)
    else:
        deployment = _start(root, plugin, settings, now)
    _see_it_work(deployment, plugin, probe)
    return deployment


def remove(deployment: Deployment) -> None:
    """End a deployment, and forget it."""
    _stop(deployment)
    shutil.rmtree(deployment.folder, ignore_errors=True)


def log_lines(deployment: Deployment, follow: bool) -> Iterator[Line]:
    """What the plugin logged since Envoy started; with `follow`, on until the deployment ends."""
    log, at = attach(deployment).log, 0
    while True:
        alive = deployment.alive
        lines, at = log.read(at)
        yield from (line for line in lines if line.of_plugin or line.level == "critical")
        if not follow:
            return
        if not alive:
            raise TargetError("the deployment has ended", hint="run `scaffold deploy`")
        time.sleep(0.05)


def attach(deployment: Deployment) -> host.EnvoyHost:
    """A deployment as a host, to play requests against."""
    return host.EnvoyHost(
        folder=Path(deployment.folder) / "envoy",
        port=deployment.port,
        admin_port=deployment.admin_port,
        version=tuple(deployment.envoy_version),
        origin=Origin(Path(deployment.control)) if deployment.control else None,
    )


def _start(root: Path, plugin: Plugin, settings: Settings, now: Deployment | None) -> Deployment:
    if now and now.alive:
        _validate(plugin, settings)
        emit(Noted("the port, the upstream or the Envoy changed: Envoy restarts, and connections drop"))
        _stop(now)
    _check_not_ours(settings.port)
    folder = deployments.folder(root)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "envoy").mkdir(parents=True, mode=0o700)
    with step(f"Starting Envoy with {plugin.name}"), _supervisor(folder, plugin, settings) as supervisor:
        ready = _await_ready(supervisor)
        deployment = Deployment(
            root=str(root),
            target="envoy",
            folder=str(folder),
            name=plugin.name,
            module_digest=plugin.module.digest,
            upstream=settings.upstream,
            envoy=settings.envoy,
            log_level=settings.log_level,
            pid=supervisor.pid,
            started=process.start_time(supervisor.pid) or 0.0,
            since=time.time(),
            **ready,
        )
        deployments.save(deployment)
        _say(supervisor, "commit\n")
    return deployment


@contextmanager
def _supervisor(folder: Path, plugin: Plugin, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor that ends with the block, unless it was told to commit."""
    order = {
        "folder": str(folder / "envoy"),
        "plugin": {
            "name": plugin.name,
            "root_id": plugin.root_id,
            "module": str(plugin.module.path),
            "configuration": plugin.configuration.decode("latin-1"),
        },
        "settings": dataclasses.asdict(settings),
    }
    with (folder / "supervisor.log").open("wb") as log:
        argv = [sys.executable, "-m", "scaffold.targets.supervisor"]
        child = process.detach(argv, cwd=folder, env=os.environ, stderr=log)
    try:
        _say(child, json.dumps(order) + "\n")
        yield child
    except BaseException:
        if child.stdin:
            child.stdin.close()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.end(child.pid, STOP_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _await_ready(supervisor: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the supervisor says when Envoy serves; its error is raised as ours."""
    assert supervisor.stdout  # noqa: S101 - for the type checker
    readable, _, _ = select.select([supervisor.stdout], [], [], START_SECONDS)
    answer = supervisor.stdout.readline() if readable else b""
    if not answer:
        raise HostError("the supervisor ended without a word" if readable else "Envoy did not become ready")
    said: dict[str, Any] = json.loads(answer)
    if "error" in said:
        raise of_exit_code(said["code"])(said["error"], hint=said["hint"])
    return said


def _say(supervisor: subprocess.Popen[bytes], line: str) -> None:
    assert supervisor.stdin  # noqa: S101 - for the type checker
    try:
        supervisor.stdin.write(line.encode())
        supervisor.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended: its last words are read next


def _see_it_work(deployment: Deployment, plugin: Plugin, probe: str | None) -> None:
    """Send a request through the filter. Without a built-in upstream only where we were told to."""
    if deployment.upstream and probe is None:
        emit(Noted("not probed: the upstream is foreign, and no --probe PATH was given"))
        return
    seen = attach(deployment).play(Request("GET", probe or "/"))
    if seen.upstream is None and seen.status >= 500:
        raise TargetError(
            "\n".join([*seen.logs, f"{plugin.name} is deployed, but a request got {seen.status}"]),
            hint="`scaffold logs` has the plugin's words",
        )


def _validate(plugin: Plugin, settings: Settings) -> None:
    """See whether Envoy takes the plugin, before the one that serves is ended for it."""
    with tempfile.TemporaryDirectory(prefix="scaffold-validate-") as name:
        try:
            with host.start(
                plugin, folder=Path(name), upstream=settings.upstream, envoy=settings.envoy, log_level="info"
            ):
                pass
        except ModuleError as error:
            raise ModuleError(f"{error.message}; what is deployed goes on", hint=error.hint) from error


def _stop(deployment: Deployment) -> None:
    if deployment.alive:
        process.end(deployment.pid, STOP_SECONDS)


def _check_not_ours(port: int) -> None:
    for other in deployments.every():
        if port and other.port == port and other.alive:
            raise HostError(
                f"port {port} is taken by the deployment of {other.root}",
                hint=f"--port 0 takes any free one, `scaffold undeploy --root {other.root}` ends that",
            )
