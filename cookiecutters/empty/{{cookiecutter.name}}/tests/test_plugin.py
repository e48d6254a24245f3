"""What the plugin does to real requests in a real host; run with `scaffold test`."""

from scaffold.hosts.exchange import Request
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy


def test_leaves_a_request_and_its_answer_alone(proxy: Proxy):
    proxy.upstream.answer(201, "made", headers={"x-answer": "caf\xe9"})
    exchange = proxy.post("/anything?a=b", headers={"x-mine": "caf\xe9"}, body=b"hello")
    assert (exchange.upstream.method, exchange.upstream.target) == ("POST", "/anything?a=b")
    assert (exchange.upstream.headers["x-mine"], exchange.upstream.body) == ("caf\xe9", b"hello")
    assert (exchange.status, exchange.response.text) == (201, "made")
    assert exchange.response.headers["x-answer"] == "caf\xe9"


@each(requests())
def test_any_request_passes_as_it_is(proxy: Proxy, sent: Request):
    upstream = proxy.send(sent).upstream
    assert (upstream.method, upstream.target, upstream.body) == (sent.method, sent.target, sent.body)
