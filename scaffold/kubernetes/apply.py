"""Targets in a cluster: apply, watch and remove resources with the user's own kubectl."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scaffold.core.collected_errors import Failures
from scaffold.core.events import Noted, Warned, emit, step
from scaffold.errors import ScaffoldError, TargetError, UsageError
from scaffold.kubernetes import applied as records
from scaffold.kubernetes import resource_status as acceptance
from scaffold.kubernetes.applied import Applied, ClusterStatus, Removed
from scaffold.kubernetes.documents import MANAGED_BY, PROJECT, Document, render
from scaffold.kubernetes.kubectl import Kubectl, Unreachable
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pinned_plugin import Pin

FIELD_MANAGER = "scaffold"
_PAUSE = 0.5
Clusters = dict[str, Kubectl]  # by context


def apply(
    root: Path,
    target: str,
    pin: Pin,
    documents: Sequence[Document],
    options: ClusterOptions = ClusterOptions(),
    *,
    probe: str | None = None,
) -> Applied:
    """Apply a document to the cluster of `options.context`, and wait at most `options.wait` s for acceptance.

    With `dry_run` the cluster validates the document and changes nothing; one that can't be reached is a
    warning. `probe` is a URL that must answer afterwards. Raises `UsageError` for a missing context or
    namespace, `TargetError` when the cluster refuses the document, or the control plane does; in the second
    case it stays applied and recorded.
    """
    (document,) = documents
    kubectl = Kubectl.find(options.context)
    wanted = _record(root, target, pin, document, kubectl)
    emit(
        Noted(f"kubectl's context is {kubectl.context} ({kubectl.server}), the namespace {wanted.namespace}")
    )
    try:
        kubectl.check_namespace(wanted.namespace)
    except Unreachable as error:
        if not options.dry_run:
            raise
        emit(Warned(f"{error.message}; so no cluster has validated it"))
        return replace(wanted, dry_run=True)
    _check_owner(kubectl, wanted, document["metadata"]["annotations"].get(PROJECT))
    if options.dry_run:
        _server_side_apply(kubectl, documents, "--dry-run=server")
        return replace(wanted, dry_run=True)
    with records.lock(root), step(f"Applying {wanted.resource}"):
        applied = _apply(root, kubectl, documents, wanted)
    with step(f"Waiting until {wanted.resource} is accepted"):
        checked = _await_accepted(kubectl, applied, options.wait)
    if probe:
        acceptance.wait_for_answer(probe, options.wait)
        checked = f"{checked}; {probe} answers"
    return replace(applied, checked=checked)


def remove(roots: Sequence[Path] | None) -> Iterator[Removed | None]:
    """Remove what these projects have applied, or all; None is a resource that was gone, or isn't ours.

    A context that has become another cluster is left alone, and so is a resource that somebody else has
    replaced. A failure doesn't stop the others: the first one is raised at the end.
    """
    failures = Failures()
    clusters: Clusters = {}
    for root in filter(records.load, _every(roots)):
        with failures.kept(), records.lock(root):
            for applied in records.load(root):
                with failures.kept():
                    removed = _delete(_cluster_of(applied, clusters), applied)
                    records.forget(root, applied)
                    yield Removed(str(applied.resource), applied.context, applied.root) if removed else None
    failures.end()


def _delete(kubectl: Kubectl, applied: Applied) -> bool:
    """Delete a resource; False when it is gone, or isn't ours any more."""
    resource = kubectl.get(applied.resource)
    if resource is None:
        emit(Noted(f"{applied.resource} is already gone from the context {applied.context}"))
        return False
    if applied.uid and resource["metadata"].get("uid") != applied.uid:
        emit(Warned(f"{applied.resource} has been replaced by somebody else, and is left alone"))
        return False
    with step(f"Removing {applied.resource} from the context {applied.context}"):
        kubectl.run("delete", *applied.resource.words, "--ignore-not-found")
    return True


def status(roots: Sequence[Path] | None) -> list[ClusterStatus]:
    """The state of what these projects have applied, or of all; "unknown" where a cluster doesn't answer."""
    statuses = []
    clusters: Clusters = {}
    for applied in (applied for root in _every(roots) for applied in records.load(root)):
        try:
            state = _state(_cluster_of(applied, clusters), applied)
        except ScaffoldError as error:
            state = ("unknown", error.message)
        statuses.append(ClusterStatus(applied, *state))
    return statuses


def log_lines(roots: Sequence[Path], wanted: object, follow: bool) -> None:
    """Raise `TargetError` if something is applied: the proxies keep the log; the hint says how to read it."""
    everything = [applied for root in roots for applied in records.load(root)]
    if not everything:
        return
    first = everything[0]
    pods = "--namespace NAMESPACE POD"
    if first.target.startswith("istio"):
        pods = f"--namespace {first.namespace} --container istio-proxy POD"
    resources = ", ".join(str(each.resource) for each in everything)
    raise TargetError(
        f"{resources}: in a cluster the proxies keep the log",
        hint=f"`kubectl --context {first.context} logs {pods}`",
    )


def _every(roots: Sequence[Path] | None) -> Sequence[Path]:
    return list(records.roots()) if roots is None else roots


def _record(root: Path, target: str, pin: Pin, document: Document, kubectl: Kubectl) -> Applied:
    metadata = document["metadata"]
    return Applied(
        root=str(root.resolve()),
        target=target,
        context=kubectl.context,
        server=kubectl.server,
        api=document["apiVersion"],
        kind=document["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        source=str(pin.image.reference) if pin.image else pin.info.name,
        module_digest=pin.module_digest,
        manifest_digest=pin.image.manifest_digest if pin.image else "",
        since=time.time(),
    )


def _check_owner(kubectl: Kubectl, wanted: Applied, project: str | None) -> None:
    """Raise `UsageError` for an existing resource of that name which isn't this project's.

    It is this project's if its annotation says so, or if it is the one that was applied from here last.
    """
    existing = kubectl.get(wanted.resource)
    if existing is None:
        return
    metadata = existing["metadata"]
    if not MANAGED_BY.items() <= (metadata.get("labels") or {}).items():
        raise UsageError(
            f"{wanted.resource} exists already, and wasn't made by scaffold", hint="choose another --name"
        )
    owner = (metadata.get("annotations") or {}).get(PROJECT)
    last = _recorded(Path(wanted.root), wanted)
    if (owner and owner == project) or (last and last.uid and last.uid == metadata.get("uid")):
        return
    raise UsageError(
        f"{wanted.resource} exists already, and belongs to another project: {owner or 'without a name'}",
        hint="choose another --name or --namespace; if it is this project's under a former name, delete it"
        f" first: `kubectl --context {wanted.context} delete {' '.join(wanted.resource.words)}`",
    )


def _recorded(root: Path, wanted: Applied) -> Applied | None:
    """The record of that resource, if the project has one."""
    return next((each for each in records.load(root) if each.place == wanted.place), None)


def _server_side_apply(kubectl: Kubectl, documents: Sequence[Document], *words: str) -> None:
    manager = f"--field-manager={FIELD_MANAGER}"
    kubectl.run("apply", "--server-side", manager, "-f", "-", *words, stdin=render(documents))


def _apply(root: Path, kubectl: Kubectl, documents: Sequence[Document], wanted: Applied) -> Applied:
    """Record a resource, apply it, and record its uid.

    So neither a kill nor a broken connection leaves an unrecorded resource.
    """
    before = _recorded(root, wanted)
    if before and before.manifest_digest != wanted.manifest_digest and before.source == wanted.source:
        emit(Noted(f"{wanted.source} was {before.manifest_digest} when it was last applied"))
    records.add(root, wanted)
    try:
        _server_side_apply(kubectl, documents)
    except Unreachable:  # the request may have arrived
        raise
    except (TargetError, UsageError):
        records.add(root, before) if before else records.forget(root, wanted)
        raise
    resource = kubectl.get(wanted.resource)
    applied = replace(wanted, uid=resource["metadata"].get("uid", "") if resource else "")
    records.add(root, applied)
    return applied


def _cluster_of(applied: Applied, clusters: Clusters) -> Kubectl:
    """kubectl for the cluster that a resource was applied to; `clusters` remembers those of earlier calls."""
    context = applied.context
    if context not in clusters:
        try:
            clusters[context] = Kubectl.find(context)
        except UsageError as error:
            error.hint = (
                f"if that cluster is gone for good, remove it from {records.path(Path(applied.root))}"
            )
            raise
    kubectl = clusters[context]
    if kubectl.server != applied.server:
        raise TargetError(
            f"{applied.resource} was applied to {applied.server}, and the context {context} is now"
            f" {kubectl.server}",
            hint="`kubectl config set-cluster` sets the address of a cluster",
        )
    return kubectl


def _await_accepted(kubectl: Kubectl, applied: Applied, wait: float) -> str:
    """Wait until a resource is accepted, and return the reason."""
    deadline = time.monotonic() + wait
    while True:
        state, reason = _state(kubectl, applied)
        if state in acceptance.FINE:
            return reason
        if state == "refused":
            raise TargetError(
                f"{applied.resource} is applied, but refused: {reason}",
                hint="correct it and deploy again, or `scaffold undeploy`",
            )
        if time.monotonic() >= deadline:
            raise TargetError(
                f"{applied.resource} is applied, but not accepted within {wait:g} s: {reason}",
                hint="check that its control plane runs, and that the resource is attached to something",
            )
        time.sleep(_PAUSE)


def _state(kubectl: Kubectl, applied: Applied) -> acceptance.State:
    resource = kubectl.get(applied.resource)
    if resource is None:
        return "gone", "somebody has removed it"
    if applied.uid and resource["metadata"].get("uid") != applied.uid:
        return "replaced", "somebody has removed it and made another"
    return acceptance.state_of(resource)
