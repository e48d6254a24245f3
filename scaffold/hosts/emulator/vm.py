"""One VM: a plugin's module in wasmtime, its memory, and the calls in both directions.

Source: proxy-wasm-cpp-host, src/wasm.cc and src/v8/v8.cc; envoyproxy/envoy, source/extensions/common/wasm/.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from scaffold.hosts.emulator import engine
from scaffold.hosts.emulator.load import ALLOCATORS, CRASHES
from scaffold.hosts.emulator.probe import PROBE
from scaffold.hosts.emulator.status import INTERNAL_FAILURE
from scaffold.hosts.exchange import Cost
from scaffold.wasm import counters
from scaffold.wasm.symbols import explained

if TYPE_CHECKING:
    import wasmtime

    from scaffold.hosts.emulator.context import Context
    from scaffold.hosts.emulator.shared import Metric
    from scaffold.hosts.emulator.world import World
    from scaffold.hosts.plugin import Plugin

_ALLOWED_AT_START = ("env.proxy_log", "env.emscripten_notify_memory_growth")  # and WASI
_ALLOWED_IN_ALLOCATOR = (
    "env.proxy_log",
    *(f"wasi_snapshot_preview1.{name}" for name in ("fd_write", "clock_time_get", "poll_oneoff")),
)
_NOT_CAPABLE = 76  # an error of WASI's
_OF_ABI = "proxy_"  # how the names begin that may be restricted, beside those of WASI
_MASK = {"i": 0xFFFFFFFF, "I": 0xFFFFFFFFFFFFFFFF}
_WORDS = {  # wasmtime's trap -> V8's words
    "UNREACHABLE": "RuntimeError: unreachable",
    "MEMORY_OUT_OF_BOUNDS": "RuntimeError: memory access out of bounds",
    "TABLE_OUT_OF_BOUNDS": "RuntimeError: table index is out of bounds",
    "INDIRECT_CALL_TO_NULL": "RuntimeError: null function or function signature mismatch",
    "BAD_SIGNATURE": "RuntimeError: null function or function signature mismatch",
    "INTEGER_DIVISION_BY_ZERO": "RuntimeError: divide by zero",
    "INTEGER_OVERFLOW": "RuntimeError: divide result unrepresentable",
    "BAD_CONVERSION_TO_INTEGER": "RuntimeError: float unrepresentable in integer range",
    "STACK_OVERFLOW": "RangeError: Maximum call stack size exceeded",
}


@dataclass(frozen=True)
class Limits:
    """What a callback may use: steps of wasm, hostcalls, bytes of log; and the VM's memory in bytes."""

    fuel: int = 2_000_000_000
    hostcalls: int = 200_000
    log_bytes: int = 16 * 2**20
    memory: int = 2**30  # Envoy's own
    copied: int = 256 * 2**20
    kept: int = 256 * 2**20  # bytes of shared data, queues and metrics


_MOST = 4  # memories, and tables
_MOST_ELEMENTS = 10_000_000  # of a table, as in V8


class Trap(Exception):
    """A callback ended in a trap: says why, like V8."""


class Stop(Exception):
    """A hostcall that ends the callback."""


@dataclass
class Use:
    """What callbacks have used, all of them together."""

    fuel: int = 0
    hostcalls: int = 0
    callbacks: int = 0
    copied: int = 0  # bytes between host and module

    def since(self, before: Use) -> Cost:
        """What has been used since."""
        crossings = self.hostcalls + self.callbacks - before.hostcalls - before.callbacks
        return Cost(self.fuel - before.fuel, crossings, self.copied - before.copied)


class Bill:
    """What something costs in each VM."""

    def __init__(self) -> None:
        self._uses: dict[Vm, Use] = {}

    def add(self, vm: Vm, before: Use, now: Use) -> None:
        """Add what has been used since."""
        use = self._uses.setdefault(vm, Use())
        use.fuel += now.fuel - before.fuel
        use.hostcalls += now.hostcalls - before.hostcalls
        use.callbacks += now.callbacks - before.callbacks
        use.copied += now.copied - before.copied

    def of(self, vm: Vm) -> Cost:
        """What it costs in a VM."""
        return self._uses.get(vm, Use()).since(Use())


def _frame(number: int, frame: wasmtime.Frame) -> str:
    """A line of a backtrace, as Envoy writes it."""
    name = frame.func_name or f"unknown(function index:{frame.func_index})"
    return f"{number:>3}:  {frame.module_offset:#x} - {name}"


Hostcall = Callable[..., int | None]


class Vm:
    """A module's instance. `failed` is why it can't be called any more; "" while it can.

    `contexts` are its contexts by id; `current` is the one whose callback runs, `effective` the one that the
    module has chosen instead.
    """

    def __init__(self, plugin: Plugin, world: World) -> None:
        self.plugin = plugin
        self.module = plugin.module
        self.abi = self.module.abi_version
        self.world = world
        self.transcript = world.transcript
        self.limits = PROBE.limited(world.limits)
        self.log_level = world.log_level
        self.id = world.vm_id(plugin)
        self.environment = world.environment(plugin)
        self._capabilities = plugin.capabilities
        self.metrics: dict[int, Metric] = {}
        self.use = Use()
        self.failed = ""
        self.contexts: dict[int, Context] = {}
        self.current: Context | None = None
        self.effective: Context | None = None
        self.stopped = False  # a local reply was sent: the callback's own answer doesn't count
        self.after: deque[Callable[[], None]] = deque()  # what hostcalls leave for after the callback
        self._depth = 0
        self._most_fuel = 0  # of one call by the host
        self._allowed: tuple[str, ...] | None = None  # the hostcalls that may be called now; None is all
        self._starting = False
        self._begin_of_call = Use()
        self._logged = 0
        self._kinds: Counter[int] = Counter()
        self._random = random.Random(0)  # noqa: S311 - a run is to repeat exactly
        self._instantiate()

    # loading

    def _instantiate(self) -> None:
        import wasmtime

        from scaffold.hosts.emulator import native
        from scaffold.hosts.emulator.hostcalls import HOSTCALLS
        from scaffold.hosts.emulator.wasi import WASI

        offered, known = self.world.offered(self.abi), {**HOSTCALLS, **WASI, **self.world.hostcalls}
        code = engine.compiled(self.module)
        self._store = store = wasmtime.Store(engine.engine())
        store.set_limits(
            memory_size=self.limits.memory, memories=_MOST, tables=_MOST, table_elements=_MOST_ELEMENTS
        )
        self._fuel = native.Fuel(store)
        self._fuel.fill(self.limits.fuel)
        self._raised: list[BaseException] = []  # by hostcalls, while they end a call
        self._kept: list[native.HostFunction] = []
        imports: list[Any] = []
        for imported, kind in engine.imports(self.module):
            if isinstance(kind, wasmtime.FuncType):
                name = imported.replace("wasi_unstable", "wasi_snapshot_preview1")
                call = self._linked(name, offered.imports[name], self._capable(name, known.get(name)))
                function = native.HostFunction(store, kind, offered.imports[name], call, self._raised)
                self._kept.append(function)
                imports.append(self._kept[-1].function)
            else:
                imports.append(self._created(kind))
        instance = self._instance_of(code, imports)
        exports = instance.exports(store)
        self._functions = {
            name: native.ModuleFunction(store, value, self.module.file.callable[name])
            for name, value in exports.items()
            if isinstance(value, wasmtime.Func)
        }
        PROBE.attach(self, self.module.digest, exports, store)
        own = [value for name, value in exports.items() if name != counters.MEMORY]
        memories = [value for value in (*own, *imports) if isinstance(value, wasmtime.Memory)]
        self._memory = memories[0] if memories else None
        self._base = ctypes.addressof(self._memory.data_ptr(store).contents) if self._memory else 0
        self._size = self._memory.data_len(store) if self._memory else 0
        self._allocator = next((name for name in ALLOCATORS if name in self._functions), "")

    def _created(self, kind: object) -> wasmtime.Memory | wasmtime.Table:
        """A memory or a table that the module imports. Raises `Trap` if there isn't room for it."""
        import wasmtime

        try:
            if isinstance(kind, wasmtime.MemoryType):
                return wasmtime.Memory(self._store, kind)
            return wasmtime.Table(self._store, cast("wasmtime.TableType", kind), None)
        except wasmtime.WasmtimeError as error:
            raise Trap("Failed to create new Wasm instance") from error

    def close(self) -> None:
        """Free it: it is called no more."""
        self.failed = self.failed or "it has been replaced"
        self._functions = {}
        PROBE.detach(self, self._most_fuel)
        self._store.close()

    def _instance_of(self, code: wasmtime.Module, imports: Sequence[Any]) -> wasmtime.Instance:
        """A new instance. Raises `Trap`."""
        import wasmtime

        self._allowed = ()  # Envoy has no context yet that a hostcall could be about
        try:
            return wasmtime.Instance(self._store, code, imports)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            if self._raised and not isinstance(self._raised[0], Stop):
                raise self._raised.pop() from None
            if self._raised:
                raise Trap(f"{CRASHES}: the module's start section calls a hostcall") from error
            raise Trap("Failed to create new Wasm instance") from error
        finally:
            self._allowed = None

    def _linked(self, name: str, signature: str, known: Hostcall | None) -> Callable[..., int | None]:
        """What the module calls: counted, allowed or not, traced."""
        masks = [_MASK[letter] for letter in signature.partition(">")[0]]
        plain = all(mask == _MASK["i"] for mask in masks)

        def call(*arguments: int) -> int | None:
            use = self.use
            use.hostcalls += 1
            if not self._may(name):
                raise Stop(f"restricted_callback: {name}")
            if use.hostcalls - self._begin_of_call.hostcalls > self.limits.hostcalls:
                raise Stop(f"more than {self.limits.hostcalls:,} hostcalls in one callback")
            words = (
                [value & 0xFFFFFFFF for value in arguments]
                if plain
                else [value & mask for value, mask in zip(arguments, masks, strict=True)]
            )
            trace = self.transcript
            if use.copied - self._begin_of_call.copied > self.limits.copied:
                raise Stop(f"more than {self.limits.copied:,} bytes copied in one callback")
            if trace.on:
                trace.hostcall(name, words, self.look)
            if known is None:
                raise Stop(f"the emulator doesn't have {name}")
            status = known(self, *words)
            if trace.on:
                trace.returned(name, status, words, self.look)
            return status

        return call

    def _capable(self, name: str, known: Hostcall | None) -> Hostcall | None:
        """A hostcall; or what Envoy puts in its place, where its configuration restricts it."""
        module, _, bare = name.rpartition(".")
        if not self._restricts(bare) or (module == "env" and not bare.startswith(_OF_ABI)):
            return known
        status = INTERNAL_FAILURE if module == "env" else None if bare == "proc_exit" else _NOT_CAPABLE
        of = "proxy-wasm" if module == "env" else "WASI"
        text = f"Attempted call to restricted {of} capability: {bare}"

        def refuse(vm: Vm, *_: int) -> int | None:
            self.transcript.log("error", text)
            return status

        return refuse

    def _restricts(self, name: str) -> bool:
        """Whether Envoy's configuration of the plugin restricts a callback or a hostcall."""
        return bool(self._capabilities) and name not in self._capabilities

    def _may(self, name: str) -> bool:
        """Whether a hostcall may be called now."""
        allowed = self._allowed
        return allowed is None or name in allowed or (self._starting and name.startswith("wasi_"))

    # calls into the module

    def has(self, name: str) -> bool:
        """Whether the module exports a function, and the plugin may have it."""
        return name in self._functions and not (name.startswith(_OF_ABI) and self._restricts(name))

    def call(self, name: str, *arguments: int) -> int:
        """Call an exported function; 0 if it has no result. Raises `Trap`, after which the VM has failed."""
        function = self._functions[name]
        trace = self.transcript
        outermost = self._depth == 0
        if outermost:
            use = self.use
            self._begin_of_call = Use(use.fuel, use.hostcalls, use.callbacks, use.copied)
            self._fuel.fill(self.limits.fuel)
            self._logged = 0
        self._depth += 1
        self.use.callbacks += 1
        if trace.on:
            trace.callback(name, arguments)
        try:
            result = function(*arguments)
        except Exception as error:
            self.failed = self._why(self._raised.pop() if self._raised else error)
            self.transcript.log("error", explained(f"Function: {name} failed: Uncaught {self.failed}"))
            raise Trap(self.failed) from error
        finally:
            self._depth -= 1
            if outermost:
                spent = self.limits.fuel - self._fuel.left()
                self.use.fuel += spent
                self._most_fuel = max(self._most_fuel, spent)
                if self.world.clock.payer is not None:
                    self.world.clock.payer.add(self, self._begin_of_call, self.use)
        if trace.on:
            trace.ended(name, result)
        return result or 0

    def _why(self, error: BaseException) -> str:
        import wasmtime

        if isinstance(error, Stop):
            return f"Error: {error}"
        if isinstance(error, Trap):  # of the allocator
            return str(error)
        if isinstance(error, wasmtime.Trap):
            code = error.trap_code
            if code is not None and code.name == "OUT_OF_FUEL":
                PROBE.ran_out = True
                return f"Error: it took more than {self.limits.fuel:,} steps, as if it never returned"
            words = _WORDS.get(code.name if code is not None else "", f"RuntimeError: {error.message}")
            frames = [_frame(number, frame) for number, frame in enumerate(error.frames)]
            return "\n".join([words, "Proxy-Wasm plugin in-VM backtrace:", *frames])
        raise error

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While the block runs, only logging and WASI are allowed."""
        self._allowed, self._starting = _ALLOWED_AT_START, True
        try:
            yield
        finally:
            self._allowed, self._starting = None, False

    # memory

    def read(self, pointer: int, size: int) -> bytes | None:
        """Bytes of the module's memory; None outside it."""
        content = self.look(pointer, size)
        self.use.copied += 0 if content is None else size
        return content

    def look(self, pointer: int, size: int) -> bytes | None:
        """The same for a trace, which costs the plugin nothing."""
        if pointer + size > self._size and pointer + size > self._grown():
            return None
        return ctypes.string_at(self._base + pointer, size)

    def write(self, pointer: int, content: bytes) -> bool:
        """Write to the module's memory; whether that lies inside."""
        size = len(content)
        if pointer + size > self._size and pointer + size > self._grown():
            return False
        self.use.copied += size
        ctypes.memmove(self._base + pointer, content, size)
        return True

    def word(self, pointer: int, value: int) -> bool:
        """Write a word; whether that lies inside."""
        return self.write(pointer, struct.pack("<I", value & 0xFFFFFFFF))

    def give(self, content: bytes, pointer: int, size: int) -> bool:
        """Hand over bytes: in memory that the module allocates, whose place goes to `pointer` and `size`."""
        place = 0
        if content:
            place = self._allocate(len(content))
            if not place or not self.write(place, content):
                return False
        return self.word(pointer, place) and self.word(size, len(content))

    def place(self, content: bytes | None, pointer: int) -> bool:
        """Hand over bytes in memory that the module allocates, even for no bytes; None is nothing."""
        place = 0 if content is None else self._allocate(len(content))
        return self.write(place, content or b"") and self.word(pointer, place)

    def _allocate(self, size: int) -> int:
        before, self._allowed = self._allowed, _ALLOWED_IN_ALLOCATOR
        try:
            return self.call(self._allocator, size)
        finally:
            self._allowed = before

    def _grown(self) -> int:
        self._size = self._memory.data_len(self._store) if self._memory else 0
        return self._size

    @property
    def memory_size(self) -> int:
        """Bytes of its memory now."""
        return self._grown()

    def log(self, level: str, text: str) -> None:
        """Have the module log; a flood of it ends the callback."""
        self._logged += len(text)
        if self._logged > self.limits.log_bytes:
            raise Stop(f"more than {self.limits.log_bytes:,} bytes of log in one callback")
        self.transcript.log(level, text, self.plugin.name)

    def add_metric(self, metric: Metric) -> int:
        """An id for a metric: its low two bits are the kind."""
        self._kinds[metric.kind] += 1
        number = 4 * self._kinds[metric.kind] + metric.kind
        self.metrics[number] = metric
        return number

    def random(self, size: int) -> bytes:
        """Bytes that are the same in each run."""
        return self._random.randbytes(size)
