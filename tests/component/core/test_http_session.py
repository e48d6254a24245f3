"""A deadline ends every wait for a server, and what no one asked for is never read."""

import threading
import time
from contextlib import closing

import pytest
import requests
import urllib3
from support.slow_servers import SLOW, answering, pouring

from scaffold.core.http_session import Session, chunks

SHORT = {"silence": 5.0, "remaining": 0.5}
ENDS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


@pytest.fixture
def session():
    with closing(Session()) as session:
        yield session


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
    def answer(client, over):
        while not over.is_set() and client.recv(65536):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    with answering(answer) as place:
        for _ in range(2):
            assert b"".join(chunks(session.send_once("GET", f"http://{place}/", **SHORT))) == b"x"
            time.sleep(0.7)  # the deadline of a request that has ended
        session.close()
    assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
