"""What a module may call: `env.proxy_*`, each with the statuses that Envoy gives.

Source: proxy-wasm-cpp-host, src/exports.cc; envoyproxy/envoy, source/extensions/common/wasm/context.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaffold.hosts.emulator import foreign, properties
from scaffold.hosts.emulator import shared as metrics
from scaffold.hosts.emulator import status as s
from scaffold.hosts.emulator.grpc import service_of
from scaffold.hosts.emulator.vm import Stop
from scaffold.hosts.emulator.wire import packed, unpacked
from scaffold.hosts.unsupported import Unsupported

if TYPE_CHECKING:
    from scaffold.hosts.emulator.context import Context
    from scaffold.hosts.emulator.stream import Body
    from scaffold.hosts.emulator.vm import Hostcall, Vm

HOSTCALLS: dict[str, Hostcall] = {}


def _hostcall(function: Hostcall) -> Hostcall:
    HOSTCALLS[f"env.{function.__name__}"] = function
    return function


def _here(vm: Vm) -> Context:
    """The context that a hostcall is about."""
    context = vm.effective or vm.current
    if context is None:
        raise RuntimeError("a hostcall outside a callback")
    return context


# the log, the time, contexts


@_hostcall
def proxy_log(vm: Vm, level: int, pointer: int, size: int) -> int:
    if level >= len(s.LEVELS):
        return s.BAD_ARGUMENT
    text = vm.read(pointer, size)
    if text is None:
        return s.INVALID_MEMORY_ACCESS
    if level >= vm.log_level:
        vm.log(s.LEVELS[level], text.decode(errors="replace"))
    return s.OK


@_hostcall
def proxy_get_log_level(vm: Vm, result: int) -> int:
    return s.OK if vm.word(result, vm.log_level) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_get_current_time_nanoseconds(vm: Vm, result: int) -> int:
    now = vm.world.clock.nanoseconds().to_bytes(8, "little")
    return s.OK if vm.write(result, now) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_tick_period_milliseconds(vm: Vm, period: int) -> int:
    _here(vm).of.tick(period)
    return s.OK


@_hostcall
def proxy_set_effective_context(vm: Vm, number: int) -> int:
    context = vm.contexts.get(number)
    if context is None:
        return s.BAD_ARGUMENT
    vm.effective = context if number else None  # 0 is the callback's own again
    return s.OK


@_hostcall
def proxy_done(vm: Vm) -> int:
    return _here(vm).done()


@_hostcall
def proxy_get_status(vm: Vm, code: int, pointer: int, size: int) -> int:
    known, message = _here(vm).of.last_status
    if not (vm.word(code, known) and vm.give(message, pointer, size)):
        return s.INVALID_MEMORY_ACCESS
    return s.OK


# properties


@_hostcall
def proxy_get_property(vm: Vm, path: int, path_size: int, pointer: int, size: int) -> int:
    name = vm.read(path, path_size)
    if name is None:
        return s.INVALID_MEMORY_ACCESS
    if not name:
        return s.SERIALIZATION_FAILURE
    status, value = properties.get(_here(vm), name)
    if status != s.OK:
        return status
    return s.OK if vm.give(value, pointer, size) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_property(vm: Vm, path: int, path_size: int, pointer: int, size: int) -> int:
    name, value = vm.read(path, path_size), vm.read(pointer, size)
    if name is None or value is None:
        return s.INVALID_MEMORY_ACCESS
    return properties.put(_here(vm), name, value)


# headers


@_hostcall
def proxy_get_header_map_pairs(vm: Vm, kind: int, pointer: int, size: int) -> int:
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT
    found = _here(vm).map(kind)
    return s.OK if vm.give(packed(found or ()), pointer, size) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_header_map_pairs(vm: Vm, kind: int, pointer: int, size: int) -> int:
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT
    content = vm.read(pointer, size)
    if content is None:
        return s.INVALID_MEMORY_ACCESS
    found = _here(vm).mutable_map(kind)
    if found is None:
        return s.BAD_ARGUMENT
    found.clear()
    for name, value in unpacked(content):
        found.add(name, value)
    return s.OK


@_hostcall
def proxy_get_header_map_size(vm: Vm, kind: int, result: int) -> int:
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT
    found = _here(vm).mutable_map(kind)  # as Envoy has it, which makes trailers
    if found is None:
        return s.BAD_ARGUMENT
    return s.OK if vm.word(result, found.size) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_get_header_map_value(vm: Vm, kind: int, key: int, key_size: int, pointer: int, size: int) -> int:
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT
    name = vm.read(key, key_size)
    if name is None:
        return s.INVALID_MEMORY_ACCESS
    context = _here(vm)
    found = context.map(kind)
    if found is None and not context.logging:
        return s.BAD_ARGUMENT
    value = None if found is None else found.get(name)
    if value is None and vm.abi != "0.1.0":
        return s.NOT_FOUND
    return s.OK if vm.give(value or b"", pointer, size) else s.INVALID_MEMORY_ACCESS


def _changed(vm: Vm, kind: int, key: int, key_size: int, pointer: int, size: int, *, add: bool) -> int:
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT
    name, value = vm.read(key, key_size), vm.read(pointer, size)
    if name is None or value is None:
        return s.INVALID_MEMORY_ACCESS
    found = _here(vm).mutable_map(kind)
    if found is None:
        return s.BAD_ARGUMENT
    (found.add if add else found.replace)(name, value)
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
    if kind > s.LAST_MAP:
        return s.BAD_ARGUMENT
    name = vm.read(key, key_size)
    if name is None:
        return s.INVALID_MEMORY_ACCESS
    found = _here(vm).mutable_map(kind)
    if found is None:
        return s.BAD_ARGUMENT
    found.remove(name)
    return s.OK


# bodies and configurations


def _buffer(vm: Vm, kind: int) -> Body | bytes | None:
    """A buffer; None for one that is known and nowhere."""
    context, root = _here(vm), _here(vm).of.root
    if kind == s.VM_CONFIGURATION:
        return context.of.plugin.vm_configuration
    if kind == s.PLUGIN_CONFIGURATION:
        return context.of.plugin.configuration if root.configuring else None
    if kind == s.CALL_BODY:
        return root.answer[1] if root.answer else None
    if kind == s.GRPC_MESSAGE:
        return context.of.grpc.message
    return context.body(kind)


_ABSENT_IS_EMPTY = (0, 1, 2, 3, s.GRPC_MESSAGE, s.FOREIGN_ARGUMENTS)


@_hostcall
def proxy_get_buffer_bytes(vm: Vm, kind: int, start: int, length: int, pointer: int, size: int) -> int:
    if kind > s.LAST_BUFFER:
        return s.BAD_ARGUMENT
    found = _buffer(vm, kind)
    if found is None and kind not in _ABSENT_IS_EMPTY:
        return s.NOT_FOUND
    content = b"" if found is None else found if isinstance(found, bytes) else found.content
    return s.OK if vm.give(content[start : start + length], pointer, size) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_get_buffer_status(vm: Vm, kind: int, length: int, flags: int) -> int:
    if kind > s.LAST_BUFFER:
        return s.BAD_ARGUMENT
    found = _buffer(vm, kind)
    if found is None and kind not in _ABSENT_IS_EMPTY:
        return s.NOT_FOUND
    size = 0 if found is None else len(found)
    return s.OK if vm.word(length, size) and vm.word(flags, 0) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_buffer_bytes(vm: Vm, kind: int, start: int, length: int, pointer: int, size: int) -> int:
    if kind > s.LAST_BUFFER:
        return s.BAD_ARGUMENT
    found = _buffer(vm, kind)
    if found is None and kind not in _ABSENT_IS_EMPTY:
        return s.NOT_FOUND
    content = vm.read(pointer, size)
    if content is None:
        return s.INVALID_MEMORY_ACCESS
    if found is None or isinstance(found, bytes):
        return s.BAD_ARGUMENT
    if start == 0:
        found.content = content + found.content[length:]
    elif start >= len(found):
        found.content += content
    else:
        return s.BAD_ARGUMENT
    return s.OK


@_hostcall
def proxy_get_configuration(vm: Vm, pointer: int, size: int) -> int:
    root = _here(vm).of.root
    content = root.of.plugin.configuration if root.configuring else root.of.plugin.vm_configuration
    return s.OK if vm.give(content, pointer, size) else s.INVALID_MEMORY_ACCESS


# the stream


@_hostcall
def proxy_continue_stream(vm: Vm, kind: int) -> int:
    if kind == s.UPSTREAM:
        return s.UNIMPLEMENTED
    return _here(vm).resume(kind) if kind <= s.DOWNSTREAM else s.BAD_ARGUMENT


@_hostcall
def proxy_continue_request(vm: Vm) -> int:
    return _here(vm).resume(s.REQUEST)


@_hostcall
def proxy_continue_response(vm: Vm) -> int:
    return _here(vm).resume(s.RESPONSE)


@_hostcall
def proxy_close_stream(vm: Vm, kind: int) -> int:
    return _here(vm).close(kind) if kind <= s.UPSTREAM else s.BAD_ARGUMENT


@_hostcall
def proxy_clear_route_cache(vm: Vm) -> int:
    return s.OK


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
    texts = [vm.read(details, details_size), vm.read(body, body_size), vm.read(headers, headers_size)]
    why, content, pairs = texts
    if why is None or content is None or pairs is None:
        return s.INVALID_MEMORY_ACCESS
    _here(vm).reply(status, why.decode(errors="replace"), content, unpacked(pairs))
    vm.stopped = True
    return s.OK


# calls to other services


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


@_hostcall
def proxy_http_call(
    vm: Vm,
    cluster: int,
    cluster_size: int,
    headers: int,
    headers_size: int,
    body: int,
    body_size: int,
    trailers: int,
    trailers_size: int,
    timeout: int,
    result: int,
) -> int:
    places = ((cluster, cluster_size), (headers, headers_size), (body, body_size), (trailers, trailers_size))
    name, head, content, tail = (vm.read(*place) for place in places)
    if name is None or head is None or content is None or tail is None:
        return s.INVALID_MEMORY_ACCESS
    if not vm.word(result, 0):
        return s.INVALID_MEMORY_ACCESS
    call = (name.decode(errors="replace"), unpacked(head), content, unpacked(tail), _signed(timeout) / 1000)
    status, token = vm.world.call(_here(vm).of, *call)
    vm.word(result, token)
    return status


@_hostcall
def proxy_grpc_call(vm: Vm, *words: int) -> int:
    *places, milliseconds, result = words
    texts = _texts(vm, places)
    if texts is None:
        return s.INVALID_MEMORY_ACCESS
    target, service, method, metadata, message = texts
    to = service_of(target, vm.world)
    if to is None:
        return s.PARSE_FAILURE
    grpc = _here(vm).of.grpc
    status, token = grpc.call(to, (service, method), unpacked(metadata), message, milliseconds)
    if status != s.OK:
        return status
    return s.OK if vm.word(result, token) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_grpc_stream(vm: Vm, *words: int) -> int:
    *places, result = words
    texts = _texts(vm, places)
    if texts is None:
        return s.INVALID_MEMORY_ACCESS
    target, service, method, metadata = texts
    to = service_of(target, vm.world)
    if to is None:
        return s.PARSE_FAILURE
    status, token = _here(vm).of.grpc.stream(to, (service, method), unpacked(metadata))
    if status != s.OK:
        return status
    return s.OK if vm.word(result, token) else s.INVALID_MEMORY_ACCESS


def _texts(vm: Vm, words: Sequence[int]) -> list[bytes] | None:
    """What lies at some places, each a pointer and a size; None if one is outside."""
    found = [vm.read(*place) for place in zip(words[::2], words[1::2], strict=True)]
    inside = [each for each in found if each is not None]
    return inside if len(inside) == len(found) else None


@_hostcall
def proxy_grpc_send(vm: Vm, token: int, pointer: int, size: int, end: int) -> int:
    message = vm.read(pointer, size)
    if message is None:
        return s.INVALID_MEMORY_ACCESS
    return _here(vm).of.grpc.send(token, message, end=end != 0)


@_hostcall
def proxy_grpc_cancel(vm: Vm, token: int) -> int:
    return _here(vm).of.grpc.cancel(token)


@_hostcall
def proxy_grpc_close(vm: Vm, token: int) -> int:
    return _here(vm).of.grpc.close(token)


@_hostcall
def proxy_call_foreign_function(
    vm: Vm, function_: int, function_size: int, arguments: int, arguments_size: int, pointer: int, size: int
) -> int:
    function, content = vm.read(function_, function_size), vm.read(arguments, arguments_size)
    if function is None or content is None:
        return s.INVALID_MEMORY_ACCESS
    name = function.decode(errors="replace")
    if not foreign.exists(vm, name):
        return s.NOT_FOUND
    status, result = foreign.call(vm, name, content)
    if pointer and not vm.place(result, pointer):
        return s.INVALID_MEMORY_ACCESS
    if size and not vm.word(size, len(result or b"")):
        return s.INVALID_MEMORY_ACCESS
    return status


@_hostcall
def envoy_resolve_dns(vm: Vm, name: int, size: int, token: int) -> int:
    raise Unsupported("DNS lookups")


# shared data and queues


def _room(vm: Vm, size: int) -> None:
    """End the callback if what VMs share would grow beyond its limit."""
    if vm.world.data.size + vm.world.queues.size + size > vm.limits.kept:
        raise Stop(f"more than {vm.limits.kept:,} bytes of shared data and queues")


@_hostcall
def proxy_get_shared_data(vm: Vm, key: int, key_size: int, pointer: int, size: int, number: int) -> int:
    name = vm.read(key, key_size)
    if name is None:
        return s.INVALID_MEMORY_ACCESS
    found = vm.world.data.get(vm.id, name)
    if found is None:
        return s.NOT_FOUND
    given = vm.give(found[0], pointer, size) and vm.word(number, found[1])
    return s.OK if given else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_set_shared_data(vm: Vm, key: int, key_size: int, pointer: int, size: int, number: int) -> int:
    name, value = vm.read(key, key_size), vm.read(pointer, size)
    if name is None or value is None:
        return s.INVALID_MEMORY_ACCESS
    _room(vm, len(name) + len(value))
    return vm.world.data.set(vm.id, name, value, number)


@_hostcall
def proxy_register_shared_queue(vm: Vm, name: int, size: int, result: int) -> int:
    text = vm.read(name, size)
    if text is None:
        return s.INVALID_MEMORY_ACCESS
    token = vm.world.queues.register(vm.id, text, _here(vm).of.queue_ready)
    return s.OK if vm.word(result, token) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_resolve_shared_queue(vm: Vm, vm_id: int, vm_id_size: int, name: int, size: int, result: int) -> int:
    owner, text = vm.read(vm_id, vm_id_size), vm.read(name, size)
    if owner is None or text is None:
        return s.INVALID_MEMORY_ACCESS
    token = vm.world.queues.resolve(owner or vm.id, text)
    if token is None:
        return s.NOT_FOUND
    return s.OK if vm.word(result, token) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_enqueue_shared_queue(vm: Vm, token: int, pointer: int, size: int) -> int:
    message = vm.read(pointer, size)
    if message is None:
        return s.INVALID_MEMORY_ACCESS
    _room(vm, len(message))
    return vm.world.queues.enqueue(token, message)


@_hostcall
def proxy_dequeue_shared_queue(vm: Vm, token: int, pointer: int, size: int) -> int:
    status, message = vm.world.queues.dequeue(token)
    if status != s.OK:
        return status
    return s.OK if vm.give(message, pointer, size) else s.INVALID_MEMORY_ACCESS


# metrics


@_hostcall
def proxy_define_metric(vm: Vm, kind: int, name: int, size: int, result: int) -> int:
    text = vm.read(name, size)
    if text is None:
        return s.INVALID_MEMORY_ACCESS
    if kind > metrics.HISTOGRAM:
        return s.BAD_ARGUMENT
    metric = vm.world.metrics.define(text.decode(errors="replace"), kind)
    number = vm.add_metric(metric)
    return s.OK if vm.word(result, number) else s.INVALID_MEMORY_ACCESS


@_hostcall
def proxy_increment_metric(vm: Vm, number: int, offset: int) -> int:
    metric = vm.metrics.get(number)
    if metric is None:
        return s.NOT_FOUND if number & 3 < metrics.HISTOGRAM else s.BAD_ARGUMENT
    return metrics.increment(metric, offset - (1 << 64) if offset >> 63 else offset)


@_hostcall
def proxy_record_metric(vm: Vm, number: int, value: int) -> int:
    metric = vm.metrics.get(number)
    return s.NOT_FOUND if metric is None else metrics.record(metric, value)


@_hostcall
def proxy_get_metric(vm: Vm, number: int, result: int) -> int:
    metric = vm.metrics.get(number)
    if metric is None:
        return s.NOT_FOUND if number & 3 < metrics.HISTOGRAM else s.BAD_ARGUMENT
    if metric.kind == metrics.HISTOGRAM:
        return s.BAD_ARGUMENT
    value = metric.value.to_bytes(8, "little")
    return s.OK if vm.write(result, value) else s.INVALID_MEMORY_ACCESS


@_hostcall
def pthread_equal(vm: Vm, left: int, right: int) -> int:
    return int(left == right)


@_hostcall
def emscripten_notify_memory_growth(vm: Vm, index: int) -> None:
    return None
