"""What the plugin does to real requests in a real host; run with `scaffold test`.

The built-in upstream is also the service, through the cluster `authz`.
"""

import socket
import time

import pytest

from scaffold.errors import ModuleError
from scaffold.hosts.exchange import Request
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy

CHECK = "/anything/check"  # the path in config.json
ALLOWED = "callout.allowed"
REFUSED = "callout.refused"
FAILED = "callout.failed"


@pytest.fixture
def allowing(proxy: Proxy) -> Proxy:
    """The service allows everything, and names the user."""
    proxy.upstream.answer(200, path=CHECK, headers={"x-user": "alice", "x-secret": "s"})
    return proxy


def asked(proxy: Proxy):
    """The calls to the service."""
    return [request for request in proxy.upstream.requests if request.cluster == "authz"]


def test_the_service_gets_the_request(allowing: Proxy):
    allowing.post("/anything?a=b", headers={"host": "shop", "authorization": "Bearer 1", "x-private": "p"})
    (question,) = asked(allowing)
    assert (question.method, question.target, question.headers["host"]) == ("GET", CHECK, "authz")
    assert question.headers["x-forwarded-method"] == "POST"
    assert question.headers["x-forwarded-uri"] == "/anything?a=b"
    assert question.headers["x-forwarded-host"] == "shop"
    assert question.headers["authorization"] == "Bearer 1"
    assert "x-private" not in question.headers


def test_an_allowed_request_passes_with_the_service_s_headers(allowing: Proxy):
    exchange = allowing.get("/headers")
    assert exchange.status == 200
    assert exchange.upstream.headers["x-user"] == "alice"
    assert "x-secret" not in exchange.upstream.headers
    assert exchange.metrics[ALLOWED] == 1


def test_a_client_can_not_forge_its_name(proxy: Proxy):
    proxy.upstream.answer(204, path=CHECK)
    exchange = proxy.get("/headers", headers=[("x-user", "root"), ("X-User", "admin"), ("x_user", "root")])
    assert exchange.status == 200
    assert not {"x-user", "x_user"} & exchange.upstream.headers.keys()  # some upstreams confuse the two


def test_a_request_waits_for_the_verdict(proxy: Proxy):
    proxy.upstream.answer(200, path=CHECK, after=0.3)
    begun = proxy.clock.now()
    assert proxy.get("/headers").status == 200
    assert proxy.clock.now() - begun >= 0.3
    first, second = proxy.upstream.requests
    assert (first.cluster, second.cluster) == ("authz", "upstream")


@pytest.mark.parametrize("size", [5, 1_500_000])  # the second is larger than Envoy's buffers
def test_a_body_waits_and_arrives_complete(proxy: Proxy, size: int):
    proxy.upstream.answer(200, path=CHECK, after=0.1)
    exchange = proxy.post("/anything", body=b"x" * size)
    assert exchange.status == 200
    assert exchange.upstream.headers["content-length"] == str(size)
    assert exchange.upstream.body == b"x" * size
    assert [request.body for request in asked(proxy)] == [b""]


@pytest.mark.parametrize("status", [401, 403])
def test_the_client_gets_the_negative_response(proxy: Proxy, status: int):
    fields = {"www-authenticate": "Bearer", "content-type": "application/json", "x-secret": "s"}
    proxy.upstream.answer(status, '{"error": "no"}', fields, path=CHECK)
    exchange = proxy.post("/anything", body=b"hello")
    assert (exchange.status, exchange.upstream) == (status, None)
    assert exchange.response.json() == {"error": "no"}
    assert exchange.response.headers["www-authenticate"] == "Bearer"
    assert exchange.response.headers["content-type"] == "application/json"
    assert "x-secret" not in exchange.response.headers
    assert exchange.metrics[REFUSED] == 1


def test_the_body_of_a_negative_response_has_an_end(proxy: Proxy):
    proxy.upstream.answer(403, "x" * 200_000, path=CHECK)
    assert proxy.get("/headers").response.body == b"x" * 65_536


@pytest.mark.parametrize("status", [302, 404, 500, 503, 504])
def test_without_a_verdict_nothing_passes(proxy: Proxy, status: int):
    proxy.upstream.answer(status, path=CHECK)
    exchange = proxy.get("/headers")
    assert (exchange.status, exchange.upstream) == (503, None)
    assert f"no verdict from `authz`: the service responded with {status}" in exchange.logs
    assert exchange.metrics[FAILED] == 1


def test_a_service_that_is_too_slow(proxy: Proxy):
    proxy.upstream.answer(200, path=CHECK, after=30)
    begun = proxy.clock.now()
    exchange = proxy.get("/headers")
    assert (exchange.status, exchange.upstream) == (503, None)
    assert "the call timed out" in exchange.logs
    assert 0.5 <= proxy.clock.now() - begun < 10


def test_a_service_that_breaks_off_its_response(proxy: Proxy):
    proxy.upstream.answer(200, "all is well", path=CHECK, cut=True)
    exchange = proxy.get("/headers")
    assert (exchange.status, exchange.upstream) == (503, None)
    assert "the connection to the service broke" in exchange.logs


def test_a_service_that_hangs_up(proxy: Proxy):
    proxy.upstream.answer(200, path=CHECK, cut=True)
    exchange = proxy.get("/headers")
    assert (exchange.status, exchange.upstream) == (503, None)
    assert "the service is unreachable: the proxy says 502" in exchange.logs


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ("dead", "the service is unreachable: the proxy says 503"),
        ("nobody", "the proxy cannot send the call"),
    ],
)
@pytest.mark.parametrize(("on_failure", "status"), [("deny", 503), ("allow", 200)])
def test_without_a_service(proxy: Proxy, cluster: str, reason: str, on_failure: str, status: int):
    proxy.configure({"cluster": cluster, "on_failure": on_failure})
    exchange = proxy.post("/anything", body=b"hello", headers={"x-user": "root"})
    assert exchange.status == status
    assert reason in exchange.logs
    assert exchange.metrics[FAILED] == 1
    if exchange.upstream:
        assert exchange.upstream.body == b"hello"
        assert "x-user" not in exchange.upstream.headers


def test_a_client_that_disconnects_does_no_harm(proxy: Proxy):
    proxy.upstream.answer(200, path=CHECK, after=0.2)
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2]))) as client:
        client.sendall(b"GET /headers HTTP/1.1\r\nhost: h\r\n\r\n")
        deadline = time.monotonic() + 10
        while not asked(proxy):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    exchange = proxy.get("/headers")
    assert (exchange.status, exchange.trapped) == (200, False)
    assert [request.cluster for request in proxy.upstream.requests] == ["authz", "authz", "upstream"]


def test_a_request_that_the_service_can_not_see_does_not_pass(allowing: Proxy):
    exchange = allowing.get("/headers", headers={"authorization": "caf\xe9"})
    assert (exchange.status, exchange.upstream, asked(allowing)) == (400, None, [])


def test_other_headers_can_be_any_bytes(allowing: Proxy):
    exchange = allowing.get("/headers", headers={"x-private": "caf\xe9"})
    assert exchange.upstream.headers["x-private"] == "caf\xe9"


def test_the_service_is_asked_even_without_headers(allowing: Proxy):
    assert allowing.get("/headers").status == 200
    assert "authorization" not in asked(allowing)[0].headers


def test_the_service_gets_a_huge_header(allowing: Proxy):
    exchange = allowing.get("/headers", headers={"authorization": "x" * 50_000})
    assert exchange.status == 200
    assert asked(allowing)[0].headers["authorization"] == "x" * 50_000


def test_an_empty_configuration_means_the_defaults(proxy: Proxy):
    proxy.configure(b"")
    proxy.upstream.answer(200, path="/check", headers={"x-user": "alice"})
    assert proxy.get("/headers").upstream.headers["x-user"] == "alice"


def test_rejects_an_invalid_configuration(proxy: Proxy):
    with pytest.raises(ModuleError, match="unknown field `clutser`"):
        proxy.configure({"clutser": "authz"}, check=False)


@each(requests())
def test_without_a_verdict_no_request_passes(proxy: Proxy, sent: Request):
    proxy.upstream.answer(500, path=CHECK)
    exchange = proxy.send(sent)
    assert exchange.upstream is None
    assert exchange.status in (400, 503)
