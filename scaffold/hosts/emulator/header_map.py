"""Header maps as Envoy keeps them: some headers have one entry only, pseudo headers come first.

Source: envoyproxy/envoy, source/common/http/header_map_impl.cc; the lists are those that Envoy 1.40 prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scaffold.hosts.emulator.wire import Pair

_REQUEST = """
:authority :method :path :protocol :scheme accept accept-encoding access-control-request-headers
access-control-request-method access-control-request-private-network authentication authorization
cache-control cdn-loop connection content-encoding content-length content-type expect grpc-accept-encoding
grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive origin pragma
proxy-connection proxy-status referer te transfer-encoding upgrade user-agent via x-client-trace-id
x-envoy-attempt-count x-envoy-decorator-operation x-envoy-downstream-service-cluster
x-envoy-downstream-service-node x-envoy-expected-rq-timeout-ms x-envoy-external-address x-envoy-force-trace
x-envoy-hedge-on-per-try-timeout x-envoy-internal x-envoy-ip-tags x-envoy-is-timeout-retry
x-envoy-max-retries x-envoy-original-host x-envoy-original-path x-envoy-original-url
x-envoy-retriable-header-names x-envoy-retriable-status-codes x-envoy-retry-grpc-on x-envoy-retry-on
x-envoy-upstream-alt-stat-name x-envoy-upstream-rq-per-try-timeout-ms
x-envoy-upstream-rq-timeout-alt-response x-envoy-upstream-rq-timeout-ms x-envoy-upstream-stream-duration-ms
x-forwarded-client-cert x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-request-id
"""
_RESPONSE = """
:status access-control-allow-credentials access-control-allow-headers access-control-allow-methods
access-control-allow-origin access-control-allow-private-network access-control-expose-headers
access-control-max-age age cache-control connection content-encoding content-length content-type date etag
expires grpc-message grpc-status keep-alive last-modified location proxy-connection proxy-status server
transfer-encoding upgrade vary via x-envoy-attempt-count x-envoy-decorator-operation x-envoy-degraded
x-envoy-immediate-health-check-fail x-envoy-ratelimited x-envoy-upstream-canary
x-envoy-upstream-healthchecked-cluster x-envoy-upstream-service-time x-request-id
"""


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


REQUEST = _names(_REQUEST)  # the names that have one entry: another value is appended to it
RESPONSE = _names(_RESPONSE)
RESPONSE_TRAILERS = _names("grpc-message grpc-status")
REQUEST_TRAILERS = _names("")


class HeaderMap:
    """Headers in order; names are in lower case. `single` are the names that have one entry."""

    __slots__ = ("_pairs", "single")

    def __init__(self, single: frozenset[bytes], pairs: Iterable[Pair] = ()) -> None:
        self.single = single
        self._pairs: list[Pair] = list(pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, name: bytes) -> bytes | None:
        """The first value of a name; None if it isn't there."""
        name = self._key(name)
        for key, value in self._pairs:
            if key == name:
                return value
        return None

    def joined(self, name: bytes) -> bytes | None:
        """All values of a name with commas between them; None if it isn't there."""
        name = self._key(name)
        values = [value for key, value in self._pairs if key == name]
        return b",".join(values) if values else None

    def add(self, name: bytes, value: bytes) -> None:
        """Add a value: as another entry, unless the name has one only."""
        name = name.lower()
        if name == b"host" and self.single is REQUEST:
            name = b":authority"
        if name in self.single:
            for place, (key, earlier) in enumerate(self._pairs):
                if key == name:
                    if value:
                        self._pairs[place] = (name, earlier + b"," + value if earlier else value)
                    return
        if name[:1] == b":":
            place = next((at for at, (key, _) in enumerate(self._pairs) if key[:1] != b":"), len(self._pairs))
            self._pairs.insert(place, (name, value))
        else:
            self._pairs.append((name, value))

    def replace(self, name: bytes, value: bytes) -> None:
        """Remove the entries of a name, and add this one at the end."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: bytes) -> None:
        """Remove the entries of a name."""
        name = self._key(name)
        self._pairs = [pair for pair in self._pairs if pair[0] != name]

    def clear(self) -> None:
        """Remove everything."""
        self._pairs = []

    @property
    def size(self) -> int:
        """Bytes of all names and values."""
        return sum(len(name) + len(value) for name, value in self._pairs)

    def _key(self, name: bytes) -> bytes:
        name = name.lower()
        return b":authority" if name == b"host" and self.single is REQUEST else name
