"""Where a plugin is deployed: the table of targets, and what can be done to a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaffold.core import files
from scaffold.core.events import Noted, emit
from scaffold.core.failures import Failures
from scaffold.errors import ProjectError, TargetError, UsageError, nearest
from scaffold.hosts import plugin as plugins
from scaffold.hosts.background import record as deployments
from scaffold.hosts.background.record import Record, Status, Stopped
from scaffold.hosts.background.target import TARGETS, Target, forget
from scaffold.hosts.options import Options
from scaffold.kubernetes.record import Applied, ClusterStatus, Removed
from scaffold.project.manifest import locate
from scaffold.project.model import Project, read_configuration
from scaffold.project.workspace import Workspace, choices

if TYPE_CHECKING:
    from scaffold.commands.manifest import Build
    from scaffold.kubernetes.options import ClusterOptions

_WAIT = 60


def deploy(
    root: Path = Path(),
    *,
    target: str = "envoy",
    module: str | None = None,
    port: int | None = None,
    config: str | None = None,
    upstream: str | None = None,
    envoy: str | None = None,
    log_level: str | None = None,
    bootstrap: Path | None = None,
    envoy_args: str | None = None,
    envoy_image: str | None = None,
    docker_args: str | None = None,
    id: str | None = None,
    root_id: str | None = None,
    probe: str | None = None,
    name: str | None = None,
    namespace: str | None = None,
    selector: Sequence[str] = (),
    target_ref: Sequence[str] = (),
    whole_namespace: bool = False,
    phase: str | None = None,
    priority: int | None = None,
    match: Sequence[str] = (),
    failure_policy: str = "fail-closed",
    pull_secret: str | None = None,
    env: Sequence[str] = (),
    istio: str = "1.30",
    traffic_extension: bool = False,
    allow_stop_iteration: bool = False,
    url: str | None = None,
    file: str | None = None,
    plain_http: bool = False,
    context: str | None = None,
    dry_run: bool = False,
    wait: int = _WAIT,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> Status | Applied:
    """Run the plugin in the background, or replace the one that the project has there.

    What isn't said stays as it is deployed; else the port is 8080, the upstream the built-in one.
    Done means that the host took the plugin, and that a request went through it: to the built-in
    upstream, or to the path `probe` of a foreign one. At a workspace's root it is its chain of plugins,
    in one host.
    Raises `ModuleError` when the host refuses the plugin (an old one goes on), `TargetError` when it
    runs but doesn't answer.

    What is for a cluster, from `name` on, is as `manifest` has it; kubectl applies it there.
    """
    given = Options(
        port, config, upstream, envoy, log_level, bootstrap, envoy_args, id, root_id, envoy_image, docker_args
    )
    there = {
        "name": name,
        "namespace": namespace,
        "selector": tuple(selector),
        "target_ref": tuple(target_ref),
        "whole_namespace": whole_namespace,
        "phase": phase,
        "priority": priority,
        "match": tuple(match),
        "failure_policy": failure_policy,
        "pull_secret": pull_secret,
        "env": tuple(env),
        "istio": istio,
        "traffic_extension": traffic_extension,
        "allow_stop_iteration": allow_stop_iteration,
        "url": url,
        "file": file,
    }
    how = {"plain_http": plain_http, "context": context, "dry_run": dry_run, "wait": wait}
    if target not in TARGETS and target in _clusters():
        return _to_cluster(target, module, root, given, there, how | {"probe": probe}, (profile, rustc, yes))
    place, root = _target(target), plugins.check(module, root, given)
    _refuse(target, there | how)
    given.check_for(target)
    from scaffold.hosts.background.deployment import deploying

    with deploying(root, place, given) as deployment:
        deployment.check()
        return deployment.apply(plugins.load_all(module, root, profile=profile, rustc=rustc, yes=yes), probe)


def _to_cluster(
    target: str,
    module: str | None,
    root: Path,
    given: Options,
    there: dict[str, Any],
    how: dict[str, Any],
    build: tuple[str, str | None, bool],
) -> Applied:
    from scaffold.commands.manifest import Build
    from scaffold.kubernetes.options import ClusterOptions

    given.check_for_cluster(target)
    configuration = None if given.config is None else read_configuration(given.config)
    options = ClusterOptions(
        **there,
        configuration=configuration,
        root_id=given.root_id,
        envoy=given.envoy,
        upstream=given.upstream,
    )
    return to_cluster(target, module, root, options, Build(*build), **how)


def to_cluster(
    target: str,
    image: str | None,
    root: Path,
    options: ClusterOptions,
    build: Build,
    *,
    context: str | None = None,
    dry_run: bool = False,
    wait: float = _WAIT,
    probe: str | None = None,
    plain_http: bool = False,
) -> Applied:
    """Make the documents that have `target` run the plugin, and apply them (`manifest.prepare`, `apply`).

    `probe` is a whole URL. Raises `UsageError` for another, before anything else.
    """
    from scaffold.commands import manifest
    from scaffold.kubernetes import acceptance
    from scaffold.kubernetes import apply as kubernetes
    from scaffold.kubernetes.documents import CLUSTERS

    if target not in CLUSTERS:
        raise UsageError(
            f"`{target}` has no cluster to apply anything to", hint=f"known: {', '.join(CLUSTERS)}"
        )
    if probe is not None:
        acceptance.check_probe(probe)
    pin, documents = manifest.prepare(
        target, image, root, options, build, pushed=not dry_run, plain_http=plain_http
    )
    return kubernetes.apply(
        locate(root), target, pin, documents, context=context, dry_run=dry_run, wait=wait, probe=probe
    )


def _refuse(target: str, given: dict[str, Any]) -> None:
    """Raise `UsageError` for what was said of a cluster, where there is none."""
    parameters = signature(deploy).parameters
    for key, value in given.items():
        if value != parameters[key].default:
            option = f"--{key.replace('_', '-')}"
            raise UsageError(f"{option} is for a cluster, not for `{target}`", hint="leave it out")


def undeploy(root: Path = Path(), *, everything: bool = False) -> list[Stopped | Removed]:
    """End what the project has deployed, or all that the user has, in clusters too; returns it.

    What can't be ended doesn't keep the others: the first such error is raised at the end.
    """
    roots = _roots(root)
    ours = [deployments.folder(each) for each in roots]
    places = [place for place in deployments.places() if everything or place in ours]
    projects = _with_clusters(roots, everything)
    if not places and not projects:
        _say_there_is_none(locate(root), everything)
    ended: list[Stopped | Removed] = []
    failures = Failures()
    for place in places:
        with failures.kept(), deployments.lock(place):
            now = deployments.read(place)  # a deploy may have been quicker
            forget(place)
            if now:
                ended.append(Stopped(now.name, f"http://localhost:{now.port}", now.root))
    if projects:
        from scaffold.kubernetes import apply as kubernetes

        with failures.kept():
            for removed in kubernetes.remove(*projects):
                ended.append(removed)  # at once: an error may come after it
    if failures.found:
        for one in ended:
            emit(Noted(one.summary()))
    failures.end()
    return ended


def status(root: Path = Path(), *, everything: bool = False) -> list[Status | ClusterStatus]:
    """What the project has deployed, or all that the user has, in clusters too."""
    roots = _roots(root)
    projects = _with_clusters(roots, everything)
    found = list(deployments.every()) if everything else _deployed(roots)
    if not found and not projects:
        _say_there_is_none(locate(root), everything)
    there: list[Status | ClusterStatus] = [_status(deployment) for deployment in found]
    if projects:
        from scaffold.kubernetes import apply as kubernetes

        there += kubernetes.status(*projects)
    return there


def _roots(root: Path) -> list[Path]:
    """The project's folder; or a workspace's, of its chain, and its members', each deployed by itself."""
    try:
        workspace = Workspace.meant(root)
    except ProjectError:  # what is deployed goes on, whatever the files say now
        workspace = None
    if workspace is None:
        return [locate(root)]
    return list(dict.fromkeys([workspace.root, *workspace.members()]))


def _deployed(roots: Sequence[Path]) -> list[Record]:
    found = (deployments.load(root) for root in roots)
    return [deployment for deployment in found if deployment]


def _with_clusters(roots: Sequence[Path], everything: bool) -> list[Path]:
    """The projects, these or all, that have something applied to a cluster."""
    if not (files.state_dir() / "clusters").is_dir():
        return []
    from scaffold.kubernetes import record as applied

    return list(applied.roots()) if everything else [root for root in roots if applied.load(root)]


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin logged, and with `follow` what it goes on to log."""
    roots = _roots(root)
    found = _deployed(roots)
    if not found and (projects := _with_clusters(roots, everything=False)):
        from scaffold.kubernetes import apply as kubernetes

        kubernetes.log_lines(*projects)
    if not found:
        chain = _chain_with(roots[0])
        there = f"{choices([Path(chain.root)])}: it runs in {chain.name}" if chain else ""
        hint = there or "run `scaffold deploy`, or pass --root"
        raise TargetError("nothing is deployed from here", hint=hint)
    deployment, *others = found
    if others and deployment.root != str(roots[0]):  # which is the chain's, where there are more
        hint = f"choose one: {choices([Path(each.root) for each in found])}"
        raise UsageError("several plugins are deployed from this workspace", hint=hint)
    for line in _target(deployment.target).log_lines(deployment, follow):
        emit(line.event(by_name=len(deployment.plugins) > 1))


def _say_there_is_none(root: Path, everything: bool) -> None:
    emit(Noted("nothing is deployed" if everything else f"nothing is deployed from {root.resolve()}"))
    if not everything and (chain := _chain_with(root)):
        emit(Noted(f"it runs in {chain.name}: {choices([Path(chain.root)])}"))


def _chain_with(root: Path) -> Record | None:
    """The deployed chain that the plugin in `root` is a link of."""
    try:
        workspace, name = Workspace.of(root), Project.load(root).name
    except ProjectError:
        return None
    chain = deployments.load(workspace.root) if workspace else None
    return chain if chain and name in [plugin.name for plugin in chain.plugins] else None


def _status(deployment: Record) -> Status:
    return Status.of(deployment, _target(deployment.target).admin_port(deployment))


def _clusters() -> tuple[str, ...]:
    from scaffold.kubernetes.documents import CLUSTERS

    return CLUSTERS


def _target(name: str) -> Target:
    if name.endswith(".wasm") or any(sign in name for sign in ":/@"):
        raise UsageError(
            f"`{name}` is what to deploy, not a target", hint=f"write `scaffold deploy envoy {name}`"
        )
    if name not in TARGETS:
        raise UsageError(f"no target named `{name}`", hint=nearest(name, [*TARGETS, *_clusters()]))
    return TARGETS[name]
