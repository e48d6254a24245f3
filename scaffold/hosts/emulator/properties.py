"""Properties: what a module may ask about the request, the answer, the connection and itself.

Source: envoyproxy/envoy, source/extensions/filters/common/expr/context.cc and common/wasm/context.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.header_map import HeaderMap
from scaffold.hosts.emulator.tcp import Session
from scaffold.hosts.emulator.wire import packed
from scaffold.hosts.unsupported import Unsupported

if TYPE_CHECKING:
    from scaffold.hosts.emulator.context import Context
    from scaffold.hosts.emulator.exchange import Exchange

_BY_PLUGINS = "wasm."  # how Envoy's names begin of what plugins have set

Value = bytes | str | int | bool | HeaderMap | None


_WHOLE = [  # what has no bytes as a whole
    [each] for each in "request response connection upstream source destination filter_state".split()
]

_OWN = {  # Envoy's own names, which hide those that plugins set
    "metadata", "upstream_filter_state", "xds", "plugin_name", "plugin_root_id", "plugin_vm_id",
    "connection_id", "", *(each for (each,) in _WHOLE),
}  # fmt: skip


def get(context: Context, path: bytes) -> tuple[int, bytes]:
    """Whether there is a property, as a status, and its bytes. Parts of `path` end with a zero byte."""
    parts = [part.decode(errors="replace") for part in path.split(b"\0")]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if context.exchange and len(parts) == 1 and parts[0] not in _OWN:
        kept = context.exchange.state.get(path.partition(b"\0")[0])
        return (s.NOT_FOUND, b"") if kept is None else (s.OK, kept)
    if parts == ["xds"] or (context.exchange and (parts in _WHOLE or _is_whole_upstream(context, parts))):
        return s.SERIALIZATION_FAILURE, b""
    try:
        value = _bytes(_value(context, parts))
    except (KeyError, IndexError):
        value = None
    return (s.NOT_FOUND, b"") if value is None else (s.OK, value)


def put(context: Context, path: bytes, value: bytes) -> int:
    """Set a property, which lives as long as the stream."""
    if context.exchange is None:
        return s.NOT_FOUND
    exchange = context.exchange
    if path in exchange.fixed:
        return s.BAD_ARGUMENT
    if path not in exchange.state and context.of.root.declared.get(path):
        exchange.fixed.add(path)
    exchange.state[path] = value
    return s.OK


def _bytes(value: Value) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return struct.pack("<q", value)
    return packed(value) or bytes(4) if isinstance(value, HeaderMap) else value.encode()


def _value(context: Context, parts: list[str]) -> Value:
    plugin = context.of.plugin
    of_plugin = {
        "plugin_name": plugin.name,
        "plugin_root_id": plugin.root_id,
        "plugin_vm_id": context.vm.id.decode(),
    }
    if len(parts) == 1 and parts[0] in of_plugin:
        return of_plugin[parts[0]]
    if parts[:2] == ["xds", "node"]:
        return _node(parts)
    if context.exchange is None:
        return None
    if parts[0] == "filter_state":
        return _filter_state(context.exchange, parts)
    is_tcp = isinstance(context.exchange, Session)
    if parts[0] == "xds":
        return (_TCP_XDS if is_tcp else _XDS)[parts[1]](context)
    if len(parts) == 1:
        named: dict[str, Value] = {"connection_id": context.exchange.number, "metadata": b""}
        return named[parts[0]]
    if parts[1] in ("headers", "trailers") and parts[0] in ("request", "response"):
        return _map(context, parts)
    found: Value = (_TCP if is_tcp else _TABLE)[parts[0]][parts[1]](context)
    return found


def _node(parts: list[str]) -> str:
    """The node of our bootstraps, which a root context has, too. Raises `Unsupported` for the rest of it."""
    if len(parts) == 3 and parts[2] in ("id", "cluster"):
        return "scaffold"
    raise Unsupported(f"the property {'.'.join(parts)}")


def _filter_state(exchange: Exchange | Session, parts: list[str]) -> bytes | None:
    """What plugins have set, by the name that Envoy gives it."""
    if len(parts) != 2:
        return None
    if parts[1].startswith(_BY_PLUGINS):
        return exchange.state.get(parts[1].removeprefix(_BY_PLUGINS).encode())
    return exchange.envoys_state.get(parts[1])


def _is_whole_upstream(context: Context, parts: list[str]) -> bool:
    """Whether it is about the upstream as a whole, once a TCP connection has one."""
    session = context.exchange
    whole = (["upstream_filter_state"], ["xds", "upstream_host_metadata"])
    return parts in whole and isinstance(session, Session) and session.waited is not None


def _map(context: Context, parts: list[str]) -> Value:
    found = context.known(parts[0], parts[1])
    if len(parts) == 2:
        return found or HeaderMap(frozenset())
    return None if found is None else found.joined(parts[2].encode())


def _header(name: bytes) -> Callable[[Context], bytes | None]:
    def value(context: Context) -> bytes | None:
        found = context.known("request", "headers")
        return None if found is None else found.get(name)

    return value


def _path(context: Context) -> bytes:
    path = _header(b":path")(context)
    if path is None:
        raise KeyError
    return path


def _request_size(context: Any) -> int | None:
    """What content-length says while the headers are there; else what has come of the body."""
    found = context.known("request", "headers")
    length = None if found is None else found.get(b"content-length")
    if length is None:
        received: int = context.exchange.received
        return received
    return int(length) if length.isdigit() else None


def _size(context: Context, side: str, what: str) -> int:
    """The bytes of a header map that is there."""
    found = context.known(side, what)
    return 0 if found is None else found.size


_TABLE: dict[str, dict[str, Callable[[Any], Any]]] = {
    "request": {
        "path": _header(b":path"),
        "url_path": lambda context: _path(context).partition(b"?")[0],
        "query": lambda context: _path(context).partition(b"?")[2],
        "host": _header(b":authority"),
        "scheme": _header(b":scheme"),
        "method": _header(b":method"),
        "referer": _header(b"referer"),
        "useragent": _header(b"user-agent"),
        "id": _header(b"x-request-id"),
        "protocol": lambda context: "HTTP/1.1",
        "time": lambda context: context.exchange.began,
        "size": _request_size,
        "total_size": lambda context: context.exchange.received + _size(context, "request", "headers"),
        "duration": lambda context: context.exchange.duration,
    },
    "response": {
        "code": lambda context: context.exchange.status,
        "code_details": lambda context: context.exchange.stream.details,
        "flags": lambda context: 0,
        "size": lambda context: context.exchange.sent,
        "total_size": lambda context: (
            context.exchange.sent
            + _size(context, "response", "headers")
            + _size(context, "response", "trailers")
        ),
    },
    "source": {
        "address": lambda context: context.exchange.peer,
        "port": lambda context: context.exchange.peer_port,
    },
    "destination": {
        "address": lambda context: context.exchange.local,
        "port": lambda context: context.exchange.local_port,
    },
    "connection": {
        "id": lambda context: context.exchange.number,
        "mtls": lambda context: False,
        "requested_server_name": lambda context: "",
        "peer_certificate_valid": lambda context: False,
    },
}
_OF_LISTENER: dict[str, Callable[[Any], Value]] = {
    "filter_chain_name": lambda context: "",
    "listener_metadata": lambda context: b"",
    "listener_direction": lambda context: 0,
}
_XDS: dict[str, Callable[[Any], Value]] = {
    **_OF_LISTENER,
    "cluster_name": lambda context: context.exchange.cluster,
    "cluster_metadata": lambda context: b"",
    "route_name": lambda context: "",
    "virtual_host_name": lambda context: "all",
}


def _once_connected(value: Value) -> Callable[[Any], Value]:
    """What is known of the upstream once the connection to it is there."""
    return lambda context: None if context.exchange.waited is None else value


# of a TCP connection
_TCP: dict[str, dict[str, Callable[[Any], Any]]] = {
    "request": {
        "time": lambda context: context.exchange.began,
        "size": lambda context: context.exchange.received,
        "total_size": lambda context: context.exchange.received,
    },
    "response": {
        "flags": lambda context: 0,
        "size": lambda context: context.exchange.sent,
        "total_size": lambda context: context.exchange.sent,
    },
    "source": _TABLE["source"],
    "destination": _TABLE["destination"],
    "connection": _TABLE["connection"],
    "upstream": {
        "address": _once_connected("/origin.sock"),
        "locality": _once_connected(b""),
        "transport_failure_reason": lambda context: "",
        "request_attempt_count": lambda context: int(bool(context.exchange.cluster)),
        "cx_pool_ready_duration": lambda context: context.exchange.waited,
        "num_endpoints": _once_connected(1),
    },
}
_TCP_XDS: dict[str, Callable[[Any], Value]] = {
    **_OF_LISTENER,
    "cluster_name": lambda context: context.exchange.cluster or None,
    "cluster_metadata": _once_connected(b""),
}
