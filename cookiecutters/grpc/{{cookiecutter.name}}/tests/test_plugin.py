"""What the plugin does to real requests in a real host; run with `scaffold test`.

The built-in upstream is also the service, through the cluster `identity`: Envoy calls it over gRPC and HTTP/2
and passes it the bare message. It responds with a message, or with an HTTP status that becomes a gRPC status:
401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404 UNIMPLEMENTED, 503 UNAVAILABLE.
"""

import socket
import time

import pytest

from scaffold.errors import ModuleError
from scaffold.pytest_plugin import Proxy

LOOKUP = "/identity.v1.Identity/Lookup"
SESSION = {"x-session": "s1"}


def field(number: int, text: str) -> bytes:
    """A string in a protobuf message."""
    content = text.encode()
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def answer(proxy: Proxy, status: int = 200, message: bytes = b"", **options):
    """Set the service's response."""
    headers = {"content-type": "application/x-protobuf"}
    proxy.upstream.answer(status, message, headers, path=LOOKUP, **options)


def asked(proxy: Proxy, cluster: str = "identity"):
    """The calls to the service."""
    return [request for request in proxy.upstream.requests if request.cluster == cluster]


@pytest.fixture
def alice(proxy: Proxy) -> Proxy:
    """For the service, every session belongs to one user."""
    answer(proxy, message=field(1, "alice") + field(2, "staff") + field(2, "admin"))
    return proxy


def test_the_service_is_asked_for_the_session(alice: Proxy):
    alice.get("/headers", headers=SESSION)
    (question,) = asked(alice)
    assert (question.method, question.path, question.body) == ("POST", LOOKUP, field(1, "s1"))


def test_the_upstream_gets_the_user(alice: Proxy):
    exchange = alice.get("/headers", headers=SESSION)
    assert exchange.status == 200
    assert exchange.upstream.headers["x-user"] == "alice"
    assert exchange.upstream.headers["x-groups"] == "staff,admin"
    assert "x-session" not in exchange.upstream.headers
    assert exchange.metrics["identity.known"] == 1


def test_a_client_can_not_forge_its_name(proxy: Proxy):
    answer(proxy, message=field(1, "bob"))  # who has no groups
    forged = [("x-session", "s1"), ("x-user", "root"), ("X-Groups", "admin"), ("x-groups", "wheel")]
    forged += [("x_user", "root"), ("x_groups", "admin")]  # some upstreams confuse these with them
    exchange = proxy.get("/headers", headers=forged)
    assert exchange.upstream.headers["x-user"] == "bob"
    assert not {"x-groups", "x_groups", "x_user"} & exchange.upstream.headers.keys()


@pytest.mark.parametrize("headers", [{}, {"x-session": ""}, {"x-session": "caf\xe9"}])
def test_without_a_session_the_service_is_not_called(alice: Proxy, headers: dict[str, str]):
    exchange = alice.get("/headers", headers=headers)
    assert (exchange.status, exchange.upstream, asked(alice)) == (401, None, [])
    assert exchange.metrics["identity.refused"] == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal(proxy: Proxy, status: int):
    answer(proxy, status)
    exchange = proxy.post("/anything", headers=SESSION, body=b"hello")
    assert (exchange.status, exchange.upstream) == (status, None)
    assert exchange.metrics["identity.refused"] == 1


@pytest.mark.parametrize("size", [5, 1_500_000])  # the second is larger than Envoy's buffers
def test_a_body_waits_and_arrives_complete(proxy: Proxy, size: int):
    answer(proxy, message=field(1, "alice"), after=0.2)
    begun = proxy.clock.now()
    exchange = proxy.post("/anything", headers=SESSION, body=b"x" * size)
    assert proxy.clock.now() - begun >= 0.2
    assert exchange.status == 200
    assert exchange.upstream.headers["content-length"] == str(size)
    assert exchange.upstream.body == b"x" * size


@pytest.mark.parametrize(
    ("status", "message", "why"),
    [
        (404, b"", "the call failed with the gRPC status 12"),
        (503, b"", "the call failed with the gRPC status 14"),
        (200, b"", "the response is invalid"),
        (200, b"\xff\xff", "the response is invalid"),
        (200, field(1, "a\r\nb"), "the response is invalid"),
    ],
)
def test_without_a_user_nothing_passes(proxy: Proxy, status: int, message: bytes, why: str):
    answer(proxy, status, message)
    exchange = proxy.get("/headers", headers=SESSION)
    assert (exchange.status, exchange.upstream) == (503, None)
    assert f"no user from `identity`: {why}" in exchange.logs
    assert exchange.metrics["identity.failed"] == 1


def test_a_service_that_is_too_slow(proxy: Proxy):
    answer(proxy, message=field(1, "alice"), after=30)
    begun = proxy.clock.now()
    exchange = proxy.get("/headers", headers=SESSION)
    assert (exchange.status, exchange.upstream) == (503, None)
    assert "the call failed with the gRPC status" in exchange.logs
    assert 0.5 <= proxy.clock.now() - begun < 10


@pytest.mark.parametrize("message", [b"", field(1, "alice")])
def test_a_service_that_breaks_off(proxy: Proxy, message: bytes):
    answer(proxy, message=message, cut=True)
    exchange = proxy.get("/headers", headers=SESSION)
    assert (exchange.status, exchange.upstream) == (503, None)
    assert "the call failed with the gRPC status" in exchange.logs


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [("dead", "the gRPC status 14"), ("nobody", "the proxy cannot send the call")],
)
@pytest.mark.parametrize(("on_failure", "status"), [("deny", 503), ("allow", 200)])
def test_without_a_service(proxy: Proxy, cluster: str, reason: str, on_failure: str, status: int):
    proxy.configure({"cluster": cluster, "on_failure": on_failure})
    exchange = proxy.post("/anything", body=b"hello", headers=SESSION | {"x-user": "root"})
    assert exchange.status == status
    assert reason in exchange.logs
    assert exchange.metrics["identity.failed"] == 1
    if exchange.upstream:
        assert exchange.upstream.body == b"hello"
        assert "x-user" not in exchange.upstream.headers


def test_a_cluster_whose_name_happens_to_be_a_protobuf_message(alice: Proxy):
    alice.configure({"cluster": "auth-grpc"})
    answer(alice, message=field(1, "alice"))
    assert alice.get("/headers", headers=SESSION).upstream.headers["x-user"] == "alice"
    assert len(asked(alice, "auth-grpc")) == 1


def test_a_client_that_disconnects_does_no_harm(proxy: Proxy):
    answer(proxy, message=field(1, "alice"), after=0.2)
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2]))) as client:
        client.sendall(b"GET /headers HTTP/1.1\r\nhost: h\r\nx-session: s1\r\n\r\n")
        deadline = time.monotonic() + 10
        while not asked(proxy):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    exchange = proxy.get("/headers", headers=SESSION)
    assert (exchange.status, exchange.trapped) == (200, False)
    assert [request.cluster for request in proxy.upstream.requests] == ["identity", "identity", "upstream"]


def test_headers_of_any_bytes_and_size_pass(alice: Proxy):
    exchange = alice.get("/headers", headers={"x-session": "s" * 50_000, "x-other": "caf\xe9"})
    assert exchange.upstream.headers["x-other"] == "caf\xe9"
    assert asked(alice)[0].body.endswith(b"s" * 50_000)


def test_an_empty_configuration_means_the_defaults(proxy: Proxy):
    proxy.configure(b"")
    answer(proxy, message=field(1, "alice"))
    assert proxy.get("/headers", headers=SESSION).upstream.headers["x-user"] == "alice"


def test_rejects_an_invalid_configuration(proxy: Proxy):
    with pytest.raises(ModuleError, match="unknown field `clutser`"):
        proxy.configure({"clutser": "identity"}, check=False)
