"""A deadline ends every wait for a server, and what no one asked for is never read."""

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import requests
import urllib3
from support.processes import eventually
from support.slow_servers import SLOW, answering, pouring

from scaffold.core.http_session import Session, chunks

SHORT = {"silence": 5.0, "remaining": 0.5}
ENDS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


@pytest.fixture
def session():
    with closing(Session()) as session:
        yield session


@pytest.mark.timeout(60)  # without a deadline of ours it would never end
@pytest.mark.parametrize("kind", SLOW)
def test_whatever_arrives_slowly_is_cut_when_the_time_is_over(session, kind):
    scheme = "https" if kind == "a handshake" else "http"
    begun = time.monotonic()
    with answering(SLOW[kind]) as place:
        try:
            b"".join(chunks(session.send_once("GET", f"{scheme}://{place}/", **SHORT)))
        except ENDS:
            pass
        else:
            assert kind in ("a body without a length", "trailers", "a redirect's body")
    assert 0.4 < time.monotonic() - begun < 5 or kind == "a redirect's body"


def test_a_redirect_is_an_answer_and_its_body_stays_where_it_is(session):
    sent = []
    head = b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n"
    with answering(pouring(head, sent)) as place:
        response = session.send_once("GET", f"http://{place}/a", silence=5, remaining=5)
        assert (response.status_code, response.headers["Location"]) == (302, "/b")
        response.close()
    assert sum(sent) < 50_000_000


def test_a_deadline_that_has_passed_does_not_end_a_later_request(session):
    """The second answer comes after the deadline of the first request, which has ended."""

    def answer(client, over):
        for seconds in (0, 0.7):
            client.recv(65536)
            over.wait(seconds)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    with answering(answer) as place:
        for limits in (SHORT, {"silence": 30.0, "remaining": 30.0}):
            assert b"".join(chunks(session.send_once("GET", f"http://{place}/", **limits))) == b"x"
        session.close()
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert eventually(lambda: not any(each.is_alive() for each in timers))


MANY = """
import socket, sys, threading, time
from scaffold.core.http_session import Session

def answer(server):
    if "answers" in sys.argv:
        client, _ = server.accept()
        client.sendall(b"HTTP/1.1 204 No\\r\\n\\r\\n")
        time.sleep(1)

listening = []
for number in range(10, 16):  # each takes no connection, as its queue is full
    listening.append(socket.create_server((f"127.0.0.{number}", 0 if number == 10 else port), backlog=0))
    port = listening[0].getsockname()[1]
    for _ in range(3):
        full = socket.socket()
        full.setblocking(False)
        full.connect_ex(listening[-1].getsockname())
        listening.append(full)
threading.Thread(target=answer, args=[socket.create_server(("127.0.0.16", port))], daemon=True).start()
begun = time.monotonic()
try:
    Session().send_once("GET", f"http://many.example:{port}/", silence=3, remaining=3)
except Exception as error:
    print(type(error).__name__)
print(time.monotonic() - begun)
"""


@pytest.fixture
def many(tmp_path):
    """Run a script for which `many.example` has seven addresses."""
    if not shutil.which("unshare") or os.getuid() != 0:
        pytest.skip("mounts are root's")
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"127.0.0.{number} many.example\n" for number in range(10, 17)))
    mount = 'mount --bind "$1" /etc/hosts; shift; exec "$@"'

    def ran(body, *words):
        argv = ["unshare", "--mount", "sh", "-ec", mount, "sh", hosts, sys.executable, "-c", body, *words]
        done = subprocess.run(argv, capture_output=True, text=True)
        if "permission denied" in done.stderr or "not permitted" in done.stderr:
            pytest.skip("mounts aren't allowed here")
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return ran


def test_all_addresses_of_a_host_share_the_time_that_is_left(many):
    kind, seconds = many(MANY)  # each had all of it
    assert kind in ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout")
    assert 2 < float(seconds) < 6
    (seconds,) = many(MANY, "answers")  # the last of them
    assert float(seconds) < 3
