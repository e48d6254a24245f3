"""Where a plugin is deployed: the table of targets, and what can be done to a deployment."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from scaffold import deployments
from scaffold.deployments import Status
from scaffold.errors import TargetError, choose
from scaffold.events import Logged, Noted, emit
from scaffold.project import Plugin
from scaffold.wasm import WasmModule

# name -> the module that deploys there, which comes in when it is chosen
TARGETS = {"envoy": "scaffold.targets.envoy"}


def deploy(
    target: str = "envoy",
    module: Path | None = None,
    *,
    root: Path = Path(),
    port: int = 8080,
    config: str | None = None,
    upstream: str | None = None,
    envoy: str | None = None,
    log_level: str = "info",
    probe: str | None = None,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> Status:
    """Run the plugin in the background, or replace the one that the project has there.

    Done means that the host took the plugin, and that a request went through it: to the built-in
    upstream, or to the path `probe` of a foreign one.
    Raises `ModuleError` when the host refuses the plugin (an old one goes on), `TargetError` when it
    runs but doesn't answer.
    """
    place = _target(target)
    if module is None:
        from scaffold import cargo

        built = cargo.build(root, profile=profile, rustc=rustc, yes=yes)
    else:
        built = WasmModule.read(module)
    plugin = Plugin.load(root, built, config)
    settings = place.Settings(port=port, upstream=upstream, envoy=envoy, log_level=log_level)
    with deployments.lock(root):
        return Status.of(place.apply(root.resolve(), plugin, settings, probe))


def undeploy(root: Path = Path(), *, everything: bool = False) -> list[Path]:
    """End what the project has deployed, or all that the user has; returns the projects' folders."""
    found = list(_found(root, everything))
    for deployment in found:
        with deployments.lock(Path(deployment.root)):
            _target(deployment.target).remove(deployment)
        emit(Noted(f"{deployment.name} no longer answers at http://localhost:{deployment.port}"))
    return [Path(deployment.root) for deployment in found]


def status(root: Path = Path(), *, everything: bool = False) -> list[Status]:
    """What the project has deployed, or all that the user has."""
    return [Status.of(deployment) for deployment in _found(root, everything)]


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin logged, and with `follow` what it goes on to log."""
    deployment = deployments.load(root)
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


def _target(name: str) -> Any:
    return import_module(choose("target", name, TARGETS))
