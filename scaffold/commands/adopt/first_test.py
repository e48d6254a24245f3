"""The first test of a project that was adopted: it fits any plugin of its kind."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scaffold.project import rust_text

_ANSWERS = re.compile(r"\bsend_(?:http|grpc)_response\b")
_HEAD = '''\
"""What the plugin does to real {what} in a real host; run with `scaffold test`."""

from scaffold.pytest_plugin import Proxy


'''
_REQUEST = (
    _HEAD.format(what="requests")
    + """\
def test_a_request_is_answered(proxy: Proxy):
    exchange = proxy.get("/")
    assert exchange.status < 500
"""
)
_OWN_ANSWER = (
    _HEAD.format(what="requests")
    + """\
def test_a_request_is_answered(proxy: Proxy):
    exchange = proxy.get("/")
    assert not exchange.trapped  # any status is fine: the plugin can answer by itself
"""
)
_CONNECTION = (
    _HEAD.format(what="connections")
    + """\
def test_a_connection_is_handled(proxy: Proxy):
    with proxy.connect() as connection:
        connection.finish()
    assert not connection.trapped
"""
)
_START = (
    _HEAD.format(what="traffic")
    + """\
def test_it_starts_and_requests_pass(proxy: Proxy):
    assert proxy.get("/").status == 200
"""
)
_NO_TRAFFIC = (
    _HEAD.format(what="traffic")
    + """\
def test_it_starts(proxy: Proxy):
    assert proxy.metrics  # its host has taken it; no traffic passes, as it makes no contexts
"""
)


def text(kind: str, sources: Iterable[str]) -> str:
    """The test of a plugin of that type with these sources; "" is a filter that makes no contexts."""
    if kind != "http":
        return {"network": _CONNECTION, "service": _START}.get(kind, _NO_TRAFFIC)
    answers = any(_ANSWERS.search(rust_text.code(source)) for source in sources)
    return _OWN_ANSWER if answers else _REQUEST
