"""Applying, looking and removing: the real kubectl against an API server of the tests' own."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml
from support.clusters import KINDS, cluster, kubeconfig
from support.pins import HTTP, image

from scaffold.core import files
from scaffold.errors import MachineError, TargetError, UsageError
from scaffold.kubernetes import applied
from scaffold.kubernetes import apply as target
from scaffold.kubernetes import documents as kubernetes
from scaffold.kubernetes.kubectl import Kubectl, Unreachable
from scaffold.kubernetes.options import ClusterOptions

PLUGIN = "/apis/extensions.istio.io/v1alpha1/namespaces/shop/wasmplugins/hello-world"
SHOP = {"selector": ("app=web",), "namespace": "shop"}


def istio(**more):
    return kubernetes.documents("istio", HTTP, ClusterOptions(**SHOP, **more))


def policy(**more):
    options = ClusterOptions(**{"target_ref": ("Gateway/public",), "namespace": "shop", **more})
    return kubernetes.documents("envoy-gateway", HTTP, options)


def apply(root, documents=None, name="istio", probe=None, **more):
    options = ClusterOptions(**{"wait": 0, **more})
    return target.apply(root, name, HTTP, documents or istio(), options, probe=probe)


def remove(root):
    return list(filter(None, target.remove([root])))


def ancestor(name, status="True", message="as it should be", generation=1):
    """What Envoy Gateway writes of a gateway that a policy is attached to; without a status, nothing yet."""
    condition = {"type": "Accepted", "status": status, "reason": "Invalid", "message": message}
    condition |= {"observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ref = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop", "name": name}
    return {"ancestorRef": ref, "controllerName": "a/b", "conditions": [condition] if status else []}


def accepted(status="True", generation=None, message="as it should be"):
    """What Envoy Gateway writes of a policy."""

    def write(resource):
        seen = resource["metadata"]["generation"] if generation is None else generation
        return {"ancestors": [ancestor("public", status, message, seen)]}

    return write


# --- all is well


def test_what_is_applied_is_the_manifest_and_undeploy_takes_exactly_that_away(here, tmp_path, said):
    before = set(here.objects)
    made = apply(tmp_path)
    (document,) = istio()
    (change,) = here.changes()
    assert (change.method, change.path, yaml.safe_load(change.body)) == ("PATCH", PLUGIN, document)
    assert change.query["fieldManager"] == ["scaffold"]
    assert (made.context, made.server, made.uid) == (
        "here",
        here.url,
        here.objects[PLUGIN]["metadata"]["uid"],
    )
    assert f"kubectl's context is here ({here.url}), the namespace shop" in said
    assert [one.state for one in target.status([tmp_path])] == ["applied"]

    (removed,) = remove(tmp_path)
    assert removed.summary() == f"{made.resource} removed from the context here"
    assert set(here.objects) == before
    assert target.status([tmp_path]) == remove(tmp_path) == []
    assert len(here.changes()) == 2


def test_applied_again_it_is_the_same_resource_and_one_record(here, tmp_path):
    first = apply(tmp_path)
    again = apply(tmp_path, istio(priority=3))
    assert (again.uid, len(applied.load(tmp_path))) == (first.uid, 1)
    assert here.objects[PLUGIN]["spec"]["priority"] == 3


def test_two_names_are_two_resources_and_both_go(here, tmp_path):
    apply(tmp_path)
    apply(tmp_path, istio(name="other"))
    assert {one.resource for one in remove(tmp_path)} == {
        "WasmPlugin shop/hello-world",
        "WasmPlugin shop/other",
    }


@pytest.mark.parametrize("name", ["istio", "istio-envoyfilter", "envoy-gateway", "higress"])
def test_every_target_is_applied_and_removed(here, tmp_path, name):
    options = {
        "istio": {"traffic_extension": True, "whole_namespace": True},
        "istio-envoyfilter": {"whole_namespace": True, "file": "/a.wasm"},
        "envoy-gateway": {"target_ref": ("Gateway/public",)},
        "higress": {"whole_namespace": True},
    }[name]
    here.control_plane = accepted()
    documents = kubernetes.documents(name, HTTP, ClusterOptions(**options))
    made = apply(tmp_path, documents, name)
    assert here.named("hello-world")["kind"] == made.kind
    remove(tmp_path)
    assert len(here.changes()) == 2
    with pytest.raises(ValueError):
        here.named("hello-world")


def test_a_context_that_is_named_is_the_one_that_is_meant(here, home, tmp_path):
    with cluster("shop") as other:
        kubeconfig(home / "config", {"here": here.url, "there": other.url}, "here")
        apply(tmp_path, context="there")
        assert here.changes() == []
        kubeconfig(home / "config", {"here": here.url, "there": other.url}, "here")
        apply(tmp_path)
        assert [one.applied.context for one in target.status([tmp_path])] == ["there", "here"]
        remove(tmp_path)
        assert PLUGIN not in here.objects and PLUGIN not in other.objects


def test_what_the_cluster_warns_of_is_said(here, tmp_path, said):
    here.warning = "url is not in the allowed registries"
    apply(tmp_path)
    assert "url is not in the allowed registries" in said


# --- dry runs


def test_a_dry_run_asks_the_cluster_and_changes_nothing(here, tmp_path):
    made = apply(tmp_path, dry_run=True)
    (change,) = here.changes()
    assert change.dry and PLUGIN not in here.objects
    assert made.summary().startswith("WasmPlugin shop/hello-world: would be applied")
    assert applied.load(tmp_path) == []


def test_a_dry_run_without_a_cluster_says_that_nobody_else_judged(home, tmp_path, said):
    kubeconfig(home / "config", {"gone": "http://127.0.0.1:1"}, "gone")
    assert apply(tmp_path, dry_run=True).dry_run
    assert any("so no cluster has validated it" in text for text in said)


# --- kubectl, the context and the namespace


def test_without_kubectl_it_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="there is no kubectl on PATH") as caught:
        apply(tmp_path)
    assert "kubernetes.io/docs/tasks/tools" in caught.value.hint


def test_without_a_current_context_it_says_how_to_name_one(tmp_path):
    with pytest.raises(UsageError, match="kubectl has no current context") as caught:
        apply(tmp_path)
    assert "--context" in caught.value.hint


def test_a_context_that_there_is_not(here, tmp_path):
    with pytest.raises(UsageError, match="kubectl has no context `prod`") as caught:
        apply(tmp_path, context="prod")
    assert "get-contexts" in caught.value.hint


def test_a_namespace_that_there_is_not(here, tmp_path):
    documents = kubernetes.documents("istio", HTTP, ClusterOptions(whole_namespace=True, namespace="nowhere"))
    with pytest.raises(UsageError, match="`here` has no namespace `nowhere`") as caught:
        apply(tmp_path, documents)
    assert "kubectl create namespace nowhere" in caught.value.hint
    assert here.changes() == [] and applied.load(tmp_path) == []


def test_who_may_not_look_at_namespaces_may_apply_all_the_same(here, tmp_path):
    def refuse(seen):
        if seen.path.startswith("/api/v1/namespaces/"):
            return (
                403,
                "Forbidden",
                'namespaces "shop" is forbidden: User "me" cannot get resource "namespaces"',
            )
        return None

    here.refuse = refuse
    assert apply(tmp_path).uid


def refusal(code, reason, message):
    return lambda seen: (code, reason, message) if seen.method == "PATCH" else None


REFUSALS = [
    (
        refusal(
            403, "Forbidden", 'wasmplugins.extensions.istio.io is forbidden: User "me" cannot patch resource'
        ),
        "doesn't permit that: ",
        "whoami",
    ),
    (refusal(401, "Unauthorized", "Unauthorized"), "doesn't know you: ", "log in"),
    (
        refusal(409, "Conflict", 'Apply failed with 1 conflict: conflict with "argocd": .spec.url'),
        "another tool manages fields of the resource: ",
        "--name",
    ),
    (
        refusal(404, "NotFound", 'namespaces "shop" not found'),
        "the cluster of the context `here` has no namespace `shop`",
        "kubectl create namespace shop",
    ),
    (
        refusal(400, "BadRequest", 'strict decoding error: unknown field "spec.phase"'),
        "kubectl failed: ",
        None,
    ),
]


@pytest.mark.parametrize(("refuse", "message", "hint"), REFUSALS)
def test_refusals_are_told_apart_and_leave_no_record(here, tmp_path, refuse, message, hint):
    here.refuse = refuse
    with pytest.raises((TargetError, UsageError)) as caught:
        apply(tmp_path)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint is None or hint in caught.value.hint
    assert applied.load(tmp_path) == []


def test_a_refused_change_leaves_the_record_of_what_is_there(here, tmp_path):
    made = apply(tmp_path)
    here.refuse = refusal(400, "BadRequest", "no")
    with pytest.raises(TargetError):
        apply(tmp_path, istio(priority=1))
    assert applied.load(tmp_path) == [made]


def test_a_cluster_without_the_control_plane(here, tmp_path):
    here.kinds = {name: kinds for name, kinds in KINDS.items() if "istio" not in name}
    with pytest.raises(TargetError, match="doesn't know such a resource") as caught:
        apply(tmp_path)
    assert "installed" in caught.value.hint


def test_a_cluster_that_does_not_answer(home, tmp_path):
    kubeconfig(home / "config", {"gone": "http://127.0.0.1:1"}, "gone")
    with pytest.raises(Unreachable, match=r"can't be reached at http://127\.0\.0\.1:1") as caught:
        apply(tmp_path)
    assert "memcache" not in caught.value.message
    assert "kubectl cluster-info --context gone" in caught.value.hint


def test_a_connection_that_breaks_off_leaves_it_recorded(here, tmp_path):
    """It may have arrived: here it has."""

    def break_off(seen):
        if seen.method != "PATCH":
            return None
        here.refuse = lambda seen: None
        here.answer(seen)
        return 504, "Timeout", "request did not complete within the allotted timeout"

    here.refuse = break_off
    with pytest.raises(Unreachable):
        apply(tmp_path)
    assert PLUGIN in here.objects
    assert len(remove(tmp_path)) == 1
    assert PLUGIN not in here.objects


# --- whether it is accepted


def test_a_policy_is_accepted_when_envoy_gateway_says_so(here, tmp_path):
    here.control_plane = accepted()
    apply(tmp_path, policy(), "envoy-gateway")
    (status,) = target.status([tmp_path])
    why = "Envoy Gateway accepted it for Gateway shop/public"
    assert (status.state, status.why) == ("accepted", why)
    assert status.summary().startswith(f"EnvoyExtensionPolicy shop/hello-world: accepted: {why}\n")


def test_a_refused_policy_is_said_in_envoy_gateways_words_and_stays_recorded(here, tmp_path):
    here.control_plane = accepted("False", message="Wasm: failed to fetch")
    why = "Gateway shop/public: Wasm: failed to fetch (Invalid)"
    with pytest.raises(TargetError, match=re.escape(f"is applied, but refused: {why}")) as caught:
        apply(tmp_path, policy(), "envoy-gateway")
    assert "scaffold undeploy" in caught.value.hint
    (status,) = target.status([tmp_path])
    assert (status.state, status.why) == ("refused", why)
    assert len(remove(tmp_path)) == 1


TWO = ("Gateway/public", "Gateway/inner")
ANCESTORS = [
    ([ancestor("public"), ancestor("inner", "False", "no")], "but refused: Gateway shop/inner: no (Invalid)"),
    (
        [ancestor("public", "False", "no"), ancestor("inner")],
        "but refused: Gateway shop/public: no (Invalid)",
    ),
    ([ancestor("public"), ancestor("inner", "")], "reported on it yet for Gateway shop/inner"),
    (
        [ancestor("public"), ancestor("inner", generation=0)],
        "reported on it yet for Gateway shop/inner",
    ),
    ([ancestor("public")], "reported on it yet for Gateway inner"),  # which it doesn't know
    ([ancestor("public", "Unknown"), ancestor("inner")], "reported on it yet for Gateway shop/public"),
]


@pytest.mark.parametrize(("ancestors", "why"), ANCESTORS)
def test_every_gateway_that_a_policy_is_attached_to_must_accept_it(here, tmp_path, ancestors, why):
    here.control_plane = lambda resource: {"ancestors": ancestors}
    with pytest.raises(TargetError, match=re.escape(why)):
        apply(tmp_path, policy(target_ref=TWO), "envoy-gateway")
    here.control_plane = lambda resource: {
        "ancestors": [ancestor("public", generation=2), ancestor("inner", generation=2)]
    }
    made = apply(tmp_path, policy(target_ref=TWO), "envoy-gateway")
    assert made.checked == "Envoy Gateway accepted it for Gateway shop/public, Gateway shop/inner"


@pytest.mark.parametrize(
    "control_plane", [lambda resource: None, accepted(generation=0)], ids=["silent", "stale"]
)
@pytest.mark.parametrize("attached", ["Gateway/public", "HTTPRoute/hello"])
def test_a_policy_that_nobody_looks_at_is_an_error(here, tmp_path, control_plane, attached):
    here.control_plane = control_plane
    with pytest.raises(TargetError, match="not accepted within 0 s") as caught:
        apply(tmp_path, policy(target_ref=(attached,)), "envoy-gateway")
    assert "control plane" in caught.value.hint


def test_it_waits_for_the_control_plane(here, tmp_path):
    answers = iter([None, None, accepted()])

    def refuse(seen):
        """Not to refuse: with every look the control plane is a step further."""
        if seen.method == "GET" and "envoyextensionpolicies" in seen.path and seen.path in here.objects:
            step = next(answers, None)
            if step:
                resource = here.objects[seen.path]
                resource["status"] = step(resource)

    here.refuse = refuse
    applied = apply(tmp_path, policy(), "envoy-gateway", wait=30)
    assert next(answers, "none is left") == "none is left"
    assert applied.checked


def test_an_error_that_istio_reports_is_one(here, tmp_path):
    message = {"type": {"name": "InvalidPlugin", "code": "IST0001"}, "level": "ERROR"}
    here.control_plane = lambda resource: {"validationMessages": [message]}
    with pytest.raises(TargetError, match=r"refused: .*InvalidPlugin"):
        apply(tmp_path)


WARNING = {"type": {"code": "IST0002"}, "level": "WARNING"}
PASSED = {"type": "PassedAnalysis", "status": "True"}


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        (None, "applied", "the cluster accepted it; Istio reports nothing"),
        (
            {"observedGeneration": "0", "conditions": [PASSED]},
            "applied",
            "the cluster accepted it; Istio reports nothing",
        ),
        (
            {"observedGeneration": "1", "conditions": [PASSED]},
            "accepted",
            "Istio's analysis finds no error",
        ),
        ({"validationMessages": [WARNING]}, "accepted", "finds no error; {'code': 'IST0002'}"),
    ],
)
def test_what_was_seen_of_istios_acceptance_is_said(here, tmp_path, status, state, why):
    here.control_plane = lambda resource: status
    made = apply(tmp_path)
    assert why in made.checked
    assert made.summary().endswith(f"  checked          {made.checked}")
    (now,) = target.status([tmp_path])
    assert (now.state, now.why) == (state, made.checked)


def test_an_analysis_that_failed_without_a_message_is_a_refusal(here, tmp_path):
    failed = PASSED | {"status": "False", "reason": "errorsFound", "message": "1 Error found"}
    here.control_plane = lambda resource: {"conditions": [failed]}
    with pytest.raises(TargetError, match=r"is applied, but refused: 1 Error found \(errorsFound\)"):
        apply(tmp_path)


def test_higress_tells_nobody_and_that_is_said(here, tmp_path):
    documents = kubernetes.documents("higress", HTTP, ClusterOptions(whole_namespace=True))
    assert apply(tmp_path, documents, "higress").checked.startswith(
        "the cluster accepted it; Higress doesn't report"
    )


@pytest.mark.parametrize("generation", [1, "1"])
def test_what_istio_said_of_an_earlier_change_refuses_no_later_one(here, tmp_path, generation):
    """It writes an int64 as a text; and the API server keeps a status over a change."""
    message = {"type": {"code": "IST0001"}, "level": "ERROR"}
    here.control_plane = lambda resource: {"validationMessages": [message], "observedGeneration": generation}
    with pytest.raises(TargetError, match=r"is applied, but refused: .*IST0001"):
        apply(tmp_path)
    with pytest.raises(TargetError, match="within 0 s: Istio hasn't analysed the change yet"):
        apply(tmp_path, istio(priority=1))


def test_a_status_of_another_shape_is_no_traceback(here, tmp_path):
    here.control_plane = lambda resource: {"ancestors": "none", "validationMessages": {"level": "ERROR"}}
    with pytest.raises(TargetError, match="not accepted within"):
        apply(tmp_path, policy(), "envoy-gateway")
    apply(tmp_path)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def gateway():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_probe_sees_the_plugin_answer(here, tmp_path, gateway):
    assert apply(tmp_path, probe=f"{gateway}/403").checked.endswith(f"; {gateway}/403 answers")
    for probe, said in (
        (f"{gateway}/500", "it answers 500"),
        (f"{gateway}/503", "it answers 503"),
        ("http://127.0.0.1:1/", "nothing answers there"),
    ):
        with pytest.raises(TargetError, match=f"{probe} doesn't answer: .*{said}"):
            apply(tmp_path, probe=probe)


# --- what isn't ours stays


def test_a_resource_that_somebody_else_made_is_left_alone(here, tmp_path):
    here.objects[PLUGIN] = {"kind": "WasmPlugin", "metadata": {"name": "hello-world", "uid": "theirs"}}
    with pytest.raises(UsageError, match="exists already, and wasn't made by scaffold") as caught:
        apply(tmp_path)
    assert "--name" in caught.value.hint
    assert here.changes() == []


OTHER = replace(HTTP, image=image(name="registry.example/others/hello_world:0.1.0"))


def other_project(root, **more):
    documents = kubernetes.documents("istio", OTHER, ClusterOptions(**SHOP, **more))
    return target.apply(root, "istio", OTHER, documents, ClusterOptions(wait=0))


def test_a_resource_that_another_project_made_is_left_alone(here, tmp_path):
    """It has the same name, and scaffold made both."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    apply(mine)
    before = json.dumps(here.objects)
    for dry in ({}, {"dry_run": True}):
        documents = kubernetes.documents("istio", OTHER, ClusterOptions(**SHOP))
        owner = "belongs to another project: registry.example/acme/hello_world"
        with pytest.raises(UsageError, match=owner) as caught:
            target.apply(theirs, "istio", OTHER, documents, ClusterOptions(wait=0, **dry))
    assert "--name or --namespace" in caught.value.hint
    assert (json.dumps(here.objects), applied.load(theirs)) == (before, [])
    assert other_project(theirs, name="other").name == "other"
    assert len(remove(theirs)) == 1
    assert json.dumps(here.objects) == before


def test_a_project_is_the_same_from_another_machine_and_in_its_next_version(here, tmp_path):
    """CI starts with an empty home each time."""
    first = apply(tmp_path / "laptop")
    next_one = replace(HTTP, image=image(name="registry.example/acme/hello_world:0.2.0"))
    documents = kubernetes.documents("istio", next_one, ClusterOptions(**SHOP))
    assert (
        target.apply(tmp_path / "ci", "istio", next_one, documents, ClusterOptions(wait=0)).uid == first.uid
    )


def test_what_was_applied_from_here_last_is_ours_whatever_its_image_is_called_now(here, tmp_path):
    first = apply(tmp_path)
    assert other_project(tmp_path).uid == first.uid
    with pytest.raises(UsageError, match=r"registry\.example/others/hello_world"):
        apply(tmp_path / "elsewhere")


def test_what_says_nothing_of_its_project_is_left_alone(here, tmp_path):
    apply(tmp_path / "theirs")
    del here.objects[PLUGIN]["metadata"]["annotations"]
    with pytest.raises(UsageError, match="belongs to another project: without a name") as caught:
        apply(tmp_path / "mine")
    words = caught.value.hint.partition("`kubectl ")[2].rstrip("`").split()
    Kubectl.find().run(*words)
    assert apply(tmp_path / "mine").uid


def test_a_resource_that_was_made_anew_by_somebody_else_is_left_alone(here, tmp_path, said):
    apply(tmp_path)
    here.objects[PLUGIN]["metadata"]["uid"] = "theirs"
    (status,) = target.status([tmp_path])
    assert (status.state, status.why) == ("replaced", "somebody has removed it and made another")
    assert remove(tmp_path) == []
    assert PLUGIN in here.objects
    assert any("replaced by somebody else" in text for text in said)


def test_a_resource_that_is_gone_already_is_no_error(here, tmp_path, said):
    apply(tmp_path)
    del here.objects[PLUGIN]
    assert [one.state for one in target.status([tmp_path])] == ["gone"]
    assert remove(tmp_path) == []
    assert any("is already gone" in text for text in said)
    assert applied.load(tmp_path) == []


def test_a_context_that_means_another_cluster_now_is_left_alone(here, home, tmp_path):
    apply(tmp_path)
    with cluster("shop") as other:
        other.objects[PLUGIN] = here.objects[PLUGIN]
        kubeconfig(home / "config", {"here": other.url}, "here")
        with pytest.raises(TargetError, match="was applied to"):
            remove(tmp_path)
        assert [one.state for one in target.status([tmp_path])] == ["unknown"]
        assert other.changes() == [] and PLUGIN in other.objects
    assert len(applied.load(tmp_path)) == 1


def test_what_cannot_be_removed_keeps_no_other_from_being_removed(here, tmp_path):
    apply(tmp_path)
    (first,) = applied.load(tmp_path)
    applied.forget(tmp_path, first)
    applied.add(tmp_path, replace(first, server="https://elsewhere.example"))
    apply(tmp_path, istio(name="other"))
    with pytest.raises(TargetError, match=r"was applied to https://elsewhere\.example"):
        remove(tmp_path)
    assert [each.name for each in applied.load(tmp_path)] == ["hello-world"]
    assert [path.rpartition("/")[2] for path in here.objects if "wasmplugins" in path] == ["hello-world"]


def test_a_plugin_that_was_applied_from_another_image_says_so(here, tmp_path, said):
    apply(tmp_path)
    moved = replace(HTTP, image=replace(HTTP.image, manifest_digest="sha256:" + "3" * 64))
    documents = kubernetes.documents("istio", moved, ClusterOptions(**SHOP))
    target.apply(tmp_path, "istio", moved, documents, ClusterOptions(wait=0))
    assert f"{HTTP.image.reference} was {HTTP.image.manifest_digest} when it was last applied" in said


# --- the record


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"root": 1}]', "[" * 100_000, '[{"name": "a"}]'])
def test_a_record_that_cannot_be_read_is_said(here, tmp_path, said, content):
    apply(tmp_path)
    (path,) = (files.state_dir() / "clusters").glob("*.json")
    path.write_text(content)
    assert target.status([tmp_path]) == []
    assert any("is damaged" in text for text in said)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"root": 1}]', "[" * 100_000])
def test_a_record_that_cannot_be_read_keeps_no_other_from_being_listed(here, tmp_path, said, content):
    apply(tmp_path)
    (path,) = (files.state_dir() / "clusters").glob("*.json")
    path.with_name("0.json").write_text(content)
    assert list(applied.roots()) == [tmp_path]
    assert any("0.json is damaged" in text for text in said)


def test_the_record_is_the_users_alone_and_a_later_version_may_know_more(here, tmp_path):
    made = apply(tmp_path)
    (path,) = (files.state_dir() / "clusters").glob("*.json")
    assert path.stat().st_mode & 0o077 == 0
    (record,) = json.loads(path.read_text())
    path.write_text(json.dumps([record | {"colour": "red"}]))
    assert applied.load(tmp_path) == [made]
    assert list(applied.roots()) == [tmp_path]


def test_a_kill_between_record_and_cluster_leaves_nothing_unrecorded(here, tmp_path):
    """What it leaves: a record of something that may not be there."""
    kubectl = Kubectl.find()
    (document,) = istio()
    applied.add(tmp_path, target._record(tmp_path, "istio", HTTP, document, kubectl))
    kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(document))
    assert len(remove(tmp_path)) == 1
    assert PLUGIN not in here.objects


# --- a kubectl that is a stand-in: it records what it is given


STAND_IN = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.argv"
case "$*" in
"config view"*) echo '{"current-context": "here", "clusters": [{"cluster": {"server": "https://k:6443"}}]}' ;;
"get namespace"*) echo namespace/shop ;;
apply*) cat > "$0.stdin" ;;
esac
"""


def test_kubectl_gets_the_document_on_standard_input_and_the_context_each_time(tmp_path, monkeypatch):
    program = tmp_path / "kubectl"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    with pytest.raises(TargetError, match="somebody has removed it"):
        apply(tmp_path, istio(config=b'{"token": "secret"}'))
    words = (tmp_path / "kubectl.argv").read_text().splitlines()
    assert "secret" not in "".join(words)
    assert "secret" in (tmp_path / "kubectl.stdin").read_text()
    assert all("--context here" in line for line in words[1:])
    assert sum(line.startswith("apply --server-side --field-manager=scaffold -f -") for line in words) == 1


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"current-context": "a", "clusters": []}', "x"])
def test_a_kubectl_that_answers_anything_is_no_traceback(tmp_path, monkeypatch, answer):
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="kubectl has no current context"):
        Kubectl.find()
