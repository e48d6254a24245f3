"""Where a plugin is deployed: the table of targets, and what can be done to a deployment."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from scaffold import deployments, hosts
from scaffold.deployments import Ended, Status
from scaffold.errors import TargetError, UsageError, choose
from scaffold.events import Logged, Noted, emit
from scaffold.options import Options
from scaffold.project import locate

# name -> the module that deploys there, which comes in when it is chosen
TARGETS = {"envoy": "scaffold.targets.envoy"}


def deploy(
    root: Path = Path(),
    *,
    target: str = "envoy",
    module: Path | None = None,
    port: int | None = None,
    config: str | None = None,
    upstream: str | None = None,
    envoy: str | None = None,
    log_level: str | None = None,
    bootstrap: Path | None = None,
    envoy_args: str | None = None,
    id: str | None = None,
    root_id: str | None = None,
    probe: str | None = None,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> Status:
    """Run the plugin in the background, or replace the one that the project has there.

    What isn't said stays as it is deployed; else the port is 8080, the upstream the built-in one.
    Done means that the host took the plugin, and that a request went through it: to the built-in
    upstream, or to the path `probe` of a foreign one.
    Raises `ModuleError` when the host refuses the plugin (an old one goes on), `TargetError` when it
    runs but doesn't answer.
    """
    place, root = _target(target), hosts.checked(root, module)
    given = Options(port, config, upstream, envoy, log_level, bootstrap, envoy_args, id, root_id)
    options = given.over(_remembered(root))
    settings = options.settings()
    place.check(root, settings)
    built = hosts.load_module(module, root, profile, rustc, yes)
    with deployments.lock(root):
        options = given.over(_remembered(root))  # another deploy may have been quicker
        plugin = options.plugin(root, built)
        deployment = place.apply(root.resolve(), plugin, options, probe)
    return _status(deployment)


def _remembered(root: Path) -> dict[str, Any]:
    now = deployments.load(root)
    return now.options if now and now.alive else {}


def undeploy(root: Path = Path(), *, everything: bool = False) -> list[Ended]:
    """End what the project has deployed, or all that the user has; returns what was ended."""
    ended = []
    for found in list(_found(locate(root), everything)):
        with deployments.lock(Path(found.root)):
            now = deployments.load(Path(found.root))  # a deploy may have been quicker
            if now:
                _target(now.target).remove(now)
                ended.append(Ended(now.name, f"http://localhost:{now.port}", now.root))
    return ended


def status(root: Path = Path(), *, everything: bool = False) -> list[Status]:
    """What the project has deployed, or all that the user has."""
    return [_status(deployment) for deployment in _found(locate(root), everything)]


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin logged, and with `follow` what it goes on to log."""
    deployment = deployments.load(locate(root))
    if deployment is None:
        raise TargetError("nothing is deployed from here", hint="run `scaffold deploy`, or pass --root")
    for line in _target(deployment.target).log_lines(deployment, follow):
        emit(Logged(line.level, line.text))


def _found(root: Path, everything: bool) -> list[deployments.Deployment]:
    one = deployments.load(root)
    found = list(deployments.every()) if everything else [one] if one else []
    if not found:
        emit(Noted("nothing is deployed" if everything else f"nothing is deployed from {root.resolve()}"))
    return found


def _status(deployment: deployments.Deployment) -> Status:
    return Status.of(deployment, _target(deployment.target).admin_port(deployment))


def _target(name: str) -> Any:
    if name.endswith(".wasm"):
        raise UsageError(f"`{name}` is a module, not a target", hint=f"write `scaffold deploy envoy {name}`")
    return import_module(choose("target", name, TARGETS))
