"""The socket that leads on to a foreign upstream."""

from __future__ import annotations

import socket
import threading

import pytest

from scaffold.errors import HostError
from scaffold.hosts.upstream.server import relay


@pytest.fixture
def pipe(tmp_path):
    return tmp_path / "r.sock"


def call(pipe):
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(10)
    caller.connect(str(pipe))
    return caller


def rest(connection):
    """All that comes until the other side ends."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_bytes_go_both_ways_until_each_side_has_ended(pipe):
    sent, answered = b"a" * 3_000_000, b"b" * 3_000_000
    with socket.create_server(("127.0.0.1", 0)) as origin, relay(pipe, "localhost", origin.getsockname()[1]):
        got = []

        def serve():
            connection, _ = origin.accept()
            with connection:
                got.append(rest(connection))
                connection.sendall(answered)

        serving = threading.Thread(target=serve)
        serving.start()
        with call(pipe) as caller:
            caller.sendall(sent)
            caller.shutdown(socket.SHUT_WR)
            assert rest(caller) == answered
        serving.join()
    assert got == [sent]
    assert not pipe.exists()


def test_an_origin_that_is_down_ends_the_connection(pipe):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with relay(pipe, "127.0.0.1", port), call(pipe) as caller:
        assert rest(caller) == b""
        with call(pipe) as again:
            assert rest(again) == b""


def test_connections_end_with_the_relay(pipe):
    with socket.create_server(("127.0.0.1", 0)) as origin:
        with relay(pipe, "127.0.0.1", origin.getsockname()[1]):
            caller = call(pipe)
            caller.sendall(b"x")
            connection, _ = origin.accept()
            assert connection.recv(1) == b"x"
        with caller, connection:
            assert (rest(caller), rest(connection)) == (b"", b"")


def test_it_is_for_this_user_alone_and_one_at_a_time(pipe):
    with relay(pipe, "127.0.0.1", 9):
        assert pipe.stat().st_mode & 0o777 == 0o600
        with pytest.raises(HostError, match="another one does"), relay(pipe, "127.0.0.1", 9):
            pass
