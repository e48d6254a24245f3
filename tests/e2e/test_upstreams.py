"""Foreign upstreams: over https believed only when their certificate is theirs, over gRPC asked by HTTP/2."""

from __future__ import annotations

import http.server
import ipaddress
import json
import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from scaffold.hosts import host as hosts
from scaffold.hosts.envoy.resources import EXTENSIONS, router
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.upstream.control import Origin
from scaffold.hosts.upstream.server import serve_at


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def upstream(authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[str]:
    """An https origin whose certificate is for the name that the test gives."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(request.param).configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def status(probe, tmp_path: Path, upstream: str, image: str | None = None) -> int:
    settings = HostSettings(upstream=upstream, envoy_image=image)
    start = hosts.find("docker" if image else "envoy")
    with start(Plugin("probe", "", probe), folder=tmp_path, settings=settings) as host:
        return host.play(Request("GET", "/")).status


@pytest.mark.parametrize("upstream", ["localhost"], indirect=True)
def test_one_that_the_system_trusts_is_asked(probe, tmp_path, upstream, authority, monkeypatch):
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    assert status(probe, tmp_path, upstream) == 200


@pytest.mark.parametrize(
    ("upstream", "got"), [("localhost", 200), ("evil.example", 503)], indirect=["upstream"]
)
def test_a_container_looks_as_closely(probe, tmp_path, upstream, got, authority, monkeypatch, images):
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    ca.chmod(0o600)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    assert status(probe, tmp_path, upstream, images.proxy) == got


@pytest.mark.parametrize("upstream", ["localhost"], indirect=True)
def test_a_container_asks_a_cluster_over_https_beside_the_built_in_upstream(
    probe, tmp_path, upstream, authority, monkeypatch, images
):
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    plugin = Plugin("probe", "", probe, clusters={"safe": upstream, "beta": "upstream"})
    before = os.umask(0o077)  # what we write for the container it reads all the same
    try:
        settings = HostSettings(envoy_image=images.proxy)
        with hosts.find("docker")(plugin, folder=tmp_path, settings=settings) as host:
            asked = {
                name: host.play(Request("GET", "/", Headers({"x-cluster": name})))
                for name in ("safe", "beta")
            }
    finally:
        os.umask(before)
    assert (asked["safe"].response.text, asked["safe"].upstream) == ("ok", None)
    assert (asked["beta"].status, asked["beta"].upstream.cluster) == (200, "beta")


@pytest.mark.parametrize("upstream", ["localhost"], indirect=True)
def test_one_of_an_unknown_authority_is_not(probe, tmp_path, upstream):
    assert status(probe, tmp_path, upstream) == 503


@pytest.mark.parametrize("upstream", ["evil.example"], indirect=True)
def test_one_with_another_name_is_not(probe, tmp_path, upstream, authority, monkeypatch):
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    assert status(probe, tmp_path, upstream) == 503


@pytest.fixture
def speaks_only_http2(probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that answers HTTP/2 alone, as a gRPC server does: another Envoy."""
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
        "http_filters": [router()],
    }
    listener = {
        "name": "grpc",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    folder = tmp_path_factory.mktemp("http2")
    bootstrap = folder / "given.json"
    bootstrap.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    settings = HostSettings(bootstrap=str(bootstrap))
    with hosts.find("envoy")(Plugin("probe", "", probe), folder=folder, settings=settings) as host:
        yield host.port


@pytest.mark.parametrize(("scheme", "got"), [("grpc", 200), ("http", 503)])
def test_a_grpc_server_is_asked_by_http2(probe, tmp_path, speaks_only_http2, scheme, got):
    assert status(probe, tmp_path, f"{scheme}://localhost:{speaks_only_http2}") == got


@pytest.fixture
def websockets() -> Iterator[str]:
    """A server that switches to WebSocket, and then sends back every byte."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\n")
            self.wfile.write(b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
            while data := self.request.recv(1024):
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()


OFFER = (
    b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_a_websocket_goes_through_the_plugin(probe, tmp_path, websockets):
    settings = HostSettings(upstream=websockets)
    with (
        hosts.find("envoy")(Plugin("probe", "", probe), folder=tmp_path, settings=settings) as host,
        socket.create_connection(("127.0.0.1", host.port), timeout=10) as client,
    ):
        client.sendall(OFFER)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"x-configuration:" in head, "the plugin saw it"
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"


def test_the_built_in_upstream_echoes_what_comes_by_websocket(probe, tmp_path):
    with hosts.find("envoy")(Plugin("probe", "", probe), folder=tmp_path) as host:
        with socket.create_connection(("127.0.0.1", host.port), timeout=10) as client:
            client.sendall(OFFER)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"x-configuration:" in head, "the plugin saw it"
            client.sendall(bytes.fromhex("818537fa213d7f9f4d5158"))  # "Hello", as RFC 6455 has it, masked
            assert client.recv(7, socket.MSG_WAITALL) == b"\x81\x05Hello"
        assert host.origin.requests()[-1].path == "/chat"


@pytest.mark.parametrize("claimed", [[], ["10.1.2.3"]])
def test_the_clients_address_is_in_x_forwarded_for(probe, tmp_path, claimed):
    """Of a client on loopback, Envoy writes the machine's own address."""
    with hosts.find("envoy")(Plugin("probe", "", probe), folder=tmp_path) as host:
        headers = Headers([("x-forwarded-for", each) for each in claimed])
        exchange = host.play(Request("GET", "/headers", headers))
    *before, last = exchange.upstream.headers["x-forwarded-for"].split(",")
    assert (before, ipaddress.ip_address(last).version) == (claimed, 4)
    assert exchange.upstream.headers["x-forwarded-proto"] == "http"


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[tuple[Origin, str]]:
    """An upstream on this machine, and its URL with the machine's name."""
    name = socket.gethostname()
    try:
        listener = socket.create_server((socket.gethostbyname(name), 0))
    except OSError as error:
        pytest.skip(f"the name of this machine, {name}, leads nowhere: {error}")
    with listener, serve_at({"": listener}, tmp_path / "c.sock") as origin:
        yield origin, f"http://{name}:{listener.getsockname()[1]}"


@pytest.mark.parametrize("host", ["envoy", "docker"])
def test_an_upstream_with_a_name_gets_it_as_host_once_the_plugin_has_seen_the_clients(
    hello, tmp_path, hosted, host, request
):
    origin, url = hosted
    image = request.getfixturevalue("images").proxy if host == "docker" else None
    settings = HostSettings(upstream=url, envoy_image=image)
    sent = Request("GET", "/headers", Headers({"host": "shop.example"}))
    for keeps in (False, True):
        folder = tmp_path / str(keeps)
        folder.mkdir()
        plugin = Plugin("hello", "hello_world", hello)
        with hosts.find(host)(plugin, folder=folder, settings=replace(settings, keep_host=keeps)) as running:
            assert running.play(sent).status == 200
        headers = origin.requests()[-1].headers
        assert headers["x-hello"] == "Hello world from shop.example"
        assert headers["host"] == ("shop.example" if keeps else url.removeprefix("http://"))
        assert headers.get("x-forwarded-host") == (None if keeps else "shop.example")


def test_a_client_is_external_and_its_path_stays_as_it_is(probe, tmp_path):
    """As docs/how-to/second-envoy.md says of the local listener."""
    claimed = {
        "x-forwarded-proto": "https",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-internal": "true",
    }
    with hosts.find("envoy")(Plugin("probe", "", probe), folder=tmp_path) as host:
        upstream = host.play(Request("GET", "/b/..//headers", Headers(claimed))).upstream
    assert upstream.target == "/b/..//headers"
    assert upstream.headers["x-forwarded-proto"] == "http"
    assert not {"x-envoy-upstream-rq-timeout-ms", "x-envoy-internal"} & set(upstream.headers)
