"""The answer of a URL behind a plugin: its status counts, whatever follows."""

import time

import pytest
from support.slow_servers import answering, dripping

from scaffold.errors import TargetError
from scaffold.kubernetes.resource_status import wait_for_answer

STREAM = b"Content-Type: text/event-stream\r\n\r\n"


def test_a_body_without_an_end_is_not_read():
    begun = time.monotonic()
    with answering(dripping(b"HTTP/1.1 200 OK\r\n" + STREAM)) as place:
        wait_for_answer(f"http://{place}/", 1.0)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("begin", "why"),
    [(b"HTTP/1.1 503 No\r\n" + STREAM, "it answers 503"), (b"HTTP/1.1 200 OK\r\nA: ", "")],
    ids=["a status", "a header"],
)
def test_what_sends_without_an_end_is_given_up(begin, why):
    begun = time.monotonic()
    with answering(dripping(begin)) as place, pytest.raises(TargetError) as caught:
        wait_for_answer(f"http://{place}/", 0.5)
    assert f"doesn't answer: {why}" in caught.value.message
    assert 0.4 < time.monotonic() - begun < 15
