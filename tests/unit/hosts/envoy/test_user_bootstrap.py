"""A bootstrap made ready for other places: any port, or a container. The rest is in e2e/test_bootstrap.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaffold.errors import ProjectError
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.envoy import user_bootstrap as envoy_bootstrap
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.options import HostSettings


def at(address, port):
    return {"address": {"socket_address": {"address": address, "port_value": port}}}


def bootstrap(*listeners, admin):
    return {"static_resources": {"listeners": list(listeners)}, "admin": admin}


PIPE = {"address": {"pipe": {"path": "/a"}}}


def test_in_a_container_every_listener_is_on_all_addresses_and_a_port_of_its_own():
    given = bootstrap(at("127.0.0.1", 80), at("::1", 0), at("10.0.0.1", 10000), admin=at("127.0.0.1", 0))
    opened, asked = envoy_bootstrap.open_up(given)
    wanted = bootstrap(at("0.0.0.0", 80), at("::", 10001), at("0.0.0.0", 10000), admin=at("0.0.0.0", 10002))
    assert opened == wanted
    assert list(asked.items()) == [(80, 80), (10001, 0), (10000, 10000), (10002, 0)]
    assert given["admin"] == at("127.0.0.1", 0), "what was given is as it was"


def test_what_listens_on_no_port_stays_and_is_not_published():
    for odd in (PIPE, at("a", "http"), {"address": 1}, {}):
        given = bootstrap(odd, admin=at("127.0.0.1", 9901))
        opened, asked = envoy_bootstrap.open_up(given)
        assert opened["static_resources"] == given["static_resources"]
        assert asked == {9901: 9901}


def test_elsewhere_is_every_port_0_and_no_socket_of_theirs(tmp_path):
    given = bootstrap(at("127.0.0.1", 80), PIPE, admin=at("127.0.0.1", 9901))
    moved = {"address": {"pipe": {"path": str(tmp_path / "listener1.sock")}}}
    wanted = {"static_resources": {"listeners": [at("127.0.0.1", 0), moved]}}
    assert envoy_bootstrap.elsewhere(given, tmp_path) == wanted
    assert envoy_bootstrap.elsewhere(given | {"admin": None}, tmp_path) == wanted


@pytest.mark.parametrize("value", [None, {}, {"address": None}, {"access_log": []}], ids=str)
def test_an_admin_interface_without_an_address_gets_ours(value, tmp_path):
    path = tmp_path / "envoy.json"
    listener = {"address": {"socket_address": {"address": "::1", "port_value": 0}}}
    listener["filter_chains"] = [chain(envoy_bootstrap.MANAGER)]
    router = {"name": "r", "typed_config": {"@type": envoy_bootstrap.ROUTER}}
    listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"] = [router]
    path.write_text(json.dumps({"static_resources": {"listeners": [listener]}, "admin": value}))
    made = Folder(tmp_path).make_bootstrap(HostSettings(bootstrap=str(path)), {})
    assert made["admin"]["address"]["pipe"]["path"] == str(tmp_path / "writable/admin.sock")


@pytest.mark.parametrize("value", ["x", [1], {"address": "127.0.0.1:9901"}], ids=str)
def test_what_is_no_admin_interface_is_refused(value, tmp_path):
    with pytest.raises(ProjectError, match=f"the `admin` of {tmp_path} isn't an admin interface"):
        envoy_bootstrap.admin({"admin": value}, tmp_path)


def chain(*kinds):
    return {"filters": [{"name": kind, "typed_config": {"@type": kind}} for kind in kinds]}


OURS = envoy_config.Chain(http=[], network=[{"name": "ours"}])


def inserted(listener, filters=OURS):
    given = {"static_resources": {"listeners": [listener]}}
    made = envoy_bootstrap.insert(given, filters, access_log="/a.log", source=Path("mine"))
    return made["static_resources"]["listeners"][0]


def test_a_network_filter_goes_before_every_tcp_proxy():
    proxy = envoy_config.TCP_PROXY
    made = inserted(
        {"filter_chains": [chain("rbac", proxy), chain("web")], "default_filter_chain": chain(proxy)}
    )
    names = [[each["name"] for each in one["filters"]] for one in made["filter_chains"]]
    assert names == [["rbac", "ours", proxy], ["web"]]
    last = made["default_filter_chain"]["filters"]
    assert [each["name"] for each in last] == ["ours", proxy]
    assert last[1]["typed_config"]["access_log"] == [envoy_config.access_log("/a.log")]


def test_a_chain_goes_before_the_router_and_its_network_filters_before_the_manager():
    web = chain("rbac", envoy_bootstrap.MANAGER)
    web["filters"][1]["typed_config"]["http_filters"] = chain("cors", envoy_bootstrap.ROUTER)["filters"]
    names = ["first", "second", "third", "fourth"]
    mixed = envoy_config.Chain.of([{"name": name} for name in names], ["http", "network", "http", "network"])
    assert mixed.kind == "http"
    (made,) = inserted({"filter_chains": [web]}, mixed)["filter_chains"]
    assert [each["name"] for each in made["filters"]] == ["rbac", "second", "fourth", envoy_bootstrap.MANAGER]
    manager = made["filters"][-1]["typed_config"]
    assert [each["name"] for each in manager["http_filters"]] == [
        "cors",
        "first",
        "third",
        envoy_bootstrap.ROUTER,
    ]


def test_the_network_filters_of_a_chain_go_before_tcp_proxies_too():
    proxy = envoy_config.TCP_PROXY
    web = chain(envoy_bootstrap.MANAGER)
    web["filters"][0]["typed_config"]["http_filters"] = chain(envoy_bootstrap.ROUTER)["filters"]
    mixed = envoy_config.Chain([{"name": "http"}], [{"name": "guard"}])
    made = inserted({"filter_chains": [web, chain(proxy)]}, mixed)["filter_chains"]
    names = [[each["name"] for each in one["filters"]] for one in made]
    assert names == [["guard", envoy_bootstrap.MANAGER], ["guard", proxy]]


def test_without_a_tcp_proxy_there_is_no_place_for_a_network_filter():
    with pytest.raises(ProjectError) as caught:
        inserted({"filter_chains": [chain("web")]})
    assert caught.value.message == "mine has no TCP proxy in a static listener"
    assert (caught.value.hint or "").startswith("the filter goes before one;")


def lone(value, *keys):
    """A list in a bootstrap as the one object in it, which Envoy takes for the list."""
    for key in keys:
        (value[key],) = value[key]
        value = value[key]


def web():
    made = chain(envoy_bootstrap.MANAGER)
    made["filters"][0]["typed_config"]["http_filters"] = chain(envoy_bootstrap.ROUTER)["filters"]
    made["filters"][0]["typed_config"]["access_log"] = [{"name": "theirs"}]
    return made


@pytest.mark.parametrize("depth", range(1, 4))
def test_a_lone_object_is_read_as_the_list_that_envoy_takes_it_for(depth):
    filters = envoy_config.Chain([{"name": "ours"}], [])
    static = {"listeners": [at("127.0.0.1", 80) | {"filter_chains": [web()]}]}
    lone(static, *["listeners", "filter_chains", "filters"][:depth])
    made = envoy_bootstrap.insert({"static_resources": static}, filters, access_log="/a", source=Path("mine"))
    (listener,) = made["static_resources"]["listeners"]
    (manager,) = listener["filter_chains"][0]["filters"]
    assert [each["name"] for each in manager["typed_config"]["http_filters"]] == [
        "ours",
        envoy_bootstrap.ROUTER,
    ]
    assert len(manager["typed_config"]["access_log"]) == 2
    opened, asked = envoy_bootstrap.open_up({"static_resources": static})
    assert asked == {80: 80}
    assert envoy_bootstrap.elsewhere(opened, Path("/tmp"))["static_resources"]["listeners"][0]["address"] == {
        "socket_address": {"address": "0.0.0.0", "port_value": 0}
    }


def test_lone_filters_and_logs_of_a_manager():
    made = web()
    lone(made["filters"][0]["typed_config"], "http_filters")
    lone(made["filters"][0]["typed_config"], "access_log")
    listener = inserted({"filter_chains": made}, envoy_config.Chain([{"name": "ours"}], []))
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert [len(manager[key]) for key in ("http_filters", "access_log")] == [2, 2]


# --- a plugin that has its place there already

WASM = envoy_config.TYPES["http"]
LOCAL = {"code": {"local": {"filename": "/etc/envoy/my-plugin.wasm"}}}
STRUCT = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": [1]}}
TEXT = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "text"}
BYTES = {"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": "/w=="}


def wasm(**config):
    return {"name": "envoy.filters.http.wasm", "typed_config": {"@type": WASM, "config": config}}


def with_filters(*filters):
    made = web()
    made["filters"][0]["typed_config"]["http_filters"][0:0] = filters
    return {"filter_chains": [made]}


def theirs(listener):
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return [each["name"] for each in manager["http_filters"]]


SLOT = {"name": "scaffold"}
OURS_ALREADY = [
    wasm(name="my_plugin"),
    wasm(name="x", root_id="my-plugin"),
    wasm(vm_config=LOCAL),
    {
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": WASM,
            "value": {"config": {"name": "my_plugin"}},
        },
    },
]


@pytest.mark.parametrize("own", OURS_ALREADY)
def test_a_plugin_that_is_there_keeps_its_place_and_runs_once(own):
    cors, jwt = {"name": "cors"}, {"name": "jwt"}
    given = {"static_resources": {"listeners": [with_filters(cors, own, jwt), with_filters(cors)]}}
    filters = envoy_config.Chain([SLOT], [])
    made = envoy_bootstrap.insert(given, filters, access_log=None, source=Path("mine"), names=["my_plugin"])
    first, second = made["static_resources"]["listeners"]
    assert theirs(first) == ["cors", "scaffold", "jwt", envoy_bootstrap.ROUTER]
    assert theirs(second) == ["cors", envoy_bootstrap.ROUTER], "where its author didn't put it"


@pytest.mark.parametrize(
    "other", [wasm(name="other"), wasm(), {"name": "my_plugin"}, {"name": "x", "typed_config": 3}]
)
def test_another_plugin_stays(other):
    given = {"static_resources": {"listeners": [with_filters(other)]}}
    made = envoy_bootstrap.insert(
        given, envoy_config.Chain([SLOT], []), access_log=None, source=Path("mine"), names=["my_plugin"]
    )
    assert theirs(made["static_resources"]["listeners"][0]) == [
        other["name"],
        "scaffold",
        envoy_bootstrap.ROUTER,
    ]
    assert envoy_bootstrap.slot_of(given, "http", "my_plugin") is None


@pytest.mark.parametrize(
    ("configuration", "content"),
    [(STRUCT, b'{"a": [1]}'), (TEXT, b"text"), (BYTES, b"\xff"), (None, None), ({"@type": "x.Y"}, None)],
)
def test_what_it_says_there_is_read(configuration, content):
    slot = wasm(name="my_plugin", root_id="r", configuration=configuration)
    given = {"static_resources": {"listeners": with_filters(slot)}}
    found = envoy_bootstrap.slot_of(given, "http", "my-plugin")
    assert (found.root_id, found.configuration) == ("r", content)
    assert isinstance(given["static_resources"]["listeners"], dict), "what was given is as it was"


@pytest.mark.parametrize("kind", ["http", "service", "network"])
def test_the_file_says_as_what_it_runs(kind):
    """A plugin without contexts for requests, for example, is a service for us."""
    given = {"static_resources": {"listeners": [with_filters(wasm(name="my_plugin"))]}}
    found = envoy_bootstrap.slot_of(given, kind, "my_plugin")
    assert found and found.kind == "http"


def test_a_network_plugin_keeps_its_place_too():
    own = {"name": "w", "typed_config": {"@type": envoy_config.TYPES["network"], "config": {"name": "mine"}}}
    listener = {"filter_chains": [{"filters": [own, *chain("rbac", envoy_config.TCP_PROXY)["filters"]]}]}
    made = envoy_bootstrap.insert(
        {"static_resources": {"listeners": [listener]}},
        envoy_config.Chain([], [SLOT]),
        access_log=None,
        source=Path("mine"),
        names=["mine"],
    )
    (filters,) = made["static_resources"]["listeners"][0]["filter_chains"]
    assert [each["name"] for each in filters["filters"]] == ["scaffold", "rbac", envoy_config.TCP_PROXY]


# --- what else we need of it


def completed(**theirs):
    """A bootstrap of the user's, with our filter in it."""
    listener = at("127.0.0.1", 80) | {"filter_chains": [web()]} | theirs.pop("listener", {})
    given = {"static_resources": {"listeners": [listener, {"name": "other"}]}, **theirs}
    before = json.dumps(given)
    filters = envoy_config.Chain([{"name": "ours"}], [])
    made = envoy_bootstrap.insert(given, filters, access_log=None, source=Path("mine"))
    assert json.dumps(given) == before, "what was given is as it was"
    return made


def test_a_plugin_that_loops_is_ended_in_a_bootstrap_without_a_watchdog():
    own = {"main_thread_watchdog": {"kill_timeout": "9s"}}
    assert completed()["watchdogs"] == envoy_config.bootstrap(listeners=[], clusters=[])["watchdogs"]
    assert completed(watchdogs=own)["watchdogs"] == own


def test_a_node_without_names_gets_ours():
    assert completed()["node"] == {"id": "scaffold", "cluster": "scaffold"}
    assert completed(node={"id": "a", "cluster": "b"})["node"] == {"id": "a", "cluster": "b"}


def test_no_second_envoy_shares_a_port_unless_its_author_wants_that():
    ours, other = completed()["static_resources"]["listeners"]
    assert (ours["enable_reuse_port"], "enable_reuse_port" in other) == (False, False)
    (ours, _) = completed(listener={"enable_reuse_port": True})["static_resources"]["listeners"]
    assert ours["enable_reuse_port"] is True


def test_a_request_keeps_the_id_by_which_it_is_found():
    listener = completed()["static_resources"]["listeners"][0]
    assert listener["filter_chains"][0]["filters"][0]["typed_config"]["preserve_external_request_id"] is True
