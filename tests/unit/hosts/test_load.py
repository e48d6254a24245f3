from __future__ import annotations

import itertools
from collections import Counter

import pytest

from scaffold.hosts.load import Answers, _Broken, complete, in_turn

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("received", "options", "status"),
    [
        (OK + b"content-length: 3\r\n\r\nabc", {}, 200),
        (OK + b"content-length: 3\r\n\r\nab", {}, None),
        (OK + b"content-length: 3\r\n", {}, None),
        (OK + b"content-length: 3\r\n\r\n", {"has_body": False}, 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", {}, 204),
        (b"HTTP/1.1 100 Continue\r\n\r\n", {}, None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n", {}, 404),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", {}, 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\ntrailer: 1\r\n\r\n", {}, 200),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n", {}, None),  # that is the chunk
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", {}, None),
        (OK + b"\r\nuntil the end", {}, None),
        (OK + b"\r\nuntil the end", {"ended": True}, 200),
    ],
)
def test_an_answer_is_whole_or_not_yet(received, options, status):
    assert complete(received, **options) == status


@pytest.mark.parametrize(
    "received", [b"220 smtp\r\n\r\n", OK + b"transfer-encoding: chunked\r\n\r\nnone\r\n", b"HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_answer_is_said_so(received):
    with pytest.raises(_Broken):
        complete(received)


def test_requests_come_as_often_as_they_weigh_and_evenly():
    turns = list(itertools.islice(in_turn([1, 3, 2]), 60))
    assert Counter(turns) == {0: 10, 1: 30, 2: 20}
    assert all(Counter(turns[at : at + 6]) == {0: 1, 1: 3, 2: 2} for at in range(0, 60, 6))
    assert (1, 1, 1) not in zip(turns, turns[1:], turns[2:], strict=False)


def test_quantiles_are_of_all_latencies_and_0_without_any():
    answers = Answers([float(each) for each in range(100, 0, -1)], [0.0] * 101, failures={"reset": 1})
    assert (answers.sent, answers.failed) == (101, 1)
    assert [answers.quantile(share) for share in (0, 0.5, 0.99, 1)] == [1, 51, 100, 100]
    assert Answers([], []).quantile(0.5) == 0
