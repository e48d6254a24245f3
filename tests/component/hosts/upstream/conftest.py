import http.client
import socket
import tempfile
from pathlib import Path

import pytest

from scaffold.hosts.exchange import Headers, Response
from scaffold.hosts.upstream.server import serve


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="up") as name:  # pytest's own paths are long for a socket's
        yield Path(name)


@pytest.fixture
def origin(folder):
    with serve(pipes={"upstream": folder / "pipe"}, control=folder / "control") as origin:
        yield origin


@pytest.fixture
def dial(origin, folder):
    """Open a raw connection to the origin."""
    opened = []

    def dial():
        opened.append(socket.socket(socket.AF_UNIX))
        opened[-1].settimeout(5)
        opened[-1].connect(str(folder / "pipe"))
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
def ask(dial):
    """Send a request on a connection of its own; returns the answer."""

    def ask(target, method="GET", headers=(), body=None):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = dial()
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        made = Response(answer.status, Headers(answer.getheaders()), answer.read())
        connection.close()
        return made

    return ask


def everything(caller):
    return b"".join(iter(lambda: caller.recv(65536), b""))
