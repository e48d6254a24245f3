"""Foreign functions: what Envoy offers to modules beyond the ABI.

Source: envoyproxy/envoy, source/extensions/common/wasm/foreign.cc and ext/*.proto.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from scaffold.hosts.emulator import protobuf
from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.vm import Stop
from scaffold.hosts.unsupported import Unsupported

if TYPE_CHECKING:
    from scaffold.hosts.emulator.context import Context
    from scaffold.hosts.emulator.vm import Vm

Result = tuple[int, bytes | None]  # a status; and what the module gets, if anything
Function = Callable[["Vm", bytes], Result]

_NUMBER = 4  # bytes of an expression's number
_STRINGS = 2  # the types of declared properties below it are bytes, as a whole
_OF_ENVOY = "envoy."  # how the names begin under which Envoy knows how to make a state
_STRING = "envoy.string"
_EFFECTIVE = (1, 37)  # since then, a function is about the context that the module has chosen


def exists(vm: Vm, name: str) -> bool:
    """Whether the Envoy that is emulated has a function."""
    return name in _FUNCTIONS and vm.world.version[:2] >= _FUNCTIONS[name][0]


def call(vm: Vm, name: str, arguments: bytes) -> Result:
    """Call a function that exists. Raises `Unsupported` for one that the emulator doesn't have."""
    return _FUNCTIONS[name][1](vm, arguments)


def _compress(vm: Vm, arguments: bytes) -> Result:
    return s.OK, zlib.compress(arguments)


def _uncompress(vm: Vm, arguments: bytes) -> Result:
    reader = zlib.decompressobj()
    try:
        made = reader.decompress(arguments, vm.limits.copied)
    except zlib.error:
        return s.SERIALIZATION_FAILURE, None
    if len(made) >= vm.limits.copied:
        raise Stop(f"more than {vm.limits.copied:,} bytes uncompressed")
    return (s.OK, made) if reader.eof else (s.SERIALIZATION_FAILURE, None)


def _clear_route_cache(vm: Vm, arguments: bytes) -> Result:
    return s.OK, None  # the route is chosen when the request leaves the last filter


def _declare_property(vm: Vm, arguments: bytes) -> Result:
    """Say of what kind a property will be. Only what a root context declares counts, as Envoy looks there."""
    try:
        fields = protobuf.fields(arguments)
        name = protobuf.text(fields, 1)
    except protobuf.Malformed:
        return s.BAD_ARGUMENT, None
    kind = protobuf.whole(fields, 3)
    if kind in (_STRINGS, _STRINGS + 1):
        raise Unsupported(f"declared properties of the type {('FlatBuffers', 'Protobuf')[kind - _STRINGS]}")
    context = vm.current
    if context is None:
        raise RuntimeError("a foreign function outside a callback")
    if name.encode() in context.declared:
        return s.BAD_ARGUMENT, None
    context.declared[name.encode()] = bool(protobuf.whole(fields, 2))
    return s.OK, None


def _set_envoy_filter_state(vm: Vm, arguments: bytes) -> Result:
    try:
        fields = protobuf.fields(arguments)
        path, value = protobuf.text(fields, 1), protobuf.text(fields, 2)
    except protobuf.Malformed:
        return s.BAD_ARGUMENT, None
    if not path.startswith(_OF_ENVOY):
        return s.NOT_FOUND, None
    if path != _STRING:
        raise Unsupported(f"the filter state {path}")
    exchange = _about(vm).exchange
    if exchange is None:
        return s.NOT_FOUND, None
    exchange.envoys_state[path] = value.encode()
    return s.OK, None


def _about(vm: Vm) -> Context:
    chosen = vm.effective if vm.world.version[:2] >= _EFFECTIVE else None
    context = chosen or vm.current
    if context is None:
        raise RuntimeError("a foreign function outside a callback")
    return context


def _expr_evaluate(vm: Vm, arguments: bytes) -> Result:
    """There is no expression: `expr_create` isn't supported."""
    return (s.NOT_FOUND if len(arguments) == _NUMBER else s.BAD_ARGUMENT), None


def _expr_delete(vm: Vm, arguments: bytes) -> Result:
    return (s.OK if len(arguments) == _NUMBER else s.BAD_ARGUMENT), None


def _unsupported(name: str) -> Function:
    def refuse(vm: Vm, arguments: bytes) -> Result:
        raise Unsupported(f"the foreign function {name}")

    return refuse


_FUNCTIONS: dict[str, tuple[tuple[int, ...], Function]] = {  # with the Envoy since which there is one
    "compress": ((), _compress),
    "uncompress": ((), _uncompress),
    "clear_route_cache": ((1, 33), _clear_route_cache),
    "declare_property": ((), _declare_property),
    "set_envoy_filter_state": ((), _set_envoy_filter_state),
    "expr_create": ((), _unsupported("expr_create")),
    "expr_evaluate": ((), _expr_evaluate),
    "expr_delete": ((), _expr_delete),
    "verify_signature": ((1, 30), _unsupported("verify_signature")),
    "sign": ((1, 37), _unsupported("sign")),
}
