"""What a client sends under the faults that are about its request."""

from __future__ import annotations

from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.faults.fault import OF_REQUESTS

BY_NAME = {each.name: each for each in OF_REQUESTS}


def sent(name, request):
    return BY_NAME[name].sent(request)


def test_an_oddly_chunked_body_is_the_same_body():
    request = Request("POST", "/", body=bytes(range(256)) * 20)
    found = sent("odd chunking", request)
    assert b"".join(found.parts) == request.body
    assert [len(each) for each in found.parts[:22]] == [1] * 20 + [7, 7]


def test_a_request_without_a_body_has_no_chunks():
    assert sent("odd chunking", Request("GET", "/")) is None


def test_headers_are_within_what_envoy_takes():
    request = Request("GET", "/", Headers({"x-a": "1"}))
    assert 30_000 < len(sent("a huge header", request).headers["x-fault"]) < 60 * 1024
    assert 50 < len(sent("60 more headers", request).headers) < 90


def test_every_header_is_other_than_utf_8_except_for_the_framing():
    request = Request(
        "POST", "/", Headers([("host", "a"), ("Content-Length", "1"), ("x-a", "1"), ("Cookie", "2")]), b"x"
    )
    found = dict(sent("non-UTF-8 headers", request).headers.iteritems())
    bad = "\xff\xfe"
    kept = {"host": "a", "Content-Length": "1"}
    assert found == {**kept, "x-a": bad, "Cookie": bad, "authorization": bad, "x-fault": bad}
    assert request.headers["x-a"] == "1"
