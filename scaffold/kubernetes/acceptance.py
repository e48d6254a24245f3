"""What a control plane says of a resource that was applied: it takes it, refuses it, or says nothing.

Envoy Gateway answers for everything that a policy is attached to. Istio writes a status only where its
analysis is switched on, which it isn't by default, and Higress writes none: of those no more is known
than that the cluster took the resource, after the webhooks that it has, and that nobody objects.

Sources: envoyproxy/gateway, internal/gatewayapi/envoyextensionpolicy.go; istio.io, "Configuration Status
Field" and "Istio Status".
"""

from __future__ import annotations

from typing import Any

from scaffold.kubernetes import higress

Document = dict[str, Any]
Verdict = tuple[str, str]  # a state, in one word, and why

FINE = ("accepted", "applied")  # said by the control plane; or it says nothing, and nobody objects


def judge(resource: Document) -> Verdict:
    """What is said of it, as the cluster has it now: accepted, applied, refused or pending."""
    if resource.get("kind") == "EnvoyExtensionPolicy":
        return _of_policy(resource)
    if resource.get("apiVersion") == higress.API:
        return "applied", "the cluster took it; Higress tells nobody whether its gateway did"
    return _by_istio(resource)


def _by_istio(now: Document) -> Verdict:
    status = now.get("status")
    messages = _list(status, "validationMessages")
    said = [(str(each.get("level")).upper() == "ERROR", str(each.get("type", each))) for each in messages]
    errors = [text for fatal, text in said if fatal]
    others = [text for fatal, text in said if not fatal]
    passed = [each for each in _list(status, "conditions") if each.get("type") == "PassedAnalysis"]
    if not messages:
        errors = [_why(each) for each in passed if each.get("status") == "False"]
    current = _observed(status) >= _generation(now)
    if errors and not current:
        return "pending", f"Istio hasn't looked at the change yet, and said before: {'; '.join(errors)}"
    if errors:
        return "refused", "; ".join(errors)
    if (messages or passed) and current:
        return "accepted", "; ".join(["Istio's analysis finds no error in it", *others])
    return "applied", "the cluster took it; Istio says nothing of it (it would where its analysis is on)"


def _of_policy(now: Document) -> Verdict:
    """What Envoy Gateway says, for every ancestor that the policy is attached to.

    It leaves out a Gateway that it doesn't know.
    """
    ancestors = _list(now.get("status"), "ancestors")
    heard = [(_name(each), *_accepted(each, _generation(now))) for each in ancestors]
    if refused := [f"{name}: {why}" for name, status, why in heard if status == "False"]:
        return "refused", "; ".join(refused)
    silent = [name for name, status, _ in heard if status != "True"]
    known = {_ref(each).get("name") for each in ancestors}
    wanted = [each for each in _list(now.get("spec"), "targetRefs") if each.get("kind") == "Gateway"]
    silent += [f"Gateway {each['name']}" for each in wanted if each.get("name") not in known]
    if silent or not heard:
        return "pending", f"Envoy Gateway has said nothing of it yet{_for(silent)}"
    return "accepted", f"Envoy Gateway accepted it{_for([name for name, *_ in heard])}"


def _accepted(ancestor: Document, generation: int) -> tuple[str, str]:
    """The status of the condition "Accepted" of this very generation, and why; "" where there is none."""
    for each in _list(ancestor, "conditions"):
        seen = each.get("observedGeneration", generation)
        if each.get("type") == "Accepted" and seen >= generation:
            return str(each.get("status")), _why(each)
    return "", ""


def _why(condition: Document) -> str:
    return f"{condition.get('message') or 'without a word'} ({condition.get('reason')})"


def _name(ancestor: Document) -> str:
    ref = _ref(ancestor)
    place = "/".join(str(ref[key]) for key in ("namespace", "name", "sectionName") if ref.get(key))
    return f"{ref.get('kind', 'Gateway')} {place}"


def _ref(ancestor: Document) -> Document:
    ref = ancestor.get("ancestorRef")
    return ref if isinstance(ref, dict) else {}


def _for(names: list[str]) -> str:
    return f" for {', '.join(dict.fromkeys(names))}" if names else ""


def _generation(resource: Document) -> int:
    return int(resource["metadata"].get("generation", 0))


def _observed(status: object) -> int:
    """The generation that Istio's status is of; it writes the number as a text, too."""
    seen = str(status.get("observedGeneration", "")) if isinstance(status, dict) else ""
    return int(seen) if seen.isdecimal() else 2**63


def _list(record: object, key: str) -> list[Document]:
    found = record.get(key) if isinstance(record, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
