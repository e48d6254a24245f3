"""What the filter does to real connections, in a real host: run by `scaffold test`."""

import pytest

from scaffold.errors import HostError, ModuleError, UsageError
from scaffold.pytest_plugin import Proxy

REQUEST = b"GET /headers HTTP/1.1\r\nhost: example.com\r\n\r\n"


def test_what_begins_as_it_may_passes_both_ways(proxy: Proxy):
    with proxy.connect() as connection:
        connection.send(REQUEST)
        head = connection.receive(until=b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [request.target for request in connection.requests] == ["/headers"]
    assert connection.metrics["tcp.connections"] == 1
    assert connection.metrics["tcp.bytes_sent"] == len(REQUEST)
    assert connection.metrics["tcp.bytes_received"] > len(head)
    assert f"the connection has ended: {len(REQUEST)} bytes sent" in connection.logs


def test_http_passes_as_bytes_do(proxy: Proxy):
    exchange = proxy.post("/anything", body=b"hello")
    assert exchange.response.json()["data"] == "hello"
    assert exchange.upstream.body == b"hello"


@pytest.mark.parametrize("start", [b"HELO", b"get / HTTP/1.1\r\n", b"\x16\x03\x01\x00", b"\xff"])
def test_what_begins_otherwise_is_closed(proxy: Proxy, start: bytes):
    with proxy.connect() as connection:
        connection.send(start)
        assert connection.receive() == b""
    assert connection.requests == []
    assert connection.metrics["tcp.refused"] == 1
    assert "tcp.bytes_sent" not in connection.metrics
    assert "closed: it begins with what it may not" in connection.logs


def test_the_first_bytes_are_held_until_they_are_enough(proxy: Proxy):
    with proxy.connect() as connection:
        for byte in REQUEST:
            connection.send(bytes([byte]))
        assert connection.receive(until=b"\r\n").startswith(b"HTTP/1.1 200")
    assert len(connection.requests) == 1
    assert connection.metrics["tcp.bytes_sent"] == len(REQUEST)


def test_a_beginning_that_is_never_finished_is_closed(proxy: Proxy):
    with proxy.connect() as connection:
        connection.send(b"GE")
        connection.finish()
        assert connection.receive() == b""
    assert connection.requests == []
    assert connection.metrics["tcp.refused"] == 1


def test_a_client_that_says_nothing_is_no_offender(proxy: Proxy):
    with proxy.connect():
        pass
    with proxy.connect() as connection:
        connection.finish()
    assert "tcp.refused" not in connection.metrics
    assert "0 bytes sent, 0 received" in connection.logs


def test_a_client_that_sends_too_much_is_cut_off(proxy: Proxy):
    proxy.configure({"max_upload": 100_000})
    assert proxy.post("/anything", body=bytes(90_000)).status == 200
    with proxy.connect() as connection, pytest.raises(HostError):
        connection.send(b"POST /anything HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n")
        for _ in range(10_000):  # more than any socket's buffer holds
            connection.send(bytes(100_000))
    assert connection.requests == []
    assert connection.metrics["tcp.refused"] == 1
    assert connection.metrics.get("tcp.bytes_sent", 0) <= 100_000
    assert "closed: its client sends too much" in connection.logs


def test_a_refused_peer_is_closed_at_once(proxy: Proxy):
    proxy.configure({"refused_peers": ["127.0.0.1", "172.17.0.1"]})  # where a container sees us come from
    with proxy.connect() as connection:
        assert connection.receive() == b""
    assert connection.metrics["tcp.refused"] == 1
    assert "closed: its peer is refused" in connection.logs


def test_without_rules_anything_passes(proxy: Proxy):
    proxy.configure({})
    with proxy.connect() as connection:
        connection.send(b"\x16\x03 no HTTP at all\r\n\r\n")
        assert connection.receive().startswith(b"HTTP/1.1 400")  # which the origin says
    assert "tcp.refused" not in connection.metrics


@pytest.mark.parametrize("wrong", [{"max_upload": 0}, {"first_bytes": [""]}, {"frist_bytes": []}])
def test_a_configuration_that_cannot_be_is_refused(proxy: Proxy, wrong: dict):
    with pytest.raises(UsageError):
        proxy.configure(wrong)
    with pytest.raises(ModuleError, match="the configuration can't be used"):
        proxy.configure(wrong, check=False)
    assert proxy.get("/headers").status == 200


def test_much_comes_back_whole(proxy: Proxy):
    exchange = proxy.get("/bytes/5000000")
    assert exchange.response.body == (bytes(range(256)) * 20_000)[:5_000_000]
    assert exchange.metrics["tcp.bytes_received"] > 5_000_000
