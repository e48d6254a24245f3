"""Whether an applied plugin works: the status of its resource, and the answer of a URL behind it.

Envoy Gateway writes a status for everything that a policy is attached to. Istio writes one only where its
analysis is enabled, which it isn't by default, and Higress writes none. Without a status we know only that
the cluster, with its webhooks, accepted the resource.

Sources: envoyproxy/gateway, internal/gatewayapi/envoyextensionpolicy.go; istio.io, "Configuration Status
Field" and "Istio Status".
"""

from __future__ import annotations

import time
from contextlib import closing

from scaffold.core.events import step
from scaffold.core.text import one_line
from scaffold.errors import TargetError, UsageError
from scaffold.kubernetes.documents import Document
from scaffold.kubernetes.options import is_http

State = tuple[str, str]  # one word, and the reason

FINE = ("accepted", "applied")  # by the control plane's status; or without any status
_PAUSE = 0.5  # seconds between two requests
_PATIENCE = 5.0  # seconds for one


def state_of(resource: Document) -> State:
    """The state of a resource as the cluster has it: accepted, applied, refused or pending."""
    if resource.get("kind") == "EnvoyExtensionPolicy":
        return _of_policy(resource)
    if str(resource.get("apiVersion")).startswith("extensions.higress.io/"):
        return "applied", "the cluster accepted it; Higress doesn't report whether its gateway did"
    return _by_istio(resource)


def _by_istio(resource: Document) -> State:
    status = resource.get("status")
    messages = _list(status, "validationMessages")
    levels = [(str(each.get("level")).upper(), str(each.get("type", each))) for each in messages]
    errors = [text for level, text in levels if level == "ERROR"]
    others = [text for level, text in levels if level != "ERROR"]
    analyses = [each for each in _list(status, "conditions") if each.get("type") == "PassedAnalysis"]
    if not messages:
        errors = [_reason(each) for each in analyses if each.get("status") == "False"]
    current = _observed(status) >= _generation(resource)
    if errors and not current:
        return "pending", f"Istio hasn't analysed the change yet; its errors before: {'; '.join(errors)}"
    if errors:
        return "refused", "; ".join(errors)
    if (messages or analyses) and current:
        return "accepted", "; ".join(["Istio's analysis finds no error", *others])
    return "applied", "the cluster accepted it; Istio reports nothing, as its analysis isn't enabled"


def _of_policy(resource: Document) -> State:
    """The state by Envoy Gateway's status, which has an entry for each ancestor of the policy.

    A Gateway that doesn't exist has no entry.
    """
    ancestors = _list(resource.get("status"), "ancestors")
    entries = [(_name(each), *_accepted(each, _generation(resource))) for each in ancestors]
    if refused := [f"{name}: {reason}" for name, status, reason in entries if status == "False"]:
        return "refused", "; ".join(refused)
    missing = [name for name, status, _ in entries if status != "True"]
    known = {_ref(each).get("name") for each in ancestors}
    wanted = [each for each in _list(resource.get("spec"), "targetRefs") if each.get("kind") == "Gateway"]
    missing += [f"Gateway {each['name']}" for each in wanted if each.get("name") not in known]
    if missing or not entries:
        return "pending", f"Envoy Gateway hasn't reported on it yet{_for(missing)}"
    return "accepted", f"Envoy Gateway accepted it{_for([name for name, *_ in entries])}"


def _accepted(ancestor: Document, generation: int) -> tuple[str, str]:
    """The status and reason of the condition "Accepted" for this generation; "" without one."""
    for each in _list(ancestor, "conditions"):
        seen = each.get("observedGeneration", generation)
        if each.get("type") == "Accepted" and seen >= generation:
            return str(each.get("status")), _reason(each)
    return "", ""


def _reason(condition: Document) -> str:
    return f"{condition.get('message') or 'no message'} ({condition.get('reason')})"


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
    """The generation that Istio's status describes; Istio may write the number as a string."""
    seen = str(status.get("observedGeneration", "")) if isinstance(status, dict) else ""
    return int(seen) if seen.isdecimal() else 2**63


def _list(record: object, key: str) -> list[Document]:
    value = record.get(key) if isinstance(record, dict) else None
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def check_probe(url: str) -> None:
    """Raise `UsageError` for an invalid URL."""
    if not is_http(url):
        raise UsageError(
            f"--probe {url} isn't a valid HTTP URL", hint="write it like http://gateway.example.com/"
        )


def wait_for_answer(url: str, timeout: float) -> None:
    """Request a URL until its status is below 500. Raises `TargetError` after `timeout` seconds."""
    import requests

    from scaffold.core.http_session import Session

    deadline = time.monotonic() + timeout
    with step(f"Requesting {url}"):
        while True:
            try:
                with closing(Session()) as session:  # whose deadline holds; the body isn't read
                    answer = session.send_once("GET", url, silence=_PATIENCE, remaining=_PATIENCE)
                problem = f"it answers {answer.status_code}"
                if answer.status_code < 500:
                    return
            except requests.exceptions.SSLError as error:
                problem = one_line(str(error))
            except requests.ConnectionError:
                problem = "nothing answers there"
            except requests.RequestException as error:
                problem = one_line(str(error))
            if time.monotonic() >= deadline:
                raise TargetError(
                    f"the plugin is applied, but {url} doesn't answer: {problem}",
                    hint="`scaffold undeploy` removes it",
                )
            time.sleep(_PAUSE)
