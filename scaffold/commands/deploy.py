"""Where a plugin is deployed: the table of targets, and what can be done to a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Noted, emit, until_interrupted
from scaffold.core.failures import Failures
from scaffold.core.options import chosen, refuse
from scaffold.errors import ProjectError, TargetError, UsageError, nearest
from scaffold.hosts import plugin as plugins
from scaffold.hosts.background import record as deployments
from scaffold.hosts.background.record import Record, Status, Stopped
from scaffold.hosts.background.target import TARGETS, Target, forget
from scaffold.hosts.options import RunOptions
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.record import Applied, ClusterStatus, Removed
from scaffold.project.manifest import locate
from scaffold.project.model import Project
from scaffold.project.workspace import Workspace, choices
from scaffold.toolchain.options import BuildOptions


def deploy(
    root: Path = Path(),
    *,
    target: str = "envoy",
    module: str | None = None,
    run: RunOptions = RunOptions(),
    cluster: ClusterOptions = ClusterOptions(),
    build: BuildOptions = BuildOptions(),
    probe: str | None = None,
) -> Status | Applied:
    """Run the plugin in the background, or replace the one that the project has there.

    An option that isn't set stays as it is deployed. Done means that the host took the plugin, and that a
    request went through it: to the built-in upstream, or to the path `probe` of the user's own. At a
    workspace's root its chain of plugins is deployed, in one host.
    Raises `ModuleError` when the host refuses the plugin (the previous version keeps serving),
    `TargetError` when it runs but doesn't answer.

    For a control plane, `cluster` has the options, `run` those that both have, and `probe` is a whole URL;
    kubectl applies what `manifest` prints.
    """
    if target not in TARGETS and target in _clusters():
        return _to_cluster(target, module, root, _shared(target, run, cluster), build, probe)
    place = _target(target)
    refuse(cluster, target, hint=f"leave it out, or choose a control plane: {', '.join(_clusters())}")
    run.check_for(target)
    choice = plugins.choose(module, root, run)
    from scaffold.hosts.background.deployment import deploying

    with deploying(choice.root, place, run, chain=choice.count > 1) as deployment:
        deployment.check()
        return deployment.apply(choice.load(build), probe)


def _shared(target: str, run: RunOptions, cluster: ClusterOptions) -> ClusterOptions:
    """The options for a cluster, with those that a host has too. Raises `UsageError` for a host's own."""
    supported = [each.name for each in fields(cluster)]
    refuse(run, target, supported=supported, hint=f"leave it out, or choose {' or '.join(TARGETS)}")
    return replace(cluster, **{name: getattr(run, name) for name in chosen(run)})


def _to_cluster(
    target: str,
    image: str | None,
    root: Path,
    options: ClusterOptions,
    build: BuildOptions,
    probe: str | None,
) -> Applied:
    """Make the documents with which `target` runs the plugin, and apply them."""
    from scaffold.commands import manifest
    from scaffold.kubernetes import acceptance
    from scaffold.kubernetes import apply as kubernetes

    if probe is not None:
        acceptance.check_probe(probe)
    pin, documents = manifest.prepare(target, image, root, options, build, pushed=not options.dry_run)
    return kubernetes.apply(locate(root), target, pin, documents, options, probe=probe)


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
    if failures.errors:
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
    """Announce what the deployed plugin has logged; with `follow`, new lines too, until Ctrl-C."""
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
    with until_interrupted() if follow else nullcontext():
        for line in _target(deployment.target).log_lines(deployment, follow):
            emit(line.event(by_name=len(deployment.plugins) > 1))


def _say_there_is_none(root: Path, everything: bool) -> None:
    emit(Noted("nothing is deployed" if everything else f"nothing is deployed from {root.resolve()}"))
    if not everything and (chain := _chain_with(root)):
        emit(Noted(f"it runs in {chain.name}: {choices([Path(chain.root)])}"))


def _chain_with(root: Path) -> Record | None:
    """The deployed chain that the plugin in `root` is a link of."""
    try:
        project = Project.load(root)
        workspace, name = project.workspace, project.name
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
