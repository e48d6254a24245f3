"""What the plugin does to real requests in a real host; run with `scaffold test`.

The clusters `beta` and `rules` also lead to the built-in upstream; `.upstream.cluster` names the one used.
"""

import json
from typing import Any

import pytest

from scaffold.errors import ModuleError
from scaffold.hosts.exchange import Request
from scaffold.hosts.strategies import each, requests
from scaffold.pytest_plugin import Proxy


def rule(**conditions: Any) -> dict[str, Any]:
    """A rule for the cluster `beta`."""
    return {"name": "new", "cluster": "beta", **conditions}


def test_the_first_rule_that_matches_decides(proxy: Proxy):
    proxy.configure(
        {"rules": [rule(headers=[{"name": "x-a", "values": ["1"]}]), {"name": "rest", "cluster": "upstream"}]}
    )
    first = proxy.post("/anything", headers={"x-a": "1"}, body=b"hello")
    assert (first.upstream.cluster, first.upstream.headers["x-cluster"]) == ("beta", "beta")
    assert first.upstream.body == b"hello"
    assert first.metrics["routing.new"] == 1
    second = proxy.get("/headers", headers={"x-a": "2"})
    assert (second.upstream.cluster, second.upstream.headers["x-cluster"]) == ("upstream", "upstream")
    assert second.metrics["routing.rest"] == 1


def test_the_default_rules(proxy: Proxy):
    assert proxy.get("/headers", headers={"x-tester": "yes"}).upstream.cluster == "beta"
    plain = proxy.get("/headers")
    assert plain.upstream.cluster == "upstream"
    assert "x-cluster" not in plain.upstream.headers
    assert plain.metrics["routing.otherwise"] == 1


@pytest.mark.parametrize("otherwise", ["", "upstream"])
def test_a_client_can_not_choose_the_cluster(proxy: Proxy, otherwise: str):
    proxy.configure({"rules": [rule(headers=[{"name": "x-a", "values": ["1"]}])], "otherwise": otherwise})
    forged = [("x-cluster", "beta"), ("X-Cluster", "beta")]
    exchange = proxy.get("/headers", headers=forged)
    assert exchange.upstream.cluster == "upstream"
    assert exchange.upstream.headers.get("x-cluster", "") == otherwise
    exchange = proxy.get("/headers", headers=[("x-cluster", "upstream"), ("x-a", "1")])
    assert exchange.upstream.headers.getlist("x-cluster") == ["beta"]


@pytest.mark.parametrize(
    ("path", "values", "cluster"),
    [
        ("request.method", ["GET"], "beta"),
        ("request.url_path", ["/head*"], "beta"),
        ("source.address", ["127.0.0.1:*"], "beta"),
        ("request.headers.x-a", ["0", "1"], "beta"),
        ("request.method", ["POST"], "upstream"),
        ("no.such.thing", ["*"], "upstream"),
        ("filter_state", ["*"], "upstream"),
    ],
)
def test_properties_work_like_headers(proxy: Proxy, path: str, values: list[str], cluster: str):
    proxy.configure({"rules": [rule(properties=[{"name": path, "values": values}])]})
    exchange = proxy.get("/headers", headers={"x-a": "1"})
    assert (exchange.upstream.cluster, exchange.trapped) == (cluster, False)


@pytest.mark.parametrize(
    ("value", "cluster"),
    [(None, "upstream"), ("caf\xe9", "upstream"), ("y" * 50_000, "beta")],
    ids=["missing", "not UTF-8", "huge"],
)
def test_missing_odd_and_huge_headers(proxy: Proxy, value: str | None, cluster: str):
    proxy.configure({"rules": [rule(headers=[{"name": "x-a", "values": ["y*"]}])]})
    exchange = proxy.get("/headers", headers={"x-a": value} if value else {})
    assert (exchange.upstream.cluster, exchange.trapped) == (cluster, False)


def test_a_share_of_the_users_which_is_always_the_same(proxy: Proxy):
    proxy.configure({"rules": [rule(percent=30, user="x-user")]})

    def chosen() -> list[int]:
        came = {user: proxy.get("/headers", headers={"x-user": f"user-{user}"}) for user in range(40)}
        return [user for user, exchange in came.items() if exchange.upstream.cluster == "beta"]

    first = chosen()
    assert 3 <= len(first) <= 25
    assert chosen() == first
    assert proxy.get("/headers").upstream.cluster == "upstream", "who is nobody is no part of them"


def until(proxy: Proxy, cluster: str) -> None:
    """Send requests until they go to that cluster."""
    for _ in range(100):
        if proxy.get("/headers").upstream.cluster == cluster:
            return
        proxy.clock.advance(seconds=0.1)
    pytest.fail(f"nothing goes to {cluster}")


def test_gets_newer_rules_on_a_timer_and_ignores_invalid_ones(proxy: Proxy):
    proxy.upstream.answer(200, json.dumps({"rules": [rule()]}), path="/rules")
    proxy.configure({"refresh_seconds": 1})
    proxy.clock.advance(seconds=0.5)  # half-way between two refreshes
    until(proxy, "beta")
    bad = {200: '{"rules": [{"name": "new"}]}', 503: "{}"}
    for status, body in bad.items():
        proxy.upstream.answer(status, body, path="/rules")
        proxy.upstream.answer(200, path="/slow", after=1.2)
        exchange = proxy.get("/slow")
        assert "keeping the present rules" in exchange.logs
        assert proxy.get("/headers").upstream.cluster == "beta"
    proxy.upstream.answer(200, "{}", path="/rules")
    proxy.clock.advance(seconds=0.6)
    until(proxy, "upstream")


def test_without_a_service_the_configured_rules_are_used(proxy: Proxy):
    proxy.configure({"rules": [rule()], "refresh_seconds": 1, "refresh_cluster": "nobody"})
    proxy.clock.advance(seconds=0.5)
    proxy.upstream.answer(200, path="/slow", after=1.2)
    exchange = proxy.get("/slow")
    assert exchange.upstream.cluster == "beta"
    assert "cannot ask `nobody` for rules" in exchange.logs


def test_an_empty_configuration_leaves_the_choice_to_the_proxy(proxy: Proxy):
    proxy.configure(b"")
    assert proxy.get("/headers", headers={"x-tester": "yes"}).upstream.cluster == "upstream"


def test_rejects_an_invalid_configuration(proxy: Proxy):
    with pytest.raises(ModuleError, match="`x-cluster` can't be a condition"):
        proxy.configure({"rules": [rule(headers=[{"name": "x-cluster", "values": ["beta"]}])]}, check=False)


@each(requests())
def test_any_request_arrives_somewhere(proxy: Proxy, sent: Request):
    upstream = proxy.send(sent).upstream
    assert (upstream.method, upstream.body) == (sent.method, sent.body)
