"""HTTPS at the local listener: with our certificate or the user's, for HTTP/1, HTTP/2 and TCP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from support.network_plugins import tap

import scaffold
from scaffold.core import files
from scaffold.hosts import host as hosts
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin

TESTS = """
def test_a_request_over_https(proxy):
    exchange = proxy.get("/headers")
    assert proxy.url.startswith("https://localhost:")
    assert exchange.upstream.headers["x-forwarded-proto"] == "https"
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of our own, in which no certificate is; the Envoys stay the user's."""
    (tmp_path / "data" / files.APP).mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / files.APP


def alpn(port: int, authority: str | Path, *offered: str) -> str | None:
    """The protocol that the listener chooses, for a client that believes its certificate."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(list(offered))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        return context.wrap_socket(plain, server_hostname="localhost").selected_alpn_protocol()


def test_a_deployment_has_a_certificate_that_a_client_can_trust(root, probe, data):
    first = scaffold.deploy(root, module=str(probe.path), run=RunOptions(port=0, tls=True))
    port = int(first.url.removeprefix("https://localhost:"))
    assert f"  trust     {first.authority}\n" in first.summary()
    context = ssl.create_default_context(cafile=first.authority)
    for name in ("localhost", "127.0.0.1"):
        with urlopen(f"https://{name}:{port}/headers", context=context) as answer:
            assert json.loads(answer.read())["headers"]["X-Forwarded-Proto"] == "https"
    assert alpn(port, first.authority, "h2", "http/1.1") == "h2"
    assert alpn(port, first.authority, "http/1.1") == "http/1.1"
    again = scaffold.deploy(root, module=str(probe.path), run=RunOptions(config="[1]"))
    assert (again.url, again.authority) == (first.url, first.authority)
    key = data / "tls/localhost.pem"
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", ["envoy", "docker"])
def test_the_certificate_may_be_the_users(probe, tmp_path, host, request):
    image = request.getfixturevalue("images").proxy if host == "docker" else None
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pair = authority.issue_cert("localhost")
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    pair.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    options = RunOptions(
        port=0, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem", envoy_image=image
    )
    place = tmp_path / "run"
    place.mkdir()
    before = os.umask(0o077)  # what is in a container is another user's
    try:
        with hosts.find(host)(Plugin("p", "", probe), folder=place, settings=options.settings) as running:
            assert alpn(running.port, tmp_path / "ca.pem", "h2") == "h2"
    finally:
        os.umask(before)


def test_bytes_reach_a_network_plugin_out_of_tls(tmp_path, data):
    settings = RunOptions(port=0, tls=True).settings
    with (
        hosts.find("envoy")(tap(tmp_path, "came"), folder=tmp_path, settings=settings) as host,
        host.connect() as connection,
    ):
        connection.send("GET /headers HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.receive(until=b"\r\n") == b"HTTP/1.1 200 OK\r\n"


def test_tests_send_their_requests_over_https(copy, probe, run):
    shutil.rmtree(copy / "tests")
    (copy / "tests").mkdir()
    (copy / "tests/test_https.py").write_text(TESTS)
    ran = run("scaffold", "test", "--root", copy, "--module", probe.path, "--tls")
    assert ran.returncode == 0, ran.stdout + ran.stderr
