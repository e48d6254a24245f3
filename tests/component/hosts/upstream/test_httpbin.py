import json
import select

import pytest

from scaffold.hosts.upstream.http1 import Received
from scaffold.hosts.upstream.httpbin import answer


def test_headers_are_shown_as_httpbin_does(ask, say):
    raw = b"GET /headers HTTP/1.1\r\nx-hello: a\r\nHost: example.com\r\nX-HELLO: b\r\nEmpty:\r\n\r\n"
    assert say(raw).partition(b"\r\n\r\n")[2] == (
        b'{\n  "headers": {\n    "Empty": "",\n    "Host": "example.com",\n    "X-Hello": "a,b"\n  }\n}\n'
    )
    assert ask("/headers").headers["content-type"] == "application/json"


def test_answers_carry_nothing_but_their_type_and_length(ask):
    assert list(ask("/headers").headers) == ["content-type", "content-length"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_anything_takes_every_method(ask, method):
    shown = ask("/anything/at/all?a=1&b=2&b=&c=%C3%A9", method, {"host": "h:1"}, b'{"x": [1]}').json()
    assert shown["headers"].pop("Accept-Encoding") == "identity"
    assert shown == {
        "args": {"a": "1", "b": ["2", ""], "c": "é"},
        "data": '{"x": [1]}',
        "form": {},
        "headers": {"Content-Length": "10", "Host": "h:1"},
        "json": {"x": [1]},
        "method": method,
        "url": "http://h:1/anything/at/all?a=1&b=2&b=&c=%C3%A9",
    }


def test_a_form_is_shown_apart_from_the_data(ask):
    form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    shown = ask("/anything", "POST", form, b"a=1&a=2&b=").json()
    assert (shown["form"], shown["data"], shown["json"]) == ({"a": ["1", "2"], "b": ""}, "", None)


def test_a_body_that_is_no_text_is_shown_in_base64(ask):
    assert ask("/anything", "POST", body=b"\xff\x00").json()["data"] == (
        "data:application/octet-stream;base64,/wA="
    )


@pytest.mark.parametrize("body", [b"NaN", b"1e999", b"[" * 5000, b"[" * 900 + b"]" * 900, b"{", b"9" * 5000])
def test_a_body_that_json_cannot_show_is_shown_as_data(ask, body):
    shown = ask("/anything", "POST", body=body).json()
    assert shown["data"] == body.decode()


def test_the_scheme_is_the_proxys(ask):
    assert ask("/anything", headers={"x-forwarded-proto": "https"}).json()["url"].startswith("https://")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("status", [200, 204, 304, 418, 503, 599])
def test_status(ask, status, method):
    answer = ask(f"/status/{status}", method, body=b"" if method == "GET" else b"abc")
    lengths = {} if status in (204, 304) else {"content-length": "0"}
    assert (answer.status, dict(answer.headers), answer.body) == (status, lengths, b"")


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/status/100", "100 isn't the status of an answer, which is from 200 to 599"),
        ("/status/600", "'600' isn't a whole number from 0 to 599"),
        ("/status/ok", "'ok' isn't a whole number from 0 to 599"),
        ("/delay/61", "'61' isn't a number of seconds from 0 to 60"),
        ("/delay/nan", "'nan' isn't a number of seconds from 0 to 60"),
        ("/delay/-1", "'-1' isn't a number of seconds from 0 to 60"),
        ("/bytes/10485761", "'10485761' isn't a whole number from 0 to 10485760"),
        ("/stream/101", "'101' isn't a whole number from 0 to 100"),
        ("/response-headers?a%20b=c", "'a b' isn't a valid header name"),
        ("/response-headers?a=b%0d%0ac:d", "the header a can't carry 'b\\r\\nc:d'"),
    ],
)
def test_what_makes_no_sense_is_a_400_with_a_sentence(ask, target, sentence):
    answer = ask(target)
    assert (answer.status, answer.json()) == (400, {"error": sentence})


def test_a_delay_blocks_nobody_else(ask, dial):
    slow = dial()
    slow.sendall(b"GET /delay/1?a=1 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert ask("/headers").status == 200
    assert select.select([slow], [], [], 0)[0] == []
    assert b'"a": "1"' in slow.recv(65536)


def test_no_delay_is_no_delay(ask):
    assert ask("/delay/0").status == 200


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 10 * 1024 * 1024])
def test_bytes_are_always_the_same(ask, size):
    answer = ask(f"/bytes/{size}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body == (bytes(range(256)) * (size // 256 + 1))[:size]


def test_a_stream_comes_in_chunks_of_a_line(say, ask):
    head, _, body = say(b"GET /stream/2 HTTP/1.1\r\nHost: h\r\n\r\n").partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    line = b'{"id": %d, "url": "http://h/stream/2"}\n'
    assert body == b"26\r\n" + line % 0 + b"\r\n26\r\n" + line % 1 + b"\r\n0\r\n\r\n"
    assert [json.loads(each)["id"] for each in ask("/stream/100").body.splitlines()] == list(range(100))


def test_a_client_of_http_1_0_gets_a_stream_whole(say):
    head, _, body = say(b"GET /stream/1 HTTP/1.0\r\nHost: h\r\n\r\n").partition(b"\r\n\r\n")
    assert b"content-length: 38\r\nconnection: close" in head
    assert body == b'{"id": 0, "url": "http://h/stream/1"}\n'


def test_response_headers_are_what_the_query_names(ask):
    answer = ask("/response-headers?x-a=1&x-a=2&Set-Cookie=c&content-length=3&e=%E9")
    assert answer.headers.getlist("x-a") == ["1", "2"]
    assert answer.headers["set-cookie"] == "c"
    assert answer.headers["e"] == "é"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["x-a"] == ["1", "2"]
    assert ask("/response-headers?content-type=text/plain").headers.getlist("content-type") == ["text/plain"]


def test_the_root_is_a_page_that_names_the_paths(ask):
    answer = ask("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<code>/anything[/...]</code>" in answer.text


@pytest.mark.parametrize("target", ["/nowhere", "/headers/x", "/status", "/bytes?n=1", "//", "/anythings"])
def test_another_path_is_a_404_that_names_the_paths(ask, target):
    answer = ask(target)
    assert answer.status == 404
    assert answer.json()["error"] == f"no such path: {target.partition('?')[0]}"
    assert "/status/N" in answer.json()["paths"]


def test_a_target_may_be_a_whole_url():
    received = Received(b"GET", b"http://example.com/anything?a=1", [], b"")
    assert json.loads(answer(received).body)["url"] == "http://example.com/anything?a=1"
