"""The targets in a cluster: applied, looked after and removed with the user's own kubectl."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from scaffold.core.events import Noted, Warned, emit, step
from scaffold.core.failures import Failures
from scaffold.errors import ScaffoldError, TargetError, UsageError
from scaffold.kubernetes import acceptance
from scaffold.kubernetes import probe as probes
from scaffold.kubernetes import record as applied
from scaffold.kubernetes import yaml as render
from scaffold.kubernetes.common import MANAGED_BY, PROJECT, Document
from scaffold.kubernetes.kubectl import Kubectl, Unreachable
from scaffold.kubernetes.pins import Pin
from scaffold.kubernetes.record import Applied, ClusterStatus, Removed

FIELD_MANAGER = "scaffold"
ACCEPT_SECONDS = 60.0
_PAUSE = 0.5


def apply(
    root: Path,
    target: str,
    pin: Pin,
    documents: Sequence[Document],
    *,
    context: str | None = None,
    dry_run: bool = False,
    wait: float = ACCEPT_SECONDS,
    probe: str | None = None,
) -> Applied:
    """Give a document to the cluster of a context, and see that it is accepted within `wait` seconds.

    With `dry_run` the cluster only judges it, or, where it can't be reached, nobody but our own schema,
    which `documents` asked already. `probe` is a URL that must answer afterwards.
    Raises `UsageError` for a context or a namespace that isn't there, `TargetError` when the cluster
    refuses it, or the control plane does; then it stays applied, and recorded.
    """
    (document,) = documents
    kubectl = Kubectl.find(context)
    wanted = _record(root, target, pin, document, kubectl)
    emit(
        Noted(f"kubectl's context is {kubectl.context} ({kubectl.server}), the namespace {wanted.namespace}")
    )
    try:
        kubectl.check_namespace(wanted.namespace)
    except Unreachable as error:
        if not dry_run:
            raise
        emit(Warned(f"{error.message}; so nobody but scaffold's own schema judged it"))
        return replace(wanted, dry_run=True)
    _check_owner(kubectl, wanted, document["metadata"]["annotations"].get(PROJECT))
    if dry_run:
        _give(kubectl, documents, "--dry-run=server")
        return replace(wanted, dry_run=True)
    with applied.lock(root), step(f"Applying {wanted.resource}"):
        made = _apply(root, kubectl, documents, wanted)
    with step(f"Waiting until {wanted.resource} is accepted"):
        checked = _await_accepted(kubectl, made, wait)
    if probe:
        probes.see_it_answer(probe, wait)
        checked = f"{checked}; {probe} answers"
    return replace(made, checked=checked)


def remove(*roots: Path) -> Iterator[Removed]:
    """Take away what these projects have applied, each from the cluster it was applied to; yields that.

    A context that means another cluster by now is left alone, and a resource that was made anew since.
    What can't be removed doesn't keep the others: the first such error is raised at the end.
    """
    failures = Failures()
    for root in filter(applied.load, roots):
        with failures.kept(), applied.lock(root):
            for one in applied.load(root):
                with failures.kept():
                    gone = _delete(one)
                    applied.forget(root, one)
                    if gone:
                        yield Removed(str(one.resource), one.context, one.root)
    failures.end()


def _delete(one: Applied) -> bool:
    """Take one away; whether it was there, and still ours."""
    kubectl = _of(one)
    now = kubectl.get(one.resource)
    if now is None:
        emit(Noted(f"{one.resource} is gone already from the context {one.context}"))
        return False
    if one.uid and now["metadata"].get("uid") != one.uid:
        emit(Warned(f"{one.resource} was made anew by somebody else since, and is left alone"))
        return False
    with step(f"Removing {one.resource} from the context {one.context}"):
        kubectl.run("delete", *one.resource.words, "--ignore-not-found")
    return True


def status(root: Path) -> list[ClusterStatus]:
    """What the project has applied, as the clusters have it; "unknown" where one can't be asked."""
    found = []
    for one in applied.load(root):
        try:
            found.append(ClusterStatus(one, *_state(_of(one), one)))
        except ScaffoldError as error:
            found.append(ClusterStatus(one, "unknown", error.message))
    return found


def no_logs(root: Path) -> TargetError:
    """That the proxies keep the log of what the project in `root` has applied, and how to read it there."""
    there = applied.load(root)
    first = there[0]
    pods = "--namespace NAMESPACE POD"
    if first.target.startswith("istio"):
        pods = f"--namespace {first.namespace} --container istio-proxy POD"
    return TargetError(
        f"{', '.join(str(one.resource) for one in there)}: in a cluster the proxies keep the log",
        hint=f"`kubectl --context {first.context} logs {pods}`",
    )


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
        source=str(pin.image.reference) if pin.image else pin.name,
        module_digest=pin.module_digest,
        manifest_digest=pin.image.manifest_digest if pin.image else "",
        since=time.time(),
    )


def _check_owner(kubectl: Kubectl, wanted: Applied, project: str | None) -> None:
    """Raise for a resource of that name which isn't this project's: it would be changed, and later removed.

    It is when it says so itself, or when it is the very one that was applied from here last.
    """
    now = kubectl.get(wanted.resource)
    if now is None:
        return
    metadata = now["metadata"]
    if not MANAGED_BY.items() <= (metadata.get("labels") or {}).items():
        raise UsageError(
            f"{wanted.resource} is there already, and wasn't made by scaffold", hint="choose another --name"
        )
    owner = (metadata.get("annotations") or {}).get(PROJECT)
    last = next((one for one in applied.load(Path(wanted.root)) if one.place == wanted.place), None)
    if (owner and owner == project) or (last and last.uid and last.uid == metadata.get("uid")):
        return
    raise UsageError(
        f"{wanted.resource} is there already, and belongs to another project: {owner or 'it has no name'}",
        hint="choose another --name or --namespace; if it is this project's under a former name, take it away"
        f" first: `kubectl --context {wanted.context} delete {' '.join(wanted.resource.words)}`",
    )


def _give(kubectl: Kubectl, documents: Sequence[Document], *words: str) -> None:
    manager = f"--field-manager={FIELD_MANAGER}"
    kubectl.run("apply", "--server-side", manager, "-f", "-", *words, stdin=render.render(documents))


def _apply(root: Path, kubectl: Kubectl, documents: Sequence[Document], wanted: Applied) -> Applied:
    """Record it, apply it, and record which one it became.

    A kill in between, or a connection that breaks off, leaves nothing unrecorded.
    """
    before = next((one for one in applied.load(root) if one.place == wanted.place), None)
    if before and before.manifest_digest != wanted.manifest_digest and before.source == wanted.source:
        emit(Noted(f"{wanted.source} was {before.manifest_digest} when it was last applied"))
    applied.add(root, wanted)
    try:
        _give(kubectl, documents)
    except Unreachable:  # now: it may have arrived all the same
        raise
    except (TargetError, UsageError):
        applied.add(root, before) if before else applied.forget(root, wanted)
        raise
    now = kubectl.get(wanted.resource)
    made = replace(wanted, uid=now["metadata"].get("uid", "") if now else "")
    applied.add(root, made)
    return made


def _of(one: Applied) -> Kubectl:
    """kubectl for the very cluster that something was applied to."""
    try:
        kubectl = Kubectl.find(one.context)
    except UsageError as error:
        error.hint = f"if that cluster is gone for good, take it out of {applied.path(Path(one.root))}"
        raise
    if kubectl.server != one.server:
        raise TargetError(
            f"the context {one.context} is {kubectl.server} now; {one.resource} was applied to {one.server}",
            hint="`kubectl config set-cluster` sets the address of a cluster",
        )
    return kubectl


def _await_accepted(kubectl: Kubectl, one: Applied, wait: float) -> str:
    """Wait until nobody objects to it any more; what was seen by that."""
    deadline = time.monotonic() + wait
    while True:
        state, why = _state(kubectl, one)
        if state in acceptance.FINE:
            return why
        if state == "refused":
            raise TargetError(
                f"{one.resource} is applied, but refused: {why}",
                hint="mend it and deploy again, or `scaffold undeploy`",
            )
        if time.monotonic() >= deadline:
            raise TargetError(
                f"{one.resource} is applied, but nobody has accepted it within {wait:g} s: {why}",
                hint="does its control plane run, and look after what it is aimed at?",
            )
        time.sleep(_PAUSE)


def _state(kubectl: Kubectl, one: Applied) -> tuple[str, str]:
    now = kubectl.get(one.resource)
    if now is None:
        return "gone", "somebody has removed it"
    if one.uid and now["metadata"].get("uid") != one.uid:
        return "replaced", "somebody has removed it, and another was made since"
    return acceptance.judge(now)
