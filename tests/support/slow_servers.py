"""Servers that never come to an end: with their headers, with a body, or with TLS's handshake."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket, threading.Event], None]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that answers every connection so, each in a thread; the place of it."""
    over = threading.Event()
    threads = []

    def serve() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                client, _ = server.accept()
                threads.append(threading.Thread(target=talk, args=(client,)))
                threads[-1].start()

    def talk(client: socket.socket) -> None:
        with client, suppress(OSError):
            answer(client, over)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        threads.append(threading.Thread(target=serve))
        threads[0].start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            for thread in threads:
                thread.join()


def dripping(begin: bytes, drop: bytes = b"x") -> Answer:
    """Answer with this, and then with a drop now and then."""

    def answer(client: socket.socket, over: threading.Event) -> None:
        client.sendall(begin)
        while not over.wait(0.02):
            client.sendall(drop)

    return answer


def pouring(begin: bytes, sent: list[int]) -> Answer:
    """Answer with this, and then with as much as is taken; `sent` gets the numbers of bytes."""

    def answer(client: socket.socket, over: threading.Event) -> None:
        client.settimeout(0.2)
        client.recv(65536)
        client.sendall(begin)
        while not over.is_set():
            with suppress(TimeoutError):
                sent.append(client.send(bytes(2**16)))

    return answer


SLOW = {
    "a status line": dripping(b"HTTP/1.1 200"),
    "provisional answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header": dripping(b"HTTP/1.1 200 OK\r\nA: "),
    "headers": dripping(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "a body with a length": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "a body without a length": dripping(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a chunk's size": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1"),
    "trailers": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    "a redirect's header": dripping(b"HTTP/1.1 302 Found\r\nLocation: "),
    "a redirect's body": dripping(
        b"HTTP/1.1 302 Found\r\nLocation: /a.zip\r\nContent-Length: 1000000\r\n\r\n"
    ),
    "a handshake": dripping(b"\x16\x03\x03\x40\x00"),
}
