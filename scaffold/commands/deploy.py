"""`deploy`, `undeploy`, `status` and `logs`: on this machine and in clusters."""

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
    """Run the plugin in the background, or replace the version that the project has deployed.

    An option that isn't set keeps its deployed value. Returns once the host has loaded the plugin and a
    request has passed through it, to the built-in upstream or to the path `probe` of the user's own. At a
    workspace's root the chain of its plugins is deployed in one host.
    Raises `ModuleError` if the host refuses the plugin (the previous version keeps serving), `TargetError`
    if the plugin runs but doesn't answer.

    For a control plane, `cluster` has the options (`run` only those that both share), `probe` is a whole
    URL, and kubectl applies what `manifest` prints.
    """
    if target not in TARGETS and target in _clusters():
        return _to_cluster(target, module, root, _shared(target, run, cluster), build, probe)
    deploy_target = _target(target)
    refuse(cluster, target, hint=f"leave it out, or choose a control plane: {', '.join(_clusters())}")
    run.check_for(target)
    choice = plugins.choose(module, root, run)
    from scaffold.hosts.background.deployment import deploying

    # a file or an image is opened first: if it is refused, the deployment stays untouched
    opened = [] if choice.is_built else choice.load(build)
    with deploying(choice.root, deploy_target, run, chain=choice.count > 1) as deployment:
        deployment.check()
        return deployment.apply(opened or choice.load(build), probe)


def _shared(target: str, run: RunOptions, cluster: ClusterOptions) -> ClusterOptions:
    """The cluster options with the shared ones of `run`. Raises `UsageError` for options of hosts only."""
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
    """Create the Kubernetes documents for `target` and apply them."""
    from scaffold.commands import manifest
    from scaffold.kubernetes import acceptance
    from scaffold.kubernetes import apply as kubernetes

    if probe is not None:
        acceptance.check_probe(probe)
    pin, documents = manifest.prepare(target, image, root, options, build, pushed=not options.dry_run)
    return kubernetes.apply(locate(root), target, pin, documents, options, probe=probe)


def undeploy(root: Path = Path(), *, everything: bool = False) -> list[Stopped | Removed]:
    """Stop what the project has deployed, or everything that the user has deployed, in clusters too.

    Returns what was stopped. An error doesn't keep the others running: the first one is raised at the end.
    """
    roots = _roots(root)
    own = [deployments.folder(each) for each in roots]
    places = [place for place in deployments.places() if everything or place in own]
    projects = _with_clusters(roots, everything)
    if not places and not projects:
        _note_nothing_deployed(locate(root), everything)
    stopped: list[Stopped | Removed] = []
    failures = Failures()
    for place in places:
        with failures.kept(), deployments.lock(place):
            now = deployments.read(place)  # under the lock: a deploy may just have ended
            forget(place, now)
            if now:
                stopped.append(Stopped(now.name, f"http://localhost:{now.port}", now.root))
    if projects:
        from scaffold.kubernetes import apply as kubernetes

        with failures.kept():
            for removed in kubernetes.remove(*projects):
                stopped.append(removed)  # one by one, since a later one may fail
    if failures.errors:
        for one in stopped:
            emit(Noted(one.summary()))
    failures.end()
    return stopped


def status(root: Path = Path(), *, everything: bool = False) -> list[Status | ClusterStatus]:
    """What the project has deployed, or everything that the user has deployed, in clusters too."""
    roots = _roots(root)
    projects = _with_clusters(roots, everything)
    here = list(deployments.every()) if everything else _deployed(roots)
    if not here and not projects:
        _note_nothing_deployed(locate(root), everything)
    statuses: list[Status | ClusterStatus] = [_status(deployment) for deployment in here]
    if projects:
        from scaffold.kubernetes import apply as kubernetes

        statuses += kubernetes.status(*projects)
    return statuses


def _roots(root: Path) -> list[Path]:
    """The project's folder; for a workspace its own, where the chain is deployed, and its members'."""
    try:
        workspace = Workspace.meant(root)
    except ProjectError:  # a deployment runs on even if Cargo.toml is broken now
        workspace = None
    if workspace is None:
        return [locate(root)]
    return list(dict.fromkeys([workspace.root, *workspace.members()]))


def _deployed(roots: Sequence[Path]) -> list[Record]:
    return [deployment for root in roots if (deployment := deployments.load(root))]


def _with_clusters(roots: Sequence[Path], everything: bool) -> list[Path]:
    """The projects, of these or of all, that have applied something to a cluster."""
    if not (files.state_dir() / "clusters").is_dir():
        return []
    from scaffold.kubernetes import record as applied

    return list(applied.roots()) if everything else [root for root in roots if applied.load(root)]


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin has logged; with `follow`, new lines too, until Ctrl-C."""
    roots = _roots(root)
    deployed = _deployed(roots)
    if not deployed and (projects := _with_clusters(roots, everything=False)):
        from scaffold.kubernetes import apply as kubernetes

        kubernetes.log_lines(*projects)
    if not deployed:
        chain = _chain_with(roots[0])
        elsewhere = f"pass {choices([Path(chain.root)])}: it runs in {chain.name}" if chain else ""
        hint = elsewhere or "run `scaffold deploy`, or pass --root"
        raise TargetError("nothing is deployed from here", hint=hint)
    deployment, *others = deployed
    if others and deployment.root != str(roots[0]):  # the chain's comes first
        hint = f"choose one: {choices([Path(each.root) for each in deployed])}"
        raise UsageError("several plugins are deployed from this workspace", hint=hint)
    with until_interrupted() if follow else nullcontext():
        for line in _target(deployment.target).log_lines(deployment, follow):
            emit(line.event(by_name=len(deployment.plugins) > 1))


def _note_nothing_deployed(root: Path, everything: bool) -> None:
    emit(Noted("nothing is deployed" if everything else f"nothing is deployed from {root.resolve()}"))
    if not everything and (chain := _chain_with(root)):
        emit(Noted(f"it runs in {chain.name}: {choices([Path(chain.root)])}"))


def _chain_with(root: Path) -> Record | None:
    """The deployed chain that contains the plugin in `root`."""
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
            f"`{name}` is a module or an image, not a target", hint=f"write `scaffold deploy envoy {name}`"
        )
    if name not in TARGETS:
        raise UsageError(f"no target named `{name}`", hint=nearest(name, [*TARGETS, *_clusters()]))
    return TARGETS[name]
