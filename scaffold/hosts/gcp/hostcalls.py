"""What a module may call in Google's tester, where that isn't what Envoy does.

Source: GoogleCloudPlatform/service-extensions, plugins/test/framework.cc; proxy-wasm-cpp-host,
src/exports.cc, include/proxy-wasm/context.h and test/utility.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.wire import packed, unpacked
from scaffold.hosts.gcp.contexts import StreamContext

if TYPE_CHECKING:
    from scaffold.hosts.emulator.vm import Hostcall, Vm
    from scaffold.hosts.gcp.headers import SortedHeaders

HOSTCALLS: dict[str, Hostcall] = {}
_ABSENT = (  # the tester has none of these
    *("http_call", "grpc_call", "grpc_stream", "grpc_send", "grpc_cancel", "grpc_close"),
    *("define_metric", "increment_metric", "record_metric", "get_metric", "set_property"),
    *("continue_request", "continue_response"),
)
_NO_STATUS = 1, b"unimplmemented"  # as it is spelled there
_TOKEN = {"http_call": 9}  # which argument is the place of a token, that is 0


def _hostcall(function: Hostcall) -> Hostcall:
    HOSTCALLS[f"env.{function.__name__}"] = function
    return function


def _stream(vm: Vm) -> StreamContext | None:
    """The stream that a hostcall is about; None for a root context."""
    context = vm.effective or vm.current
    return context if isinstance(context, StreamContext) else None


# headers


def _headers(vm: Vm, kind: int) -> tuple[int, SortedHeaders | None]:
    """The headers that can be had now, or else the status."""
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT, None
    stream = _stream(vm)
    if stream is None:
        return s.UNIMPLEMENTED, None
    found = stream.headers_of(kind)
    return (s.BAD_ARGUMENT if found is None else s.OK), found


@_hostcall
def proxy_get_header_map_pairs(vm: Vm, kind: int, pointer: int, size: int) -> int:
    status, headers = _headers(vm, kind)
    if headers is None:
        return status
    return s.OK if vm.give(packed(headers), pointer, size) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_header_map_pairs(vm: Vm, kind: int, pointer: int, size: int) -> int:
    content = vm.read(pointer, size)
    if content is None and kind <= s.LAST_MAP:
        return s.INVALID_MEMORY_ACCESS
    status, headers = _headers(vm, kind)
    if headers is None or content is None:
        return status
    headers.clear()
    for name, value in unpacked(content):
        headers.add(name, value)
    return s.OK


@_hostcall
def proxy_get_header_map_size(vm: Vm, kind: int, result: int) -> int:
    status, headers = _headers(vm, kind)
    if headers is None:
        return status
    return s.OK if vm.word(result, len(headers)) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_get_header_map_value(vm: Vm, kind: int, key: int, key_size: int, pointer: int, size: int) -> int:
    name = vm.read(key, key_size)
    if name is None and kind <= s.LAST_MAP:
        return s.INVALID_MEMORY_ACCESS
    status, headers = _headers(vm, kind)
    if headers is None or name is None:
        return status
    value = headers.get(name)
    if value is None:
        return s.NOT_FOUND
    return s.OK if vm.give(value, pointer, size) else s.INVALID_MEMORY_ACCESS


def _changed(vm: Vm, kind: int, key: int, key_size: int, pointer: int, size: int, *, add: bool) -> int:
    name, value = vm.read(key, key_size), vm.read(pointer, size)
    if (name is None or value is None) and kind <= s.LAST_MAP:
        return s.INVALID_MEMORY_ACCESS
    status, headers = _headers(vm, kind)
    if headers is None or name is None or value is None:
        return status
    (headers.add if add else headers.replace)(name, value)
    return s.OK


@_hostcall
def proxy_add_header_map_value(vm: Vm, kind: int, key: int, key_size: int, pointer: int, size: int) -> int:
    return _changed(vm, kind, key, key_size, pointer, size, add=True)


@_hostcall
def proxy_replace_header_map_value(
    vm: Vm, kind: int, key: int, key_size: int, pointer: int, size: int
) -> int:
    return _changed(vm, kind, key, key_size, pointer, size, add=False)


@_hostcall
def proxy_remove_header_map_value(vm: Vm, kind: int, key: int, key_size: int) -> int:
    name = vm.read(key, key_size)
    if name is None and kind <= s.LAST_MAP:
        return s.INVALID_MEMORY_ACCESS
    status, headers = _headers(vm, kind)
    if headers is None or name is None:
        return status
    headers.remove(name)
    return s.OK


# bodies and configurations


def _buffer(vm: Vm, kind: int) -> bytes | None:
    """A buffer: the configuration at any time, a chunk of a body from its callback on."""
    context = vm.effective or vm.current
    if context is None or context.id == 0:
        return None
    if kind == s.PLUGIN_CONFIGURATION:
        return context.of.plugin.configuration
    stream = _stream(vm)
    return None if stream is None else stream.buffer(kind)


@_hostcall
def proxy_get_buffer_bytes(vm: Vm, kind: int, start: int, length: int, pointer: int, size: int) -> int:
    if kind > s.LAST_BUFFER:
        return s.BAD_ARGUMENT
    found = _buffer(vm, kind)
    if found is None:
        return s.NOT_FOUND
    return s.OK if vm.give(found[start : start + length], pointer, size) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_get_buffer_status(vm: Vm, kind: int, length: int, flags: int) -> int:
    if kind > s.LAST_BUFFER:
        return s.BAD_ARGUMENT
    found = _buffer(vm, kind)
    if found is None:
        return s.NOT_FOUND
    return s.OK if vm.word(length, len(found)) and vm.word(flags, 0) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_buffer_bytes(vm: Vm, kind: int, start: int, length: int, pointer: int, size: int) -> int:
    if kind > s.LAST_BUFFER:
        return s.BAD_ARGUMENT
    if _buffer(vm, kind) is None:
        return s.NOT_FOUND
    content, stream = vm.read(pointer, size), _stream(vm)
    if content is None:
        return s.INVALID_MEMORY_ACCESS
    if kind == s.PLUGIN_CONFIGURATION or stream is None:
        return s.BAD_ARGUMENT
    stream.change_buffer(start, length, content)
    return s.OK


@_hostcall
def proxy_get_configuration(vm: Vm, pointer: int, size: int) -> int:
    return s.OK if vm.give(b"", pointer, size) else s.INVALID_MEMORY_ACCESS


# properties


@_hostcall
def proxy_get_property(vm: Vm, path: int, path_size: int, pointer: int, size: int) -> int:
    name = vm.read(path, path_size)
    if name is None:
        return s.INVALID_MEMORY_ACCESS
    stream = _stream(vm)
    if stream is None:
        value = b"" if name == b"plugin_root_id" else None
    else:
        value = stream.properties.get(b".".join(part for part in name.split(b"\0") if part))
    if value is None:
        return s.UNIMPLEMENTED if stream is None else s.NOT_FOUND
    return s.OK if vm.give(value, pointer, size) else s.INVALID_MEMORY_ACCESS


# the stream


@_hostcall
def proxy_send_local_response(
    vm: Vm,
    status: int,
    details: int,
    details_size: int,
    body: int,
    body_size: int,
    headers: int,
    headers_size: int,
    grpc_status: int,
) -> int:
    why, content = vm.read(details, details_size), vm.read(body, body_size)
    pairs = vm.read(headers, headers_size)
    if why is None or content is None or pairs is None:
        return s.INVALID_MEMORY_ACCESS
    if stream := _stream(vm):
        stream.local_reply(status, why, content, unpacked(pairs), grpc_status)
    vm.stopped = True
    return s.OK


@_hostcall
def proxy_continue_stream(vm: Vm, kind: int) -> int:
    return s.UNIMPLEMENTED if kind <= s.UPSTREAM else s.BAD_ARGUMENT


@_hostcall
def proxy_close_stream(vm: Vm, kind: int) -> int:
    return s.UNIMPLEMENTED if kind <= s.UPSTREAM else s.BAD_ARGUMENT


# what the tester doesn't have


@_hostcall
def proxy_set_tick_period_milliseconds(vm: Vm, period: int) -> int:
    return s.OK  # and no time passes


@_hostcall
def proxy_get_log_level(vm: Vm, result: int) -> int:
    return s.OK if vm.word(result, 0) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_get_status(vm: Vm, code: int, pointer: int, size: int) -> int:
    number, message = _NO_STATUS
    given = vm.word(code, number) and vm.give(message, pointer, size)
    return s.OK if given else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_call_foreign_function(
    vm: Vm, name: int, name_size: int, arguments: int, arguments_size: int, pointer: int, size: int
) -> int:
    return s.NOT_FOUND


def _absent(name: str) -> Hostcall:
    def call(vm: Vm, *arguments: int) -> int:
        if name in _TOKEN and not vm.word(arguments[_TOKEN[name]], 0):
            return s.INVALID_MEMORY_ACCESS
        return s.UNIMPLEMENTED

    call.__name__ = f"proxy_{name}"
    return call


for _name in _ABSENT:
    _hostcall(_absent(_name))
