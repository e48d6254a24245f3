import http.client
import socket
import tempfile
from pathlib import Path

import pytest

from scaffold.hosts.exchange import Headers, Response
from scaffold.hosts.upstream.serve import serve


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="up") as name:  # pytest's own paths are long for a socket's
        yield Path(name)


@pytest.fixture
def origin(folder):
    with serve(pipes={"upstream": folder / "pipe"}, port=0, control=folder / "control") as origin:
        yield origin


@pytest.fixture
def dial(origin):
    """Open a raw connection to the origin."""
    opened = []

    def dial():
        opened.append(socket.create_connection(("127.0.0.1", origin.port()), timeout=5))
        return opened[-1]

    yield dial
    for each in opened:
        each.close()


@pytest.fixture
def say(dial):
    """Send bytes as they are; returns all that comes back until the origin hangs up."""

    def say(*parts):
        caller = dial()
        for part in parts:
            caller.sendall(part)
        caller.shutdown(socket.SHUT_WR)
        return everything(caller)

    return say


@pytest.fixture
def ask(origin):
    """Send a request on a connection of its own; returns the answer."""

    def ask(target, method="GET", headers=(), body=None):
        connection = http.client.HTTPConnection("127.0.0.1", origin.port(), timeout=5)
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        made = Response(answer.status, Headers(answer.getheaders()), answer.read())
        connection.close()
        return made

    return ask


def everything(caller):
    return b"".join(iter(lambda: caller.recv(65536), b""))
