"""`deploy`: run the plugin in the background, or have a control plane run it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from scaffold.commands.deploy_targets import TARGETS
from scaffold.core.option_fields import chosen, refuse
from scaffold.errors import UsageError, nearest
from scaffold.hosts import source as plugins
from scaffold.hosts.background.deployments import Status
from scaffold.hosts.host import HOSTS
from scaffold.hosts.options import RunOptions
from scaffold.hosts.source import Source
from scaffold.kubernetes.applied import Applied
from scaffold.kubernetes.options import CLUSTERS, ClusterOptions
from scaffold.project.cargo_toml import locate
from scaffold.project.probe_request import Probe, check_path
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
    no_probe: bool = False,
    reset: bool = False,
) -> Status | Applied:
    """Run the plugin in the background, or replace the version that the project has deployed.

    An option that isn't set keeps its deployed value, or takes its default with `reset`. Returns once the
    host has loaded the plugin and a request has passed through it, to the built-in upstream or to the path
    `probe` of the user's own; with `no_probe` none is sent. At a workspace's root the chain of its plugins is
    deployed in one host.
    Raises `ModuleError` if the host refuses the plugin (the previous version keeps serving), `TargetError`
    if the plugin runs but doesn't answer, `BudgetExceeded` for a release that the plugin's budget forbids.

    For a control plane, `cluster` has the options (`run` only those that both share), `probe` is a whole
    URL, and kubectl applies what `manifest` prints.
    """
    _check(target)
    if target in CLUSTERS:
        for flag in [*["--reset"] * reset, *["--no-probe"] * no_probe]:
            raise UsageError(f"{flag} isn't supported for `{target}`", hint="leave it out")
        return _to_cluster(target, module, root, _shared(target, run, cluster), build, probe)
    refuse(cluster, target, hint=f"leave it out, or choose a control plane: {', '.join(CLUSTERS)}")
    run.check_for(target)
    if probe is not None and no_probe:
        raise UsageError("--probe and --no-probe exclude each other", hint="pass one of them")
    if probe is not None:
        check_path(probe)
    choice = plugins.choose(module, root, run)
    from scaffold.hosts.background.deploy import deploying

    # a file or an image is opened first: if it is refused, the deployment stays untouched
    opened = [] if choice.is_built else choice.load(build)
    with deploying(choice.root, target, run, chain=choice.count > 1, reset=reset) as deployment:
        deployment.check()
        sources = opened or choice.load_within_budget(build)
        request = _request(probe, no_probe, sources)
        return deployment.apply([source.plugin(deployment.options) for source in sources], request)


def _request(path: str | None, no_probe: bool, sources: Sequence[Source]) -> Probe | None:
    """The probe of the options, or of the first project that has one; None if nobody says anything."""
    if no_probe:
        return Probe(sent=False)
    probes = (each.project.settings.probe for each in sources if each.project)
    own = next((each for each in probes if each), None)
    return own if path is None else replace(own or Probe(), path=path, sent=True)


def _shared(target: str, run: RunOptions, cluster: ClusterOptions) -> ClusterOptions:
    """The cluster options with the shared ones of `run`. Raises `UsageError` for options of hosts only."""
    supported = [each.name for each in fields(cluster)]
    refuse(run, target, supported=supported, hint=f"leave it out, or choose {' or '.join(HOSTS)}")
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
    from scaffold.kubernetes import apply as kubernetes
    from scaffold.kubernetes import resource_status as acceptance

    if probe is not None:
        acceptance.check_probe(probe)
    pin, documents = manifest.prepare(target, image, root, options, build, pushed=not options.dry_run)
    return kubernetes.apply(locate(root), target, pin, documents, options, probe=probe)


def _check(name: str) -> None:
    if name in TARGETS:
        return
    if plugins.is_file(name) or any(sign in name for sign in ":/@"):
        if Path(name).is_file():
            plugins.read_module(Path(name))  # the hint must work; otherwise this says what the file is
        raise UsageError(
            f"`{name}` is a module or an image, not a target",
            hint=f"run `scaffold deploy envoy {shlex.quote(name)}`",
        )
    raise UsageError(f"no target named `{name}`", hint=nearest(name, TARGETS))
