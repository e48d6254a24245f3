"""`scaffold deploy` into clusters, as it is typed: which options it takes, what follows, what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import click
import pytest
import yaml
from support import wasm_asm
from support.clusters import cluster, kubeconfig
from support.commands import entered, error
from support.faulty_registry import faulty

from scaffold.cli.commands import cli
from scaffold.commands.push import push
from scaffold.hosts.background import deployments
from scaffold.hosts.host import HOSTS
from scaffold.hosts.options import RunOptions
from scaffold.kubernetes import applied
from scaffold.kubernetes.documents import MANIFESTS
from scaffold.kubernetes.options import CLUSTERS, PULLING, ClusterOptions
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS
from scaffold.toolchain.options import BuildOptions

pytestmark = pytest.mark.usefixtures("home")

MODULE = wasm_asm.plugin()
OTHER = MODULE + wasm_asm.custom("more", b"x")
PLUGIN = "/apis/extensions.istio.io/v1alpha1/namespaces/shop/wasmplugins/hello-world"
SHOP = ("--selector", "app=web", "--namespace", "shop", "--wait", "0")


@pytest.fixture
def registry():
    with faulty() as running:
        yield running


@pytest.fixture
def project(tmp_path):
    """A folder to deploy from: an image needs no crate."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def keep(name, module=MODULE, variant="compat"):
    """Make an image of the local store."""
    Store().add(VARIANTS[variant](module, PluginInfo("hello_world")), Reference.parse(name))


@pytest.fixture
def pushed(registry):
    """An image in a registry, and not here any more: its name with the digest of its manifest."""
    name = f"{registry.name}/acme/hello:1"
    keep(name)
    pin = push(name).pin
    Store().remove([Reference.parse(name)])
    registry.seen.clear()
    return pin


# --- the table, and what each target takes


def test_every_cluster_is_one_that_can_be_deployed_to():
    assert set(PULLING) < set(CLUSTERS) == set(MANIFESTS) - {"envoy"}
    assert not set(CLUSTERS) & set(HOSTS)


FOR_CLUSTERS = {
    "name": "a",
    "namespace": "a",
    "selector": "a=b",
    "target_ref": "Gateway/a",
    "whole_namespace": None,
    "phase": "authn",
    "priority": "0",
    "match": "server",
    "failure_policy": "fail-open",
    "pull_secret": "a",
    "istio": "1.27",
    "traffic_extension": None,
    "url": "https://modules.example/a.wasm",
    "file": "/a.wasm",
    "plain_http": None,
    "context": "a",
    "dry_run": None,
    "wait": "0",
}
FOR_HOSTS = {
    "port": "0",
    "log_level": "info",
    "bootstrap": "a.yaml",
    "envoy_args": "-l debug",
    "id": "a",
    "envoy_image": "envoyproxy/envoy:v1.36.4",
    "docker_args": "--init",
    "keep_host": None,
    "changes": None,
    "tls": None,
    "tls_cert": "a.pem",
    "tls_key": "a.pem",
}
FOR_BOTH = {
    *("root", "config", "root_id", "env", "vm_config", "allow_stop_iteration", "upstream", "envoy"),
    *("probe", "no_probe", "reset", "json"),
    *(field.name for field in dataclasses.fields(BuildOptions)),
}


def typed(options, name):
    value = options[name]
    return [f"--{name.replace('_', '-')}", *([] if value is None else [value])]


def test_every_option_is_for_hosts_or_clusters_or_both():
    options = {param.name for param in cli.commands["deploy"].params if isinstance(param, click.Option)}
    assert options == {*FOR_CLUSTERS, *FOR_HOSTS, *FOR_BOTH}


def test_help_lists_what_is_for_some_targets_under_headings(capsys):
    sections = re.split(r"^(\S.*):\n", entered(capsys, "deploy", "--help").out, flags=re.MULTILINE)[1:]
    listed = {
        title: {name.replace("-", "_") for name in re.findall(r"^  (?:-\w, )?--([\w-]+)", text, re.MULTILINE)}
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    everywhere, here, envoy, docker, *clusters = listed.values()
    assert next(iter(listed)) == "Options"
    assert (envoy, docker) == ({"envoy"}, {"envoy_image", "docker_args"})
    assert here | docker == {*FOR_HOSTS, "upstream"}
    assert set().union(*clusters) == set(FOR_CLUSTERS)
    assert everywhere == {*FOR_BOTH, "help"} - {"upstream", "envoy"}


@pytest.mark.parametrize("kind", [BuildOptions, ClusterOptions, RunOptions])
def test_an_option_is_declared_once_by_its_field(kind):
    """The command line's names and defaults are the fields'."""
    homes = {BuildOptions: "build", ClusterOptions: "manifest", RunOptions: "run"}
    params = {
        param.name: param for command in (homes[kind], "deploy") for param in cli.commands[command].params
    }
    for field in dataclasses.fields(kind):
        param = params[field.name]
        assert f"--{field.name.replace('_', '-')}" in param.opts
        given = param.get_default(click.Context(cli))
        assert (tuple(given) if param.multiple and given else given or None) == (field.default or None)


@pytest.mark.parametrize("target", HOSTS)
@pytest.mark.parametrize("name", FOR_CLUSTERS)
def test_a_host_refuses_what_is_for_clusters(target, name, tmp_path, project, capsys):
    module = tmp_path / "a.wasm"
    module.write_bytes(MODULE)
    words = typed(FOR_CLUSTERS, name)
    ran = entered(capsys, "deploy", target, module, "--root", project, *words)
    hint = "leave it out, or choose a control plane: istio, istio-envoyfilter, envoy-gateway, higress"
    assert ran.err == error(f"{words[0]} isn't supported for `{target}`", hint)
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize("name", FOR_HOSTS)
@pytest.mark.parametrize("target", CLUSTERS)
def test_a_cluster_refuses_what_is_for_hosts(target, name, here, pushed, registry, project, capsys):
    words = typed(FOR_HOSTS, name)
    ran = entered(capsys, "deploy", target, pushed, "--root", project, *words)
    message = f"{words[0]} isn't supported for `{target}`"
    assert ran.err == error(message, "leave it out, or choose envoy or docker")
    assert (ran.code, ran.out) == (2, "")
    assert here.seen == [] and registry.seen == []


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--upstream", "http://web"], "--upstream isn't supported for `istio`", "leave it out"),
        (
            ["--allow-stop-iteration"],
            "--allow-stop-iteration isn't supported for `istio`",
            "use the target `istio-envoyfilter`: a WasmPlugin has no such field",
        ),
        (
            ["--istio", "1.26", "--failure-policy", "fail-reload"],
            "fail-reload in a WasmPlugin needs Istio 1.27, and this is for 1.26",
            "pass --istio 1.27 if that runs there, or leave it out",
        ),
    ],
)
def test_what_a_cluster_cannot_take_is_said_before_anybody_is_asked(
    words, message, hint, here, pushed, registry, project, capsys
):
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *words, *SHOP)
    assert (ran.code, ran.out, ran.err) == (2, "", error(message, hint))
    assert here.seen == [] and registry.seen == []


# --- all is well


def test_it_is_applied_as_it_is_printed_and_shown_and_taken_away(here, pushed, project, capsys):
    printed = entered(capsys, "manifest", "istio", pushed, *SHOP[:4], "--priority", "3")
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, "--priority", "3", *SHOP)
    assert ran.code == 0, ran.err
    (change,) = here.changes()
    assert (change.method, change.path) == ("PATCH", PLUGIN)
    assert yaml.safe_load(change.body) == yaml.safe_load(printed.out)
    digest = pushed.partition("@")[2]
    assert ran.out.startswith("WasmPlugin shop/hello-world: applied to the context here\n")
    assert f"  manifest digest  {digest}\n" in ran.out
    assert f"kubectl's context is here ({here.url}), the namespace shop\n" in ran.err

    shown = entered(capsys, "status", "--root", project)
    silent = "the cluster accepted it; Istio reports nothing, as its analysis isn't enabled"
    assert f"  checked          {silent}\n" in ran.out
    assert (shown.code, shown.out.partition("\n")[0]) == (
        0,
        f"WasmPlugin shop/hello-world: applied: {silent}",
    )
    ended = entered(capsys, "undeploy", "--root", project)
    assert (ended.code, ended.out) == (0, "WasmPlugin shop/hello-world removed from the context here\n")
    assert PLUGIN not in here.objects
    for command in ("status", "undeploy"):
        ran = entered(capsys, command, "--root", project)
        assert (ran.code, ran.out, ran.err) == (0, "", f"nothing is deployed from {project}\n")


SEEN = {  # of its being accepted
    "istio": "the cluster accepted it; Istio reports nothing",
    "istio-envoyfilter": "the cluster accepted it; Istio reports nothing",
    "envoy-gateway": "Envoy Gateway accepted it for Gateway public",
    "higress": "the cluster accepted it; Higress doesn't report",
}


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("istio", "WasmPlugin", ["--whole-namespace"]),
        (
            "istio-envoyfilter",
            "EnvoyFilter",
            ["--whole-namespace", "--url", "https://modules.example/a.wasm"],
        ),
        ("envoy-gateway", "EnvoyExtensionPolicy", ["--target-ref", "Gateway/public"]),
        ("higress", "WasmPlugin", ["--whole-namespace"]),
    ],
)
def test_every_cluster_gets_its_resource_and_the_result_is_json(
    target, kind, words, here, pushed, project, capsys
):
    condition = {"type": "Accepted", "status": "True"}
    ancestor = {"ancestorRef": {"kind": "Gateway", "name": "public"}, "conditions": [condition]}
    here.control_plane = lambda resource: {"ancestors": [ancestor]} if target == "envoy-gateway" else None
    ran = entered(capsys, "deploy", target, pushed, "--root", project, "--wait", "0", "--json", *words)
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert (record["target"], record["kind"], record["context"]) == (target, kind, "here")
    assert record["checked"].startswith(SEEN[target])
    assert here.named("hello-world")["kind"] == kind


def test_configuration_root_id_and_name_are_those_that_were_typed(here, pushed, project, capsys):
    words = ["--config", '{"a": 1}', "--root-id", "r", "--name", "mine"]
    assert entered(capsys, "deploy", "istio", pushed, "--root", project, *words, *SHOP).code == 0
    spec = here.named("mine")["spec"]
    assert (spec["pluginConfig"], spec["pluginName"]) == ({"a": 1}, "r")


def test_a_dry_run_leaves_nothing_behind(here, pushed, project, capsys):
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, "--dry-run", *SHOP)
    assert ran.out.startswith("WasmPlugin shop/hello-world: would be applied to the context here\n")
    assert PLUGIN not in here.objects
    assert entered(capsys, "status", "--root", project).out == ""


def test_all_is_of_every_project_and_every_cluster(here, home, pushed, tmp_path, capsys):
    one, two, elsewhere = (tmp_path / name for name in ("one", "two", "elsewhere"))
    for folder in (one, two, elsewhere):
        folder.mkdir()
    with cluster("shop") as other:
        kubeconfig(home / "config", {"here": here.url, "there": other.url}, "here")
        for folder, context in ((one, "here"), (two, "there")):
            words = ["--name", folder.name, "--context", context]
            assert entered(capsys, "deploy", "istio", pushed, "--root", folder, *words, *SHOP).code == 0
        assert entered(capsys, "status", "--root", elsewhere).out == ""
        ran = entered(capsys, "status", "--root", elsewhere, "--all", "--json")
        assert {(each["applied"]["context"], each["state"]) for each in json.loads(ran.out)} == {
            ("here", "applied"),
            ("there", "applied"),
        }
        ran = entered(capsys, "undeploy", "--root", elsewhere, "--all", "--json")
        assert {each["root"] for each in json.loads(ran.out)} == {str(one), str(two)}
        for running, name in ((here, "one"), (other, "two")):
            with pytest.raises(ValueError):
                running.named(name)


def test_a_cluster_that_is_gone_keeps_no_other_from_being_cleared(here, home, pushed, tmp_path, capsys):
    for name, context in (("one", "gone"), ("two", "here"), ("three", "gone")):
        (tmp_path / name).mkdir()
        kubeconfig(home / "config", {context: here.url}, context)
        words = ("deploy", "istio", pushed, "--root", tmp_path / name, "--name", name, *SHOP)
        assert entered(capsys, *words).code == 0
    kubeconfig(home / "config", {"here": here.url}, "here")
    ran = entered(capsys, "undeploy", "--root", tmp_path, "--all")
    assert (ran.code, ran.out) == (2, "")
    assert "Removing WasmPlugin shop/two" in ran.err
    assert ran.err.count("kubectl has no context `gone`") == 2
    assert not [path for path in here.objects if path.endswith("/two")]
    assert [len(applied.load(tmp_path / name)) for name in ("one", "two", "three")] == [1, 0, 1]
    record = Path(ran.err.rpartition("remove it from ")[2].strip())
    assert json.loads(record.read_text())[0]["name"] in ("one", "three")


def test_a_local_error_keeps_no_cluster_from_being_cleared(here, pushed, tmp_path, capsys):
    """Its first error is the exit code; what was done is said all the same."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        words = ("deploy", "istio", pushed, "--root", tmp_path / name, "--name", name, *SHOP)
        assert entered(capsys, *words).code == 0
    broken = [deployments.folder(tmp_path / name) for name in ("one", "two")]
    for folder in broken:
        folder.mkdir(parents=True)
        (folder / deployments.RECORD).write_text("{}")
        folder.with_suffix(".lock").mkdir()
    ran = entered(capsys, "undeploy", "--root", tmp_path, "--all")
    assert (ran.code, ran.out) == (4, "")
    locks = sorted(f"{folder}.lock" for folder in broken)
    assert f"error: cannot lock {locks[0]}" in ran.err
    assert f"warning: cannot lock {locks[1]}" in ran.err
    for name in ("one", "two"):
        assert f"WasmPlugin shop/{name} removed from the context here\n" in ran.err
        assert applied.load(tmp_path / name) == []
    assert not [path for path in here.objects if "wasmplugins" in path]


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("istio", "`kubectl --context here logs --namespace shop --container istio-proxy POD`"),
        ("higress", "`kubectl --context here logs --namespace NAMESPACE POD`"),
    ],
)
def test_the_log_of_what_runs_in_a_cluster_is_there(target, hint, here, pushed, project, capsys):
    words = {"istio": SHOP, "higress": ("--whole-namespace", "--wait", "0")}[target]
    assert entered(capsys, "deploy", target, pushed, "--root", project, *words).code == 0
    ran = entered(capsys, "logs", "--root", project)
    (made,) = applied.load(project)
    assert (ran.code, ran.out) == (9, "")
    assert ran.err == error(f"{made.resource}: in a cluster the proxies keep the log", hint)


# --- a stand-in for kubectl, which records what it is given


STAND_IN = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.argv"
case "$*" in
"config view"*) echo '{"current-context": "here", "clusters": [{"cluster": {"server": "https://k:6443"}}]}' ;;
"get namespace"*) echo namespace/shop ;;
apply*) cat > "$0.stdin"; touch "$0.there" ;;
get*) test -e "$0.there" && echo '{"metadata": {"uid": "1", "labels": {}}}' ;;
delete*) rm "$0.there" ;;
esac
true
"""


def test_what_the_users_kubectl_is_told(pushed, project, tmp_path, monkeypatch, capsys):
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}/usr/bin:/bin")
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *SHOP)
    assert ran.code == 0, ran.err
    assert entered(capsys, "undeploy", "--root", project).code == 0
    words = program.with_name("kubectl.argv").read_text().splitlines()
    resource = "WasmPlugin.v1alpha1.extensions.istio.io hello-world --namespace shop"
    always = "--context here --request-timeout=15s"
    assert [line for line in words if line.startswith(("apply", "delete"))] == [
        f"apply --server-side --field-manager=scaffold -f - {always}",
        f"delete {resource} --ignore-not-found {always}",
    ]
    document = yaml.safe_load(program.with_name("kubectl.stdin").read_text())
    assert document["spec"]["sha256"] == pushed.partition("@sha256:")[2]


# --- bad input: nothing is asked, or nothing is applied


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--selector", "web"], "`web` isn't a label", "write it like key=value"),
        (
            ["--selector", "app=-web"],
            "`-web` isn't a valid value for the label `app`",
            "use letters and digits, with `-`, `_` and `.` between them, at most 63",
        ),
        (["--target-ref", "Gateway"], "`Gateway` isn't a target reference", "write it like Gateway/public"),
        (["--namespace", "Shop"], "`Shop` isn't a valid namespace name", None),
        (["--istio", "new"], "--istio new: that isn't a version", "for example --istio 1.30"),
        (["--config", "[1"], "--config is neither a file nor JSON", None),
        (
            ["--selector", "a=b", "--probe", "/headers"],
            "--probe /headers isn't a valid HTTP URL",
            "write it like http://gateway.example.com/",
        ),
    ],
)
def test_what_was_mistyped_is_said_before_anybody_is_asked(
    words, message, hint, here, pushed, registry, project, capsys
):
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}")
    assert hint is None or ran.err == error(message, hint)
    assert here.seen == [] and registry.seen == []


def test_a_target_without_a_selector_says_what_it_would_apply_to(here, pushed, registry, project, capsys):
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, "--namespace", "shop")
    message = "no option says where it applies: it would apply to every proxy in `shop`"
    hint = "pass --selector app=NAME or --target-ref Gateway/NAME, or --whole-namespace for all of them"
    assert (ran.code, ran.out, ran.err) == (2, "", error(message, hint))
    assert here.seen == [] and registry.seen == []


def test_a_target_that_there_is_not(project, capsys):
    ran = entered(capsys, "deploy", "istoi", "--root", project)
    assert (ran.code, ran.err) == (2, error("no target named `istoi`", "did you mean `istio`?"))


def test_a_project_without_an_image_is_told_how_to_make_one(here, project, capsys):
    (project / "Cargo.toml").write_text(
        '[package]\nname = "a"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'
    )
    ran = entered(capsys, "deploy", "istio", "--root", project, *SHOP)
    message = "`istio` gets plugins from a registry, and no image is named"
    hint = "`scaffold package`, `scaffold push`, then name the image; or pass --url"
    assert (ran.code, ran.err) == (2, error(message, hint))


def test_a_tag_that_moved_since_it_was_pinned(here, pushed, project, capsys):
    name, _, digest = pushed.partition("@")
    keep(name, OTHER)
    now = push(name).manifest_digest
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *SHOP)
    assert (ran.code, ran.out) == (2, "")
    assert f"error: `{name}` has moved since it was pinned: it is {now} now\n" in ran.err
    assert f"@{digest}` is the pinned image" in ran.err
    assert here.changes() == []


def test_an_image_that_was_not_pushed(here, registry, project, capsys):
    name = f"{registry.name}/acme/hello:1"
    keep(name)
    ran = entered(capsys, "deploy", "istio", name, "--root", project, *SHOP)
    assert (ran.code, ran.out) == (7, "")
    assert ran.err.endswith(f"\nhint: `scaffold push {name}`\n")
    assert here.changes() == []


@pytest.mark.parametrize("target", ["istio", "envoy-gateway", "higress"])
def test_an_image_that_the_target_cannot_load(target, here, registry, project, capsys):
    name = f"{registry.name}/acme/hello:1"
    keep(name, variant="cncf")
    push(name)
    scope = {"istio": SHOP, "envoy-gateway": ("--target-ref", "Gateway/a"), "higress": ("--whole-namespace",)}
    ran = entered(capsys, "deploy", target, name, "--root", project, *scope[target])
    assert (ran.code, ran.out) == (6, "")
    assert f"is of the variant `cncf`, which `{target}` can't load\n" in ran.err
    assert ran.err.endswith("\nhint: run `scaffold package --variant compat`, then push that image\n")
    assert here.changes() == []


def test_without_kubectl(pushed, project, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *SHOP)
    assert (ran.code, ran.out) == (4, "")
    assert "error: there is no kubectl on PATH\n" in ran.err


def test_a_cluster_that_refuses(here, pushed, project, capsys):
    words = 'wasmplugins.extensions.istio.io is forbidden: User "me" cannot patch resource'
    here.refuse = lambda seen: (403, "Forbidden", words) if seen.method == "PATCH" else None
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *SHOP)
    assert (ran.code, ran.out) == (9, "")
    assert "error: the cluster of the context `here` doesn't permit that: " in ran.err
    assert PLUGIN not in here.objects
    assert entered(capsys, "status", "--root", project).err == f"nothing is deployed from {project}\n"


def test_a_namespace_that_there_is_not(here, pushed, project, capsys):
    words = ("--selector", "app=web", "--namespace", "nowhere")
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith(
        error(
            "the cluster of the context `here` has no namespace `nowhere`",
            "`kubectl create namespace nowhere`, or pass another --namespace",
        )
    )
    assert here.changes() == []


def test_a_plugin_that_does_not_answer_stays_applied_and_is_an_error(here, pushed, project, capsys):
    probe = ("--probe", "http://127.0.0.1:1/")
    ran = entered(capsys, "deploy", "istio", pushed, "--root", project, *probe, *SHOP)
    assert (ran.code, ran.out) == (9, "")
    assert "http://127.0.0.1:1/ doesn't answer: nothing answers there\n" in ran.err
    assert PLUGIN in here.objects
    assert entered(capsys, "undeploy", "--root", project).code == 0
    assert PLUGIN not in here.objects


def test_a_file_in_the_targets_place_is_named_for_what_it_is(project, capsys, monkeypatch):
    """The hint to put `envoy` before it is given only if that would work."""
    monkeypatch.chdir(project)
    (project / "libhello.so").write_bytes(b"\x7fELF\x02\x01")
    ran = entered(capsys, "deploy", "libhello.so")
    assert ran.code == 6
    assert "a program or library for this kind of machine, not for wasm" in ran.err
    (project / "component").write_bytes(b"\0asm\x0d\x00\x01\x00")
    ran = entered(capsys, "deploy", "component")
    assert ran.code == 6
    assert "compile for wasm32-wasip1, not wasm32-wasip2" in ran.err
    (project / "hello.wasm").write_bytes(MODULE)
    ran = entered(capsys, "deploy", "hello.wasm")
    hint = "run `scaffold deploy envoy hello.wasm`"
    assert (ran.code, ran.err) == (2, error("`hello.wasm` is a module or an image, not a target", hint))


def test_a_file_with_a_targets_name_is_in_nobodys_way(project, capsys, monkeypatch):
    monkeypatch.chdir(project)
    (project / "envoy").write_bytes(b"\x7fELF")
    ran = entered(capsys, "deploy", "envoy")
    assert "no Cargo.toml in the current folder" in ran.err
