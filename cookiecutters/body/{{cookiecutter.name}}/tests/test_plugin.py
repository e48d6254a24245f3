"""What the plugin does to real requests in a real host; run with `scaffold test`."""

import json

import pytest

from scaffold.errors import HostError, ModuleError
from scaffold.hosts.exchange import Request
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy

JSON = {"content-type": "application/json"}
LONG = json.dumps({"internal": 1, "pad": "x" * 1_100_000})  # longer than max_bytes and than Envoy's buffer
LATE = json.dumps({"internal": 1, "pad": "x" * 700_000})  # longer than max_bytes only
SECRET = {"user": "alice", "internal": {"host": "db1"}, "card": {"number": "4111", "year": 2030}}
SHOWN = {"user": "alice", "card": {"number": "***", "year": 2030}}


def chunked(body: str, size: int = 10):
    """Headers and body of a chunked request, whose length isn't known in advance."""
    content = body.encode()
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return JSON | {"transfer-encoding": "chunked"}, framed + b"0\r\n\r\n"


def test_edits_a_request(proxy: Proxy):
    exchange = proxy.post("/status/200", body='{"q": 1, "debug": true}', headers=JSON)
    assert exchange.upstream.body == b'{"q":1,"client":"web"}'
    assert "content-length" not in exchange.upstream.headers  # that of the original body
    assert exchange.metrics["body.rewritten"] == 1


def test_edits_a_response(proxy: Proxy):
    proxy.upstream.answer(200, json.dumps(SECRET), JSON)
    exchange = proxy.get("/")
    assert exchange.response.json() == SHOWN
    assert "content-length" not in exchange.response.headers
    assert exchange.metrics["body.rewritten"] == 1


def test_every_item_is_masked(proxy: Proxy):
    users = [{"id": number, "email": f"u{number}@example.com"} for number in range(3)]
    proxy.upstream.answer(200, json.dumps({"users": users}), JSON)
    assert proxy.get("/").response.json() == {"users": [{"id": n, "email": "***"} for n in range(3)]}


def test_a_body_can_arrive_in_many_pieces(proxy: Proxy):
    request = json.dumps({"q": "ä" * 20_000, "debug": True}, ensure_ascii=False)
    headers, body = chunked(request, 1000)
    proxy.upstream.answer(200, json.dumps(SECRET, indent=1), JSON | {"transfer-encoding": "chunked"})
    exchange = proxy.post("/anything", body=body, headers=headers)
    assert exchange.upstream.json() == {"q": "ä" * 20_000, "client": "web"}
    assert exchange.response.json() == SHOWN


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-ndjson", "text/html; charset=application/json"]
)
def test_other_types_pass_untouched_and_are_not_held_back(proxy: Proxy, kind: str):
    proxy.upstream.answer(200, '{"internal": 1}', {"content-type": kind})
    exchange = proxy.post("/", body='{"debug": 1}', headers={"content-type": kind})
    assert exchange.upstream.body == b'{"debug": 1}'
    assert exchange.response.body == b'{"internal": 1}'
    assert exchange.upstream.headers["content-length"] == "12"
    assert exchange.response.headers["content-length"] == "15"


def test_one_json_type_among_two_is_enough(proxy: Proxy):
    types = [("content-type", "text/plain"), ("content-type", "application/json")]
    exchange = proxy.post("/anything", body='{"debug": 1}', headers=types)
    assert exchange.upstream.body == b'{"client":"web"}'


def test_other_types_can_have_any_length(proxy: Proxy):
    exchange = proxy.post("/bytes/3000000", body=b"x" * 3_000_000)
    assert len(exchange.response.body) == 3_000_000
    assert exchange.upstream.headers["content-length"] == "3000000"


def test_everything_else_keeps_its_digits_and_its_order(proxy: Proxy):
    body = b'{ "z": 1.50, "a": 12345678901234567890123, "client": "web" }'
    exchange = proxy.post("/anything", body=body, headers=JSON)
    assert exchange.upstream.body == b'{"z":1.50,"a":12345678901234567890123,"client":"web"}'


def test_a_duplicate_name_hides_nothing(proxy: Proxy):
    proxy.upstream.answer(200, '{"card": {"number": "4111"}, "card": {}}', JSON)
    assert proxy.get("/").response.body == b'{"card":{}}'


@pytest.mark.parametrize("headers", [JSON, JSON | {"transfer-encoding": "chunked"}])
def test_an_empty_body_stays_empty(proxy: Proxy, headers: dict[str, str]):
    proxy.upstream.answer(200, "", headers)
    body = b"0\r\n\r\n" if "transfer-encoding" in headers else b""
    exchange = proxy.post("/", body=body, headers=headers)
    assert (exchange.status, exchange.upstream.body, exchange.response.body) == (200, b"", b"")


def test_a_response_to_head_has_no_body(proxy: Proxy):
    proxy.upstream.answer(200, json.dumps(SECRET), JSON)
    exchange = proxy.request("HEAD", "/")
    assert (exchange.status, exchange.response.body) == (200, b"")


def test_asks_the_upstream_for_complete_uncompressed_bodies(proxy: Proxy):
    exchange = proxy.get("/", headers={"accept-encoding": "gzip", "range": "bytes=9-14"})
    assert not {"accept-encoding", "range"} & exchange.upstream.headers.keys()


@pytest.mark.parametrize(
    ("body", "headers", "status", "why"),
    [
        ('{"debug": ', {}, 400, "it isn't JSON"),
        ("[" * 100_000, {}, 400, "it isn't JSON"),
        (b"\xff\xfe", {}, 400, "it isn't JSON"),
        (LONG, {}, 413, "it is too long"),
        ('{"debug": 1}', {"content-encoding": "gzip"}, 415, "its content-encoding isn't supported"),
    ],
)
def test_a_request_that_can_not_be_edited(proxy: Proxy, body, headers, status: int, why: str):
    exchange = proxy.post("/anything", body=body, headers=JSON | headers)
    assert (exchange.status, exchange.upstream) == (status, None)
    assert f"cannot edit the body of a request: {why}" in exchange.logs
    assert exchange.metrics["body.failed"] == 1
    proxy.configure({"request": {"remove": ["/debug"]}, "on_failure": "pass"})
    exchange = proxy.post("/anything", body=body, headers=JSON | headers)
    assert exchange.status == 200
    assert exchange.upstream.body == (body if isinstance(body, bytes) else body.encode())


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (LONG, {}, "it is too long"),
        ('{"internal": 1}', {"content-encoding": "gzip"}, "its content-encoding isn't supported"),
    ],
)
def test_a_response_that_can_not_be_edited(proxy: Proxy, body: str, headers: dict[str, str], why: str):
    proxy.upstream.answer(200, body, JSON | headers)
    exchange = proxy.get("/")
    assert exchange.status == 502
    assert "internal" not in exchange.response.text
    assert f"cannot edit the body of a response: {why}" in exchange.logs
    proxy.configure({"response": {"remove": ["/internal"]}, "on_failure": "pass"})
    proxy.upstream.answer(200, body, JSON | headers)
    assert proxy.get("/").response.text == body


@pytest.mark.parametrize("body", ['{"internal": ', f"{LATE}\n"])
def test_a_response_whose_headers_have_been_sent_is_cut_off(proxy: Proxy, body: str):
    headers = JSON | {"transfer-encoding": "chunked"}  # the client gets these first
    proxy.upstream.answer(200, body, headers)
    with pytest.raises(HostError, match="no whole answer"):
        proxy.get("/")
    proxy.configure({"response": {"remove": ["/internal"]}, "on_failure": "pass"})
    proxy.upstream.answer(200, body, headers)
    assert proxy.get("/").response.text == body


def test_a_chunked_request_that_is_too_long(proxy: Proxy):
    headers, body = chunked(LATE, 50_000)
    exchange = proxy.post("/anything", body=body, headers=headers)
    assert (exchange.status, exchange.upstream) == (413, None)
    assert "it is too long" in exchange.logs
    proxy.configure({"request": {"remove": ["/debug"]}, "on_failure": "pass"})
    exchange = proxy.post("/anything", body=body, headers=headers)
    assert (exchange.status, exchange.upstream.body) == (200, LATE.encode())


@pytest.mark.parametrize("framed", [True, False])
def test_a_body_can_have_exactly_the_longest_length(proxy: Proxy, framed: bool):
    proxy.configure({"request": {"remove": ["/debug"]}, "max_bytes": 50})
    for length, status in ((50, 200), (51, 413)):
        text = json.dumps({"debug": 1}).ljust(length)
        headers, body = chunked(text) if framed else (JSON, text.encode())
        exchange = proxy.post("/anything", body=body, headers=headers)
        assert exchange.status == status
    assert "it is too long" in exchange.logs


def test_envoy_rejects_a_body_larger_than_its_buffer(proxy: Proxy):
    proxy.configure({"request": {"remove": ["/debug"]}, "max_bytes": 9_000_000})
    exchange = proxy.post("/anything", body=json.dumps({"pad": "x" * 3_000_000}), headers=JSON)
    assert (exchange.status, exchange.details) == (413, "request_payload_too_large")


def test_headers_of_any_bytes_and_size_pass(proxy: Proxy):
    odd = {"content-type": "caf\xe9", "x-large": "x" * 50_000}
    exchange = proxy.post("/anything", body='{"debug": 1}', headers=odd)
    assert (exchange.status, exchange.upstream.body) == (200, b'{"debug": 1}')
    exchange = proxy.post("/anything", body='{"debug": 1}', headers=JSON | {"content-encoding": "caf\xe9"})
    assert exchange.status == 415


def test_a_body_without_a_type_passes_untouched(proxy: Proxy):
    assert proxy.post("/anything", body='{"debug": 1}').upstream.body == b'{"debug": 1}'


def test_an_empty_configuration_changes_nothing(proxy: Proxy):
    proxy.configure(b"")
    proxy.upstream.answer(200, '{"internal": 1}', JSON)
    exchange = proxy.post("/", body='{"debug": 1}', headers=JSON | {"accept-encoding": "gzip"})
    assert exchange.upstream.body == b'{"debug": 1}'
    assert exchange.upstream.headers["accept-encoding"] == "gzip"
    assert exchange.response.body == b'{"internal": 1}'


def test_rejects_an_invalid_configuration(proxy: Proxy):
    with pytest.raises(ModuleError, match="doesn't begin with a slash"):
        proxy.configure({"response": {"remove": ["internal"]}}, check=False)


@each(requests(methods=["POST", "PUT"]))
def test_any_other_body_passes_untouched_in_whatever_pieces(proxy: Proxy, sent: Request):
    assert proxy.send(sent).upstream.body == sent.body
