"""Calls in and out of wasmtime without its conversions, which take longer than most hostcalls.

wasmtime's own Python functions look up types and wrap each value in an object. These are its C functions for
values as they are. They aren't part of its public Python interface: `engine` holds its major version.
Source: bytecodealliance/wasmtime, crates/c-api/include/wasmtime/func.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _bindings as ffi

_VALUE = 16  # bytes of a raw value
_WORDS = _VALUE // 8


class HostFunction:
    """A function that a module imports; `call` gets whole numbers, and returns one or None.

    `signature` is its `kind` as `Extern` has it: to ask wasmtime for that takes longer than all the rest.

    An error that it raises ends the module's call, and waits in `raised` for who made that.
    """

    def __init__(
        self,
        store: wasmtime.Store,
        kind: wasmtime.FuncType,
        signature: str,
        call: Callable[..., int | None],
        raised: list[BaseException],
    ) -> None:
        parameters, _, results = signature.partition(">")
        places = [_WORDS * place for place in range(len(parameters))]
        has_result = results != "-"

        def called(_env: Any, _caller: Any, values: Any, _count: int) -> int:
            numbers = ctypes.cast(values, _NUMBERS)
            try:
                result = call(*[numbers[place] for place in places])
            except BaseException as error:
                raised.append(error)
                trap = wasmtime.Trap("the host ends the call")._consume()
                return ctypes.cast(trap, ctypes.c_void_p).value or 0
            if has_result:
                numbers[0] = result
            return 0

        self._callback = ffi.wasmtime_func_unchecked_callback_t(called)  # kept for as long as the VM
        made = ffi.wasmtime_func_t()
        ffi.wasmtime_func_new_unchecked(
            store._context(), kind.ptr(), self._callback, None, _NOTHING, ctypes.byref(made)
        )
        self.function = wasmtime.Func._from_raw(made)


class ModuleFunction:
    """A function that a module exports, of 32-bit numbers, with its signature."""

    def __init__(self, store: wasmtime.Store, function: wasmtime.Func, signature: str) -> None:
        parameters, _, results = signature.partition(">")
        self._store, self._kept = store, function
        self._context = store._context()
        self._function = ctypes.byref(function._func)
        self.has_result = results != "-"
        self._count = max(len(parameters), len(results) if self.has_result else 0)
        self._values = ffi.wasmtime_val_raw_t * max(1, self._count)

    def __call__(self, *arguments: int) -> int | None:
        """Call it. Raises `wasmtime.Trap` or `wasmtime.WasmtimeError`."""
        values = self._values()
        numbers = ctypes.cast(values, _NUMBERS)
        for place, value in enumerate(arguments):
            numbers[_WORDS * place] = value
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = ffi.wasmtime_func_call_unchecked(
            self._context, self._function, values, self._count, ctypes.byref(trap)
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        if trap:
            raise wasmtime.Trap._from_ptr(trap)
        return numbers[0] & 0xFFFFFFFF if self.has_result else None


_NUMBERS = ctypes.POINTER(ctypes.c_int64)
_NOTHING = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()


class Fuel:
    """The fuel of a store."""

    def __init__(self, store: wasmtime.Store) -> None:
        self._context = store._context()
        self._left = ctypes.c_uint64(0)
        self._place = ctypes.byref(self._left)

    def fill(self, amount: int) -> None:
        """Give it so much."""
        ffi.wasmtime_context_set_fuel(self._context, amount)

    def left(self) -> int:
        """How much is left."""
        ffi.wasmtime_context_get_fuel(self._context, self._place)
        return self._left.value
