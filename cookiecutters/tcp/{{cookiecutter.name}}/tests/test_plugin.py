"""What the plugin does to real connections in a real host; run with `scaffold test`."""

import pytest

from scaffold.errors import HostError, ModuleError, UsageError
from scaffold.pytest_plugin import Proxy

REQUEST = b"GET /headers HTTP/1.1\r\nhost: example.com\r\n\r\n"


def test_an_allowed_connection_passes_both_ways(proxy: Proxy):
    with proxy.connect() as connection:
        connection.send(REQUEST)
        head = connection.receive(until=b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [request.target for request in connection.requests] == ["/headers"]
    assert connection.metrics["tcp.connections"] == 1
    assert connection.metrics["tcp.bytes_sent"] == len(REQUEST)
    assert connection.metrics["tcp.bytes_received"] > len(head)
    assert f"the connection has ended: {len(REQUEST)} bytes sent" in connection.logs


def test_http_passes_as_bytes(proxy: Proxy):
    exchange = proxy.post("/anything", body=b"hello")
    assert exchange.response.json()["data"] == "hello"
    assert exchange.upstream.body == b"hello"


@pytest.mark.parametrize("start", [b"HELO", b"get / HTTP/1.1\r\n", b"\x16\x03\x01\x00", b"\xff"])
def test_other_first_bytes_are_rejected(proxy: Proxy, start: bytes):
    with proxy.connect() as connection:
        connection.send(start)
        assert connection.receive() == b""
    assert connection.requests == []
    assert connection.metrics["tcp.refused"] == 1
    assert "tcp.bytes_sent" not in connection.metrics
    assert "closing the connection: its first bytes aren't allowed" in connection.logs


def test_the_first_bytes_are_held_back_until_there_are_enough(proxy: Proxy):
    with proxy.connect() as connection:
        for byte in REQUEST:
            connection.send(bytes([byte]))
        assert connection.receive(until=b"\r\n").startswith(b"HTTP/1.1 200")
    assert len(connection.requests) == 1
    assert connection.metrics["tcp.bytes_sent"] == len(REQUEST)


def test_too_few_first_bytes_are_rejected_at_the_end(proxy: Proxy):
    with proxy.connect() as connection:
        connection.send(b"GE")
        connection.finish()
        assert connection.receive() == b""
    assert connection.requests == []
    assert connection.metrics["tcp.refused"] == 1


def test_a_client_that_sends_nothing_is_accepted(proxy: Proxy):
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
        for _ in range(10_000):  # more than fits into any socket's buffer
            connection.send(bytes(100_000))
    assert connection.requests == []
    assert connection.metrics["tcp.refused"] == 1
    assert connection.metrics.get("tcp.bytes_sent", 0) <= 100_000
    assert "closing the connection: the client sends too much" in connection.logs


def test_a_blocked_address_is_closed_immediately(proxy: Proxy):
    proxy.configure({"refused_peers": ["127.0.0.1", "172.17.0.1"]})  # our address as a container sees it
    with proxy.connect() as connection:
        assert connection.receive() == b""
    assert connection.metrics["tcp.refused"] == 1
    assert "closing the connection: its address is blocked" in connection.logs


def test_without_rules_anything_passes(proxy: Proxy):
    proxy.configure({})
    with proxy.connect() as connection:
        connection.send(b"\x16\x03 not HTTP at all\r\n\r\n")
        assert connection.receive().startswith(b"HTTP/1.1 400")  # from the upstream
    assert "tcp.refused" not in connection.metrics


@pytest.mark.parametrize("wrong", [{"max_upload": 0}, {"first_bytes": [""]}, {"frist_bytes": []}])
def test_rejects_an_invalid_configuration(proxy: Proxy, wrong: dict):
    with pytest.raises(UsageError):
        proxy.configure(wrong)
    with pytest.raises(ModuleError, match="invalid configuration"):
        proxy.configure(wrong, check=False)
    assert proxy.get("/headers").status == 200


def test_a_large_response_arrives_complete(proxy: Proxy):
    exchange = proxy.get("/bytes/5000000")
    assert exchange.response.body == (bytes(range(256)) * 20_000)[:5_000_000]
    assert exchange.metrics["tcp.bytes_received"] > 5_000_000
