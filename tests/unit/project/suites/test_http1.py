"""HTTP/1 in a suite, as headers."""

from __future__ import annotations

import pytest

from scaffold.project.suites import http1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"GET /my/path?foo=bar HTTP/1.1\r\nHost: myhost.com\r\nMyHeader: MyVal1\r\n",
            [
                (b":method", b"GET"),
                (b":path", b"/my/path?foo=bar"),
                (b":authority", b"myhost.com"),
                (b"myheader", b"MyVal1"),
            ],
        ),
        (
            b"GET HTTPS://Example.com:8080/my/path?foo=bar HTTP/1.1\nHost: other\nA:  b \n\nbody: no",
            [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":path", b"/my/path?foo=bar"),
                (b":authority", b"example.com:8080"),
                (b"a", b"b"),
            ],
        ),
        (
            b"GET http://a:80 HTTP/1.1",
            [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")],
        ),
        (b"\r\nPOST / HTTP/1.0\nX: \n", [(b":method", b"POST"), (b":path", b"/"), (b"x", b"")]),
    ],
)
def test_a_request(content, expected):
    assert http1.fields(content, request=True) == expected


def test_an_answer():
    content = b"HTTP/1.1 403 Not At All\r\nMyHeader: 1\r\nMyHeader: 2\r\n\r\n"
    expected = [(b":status", b"403"), (b"myheader", b"1"), (b"myheader", b"2")]
    assert http1.fields(content, request=False) == expected


@pytest.mark.parametrize(
    ("content", "request_", "why"),
    [
        (b"GET", True, "isn't the first line of a request"),
        (b"GET / x y", True, "isn't the first line of a request"),
        (b"GET nowhere HTTP/1.1", True, "neither a path nor a whole URL"),
        (b'GET /a"b HTTP/1.1', True, "neither a path nor a whole URL"),
        (b"GET http://:1/ HTTP/1.1", True, "has no host"),
        (b"GET http://a:b/ HTTP/1.1", True, "isn't a URL"),
        (b"GET / HTTP/1.1\nnothing", True, "`nothing` isn't a header"),
        (b"GET / HTTP/1.1\n folded: x", True, "isn't a header"),
        (b"HTTP/1.1 OK", False, "isn't the first line of an answer"),
        (b"GET / HTTP/1.1", False, "isn't the first line of an answer"),
        (b"", False, "isn't the first line of an answer"),
    ],
)
def test_what_is_neither(content, request_, why):
    with pytest.raises(ValueError, match=why):
        http1.fields(content, request=request_)
