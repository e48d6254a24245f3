from __future__ import annotations

import socket
import threading
import time

import pytest
from support.slow_servers import answering

from scaffold.errors import HostError
from scaffold.hosts.load import Sent, client

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
STALL = 0.3


def _port(place: str) -> int:
    return int(place.rpartition(":")[2])


def _serve(connection: socket.socket, over: threading.Event, *, answer: bytes = ANSWER) -> None:
    connection.settimeout(0.05)
    while not over.is_set():
        try:
            if not connection.recv(1 << 16):
                return
        except TimeoutError:
            continue
        connection.sendall(answer)


def test_sends_as_many_as_planned_and_counts_what_comes():
    with answering(_serve) as place, client() as sender:
        answers = sender.send([Sent(_port(place), REQUEST)], 200, 0.25)
        again = sender.send([Sent(_port(place), REQUEST)], 200, 0.1)
    assert (answers.sent, answers.statuses, answers.failures) == (50, {"200": 50}, {})
    assert len(answers.latencies) == len(answers.late) == 50
    assert again.sent == 20


def test_a_stall_shows_in_every_request_that_was_planned_meanwhile():
    begun = time.monotonic()

    def stalls(connection: socket.socket, over: threading.Event) -> None:
        time.sleep(max(0.0, begun + 1 + STALL - time.monotonic()))
        _serve(connection, over)

    with answering(stalls) as place, client() as sender:
        time.sleep(max(0.0, begun + 1 - time.monotonic()))
        answers = sender.send([Sent(_port(place), REQUEST)], 100, 2 * STALL)
    # sent one after the other, only the first would have seen it
    assert sum(latency > 100 * STALL for latency in answers.latencies) > 5


def test_goes_on_until_the_block_ends():
    with answering(_serve) as place, client() as sender:
        with sender.sending([Sent(_port(place), REQUEST)], 100) as end:
            time.sleep(0.2)
            answers = end()
        assert answers.statuses == {"200": answers.sent}
        assert sender.send([Sent(_port(place), REQUEST)], 100, 0.05).sent == 5


def test_requests_go_to_their_ports_as_they_weigh():
    with answering(_serve) as one, answering(_serve) as two, client() as sender:
        both = [Sent(_port(one), REQUEST, weight=3), Sent(_port(two), REQUEST)]
        assert sender.send(both, 200, 0.2).statuses == {"200": 40}


def test_a_large_body_arrives_whole():
    size = 3_000_000

    def reads(connection: socket.socket, over: threading.Event) -> None:
        left = size + len(head)
        while left:
            left -= len(connection.recv(min(left, 1 << 16)))
        connection.sendall(ANSWER)

    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
    with answering(reads) as place, client() as sender:
        assert sender.send([Sent(_port(place), head + b"x" * size)], 10, 0.1).statuses == {"200": 1}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "the connection ended before the answer did"),
        (b"hello\r\n\r\n", "what came is no answer of HTTP/1"),
    ],
)
def test_an_answer_that_isnt_whole_is_a_failure(answer, why):
    def broken(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1 << 16)
        connection.sendall(answer)

    with answering(broken) as place, client() as sender:
        answers = sender.send([Sent(_port(place), REQUEST)], 100, 0.03)
    assert (answers.failures, answers.statuses, answers.failed) == ({why: 3}, {}, 3)


def test_nothing_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with client() as sender:
        assert sender.send([Sent(port, REQUEST)], 100, 0.02).failures == {"Connection refused": 2}


def test_whoever_looks_at_the_server_ends_the_wait():
    def look() -> None:
        raise HostError("it has ended")

    with answering(_serve) as place, client() as sender, pytest.raises(HostError, match="it has ended"):
        sender.send([Sent(_port(place), REQUEST)], 10, 30, look)


def test_a_client_that_ended_is_named():
    with client() as sender:
        sender._child.kill()
        sender._child.wait()
        with pytest.raises(HostError, match="the client that sends the requests has ended"):
            sender.send([Sent(1, REQUEST)], 10, 0.1)
