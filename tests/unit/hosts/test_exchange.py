import pytest

from scaffold.errors import UsageError
from scaffold.hosts.envoy.log import Line
from scaffold.hosts.exchange import Exchange, Headers, LogLines, Request, Response, Seen


def test_the_path_is_the_target_without_its_query():
    assert Request("GET", "/a/b?c=d?e").path == "/a/b"
    assert Request("GET", "/a").path == "/a"
    assert Request("OPTIONS", "*").path == "*"


@pytest.mark.parametrize(
    "kind", [lambda body: Request("POST", "/", body=body), lambda body: Response(body=body)]
)
def test_a_body_reads_as_text_and_as_json(kind):
    assert kind(b'{"a": "\xc3\xb6"}').json() == {"a": "ö"}
    assert kind("ö".encode()).text == "ö"
    assert kind(b"\xff").text == "\ufffd"


@pytest.mark.parametrize(
    "kind", [lambda body: Request("POST", "/", body=body), lambda body: Response(body=body)]
)
@pytest.mark.parametrize("body", [b"", b"no", b"\xff", b'{"a":'])
def test_a_body_that_is_not_json_is_a_value_error(kind, body):
    with pytest.raises(ValueError):
        kind(body).json()


def test_headers_keep_repeats_and_ignore_case():
    headers = Headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("x-hello", "hi")])
    response = Response(headers=headers)
    assert response.headers.getlist("set-cookie") == ["a=1", "b=2"]
    assert response.headers["X-Hello"] == "hi"


def test_repeats_are_joined_in_one_place_and_apart_in_another():
    headers = Headers([("X-A", "1"), ("x-b", "2"), ("x-a", "3")])
    assert (headers["x-a"], dict(headers), len(headers)) == ("1, 3", {"X-A": "1, 3", "x-b": "2"}, 2)
    assert list(headers.iteritems()) == [("X-A", "1"), ("x-b", "2"), ("x-a", "3")]


def test_a_header_that_is_set_takes_the_place_of_all_of_its_name():
    headers = Headers([("x-a", "1"), ("x-b", "2"), ("X-A", "3")])
    headers["X-a"] = "4"
    headers.add("x-B", "5")
    assert list(headers.iteritems()) == [("x-b", "2"), ("X-a", "4"), ("x-B", "5")]
    del headers["X-B"]
    assert list(headers.iteritems()) == [("X-a", "4")]


def test_a_header_that_is_not_there():
    headers = Headers({"x-a": ""})
    assert headers["X-A"] == ""
    assert (headers.get("x-b"), headers.getlist("x-b"), "x-b" in headers) == (None, [], False)
    with pytest.raises(KeyError, match="x-b"):
        headers["x-b"]
    with pytest.raises(KeyError, match="x-b"):
        del headers["x-b"]


def test_headers_are_equal_by_names_in_any_case_and_values():
    headers = Headers([("X-A", "1"), ("x-a", "2"), ("x-b", "3")])
    assert headers == Headers([("x-b", "3"), ("x-a", "1"), ("X-A", "2")])
    assert headers == {"x-a": "1, 2", "X-B": "3"}
    assert headers != Headers([("X-A", "2"), ("x-a", "1"), ("x-b", "3")])
    assert headers != [("X-A", "1"), ("x-a", "2"), ("x-b", "3")]


def test_a_copy_of_headers_has_its_own_fields():
    headers = Headers([("x-a", "1"), ("x-a", "2")])
    copy = Headers(headers)
    copy["x-a"] = "3"
    assert (headers.getlist("x-a"), repr(copy)) == (["1", "2"], "Headers([('x-a', '3')])")


def test_two_requests_do_not_share_their_headers():
    Request("GET", "/").headers["x-hello"] = "hi"
    assert "x-hello" not in Request("GET", "/").headers


def test_in_looks_for_a_part_of_any_line():
    logs = LogLines(["#1 headers", "#2 body"])
    assert "headers" in logs
    assert "#2 body" in logs
    assert "headers#2" not in logs
    assert "trailers" not in logs
    assert 1 not in logs
    assert "" not in LogLines()


def test_log_lines_are_the_tuple_they_look_like():
    logs = LogLines(["one", "two"])
    assert logs == ("one", "two")
    assert (len(logs), logs[0], list(logs)) == (2, "one", ["one", "two"])


def test_a_failed_assertion_shows_the_lines():
    assert repr(LogLines(["one", "two"])) == "logs:\n  one\n  two"
    assert repr(LogLines()) == "logs: (none)"


def test_an_exchange_answers_with_its_response():
    exchange = Exchange(Request("GET", "/"), Response(403))
    assert exchange.status == 403
    assert (exchange.upstream, exchange.metrics) == (None, {})


def test_what_a_failed_test_shows_of_the_log_commands_no_terminal():
    shown = repr(LogLines(["a\x1b[2J\nE   forged", "b"]))
    assert shown == "logs:\n  a\ufffd[2J\n  E   forged\n  b"


def test_what_another_upstream_received_is_not_known():
    exchange = Exchange(Request("GET", "/"), Response(), _sides=Seen(knows_upstream=False))
    with pytest.raises(UsageError, match="only the built-in one records it"):
        _ = exchange.upstream
    assert "upstream=(not recorded)" in repr(exchange)
    assert "upstream=None" in repr(Exchange(Request("GET", "/"), Response()))


def test_a_crash_is_a_line():
    failed = "Function: proxy_on_log failed: Uncaught RuntimeError: unreachable\nbacktrace:\n 0: 0x1"
    panics = ["panicked at src/lib.rs:1:2:\nfirst", "panicked at src/lib.rs:3:4:\nwhy"]
    assert LogLines(["saw /", *panics, failed]).crash == "panicked at src/lib.rs:3:4: why"
    assert LogLines([failed, "panicked at later"]).crash == failed.partition("\n")[0]
    assert LogLines(["panicked at the thought", "failed"]).crash == ""


def test_a_body_that_is_no_json_is_shown():
    with pytest.raises(ValueError, match=r"the body isn't JSON \(Expecting value.*\): b'oops'"):
        Response(body=b"oops").json()
    with pytest.raises(ValueError, match="the body isn't JSON"):
        Request("GET", "/", body=b"\xff").json()


def test_of_a_log_a_test_sees_what_the_plugin_wrote_but_no_trace():
    lines = [
        Line("info", "wasm", "one", "plugin"),
        Line("trace", "wasm", "two", "plugin"),
        Line("trace", "wasm", "[host->vm] proxy_on_tick(1)"),
        Line("error", "wasm", "Function: proxy_on_tick failed: no"),
        Line("debug", "http", "three"),
    ]
    assert LogLines.of(lines) == ("one", "Function: proxy_on_tick failed: no")
