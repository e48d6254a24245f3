"""A plugin's clusters: where their names lead, and what of it stands in Envoy's bootstrap."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from scaffold.errors import ProjectError
from scaffold.hosts.envoy import user_bootstrap as envoy_bootstrap
from scaffold.hosts.envoy.clusters import LONGEST_SOCKET, cluster_addresses, short
from scaffold.hosts.envoy.resources import Chain, ecds_filter
from scaffold.hosts.envoy.run_folder import Folder, generated
from scaffold.hosts.options import HostSettings
from scaffold.project import envoy_clusters as clusters
from scaffold.project.envoy_clusters import Address

ORIGIN = Address(pipe="/tmp/origin.sock")
CHAIN = Chain([ecds_filter("/tmp/filter.json")], [])


@pytest.mark.parametrize(
    ("leads", "address"),
    [
        ("upstream", ORIGIN),
        ("grpc://upstream", replace(ORIGIN, bridged=True)),
        ("http://a:1", Address("a", 1)),
        ("http://a", Address("a", 80)),
        ("http://b\u00fccher.example", Address("xn--bcher-kva.example", 80)),
        ("tcp://a:5432", Address("a", 5432)),
        ("grpc://a:1", Address("a", 1, http2=True)),
        ("grpc://[::1]:1", Address("::1", 1, http2=True)),
    ],
)
def test_a_cluster_leads_to_the_upstream_or_elsewhere(leads, address):
    assert clusters.addresses(ORIGIN, {"a": leads}) == {"upstream": ORIGIN, "a": address}


@pytest.mark.parametrize(
    "leads",
    [
        *(
            "grpc://",
            "grpc://a/b",
            "h2c://a:1",
            "grpc://http://a",
            "grpcs://a",
            "grpc:a",
            "",
            "tcp://a",
            "a:1",
        ),
        *("http://a..b", f"http://{'a' * 64}", "http://a:0", "http://u:p@a", "http://a#b", "http://a?b"),
    ],
)
def test_what_leads_nowhere_is_refused(leads):
    with pytest.raises(ProjectError, match=r"the cluster `a` in Cargo\.toml can't be at ") as refused:
        clusters.check({"a": leads}, "Cargo.toml")
    assert "grpc://" in refused.value.hint


def test_an_upstream_is_reached_by_grpc_like_any_cluster():
    """It takes gRPC calls itself, so nothing translates them."""
    upstream = clusters.parse_upstream("grpc://a:1")
    assert upstream == Address("a", 1, http2=True)
    assert clusters.addresses(upstream, {"b": "grpc://upstream"})["b"] == upstream


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://api.example.com", "api.example.com"),
        ("https://api.example.com:443", "api.example.com"),
        ("http://api.example.com:443", "api.example.com:443"),
        ("grpc://api:50051", "api:50051"),
        *((f"http://{each}:1", "") for each in ("127.0.0.1", "[::1]", "localhost", "a.localhost")),
    ],
)
def test_a_server_with_a_name_gets_that_as_host_unless_the_clients_is_kept(url, host):
    leads = {"upstream": clusters.parse_upstream(url), "b": clusters.parse_upstream("https://b.example")}
    (listener,) = generated(0, leads, CHAIN)["static_resources"]["listeners"]
    (b, upstream) = routes(listener)
    assert upstream.get("host_rewrite_literal", "") == host
    assert (b["cluster"], b["host_rewrite_literal"]) == ("b", "b.example")
    (listener,) = generated(0, leads, CHAIN, keep_host=True)["static_resources"]["listeners"]
    assert not any("host_rewrite_literal" in each for each in routes(listener))


def routes(listener):
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return [each["route"] for each in manager["route_config"]["virtual_hosts"][0]["routes"]]


def made(**leads):
    return generated(0, clusters.addresses(ORIGIN, leads), CHAIN)


def named(bootstrap, kind):
    return [each["name"] for each in bootstrap["static_resources"][kind]]


def test_the_origin_is_asked_by_grpc_through_a_listener_of_the_same_envoy():
    bootstrap = made(a="grpc://upstream", b="grpc://upstream", c="grpc://h:1", d="upstream")
    assert named(bootstrap, "listeners") == ["ingress", "grpc a", "grpc b"]
    assert named(bootstrap, "clusters") == ["upstream", "a", "http1 a", "b", "http1 b", "c", "d"]
    by_name = {each["name"]: each for each in bootstrap["static_resources"]["clusters"]}
    assert [name for name, each in by_name.items() if "typed_extension_protocol_options" in each] == list(
        "abc"
    )
    assert by_name["http1 a"]["load_assignment"]["endpoints"] == by_name["d"]["load_assignment"]["endpoints"]


def test_what_is_between_takes_no_name_of_a_cluster():
    bootstrap = made(**{"a": "grpc://upstream", "http1-a": "upstream", "grpc-a": "upstream"})
    assert sorted(named(bootstrap, "clusters")) == ["a", "grpc-a", "http1 a", "http1-a", "upstream"]
    with pytest.raises(ProjectError, match="can't contain 'http1 a'"):
        clusters.check({"http1 a": "upstream"}, "Cargo.toml")


@pytest.fixture
def place():
    """A folder whose path is short, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_socket_of_every_cluster_has_a_name_that_fits_in_a_container_too(place, more):
    """A socket's path has 107 bytes, and one more for its end."""
    above = place / ("a" * (LONGEST_SOCKET + more - len(f"{place}//writable/admin.sock")))
    above.mkdir()
    folder = Folder(above, enclosed=True)
    settings = HostSettings(clusters={f"c{number}": "upstream" for number in range(150)})
    with short(folder) as folder.sockets:
        assert (folder.sockets == above) == (more <= 0)
        found = cluster_addresses(settings, folder)
        assert max(len(folder.within(Path(each.pipe))) for each in found.values()) <= 107
        assert len(folder.within(folder.admin_socket)) <= 107


def test_where_nothing_is_asked_by_grpc_the_bootstrap_knows_nothing_of_it():
    assert "bootstrap_extensions" not in made(a="upstream", b="grpc://h:1")
    assert named(made(a="upstream"), "listeners") == ["ingress"]


def test_without_an_upstream_there_is_nobody_to_ask():
    leads = clusters.addresses(Address(), {"a": "grpc://upstream"})
    bootstrap = generated(0, leads, CHAIN)
    assert named(bootstrap, "listeners") == ["ingress"]
    assert named(bootstrap, "clusters") == ["upstream", "a"]


def test_a_container_opens_no_port_for_it():
    _, ports = envoy_bootstrap.open_up(made(a="grpc://upstream"))
    assert len(ports) == 1  # the listener's
