from pathlib import Path

import pytest
from support.envoy_filters import plugin_filter

from scaffold.core.versions import Version
from scaffold.errors import UsageError
from scaffold.hosts.envoy.resources import (
    FILTER,
    TYPES,
    bootstrap,
    cluster,
    ecds_filter,
    ecds_response,
    for_development,
    listener,
    socket_address,
    tcp_listener,
)
from scaffold.hosts.envoy.run_folder import Folder, wasm
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import UPSTREAM, Address
from scaffold.wasm.module import WasmModule

ANY_MODULE = WasmModule(Path("/p.wasm"), 1, "0.2.1", "sha256:0", {})


@pytest.mark.parametrize(
    ("version", "reloads"),
    [((1, 32, 99), False), ((1, 33), True), ((1, 33, 0), True), ((1, 40, 0), True), ((2, 0), True)],
)
def test_a_plugin_that_panicked_is_reloaded_where_envoy_can(version, reloads):
    policy = plugin_filter(version=version)["config"].get("failure_policy")
    assert policy == ("FAIL_RELOAD" if reloads else None)


def test_without_a_configuration_there_is_none():
    assert "configuration" not in plugin_filter()["config"]


@pytest.mark.parametrize(
    ("content", "kind", "value"),
    [
        (b'{"a": 1}', "StringValue", '{"a": 1}'),
        ("ö\0\r\n".encode(), "StringValue", "ö\0\r\n"),
        (b"\xff\0", "BytesValue", "/wA="),
    ],
)
def test_a_configuration_goes_as_text_where_it_is_text(content, kind, value):
    made = plugin_filter(configuration=content)["config"]["configuration"]
    assert made == {"@type": f"type.googleapis.com/google.protobuf.{kind}", "value": value}


def filter_of(version=(1, 40, 0), **fields):
    return wasm(Plugin("p", "", ANY_MODULE, **fields), "/p.wasm", Version(version))


def test_a_vm_gets_what_its_plugin_is_given():
    plugin = filter_of(env=("A=1", "B", "C="), vm_configuration=b"vm")["config"]
    assert plugin["vm_config"]["environment_variables"] == {
        "host_env_keys": ["B"],
        "key_values": {"A": "1", "C": ""},
    }
    assert plugin["vm_config"]["configuration"]["value"] == "vm"
    assert "environment_variables" not in filter_of()["config"]["vm_config"]


def test_another_environment_is_another_vm():
    """Envoy 1.36 would let the new filter share the old one's VM, and its environment."""
    given = [(), ("A=1",), ("A=2",), ("A=1",)]
    without, first, second, again = [filter_of(env=env)["config"]["vm_config"]["vm_id"] for env in given]
    assert without == ""
    assert len({without, first, second}) == 3
    assert first == again


@pytest.mark.parametrize(
    ("options", "version", "message"),
    [
        ({"env": ("A",)}, (1, 17), "--env needs Envoy 1.18, and this is for 1.17"),
        (
            {"allow_stop_iteration": True},
            (1, 34, 2),
            "allow_on_headers_stop_iteration needs Envoy 1.35, and this is for 1.34.2",
        ),
        (
            {"allow_stop_iteration": True, "type": "network"},
            (1, 40),
            "--allow-stop-iteration is for HTTP plugins, and this is a network plugin",
        ),
    ],
)
def test_what_this_envoy_or_plugin_cannot_have_is_refused(options, version, message):
    with pytest.raises(UsageError) as refused:
        filter_of(version=version, **options)
    assert refused.value.message == message


def test_a_plugin_may_hold_back_headers_alone():
    assert filter_of(allow_stop_iteration=True)["config"]["allow_on_headers_stop_iteration"] is True
    assert "allow_on_headers_stop_iteration" not in filter_of()["config"]


def test_an_address_is_a_socket_or_a_host_and_port():
    assert socket_address(Address(pipe="/run/s")) == {"pipe": {"path": "/run/s"}}
    assert socket_address(Address("::1", 80)) == {"socket_address": {"address": "::1", "port_value": 80}}


@pytest.mark.parametrize(
    ("enclosed", "mode"), [(False, 0o600), (True, 0o666)], ids=["here", "in a container"]
)
def test_the_admin_interface_is_a_socket_in_our_folder(enclosed, mode, tmp_path):
    folder = Folder(tmp_path, enclosed=enclosed)
    pipe = folder.make_bootstrap(HostSettings(), {UPSTREAM: Address()})["admin"]["address"]["pipe"]
    assert pipe == {"path": folder.within(tmp_path / "writable/admin.sock"), "mode": mode}


def test_a_printed_bootstrap_has_no_admin_interface():
    assert "admin" not in bootstrap(listeners=[], clusters=[])


def test_the_router_comes_last():
    made = listener(host="127.0.0.1", port=0, filters=[{"name": "a"}, {"name": "b"}], log="/dev/null")
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    assert [each["name"] for each in manager["http_filters"]] == ["a", "b", "envoy.filters.http.router"]


@pytest.mark.parametrize("kind", ["http", "network"])
def test_the_listener_looks_for_the_resource_that_the_file_brings(kind):
    response = ecds_response(plugin_filter(kind=kind), "7")
    slot = ecds_filter("/filter.json", kind=kind)
    assert response["version_info"] == "7"
    assert [each["name"] for each in response["resources"]] == [slot["name"]] == [FILTER]
    (brought,) = response["resources"]
    assert slot["config_discovery"]["type_urls"] == [brought["typed_config"]["@type"]] == [TYPES[kind]]


def test_a_request_goes_to_the_cluster_that_its_header_names_else_upstream():
    made = listener(host="127.0.0.1", port=0, filters=[], clusters=["beta", "authz"])
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    (everybody,) = manager["route_config"]["virtual_hosts"]
    asked = [
        (route["match"].get("headers", [{}])[0].get("string_match"), route["route"]["cluster"])
        for route in everybody["routes"]
    ]
    assert asked == [({"exact": "beta"}, "beta"), ({"exact": "authz"}, "authz"), (None, UPSTREAM)]


def test_a_tcp_listener_ends_in_the_upstream_or_is_an_echo():
    where = {"host": "127.0.0.1", "port": 0, "filters": [{"name": "a"}]}
    ours, end = tcp_listener(**where, log="/dev/null")["filter_chains"][0]["filters"]
    assert (ours["name"], end["typed_config"]["cluster"]) == ("a", UPSTREAM)
    assert end["typed_config"]["access_log"]
    ours, end = tcp_listener(**where, echo=True)["filter_chains"][0]["filters"]
    assert (ours["name"], end["name"]) == ("a", "envoy.filters.network.echo")


def test_a_cluster_that_is_nowhere_has_no_host():
    assert "endpoints" not in cluster("a", Address())["load_assignment"]


# --- who may reach it, and when it ends


def generated(tmp_path, **options):
    return Folder(tmp_path).make_bootstrap(HostSettings(port=8080, **options), {UPSTREAM: Address()})


@pytest.mark.parametrize("kind", ["http", "network"])
def test_the_listener_is_on_this_machine_alone_and_for_one_envoy(tmp_path, kind):
    (made,) = generated(tmp_path, types=(kind,))["static_resources"]["listeners"]
    assert made["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}
    assert made["enable_reuse_port"] is False


def test_a_plugin_that_loops_is_ended_within_seconds_and_a_stuck_main_thread_within_a_minute(tmp_path):
    watchdogs = generated(tmp_path)["watchdogs"]
    assert watchdogs["worker_watchdog"]["kill_timeout"] == "2s"
    assert watchdogs["main_thread_watchdog"]["kill_timeout"] == "60s"


def test_many_requests_at_once_get_through(tmp_path):
    for made in generated(tmp_path)["static_resources"]["clusters"]:
        (limits,) = made["circuit_breakers"]["thresholds"]
        assert min(limits.values()) >= 1_000_000
        assert set(limits) == {"max_connections", "max_pending_requests", "max_requests"}


def test_a_request_keeps_its_id_and_may_become_a_websocket():
    made = listener(host="127.0.0.1", port=0, filters=[])
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["preserve_external_request_id"] is True
    assert manager["upgrade_configs"] == [{"upgrade_type": "websocket"}]


# --- TLS to an upstream


@pytest.mark.parametrize(
    ("host", "kind", "sni"),
    [("api.example", "DNS", "api.example"), ("192.0.2.1", "IP_ADDRESS", None), ("::1", "IP_ADDRESS", None)],
)
def test_an_upstreams_certificate_must_be_for_its_name_and_by_a_known_authority(host, kind, sni):
    made = cluster("a", Address(host, 443, tls="/ca.pem"))["transport_socket"]["typed_config"]
    assert made.get("sni") == sni
    assert made["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": "/ca.pem"},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": host}}],
    }


@pytest.mark.parametrize("http2", [False, True])
def test_http_2_is_spoken_where_it_is_asked_for(http2):
    options = cluster("a", Address("h", 80, http2=http2)).get("typed_extension_protocol_options", {})
    spoken = [each["explicit_http_config"] for each in options.values()]
    assert spoken == ([{"http2_protocol_options": {}}] if http2 else [])


def test_trailers_pass_over_http1_on_a_developers_machine_alone():
    made = bootstrap(
        listeners=[listener(host="127.0.0.1", port=0, filters=[])],
        clusters=[cluster("a", Address("a", 1)), cluster("b", Address("b", 1, http2=True))],
    )
    manager = made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert "http_protocol_options" not in manager
    for_development(made)
    assert manager["http_protocol_options"] == {"enable_trailers": True}
    protocols = [
        next(iter(each["typed_extension_protocol_options"].values()))["explicit_http_config"]
        for each in made["static_resources"]["clusters"]
    ]
    assert protocols == [{"http_protocol_options": {"enable_trailers": True}}, {"http2_protocol_options": {}}]
