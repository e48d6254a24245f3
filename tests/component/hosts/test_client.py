"""A connection through a plugin, from the side of whoever tests it: here, against a plain server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from scaffold.errors import HostError, UsageError
from scaffold.hosts import client
from scaffold.hosts.client import Connection
from scaffold.hosts.exchange import Headers, Request


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and its other end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0] as theirs,
    ):
        theirs.settimeout(10)
        yield Connection(ours, 0.3), theirs


@pytest.mark.parametrize(
    "request_",
    [Request("GET", "/a b"), Request("GET", "/", Headers({"x": "\u20ac"}))],
    ids=["target", "header"],
)
def test_a_request_that_http_cannot_carry_is_a_mistake_of_who_sends_it(request_):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(UsageError, match="can't be sent: "),
    ):
        client.send(server.getsockname()[1], request_, 5)


def test_what_comes_is_cut_as_asked(ends):
    connection, other = ends
    other.sendall(b"220 ready\r\n250 a\r\n250 b\r\nrest")
    assert connection.receive(until=b"\r\n") == b"220 ready\r\n"
    assert connection.receive(3) == b"250"
    assert connection.receive(until=b"b\r\n") == b" a\r\n250 b\r\n"
    assert connection.receive(0) == b""
    other.shutdown(socket.SHUT_WR)
    assert connection.receive() == b"rest"
    assert connection.receive() == b""


def test_what_is_sent_arrives_and_its_end_too(ends):
    connection, other = ends
    connection.send(b"\xff")
    connection.send("ö")
    connection.finish()
    assert other.recv(100) == b"\xff\xc3\xb6"
    assert other.recv(100) == b""
    assert connection.port == other.getpeername()[1]


def test_an_end_that_comes_too_early_is_an_error_that_says_what_came(ends):
    connection, other = ends
    other.sendall(b"220")
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(HostError, match=r"the connection ended after b'220'"):
        connection.receive(4)
    assert connection.receive() == b"220"


def test_what_never_comes_is_an_error(ends):
    connection, other = ends
    other.sendall(b"220")
    with pytest.raises(HostError, match=r"nothing more arrived within 0.3 s, after b'220'"):
        connection.receive(until=b"\r\n")


def test_a_connection_that_is_gone(ends):
    connection, other = ends
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.close()
    assert connection.receive() == b""
    with pytest.raises(HostError, match="cannot send"):
        for _ in range(2):
            connection.send(b"x")
    connection.finish()


def test_what_is_sent_in_pieces_arrives_in_these_pieces(ends):
    connection, other = ends
    parts = []

    def read():
        while part := other.recv(100):
            parts.append(part)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for byte in b"abc":
        connection.send(bytes([byte]))
    connection.finish()
    reader.join(5)
    assert parts == [b"a", b"b", b"c"]


def test_a_size_or_an_end_not_both(ends):
    with pytest.raises(UsageError):
        ends[0].receive(3, until=b"x")


@contextmanager
def answering(answer, end=b"\r\n\r\n"):
    """A server that answers one request, once that has come to its `end`; its port, and what it received."""
    received = [b""]

    def serve():
        connection, _ = server.accept()
        with connection:
            while not received[0].endswith(end) and (part := connection.recv(65536)):
                received[0] += part
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], received
        thread.join(5)


def test_a_request_is_sent_byte_for_byte_and_its_answer_keeps_repeats():
    headers = Headers([("X-A", "1"), ("x-b", "caf\xe9"), ("x-a", "2")])
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
    with answering(answer) as (port, received):
        response, _ = client.send(port, Request("GET", "//a/../b//?q=%2F", headers), 5)
    assert received == [
        b"GET //a/../b//?q=%2F HTTP/1.1\r\n"
        + f"host: localhost:{port}\r\n".encode()
        + b"X-A: 1\r\nx-b: caf\xe9\r\nx-a: 2\r\n\r\n"
    ]
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers.getlist("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("headers", "body", "trailers", "sent"),
    [
        ({}, b"0123456789abc", {}, b"content-length: 13\r\n\r\n0123456789abc"),
        ({"Content-Length": "5"}, b"x", {}, b"Content-Length: 5\r\n\r\nx"),
        (
            {},
            b"0123456789abc",
            {"x-sum": "1"},
            b"transfer-encoding: chunked\r\n\r\nd\r\n0123456789abc\r\n0\r\nx-sum: 1\r\n\r\n",
        ),
        ({}, b"", {"x-sum": "1"}, b"transfer-encoding: chunked\r\n\r\n0\r\nx-sum: 1\r\n\r\n"),
    ],
    ids=["a body", "a length of the user's own", "trailers", "trailers alone"],
)
def test_a_body_has_its_length_and_trailers_come_after_it(headers, body, trailers, sent):
    request = Request("POST", "/", Headers(headers), body, trailers=Headers(trailers))
    with answering(b"HTTP/1.1 204 None\r\n\r\n", sent) as (port, received):
        client.send(port, request, 5)
    assert received[0].partition(b"\r\n")[2] == f"host: localhost:{port}\r\n".encode() + sent


def test_an_answers_trailers_are_kept():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"
    with answering(answer) as (port, _):
        response, _ = client.send(port, Request("GET", "/"), 5)
    assert (response.body, list(response.trailers.items())) == (b"ok", [("x-sum", "1")])


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (b"Content-Length: 5\r\n\r\nok", "2 of the 5 bytes that its content-length announces came, and the"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nok", "2 bytes of its body came, and the"),
    ],
    ids=["a length", "chunks"],
)
def test_a_body_that_is_cut_off_is_an_error_that_says_how_much_came(answer, came):
    with (
        answering(b"HTTP/1.1 200 OK\r\n" + answer) as (port, _),
        pytest.raises(HostError, match=f"GET / got no whole answer: {came} connection ended") as caught,
    ):
        client.send(port, Request("GET", "/"), 5)
    part = caught.value.__cause__.response
    assert (part.status, part.body, part.complete) == (200, b"ok", False)


def test_a_connection_whose_bytes_drip_is_given_up_when_its_time_is_over(ends):
    connection, other = ends
    over = threading.Event()

    def drip():
        for _ in range(100):
            other.sendall(b"x")
            if over.wait(0.05):
                return
        other.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with pytest.raises(HostError, match=r"nothing more arrived within 0\.3 s, after b'x+'"):
        connection.receive(until=b"never")
    over.set()
    thread.join(5)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nx-long: ", r"GET / got no whole answer within 0\.3 s"),
        (b"HTTP/1.1 200 OK\r\n\r\n", r"GET / got no whole answer: \d+ bytes .* no more came in time"),
    ],
    ids=["a head", "a body"],
)
def test_an_answer_that_drips_is_given_up_when_its_time_is_over(begin, message):
    over = threading.Event()

    def drip():
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the client hangs up
            connection.recv(65536)
            connection.sendall(begin)
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(HostError, match=message):
            client.send(server.getsockname()[1], Request("GET", "/"), 0.3)
        over.set()
        thread.join(5)
