"""What the plugin does to real requests in a real host; run with `scaffold test`."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from scaffold.errors import ModuleError
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy

HEADER = {"client": {"header": "x-client"}}
SLOW = {"requests": 1, "seconds": 3600, "burst": 2}  # two requests, and no third one during the test


@pytest.fixture
def slow(proxy: Proxy) -> Proxy:
    """Each client has two requests, and is identified by its header."""
    proxy.configure(SLOW | HEADER)
    return proxy


def of(client: str) -> dict[str, str]:
    return {"x-client": client}


def test_a_rejected_client_is_told_when_to_retry(slow: Proxy):
    for _ in range(2):
        exchange = slow.post("/anything", headers=of("ann"), body=b"hello")
        assert (exchange.status, exchange.upstream.body) == (200, b"hello")
        assert exchange.metrics["ratelimit.allowed"] == 1
    exchange = slow.post("/anything", headers=of("ann"), body=b"hello")
    assert (exchange.status, exchange.upstream) == (429, None)
    assert 3500 < int(exchange.response.headers["retry-after"]) <= 3600
    assert exchange.metrics["ratelimit.limited"] == 1


def test_each_client_has_a_bucket(slow: Proxy):
    for client in ("ann", "bob", "caf\xe9", "x" * 50_000, ""):
        statuses = [slow.get("/headers", headers=of(client)).status for _ in range(3)]
        assert statuses == [200, 200, 429], client[:10]


def test_without_the_header_the_address_is_the_client(slow: Proxy):
    assert [slow.get("/headers").status for _ in range(3)] == [200, 200, 429]
    assert slow.get("/headers", headers=of("ann")).status == 200


@pytest.mark.parametrize("client", ["all", "address"])
def test_other_ways_to_tell_clients_apart_ignore_the_header(proxy: Proxy, client: str):
    proxy.configure(SLOW | {"client": client})
    statuses = [proxy.get("/headers", headers=of(str(number))).status for number in range(3)]
    assert statuses == [200, 200, 429]


def test_clients_with_the_same_bucket_share_it(proxy: Proxy):
    proxy.configure(SLOW | HEADER | {"buckets": 1})
    assert [proxy.get("/headers", headers=of(name)).status for name in "abc"] == [200, 200, 429]


def test_of_many_requests_at_once_exactly_the_burst_passes(proxy: Proxy):
    proxy.configure(SLOW | HEADER | {"burst": 20})

    def one(_: int) -> int:
        try:
            with urlopen(Request(f"{proxy.url}/headers", headers=of("ann"))) as answer:  # noqa: S310
                return answer.status
        except HTTPError as refused:
            return refused.code

    with ThreadPoolExecutor(16) as clients:
        assert Counter(clients.map(one, range(60))) == {200: 20, 429: 40}


def test_after_the_wait_a_request_passes(proxy: Proxy):
    proxy.configure(HEADER | {"requests": 2, "seconds": 1, "burst": 1})
    assert proxy.get("/headers", headers=of("ann")).status == 200
    refused = proxy.get("/headers", headers=of("ann"))
    assert (refused.status, refused.response.headers["retry-after"]) == (429, "1")
    proxy.clock.advance(seconds=1)
    assert proxy.get("/headers", headers=of("ann")).status == 200


def test_the_log_says_how_many_requests_were_rejected(proxy: Proxy):
    proxy.configure(SLOW | HEADER | {"report_seconds": 1})
    for _ in range(5):
        proxy.get("/headers", headers=of("ann"))
    proxy.upstream.answer(200, path="/slow", after=1.5)
    exchange = proxy.get("/slow", headers=of("bob"))
    assert "3 requests were rejected" in exchange.logs


def test_an_empty_configuration_means_the_defaults(proxy: Proxy):
    proxy.configure(b"")
    assert proxy.get("/headers").metrics["ratelimit.allowed"] == 1


def test_rejects_an_invalid_configuration(proxy: Proxy):
    with pytest.raises(ModuleError, match="expected a nonzero u32"):
        proxy.configure({"requests": 0}, check=False)


@each(requests())
def test_any_request_counts(proxy: Proxy, sent):
    exchange = proxy.send(sent)
    counts = [exchange.metrics.get(f"ratelimit.{name}", 0) for name in ("allowed", "limited")]
    assert sorted(counts) == [0, 1]
