"""Trailers and large bodies, through a real listener and the built-in upstream."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

import pytest
from h2 import events
from h2.connection import H2Connection

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


def test_trailers_pass_by_http2_too(host):
    host.origin.answer(Response(200, body=b"answer", trailers=Headers({"x-sum": "2"})))
    mark = host.origin.mark()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/anything")]
    status, body, trailers = by_http2(host.port, head, b"body", [("x-sum", "1")])
    assert (status, body) == ("200", b"answer")
    assert trailers == {"x-sum": "2", "x-added": "by the plugin"}
    host.origin.forget_answers()
    (upstream,) = host.origin.requests(since=mark)
    assert upstream.body == b"body"
    assert upstream.trailers == {"x-sum": "1", "x-added": "by the plugin"}


def by_http2(
    port: int, head: list[tuple[str, str]], body: bytes, trailers: list[tuple[str, str]]
) -> tuple[str, bytes, dict[str, str]]:
    """Send a request in HTTP/2 without TLS; the status, body and trailers of the answer."""
    client, answer = H2Connection(), b""
    got: dict[str, str] = {}
    ended: dict[str, str] = {}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        client.initiate_connection()
        client.send_headers(1, head)
        client.send_data(1, body)
        client.send_headers(1, trailers, end_stream=True)
        while True:
            wire.sendall(client.data_to_send())
            for event in client.receive_data(wire.recv(65536)):
                if isinstance(event, events.ResponseReceived):
                    got = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, events.DataReceived):
                    answer += event.data
                elif isinstance(event, events.TrailersReceived):
                    ended = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, events.StreamEnded):
                    return got[":status"], answer, ended


def test_a_large_body_passes_a_plugin_that_lets_it_flow(host):
    body = bytes(range(256)) * (5 << 12)
    exchange = host.play(Request("POST", "/anything", body=body))
    assert exchange.upstream.body == body
    shown = exchange.response.json()["data"].removeprefix("data:application/octet-stream;base64,")
    assert base64.b64decode(shown) == body
