"""Trailers and large bodies, through a real listener and the built-in upstream."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from scaffold.hosts import host as hosts
from scaffold.hosts.envoy.running import EnvoyHost
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.plugin import Plugin


@pytest.fixture(scope="module")
def host(probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyHost]:
    with hosts.find("envoy")(Plugin("probe", "", probe), folder=tmp_path_factory.mktemp("envoy")) as host:
        yield host


def test_trailers_reach_the_plugin_and_both_sides(host):
    sent = Request("POST", "/anything", body=b"body", trailers=Headers({"x-sum": "1"}))
    host.origin.answer(Response(200, body=b"answer", trailers=Headers({"x-sum": "2"})))
    exchange = host.play(sent)
    host.origin.forget_answers()
    assert exchange.upstream.body == b"body"
    assert exchange.upstream.trailers == {"x-sum": "1", "x-added": "by the plugin"}
    assert exchange.response.body == b"answer"
    assert exchange.response.trailers == {"x-sum": "2", "x-added": "by the plugin"}
    assert host.play(sent).response.json()["trailers"]["X-Sum"] == "1"
    assert not host.play(Request("GET", "/anything")).upstream.trailers


def test_a_large_body_passes_a_plugin_that_lets_it_flow(host):
    body = bytes(range(256)) * (5 << 12)
    exchange = host.play(Request("POST", "/anything", body=body))
    assert exchange.upstream.body == body
    shown = exchange.response.json()["data"].removeprefix("data:application/octet-stream;base64,")
    assert base64.b64decode(shown) == body
