"""`record`: where requests come from, and what is written of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from scaffold.commands.record import sources, writing
from scaffold.commands.record.replay import Facts
from scaffold.core.events import Changes, HeaderChange, Requested
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts.exchange import Headers, Request

ENVOYS = (
    '[2026-11-30T10:00:00.000Z] "POST /api/v1?a=b HTTP/1.1" 204 - 154 0 226 100 "10.0.35.28" "nsq2http"'
    ' "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "10.0.2.1:80"'
)
ISTIOS = (
    '[2026-11-30T10:00:00.000Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 4 "-" "curl/8.0"'
    ' "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin - -'
)
ENTRY = {
    "request": {
        "method": "post",
        "url": "https://shop.example/cart?id=1#top",
        "headers": [{"name": ":authority", "value": "x"}, {"name": "Accept", "value": "*/*"}],
        "postData": {"mimeType": "text/plain", "text": "hello"},
    },
    "response": {"status": 201},
}


def har(*entries) -> str:
    return json.dumps({"log": {"version": "1.2", "entries": entries}})


def requested(**more) -> Requested:
    return Requested(0, 1, "1234abcd", "GET", "/a?b", 403, 1.0, more.pop("received", 0), 0, **more)


@pytest.mark.parametrize(
    ("line", "seen", "authority", "size"),
    [
        (ENVOYS, ("POST", "/api/v1?a=b", 204), "locations", "154"),
        (f"2026-11-30 pod-1 {ENVOYS}", ("POST", "/api/v1?a=b", 204), "locations", "154"),
        (ISTIOS, ("GET", "/status/418", 418), "httpbin:8000", ""),
        (
            '{"method": "GET", "path": "/a", "response_code": 200, "authority": "h", "user_agent": "-"}',
            ("GET", "/a", 200),
            "h",
            "",
        ),
    ],
)
def test_a_line_of_an_access_log(line, seen, authority, size):
    (found,) = sources.of_file(line, "access.log")
    assert (found.request.method, found.request.target, found.status) == seen
    assert found.request.headers["host"] == authority
    assert (f"none of the {size} bytes" in found.lacks) == bool(size)


@pytest.mark.parametrize("request_id", ["-", "abc123", "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2"])
@pytest.mark.parametrize("line", [ENVOYS, ISTIOS])
def test_whatever_the_requests_id_is(line, request_id):
    (found,) = sources.of_file(re.sub("[0-9a-f]{8}-[0-9a-f-]{27}", request_id, line), "access.log")
    (before,) = sources.of_file(line, "access.log")
    assert found == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"log": {"entries": [', "isn't a whole HAR file"),
        ("hello", "access.log, line 1 is no line of an access log"),
        ('{"method": "GET"}', "is no HAR file: it has no `log.entries`"),
        ('{"a": 1}\n{"b": 2}', "line 1 is no line"),
        ('{"log": {"entries": 5}}', "is no HAR file"),
        ("[" * 20_000 + "\n{" + '"a":[' * 20_000, "line 1 is no line"),
    ],
)
def test_what_is_neither_a_har_nor_an_access_log(text, why):
    with pytest.raises(ProjectError) as raised:
        sources.of_file(text, "access.log")
    assert why in raised.value.message


BAD_VALUE = ENTRY | {"request": ENTRY["request"] | {"headers": [{"name": "a", "value": 5}]}}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"request": {"url": "http://a/"}}, "entry 2 isn't as in HAR 1.2"),
        ({"request": {"method": "GET", "url": "wss://a/"}}, "its URL begins with wss:"),
        (ENTRY | {"request": 5}, "entry 2 isn't"),
        (BAD_VALUE, "entry 2 isn't"),
        (ENTRY | {"response": {"status": 101}}, "entry 2 became a WebSocket"),
        (ENVOYS[30:], "line 2 is no line of an access log"),
        ('[2026-11-30T00:00:00.000Z] "- - HTTP/1.1" 400 DPE 0 11 0 - "-" "-" "-"', "without a path"),
        ('{"method": "CONNECT", "path": "host:443", "status": 200}', "without a path"),
    ],
)
def test_what_no_test_can_send_is_left_out_and_said(bad, why, said):
    found = sources.of_file(f"{ENVOYS}\n{bad}" if isinstance(bad, str) else har(ENTRY, bad), "it")
    assert [isinstance(each, str) for each in found] == [False, True]
    assert why in found[1]
    assert sources.chosen(found, None, "it") == [found[0]]
    assert said == [f"left out of it: {found[1]}"]
    with pytest.raises(UsageError, match="it: "):
        sources.chosen(found, 2, "it")
    assert sources.chosen(found, 1, "it") == [found[0]]


@pytest.mark.parametrize("status", ["Infinity", '"²"', "-5", '"20"', "null", "99999999"])
def test_a_status_that_is_none_is_not_known(status):
    text = har(ENTRY | {"response": {"status": "?"}}).replace('"?"', status)
    (found,) = sources.of_file(text, "x.har")
    assert found.status is None


def test_requests_that_differ_in_a_value_are_two():
    entries = [
        ENTRY | {"request": ENTRY["request"] | {"headers": [{"name": "x-user", "value": name}]}}
        for name in ("alice", "bob", "alice")
    ]
    assert len(sources.chosen(sources.of_file(har(*entries), "it"), None, "it")) == 2


def test_what_the_live_view_cut_is_not_sent():
    changes = Changes(
        (HeaderChange("x-a", "(20 bytes)", None), HeaderChange("x-b", "b... (300 bytes more)", "2"))
    )
    found = sources.of_live_view(requested(request=changes))
    assert list(found.request.headers) == []
    assert found.lacks.endswith("not the value of x-a, x-b")
    with pytest.raises(UsageError, match="first 2,000 characters"):
        sources.of_live_view(replace(requested(), path="/" * 2000))


@pytest.mark.parametrize(
    ("body", "shown", "what"),
    [
        (b"user=a&password=hunter2", b"user=a&password=SECRET", ["password in the body"]),
        (
            b'{"a": [{"password": "x", "b": 1}]}',
            b'{"a": [{"password": "SECRET", "b": 1}]}',
            ["password in the body"],
        ),
        (b'{"key": "x", "token": true}', b'{"key": "x", "token": true}', []),
        (b"\xff=", b"\xff=", []),
        (b"[" * 50_000, b"[" * 50_000, []),
    ],
)
def test_secrets_in_a_body(body, shown, what):
    without, found = writing.without_secrets(Request("POST", "/", body=body))
    assert (without.body, found) == (shown, what)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Cookie", "s3cr3t", "SECRET"),
        ("cookie", "=s3; a=b", "SECRET; a=SECRET"),
        ("x-upstream", "bearer sk-live", "bearer SECRET"),
        ("x-functions-key", "k", "SECRET"),
        ("x-csrf", "k", "SECRET"),
        ("referer", "https://a/b?token=1&c=2", "https://a/b?token=SECRET&c=2"),
        ("x-keys", "a=b", "a=b"),
    ],
)
def test_secrets_in_headers(name, value, shown):
    without, found = writing.without_secrets(Request("GET", "/", Headers([(name, value)])))
    assert list(without.headers.values()) == [shown]
    assert found == [name] * (shown != value)


def test_an_entry_of_a_har():
    (found,) = sources.of_file(har(ENTRY), "x.har")
    assert (found.request.method, found.request.target, found.status) == ("POST", "/cart?id=1", 201)
    assert list(found.request.headers.iteritems()) == [("host", "shop.example"), ("accept", "*/*")]
    assert (found.request.body, found.lacks) == (b"hello", "")


def test_a_body_that_a_har_has_not_is_named():
    request = ENTRY["request"] | {"postData": None, "bodySize": 7}
    (found,) = sources.of_file(har(ENTRY | {"request": request}), "x.har")
    assert found.lacks == "the file doesn't have its body of 7 bytes"


def test_a_request_of_the_live_view_has_the_headers_that_the_plugin_changed():
    changes = Changes(
        (HeaderChange("x-a", "1", None), HeaderChange("x-b", None, "2"), HeaderChange("x-c", "3", "4"))
    )
    found = sources.of_live_view(requested(request=changes, received=9))
    assert list(found.request.headers.iteritems()) == [("x-a", "1"), ("x-c", "3")]
    assert found.status == 403
    assert "none of the 9 bytes of its body" in found.lacks


def test_of_several_one_is_chosen_or_each_once():
    text = f"{ENVOYS}\n{ISTIOS}\n{ENVOYS}"
    found = sources.of_file(text, "access.log")
    assert [str(each) for each in sources.chosen(found, None, "it")] == ["POST /api/v1", "GET /status/418"]
    assert [str(each) for each in sources.chosen(found, 2, "it")] == ["GET /status/418"]
    with pytest.raises(UsageError, match="--request can't be 4: it has 3"):
        sources.chosen(found, 4, "it")
    with pytest.raises(UsageError, match="there is no request in it"):
        sources.chosen([], None, "it")


def test_placeholders_stand_for_secrets():
    headers = Headers(
        [("Authorization", "Bearer abc"), ("cookie", "a=1; b=2"), ("x-api-key", "k"), ("x-a", "token")]
    )
    shown, found = writing.without_secrets(
        Request("GET", "/a?token=1&key=2&keys=3&access%5fkey=4&c", headers)
    )
    assert shown.target == "/a?token=SECRET&key=SECRET&keys=3&access%5fkey=SECRET&c"
    assert list(shown.headers.values()) == ["Bearer SECRET", "a=SECRET; b=SECRET", "SECRET", "token"]
    assert found == ["Authorization", "cookie", "x-api-key", "?token", "?key", "?access%5fkey"]


def test_what_a_browser_adds_is_noise():
    request = Request(
        "GET", "/", Headers([("sec-fetch-mode", "cors"), ("x-a", "1"), ("Connection", "close")])
    )
    assert list(writing.bare(request).headers) == ["sec-fetch-mode", "x-a"]
    assert list(writing.without_noise(writing.bare(request)).headers) == ["x-a"]


def test_names_of_tests_are_not_taken():
    request = Request("GET", "/a/b-c?d")
    assert writing.name_of(request, []) == "test_get_a_b_c"
    assert writing.name_of(request, ["test_get_a_b_c", "test_get_a_b_c_2"]) == "test_get_a_b_c_3"
    assert writing.name_of(request, [], "test_mine") == "test_mine"
    with pytest.raises(UsageError, match="a test called test_mine already"):
        writing.name_of(request, ["test_mine"], "test_mine")


def test_the_text_of_a_test():
    facts = Facts(200, 201, '/"a"', ("assert exchange.status == 200",))
    request = Request("PUT", '/"a"', Headers([("x-a", "1"), ("x-a", "2")]), b"caf\xc3\xa9")
    assert writing.text_of("test_it", request, facts) == (
        "\n\ndef test_it(proxy: Proxy):\n"
        "    proxy.upstream.answer(201, path='/\"a\"')\n"
        '    exchange = proxy.request("PUT", \'/"a"\', headers=[("x-a", "1"), ("x-a", "2")], body="café")\n'
        "    assert exchange.status == 200\n"
    )
    bare = Facts(401, None, ("assert exchange.status == 401",))
    text = writing.text_of("test_it", Request("GET", "/", body=b"\xff"), bare, annotated=False)
    assert text.startswith('\n\ndef test_it(proxy):\n    exchange = proxy.get("/", body=b"\\xff")\n')


def test_long_headers_have_a_line_each():
    headers = Headers([("x-a", "a" * 60), ("x-b", "b" * 60)])
    text = writing.text_of("test_it", Request("POST", "/", headers, b"{}"), Facts(200, None))
    assert text.count("\n") == 11
    exec(compile(text.replace(": Proxy", ""), "test", "exec"), {})  # it is Python


def test_a_body_that_is_too_large_is_refused():
    with pytest.raises(UsageError, match="a body of 20,000 bytes is too large for a test"):
        writing.check(Request("POST", "/", body=bytes(20_000)))
