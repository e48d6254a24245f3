"""The certificate for HTTPS at localhost, and who trusts it."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from support.slow_servers import answering

from scaffold.errors import HostError
from scaffold.hosts import certificates, client
from scaffold.hosts.exchange import Request


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@contextmanager
def listening(certificate: Path) -> Iterator[int]:
    """A server that answers a request over TLS with this certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer(plain, _):
        with context.wrap_socket(plain, server_side=True) as opened:
            if opened.recv(65536):
                opened.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with answering(answer) as place:
        yield int(place.rpartition(":")[2])


def test_ours_is_made_once_and_again_before_it_ends():
    before = os.umask(0)
    try:
        path = certificates.of_localhost()
    finally:
        os.umask(before)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    first = path.read_bytes()
    assert certificates.of_localhost().read_bytes() == first
    old = time.time() - certificates.RENEWED - 60
    os.utime(path, (old, old))
    assert certificates.of_localhost().read_bytes() != first
    made = x509.load_pem_x509_certificate(path.read_bytes())
    ends = made.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(seconds=certificates.RENEWED) < ends < timedelta(days=825), "macOS takes no more"


def test_two_that_make_it_at_once_use_the_same():
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(certificates.of_localhost().read_bytes()))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(found), len(set(found))) == (4, 1)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_who_trusts_the_authority_trusts_the_listener(name):
    path = certificates.of_localhost()
    with listening(path) as port:
        trusting = ssl.create_default_context(cafile=str(certificates.authority()))
        assert client.send(port, Request("GET", "/"), 5, path)[0].body == b"ok"
        with client.connected(port, 5) as connection:
            assert trusting.wrap_socket(connection._socket, server_hostname=name).version()


def test_the_client_takes_that_certificate_and_no_other(tmp_path):
    """Whatever its name, as the user's own has another."""
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    for path in (one, two):
        trustme.CA().issue_cert("example.com").private_key_and_cert_chain_pem.write_to_path(str(path))
    with listening(one) as port:
        assert client.send(port, Request("GET", "/"), 5, one)[0].body == b"ok"
        with pytest.raises(HostError, match="CERTIFICATE_VERIFY_FAILED"):
            client.send(port, Request("GET", "/"), 5, two)
