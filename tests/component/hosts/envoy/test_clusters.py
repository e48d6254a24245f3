"""Servers on this machine are found at either loopback, whatever the name `localhost` leads to."""

from __future__ import annotations

import re
import socket
from contextlib import closing

import pytest

from scaffold.errors import HostError
from scaffold.hosts.envoy import clusters
from scaffold.hosts.envoy.resources import cluster
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.options import HostSettings


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request):
    """Something that listens on one loopback alone; the loopback, and the port."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listening = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {request.param}")
    with closing(listening):
        yield request.param, listening.getsockname()[1]


@pytest.fixture
def only_ipv4(monkeypatch):
    """`localhost` is 127.0.0.1 alone, as in many containers."""
    before = socket.getaddrinfo

    def found(host, *words, **more):
        return before("127.0.0.1" if host == "localhost" else host, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.usefixtures("only_ipv4")
def test_localhost_is_either_loopback(listener, tmp_path):
    at, port = listener
    address = clusters.reachable(f"http://localhost:{port}")
    assert (address.host, address.at) == ("localhost", "" if at == "127.0.0.1" else at)
    settings = HostSettings(clusters={"authz": f"http://localhost:{port}"})
    assert clusters.cluster_addresses(settings, Folder(tmp_path))["authz"] == address
    (endpoint,) = cluster("authz", address)["load_assignment"]["endpoints"][0]["lb_endpoints"]
    place = endpoint["endpoint"]["address"]["socket_address"]["address"]
    assert place == (address.at or "localhost")


def test_the_other_loopback_is_named_where_one_was_given(listener):
    at, port = listener
    given = "[::1]" if at == "127.0.0.1" else "127.0.0.1"
    with pytest.raises(HostError) as caught:
        clusters.reachable(f"http://{given}:{port}")
    place = re.search(r"something listens at (\S+): pass that instead", caught.value.hint)[1]
    assert clusters.reachable(f"http://{place}").host == at


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_where_nothing_listens_it_is_to_be_started(host):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(HostError, match="nothing answers at the upstream") as caught:
        clusters.reachable(f"http://{host}:{port}")
    assert caught.value.hint == "start it first"


def test_a_name_without_an_address_is_what_to_check():
    with pytest.raises(HostError, match="nothing answers at the upstream") as caught:
        clusters.reachable("http://no-such-host.invalid")
    assert caught.value.hint == "check the name: this machine finds no address for it"
