"""What the plugin does to real requests in a real host; run with `scaffold test`."""

import hashlib
from typing import Any

import pytest

from scaffold.errors import ModuleError
from scaffold.hosts.exchange import Request
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy

KEYS = {"ann": "5d41402abc4b2a76b9719d911017c592", "bob": "7d793037a0760186574b0282f2f435e7"}
ANN = {"authorization": f"Bearer {KEYS['ann']}"}


def configuration(**changed: Any) -> dict[str, Any]:
    """A configuration with the keys above."""
    digests = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
    return {"keys": [{"name": name, "sha256": digest} for name, digest in digests.items()], **changed}


@pytest.fixture
def guarded(proxy: Proxy) -> Proxy:
    """The plugin, configured with these keys and the open path /health."""
    proxy.configure(configuration(open_paths=["/health"]))
    return proxy


@pytest.mark.parametrize("name", KEYS)
def test_a_valid_key_passes_and_the_upstream_gets_only_its_name(guarded: Proxy, name: str):
    exchange = guarded.post("/anything", headers={"authorization": f"Bearer {KEYS[name]}"}, body=b"hello")
    assert exchange.status == 200
    assert exchange.upstream.headers["x-auth-name"] == name
    assert "authorization" not in exchange.upstream.headers
    assert exchange.upstream.body == b"hello"
    assert exchange.metrics["auth.allowed"] == 1


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic YTpi"}, {"authorization": ""}])
def test_without_a_key_the_response_asks_for_one(guarded: Proxy, headers: dict[str, str]):
    exchange = guarded.post("/anything", headers=headers, body=b"hello")
    assert (exchange.status, exchange.upstream) == (401, None)
    assert exchange.response.headers["www-authenticate"] == 'Bearer realm="api"'
    assert exchange.metrics["auth.missing"] == 1


@pytest.mark.parametrize(
    "credential",
    ["guess", KEYS["ann"][:-1], KEYS["ann"].upper(), f"{KEYS['ann']} {KEYS['bob']}", "caf\xe9", "x" * 50_000],
    ids=["guess", "cut off", "capitals", "two", "not UTF-8", "huge"],
)
def test_an_invalid_key_is_rejected(guarded: Proxy, credential: str):
    exchange = guarded.get("/headers", headers={"authorization": f"Bearer {credential}"})
    assert (exchange.status, exchange.upstream, exchange.trapped) == (403, None, False)
    assert "www-authenticate" not in exchange.response.headers
    assert exchange.metrics["auth.wrong"] == 1


def test_two_keys_in_one_request_are_invalid(guarded: Proxy):
    both = [("authorization", f"Bearer {key}") for key in KEYS.values()]
    assert guarded.get("/headers", headers=both).status == 403


@pytest.mark.parametrize("target", ["/health", "/health?verbose=1"])
def test_an_open_path_needs_no_key(guarded: Proxy, target: str):
    exchange = guarded.get(target, headers=ANN | {"x-auth-name": "root"})
    assert exchange.upstream.target == target
    assert "x-auth-name" not in exchange.upstream.headers
    assert "authorization" not in exchange.upstream.headers


@pytest.mark.parametrize("target", ["/healthy", "/health/", "/health/../headers", "/%68ealth", "//health"])
def test_no_other_path_is_open(guarded: Proxy, target: str):
    assert guarded.get(target).status == 401


def test_a_client_can_not_forge_its_name(guarded: Proxy):
    forged = [("x-auth-name", "root"), ("X-Auth-Name", "admin"), ("x_Auth-name", "root"), *ANN.items()]
    exchange = guarded.get("/headers", headers=forged)
    assert exchange.upstream.headers.getlist("x-auth-name") == ["ann"]
    assert "x_auth-name" not in exchange.upstream.headers, "some upstreams treat it as x-auth-name"


def test_an_api_key_in_a_header_of_its_own(proxy: Proxy):
    proxy.configure(configuration(header="x-api-key", scheme="", strip=False, name_header="x-consumer"))
    exchange = proxy.get("/headers", headers={"x-api-key": KEYS["bob"], "authorization": "Basic YTpi"})
    assert exchange.upstream.headers["x-consumer"] == "bob"
    assert exchange.upstream.headers["x-api-key"] == KEYS["bob"]
    assert exchange.upstream.headers["authorization"] == "Basic YTpi"
    missing = proxy.get("/headers", headers=ANN)
    assert (missing.status, missing.response.headers["www-authenticate"]) == (401, 'ApiKey realm="api"')


def test_the_default_configuration_lets_nobody_in(proxy: Proxy):
    assert proxy.get("/headers", headers=ANN).status == 403
    assert proxy.get("/health").upstream is not None


def test_an_empty_configuration_lets_nobody_in(proxy: Proxy):
    proxy.configure(b"")
    assert proxy.get("/headers").status == 401
    assert proxy.get("/health").status == 401


def test_rejects_an_invalid_configuration(proxy: Proxy):
    with pytest.raises(ModuleError, match="a digest has 64 hexadecimal digits"):
        proxy.configure({"keys": [{"name": "ann", "sha256": KEYS["ann"]}]}, check=False)


@each(requests())
def test_no_request_without_a_key_passes(proxy: Proxy, sent: Request):
    exchange = proxy.send(sent)
    assert (exchange.status, exchange.upstream) == (401, None)
