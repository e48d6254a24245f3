"""Hypothesis strategies for a plugin's tests: requests as clients send them, and bodies in pieces.

    @each(requests(methods=["POST"]))
    def test_any_request_passes(proxy, sent):
        assert proxy.send(sent).status == 200

Hypothesis is imported only by tests that import this module.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, configuration, given, settings
from hypothesis import strategies as st
from hypothesis.internal import scrutineer

import scaffold
from scaffold.core import files
from scaffold.errors import UsageError
from scaffold.hosts.exchange import Headers, Request

configuration.set_hypothesis_home_dir(files.cache_dir() / "hypothesis")  # not in the user's repository
# An editable scaffold counts as the user's code, whose constants Hypothesis tries as values; but each host
# imports other modules, and would be sent other requests with the same seed.
if hasattr(scrutineer, "SITE_PACKAGES_DIRS"):
    scrutineer.SITE_PACKAGES_DIRS |= {Path(scaffold.__file__).resolve().parent}

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-_"
_PATH = "abcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/"
# not HTTP's own framing, and not what a proxy takes for its own
_RESERVED = frozenset(
    "host connection keep-alive content-length transfer-encoding te upgrade expect proxy-connection".split()
)
_LONGEST = 2000  # characters of a header's value
_MOST_BYTES = 100_000  # of a body


def header_names() -> st.SearchStrategy[str]:
    """Names of header fields, those of HTTP's framing aside."""
    names = st.text(_NAME, min_size=1, max_size=30)
    return names.filter(
        lambda name: name not in _RESERVED and not name.startswith(("x-envoy", "x-forwarded"))
    )


def header_values() -> st.SearchStrategy[str]:
    """Values of header fields: any bytes that HTTP can carry, as latin-1."""
    characters = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
    return st.text(characters, max_size=_LONGEST).map(str.strip)


def headers() -> st.SearchStrategy[Headers]:
    """Header fields, some of them repeated."""
    return st.lists(st.tuples(header_names(), header_values()), max_size=10).map(Headers)


def targets() -> st.SearchStrategy[str]:
    """Paths with a query or without, as clients write them."""
    path = st.text(_PATH, max_size=100).map(lambda text: "/" + text.lstrip("/"))
    query = st.none() | st.text(_PATH + "?", max_size=100)
    return st.tuples(path, query).map(lambda both: both[0] if both[1] is None else f"{both[0]}?{both[1]}")


def bodies(
    content: st.SearchStrategy[bytes] | None = None,
) -> st.SearchStrategy[tuple[bytes, tuple[int, ...]]]:
    """A body, and the sizes of the pieces in which it arrives."""
    made = st.binary(max_size=_MOST_BYTES) if content is None else content
    sizes = st.lists(st.integers(1, 1000), max_size=5).map(tuple)
    return st.tuples(made, sizes)


@st.composite
def requests(
    draw: st.DrawFn,
    *,
    methods: Sequence[str] = _METHODS,
    target: st.SearchStrategy[str] | None = None,
    content: st.SearchStrategy[bytes] | None = None,
) -> Request:
    """Requests: any header, and a body in pieces where the method has one."""
    method = draw(st.sampled_from(methods))
    body, pieces = draw(bodies(content)) if method in ("POST", "PUT", "PATCH") else (b"", ())
    where = draw(targets() if target is None else target)
    return Request(method, where, draw(headers()), body, pieces=pieces)


def each(strategy: st.SearchStrategy[Request], examples: int = 50) -> Callable[[Any], Any]:
    """Run a test with requests of a strategy, as its argument `sent`; the plugin isn't made anew for each."""

    if not isinstance(strategy, st.SearchStrategy):
        raise UsageError("@each takes the requests", hint="write `@each(requests())`")

    def decorate(test: Any) -> Any:
        if "sent" not in inspect.signature(test).parameters:
            raise UsageError(
                f"{test.__name__} takes no `sent`", hint=f"write `def {test.__name__}(proxy, sent):`"
            )

        @functools.wraps(test)
        def one(*args: Any, **fixtures: Any) -> Any:
            __tracebackhide__ = True
            if proxy := fixtures.get("proxy"):
                proxy.revive()  # an earlier request may have crashed the plugin
            return test(*args, **fixtures)

        once = settings(
            max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        return once(given(sent=strategy)(one))

    return decorate
