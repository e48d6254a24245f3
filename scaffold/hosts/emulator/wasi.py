"""WASI as Envoy offers it: a log, clocks, random bytes, the environment, and errors for the rest.

Source: proxy-wasm-cpp-host, src/exports.cc; the numbers of errors are those of wasi_snapshot_preview1.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from scaffold.hosts.emulator.status import LEVELS
from scaffold.hosts.emulator.vm import Stop

if TYPE_CHECKING:
    from scaffold.hosts.emulator.vm import Hostcall, Vm

WASI: dict[str, Hostcall] = {}
_OK, _BAD, _FAULT, _INVALID, _NOENT, _NOSYS, _NOTSUP = 0, 8, 21, 28, 44, 52, 58
_MOST_RANDOM = 64 * 1024
_MOST_VECTORS = 100_000
_LEVELS = {1: "info", 2: "error"}  # by file descriptor
_REST = {  # what the others return
    "fd_read": _NOSYS,
    "fd_prestat_get": _BAD,
    "fd_prestat_dir_name": _NOSYS,
    "path_open": _NOENT,
    "fd_fdstat_set_flags": _NOSYS,
    "sched_yield": _OK,
}


def _wasi(function: Hostcall) -> Hostcall:
    WASI[f"wasi_snapshot_preview1.{function.__name__}"] = function
    return function


@_wasi
def fd_write(vm: Vm, descriptor: int, vectors: int, count: int, result: int) -> int:
    level = _LEVELS.get(descriptor)
    if level is None:
        return _BAD
    parts, size = [], 0
    if count > _MOST_VECTORS:
        raise Stop(f"fd_write with {count:,} pieces")
    for place in range(count):
        vector = vm.read(vectors + 8 * place, 8)
        part = None if vector is None else vm.read(*struct.unpack("<II", vector))
        if part is None:
            return _FAULT
        size += len(part)
        if size > vm.limits.log_bytes:
            raise Stop(f"more than {vm.limits.log_bytes:,} bytes of log in one callback")
        parts.append(part)
    text = b"".join(parts)
    if text and LEVELS.index(level) >= vm.log_level:
        vm.log(level, text.removesuffix(b"\n").decode(errors="replace"))
    return _OK if vm.word(result, len(text)) else _FAULT


@_wasi
def clock_time_get(vm: Vm, clock: int, precision: int, result: int) -> int:
    if clock > 1:
        return _NOTSUP
    return _OK if vm.write(result, vm.world.clock.nanoseconds().to_bytes(8, "little")) else _FAULT


@_wasi
def random_get(vm: Vm, pointer: int, size: int) -> int:
    if size > _MOST_RANDOM:
        return _INVALID
    return _OK if vm.write(pointer, vm.random(size)) else _INVALID


def _environment(vm: Vm) -> list[bytes]:
    return [f"{name}={value}".encode() + b"\0" for name, value in vm.environment.items()]


@_wasi
def environ_sizes_get(vm: Vm, count: int, size: int) -> int:
    each = _environment(vm)
    return _OK if vm.word(count, len(each)) and vm.word(size, sum(map(len, each))) else _FAULT


@_wasi
def environ_get(vm: Vm, places: int, pointer: int) -> int:
    for number, text in enumerate(_environment(vm)):
        if not (vm.word(places + 4 * number, pointer) and vm.write(pointer, text)):
            return _FAULT
        pointer += len(text)
    return _OK


@_wasi
def args_sizes_get(vm: Vm, count: int, size: int) -> int:
    return _OK if vm.word(count, 0) and vm.word(size, 0) else _FAULT


@_wasi
def args_get(vm: Vm, places: int, pointer: int) -> int:
    return _OK


@_wasi
def fd_fdstat_get(vm: Vm, descriptor: int, result: int) -> int:
    if descriptor not in _LEVELS:
        return _BAD
    return _OK if vm.write(result, struct.pack("<3Q", 0, 64, 0)) else _FAULT


@_wasi
def poll_oneoff(vm: Vm, subscriptions: int, events: int, count: int, result: int) -> int:
    return _OK if vm.word(result, 0) else _FAULT


def _told(vm: Vm, name: str) -> None:
    """Write what Envoy writes of a function that does nothing, under the old name of its module."""
    if vm.transcript.on:
        vm.transcript.trace(f"wasi_unstable {name}")


@_wasi
def fd_seek(vm: Vm, descriptor: int, offset: int, whence: int, result: int) -> int:
    _told(vm, "fd_seek")
    return _OK


@_wasi
def fd_close(vm: Vm, descriptor: int) -> int:
    _told(vm, "fd_close")
    return _OK


@_wasi
def proc_exit(vm: Vm, code: int) -> None:
    _told(vm, "proc_exit")


def _always(name: str, answer: int) -> None:
    def call(vm: Vm, *_: int) -> int:
        return answer

    WASI[f"wasi_snapshot_preview1.{name}"] = call


for _name, _answer in _REST.items():
    _always(_name, _answer)
