"""What the plugin does to real requests in a real host; run with `scaffold test`."""

from scaffold.hosts.exchange import Request
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy


def test_greets_the_authority(proxy: Proxy):
    exchange = proxy.get("/headers", headers={"host": "example.com"})
    assert exchange.status == 200
    assert exchange.upstream.headers["x-hello"] == "Hello world from example.com"


def test_replaces_a_greeting_that_the_client_sent(proxy: Proxy):
    exchange = proxy.get("/headers", headers={"host": "example.com", "x-hello": "mine"})
    assert exchange.upstream.headers["x-hello"] == "Hello world from example.com"


def test_logs_how_many_headers_there_were(proxy: Proxy):
    exchange = proxy.get("/headers")
    assert "HTTP headers in #" in exchange.logs


def test_leaves_the_body_alone(proxy: Proxy):
    exchange = proxy.post("/anything", body=b"hello")
    assert exchange.upstream.body == b"hello"
    assert exchange.response.json()["data"] == "hello"


@each(requests())
def test_any_request_is_greeted_and_passes(proxy: Proxy, sent: Request):
    exchange = proxy.send(sent)
    assert exchange.upstream.headers["x-hello"].startswith("Hello world from ")
    assert (exchange.upstream.method, exchange.upstream.body) == (sent.method, sent.body)
