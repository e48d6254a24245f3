"""The floor of a plugin's cost: a module with the same callbacks, which make the same hostcalls and no more.

It is assembled from a trace of one request. What a plugin passed to the host is known where it lies in the
module's constant data; of anything else only the size is, and something of that size takes its place.
Source: proxy-wasm/spec, abi-versions/v0.2.1; WebAssembly core specification, 5 (binary format).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from scaffold.wasm.line_table import number
from scaffold.wasm.module import CORE, MAGIC, WasmFile

DEFINE = "proxy_define_metric"
# hostcall -> what its arguments are: n a number, N one of 64 bits, w where the host writes, and of bytes
# in memory k a key, v a value, p pairs of headers
_HOSTCALLS = {
    "proxy_log": "nv",
    "proxy_get_log_level": "w",
    "proxy_get_current_time_nanoseconds": "w",
    "proxy_get_header_map_value": "nkww",
    "proxy_get_header_map_pairs": "nww",
    "proxy_get_header_map_size": "nw",
    "proxy_add_header_map_value": "nkv",
    "proxy_replace_header_map_value": "nkv",
    "proxy_remove_header_map_value": "nk",
    "proxy_get_property": "kww",
    "proxy_set_property": "kv",
    "proxy_get_buffer_bytes": "nnnww",
    "proxy_get_buffer_status": "nww",
    "proxy_set_buffer_bytes": "nnnv",
    "proxy_get_shared_data": "kwww",
    "proxy_set_shared_data": "kvn",
    DEFINE: "nvw",
    "proxy_increment_metric": "nN",
    "proxy_record_metric": "nN",
    "proxy_get_metric": "nw",
    "proxy_get_status": "www",
    "proxy_send_local_response": "nvvpn",
    "clock_time_get": "nNw",
}
_WASI = "wasi_snapshot_preview1"
_STREAM = "proxy_on_"
_CALLBACKS = {
    *("context_create", "request_headers", "request_body", "request_trailers", "response_headers"),
    *("response_body", "response_trailers", "done", "log", "delete"),
}
_OUT = 64  # address of the places where the host writes, of 8 bytes each
_DATA = 1024  # address of the constant data
_PAGE = 65_536  # bytes
_LETTERS = {"n": "i", "N": "I", "w": "i", "k": "ii", "v": "ii", "p": "ii"}
_TYPES = {"i": b"\x7f", "I": b"\x7e"}
_END, _DROP, _AND, _EQ, _IF, _RETURN = b"\x0b", b"\x1a", b"\x71", b"\x46", b"\x04\x40", b"\x0f"
_SMALLEST_PAIR = 15  # bytes of a list with one header, of a name and a value of one byte
# properties that every request has, as the host takes them
_PROPERTIES = (b"request\0path", b"source\0address", b"request\0host", b"request\0protocol", b"plugin_name")


class NoFloor(Exception):
    """The plugin does something that can't be repeated with constants."""


@dataclass(frozen=True)
class Hostcall:
    """A call of the host. `allocated` are the sizes of what it returned in the plugin's memory."""

    name: str
    arguments: tuple[int, ...]
    allocated: tuple[int, ...] = ()
    result: str = "0"


@dataclass(frozen=True)
class Callback:
    """A call of the plugin; `result` is "void" for one that returns nothing."""

    name: str
    arguments: tuple[int, ...]
    hostcalls: tuple[Hostcall, ...]
    result: str


class _Floor:
    """What the module consists of, as it grows."""

    def __init__(self, constants: Callable[[int, int], bytes | None], names: Sequence[bytes]) -> None:
        self._constants, self._names = constants, names
        self._placed: dict[bytes, int] = {}
        self.imports: dict[str, str] = {}  # name -> signature
        self.at = _DATA
        self.allocated = 0
        self._metrics: Counter[int] = Counter()

    @property
    def data(self) -> Iterable[tuple[int, bytes]]:
        return ((at, content) for content, at in self._placed.items())

    def call(self, call: Hostcall) -> bytes:
        """The instructions of a hostcall."""
        name = call.name.rpartition(".")[2]
        kinds = _HOSTCALLS.get(name)
        letters = "".join(_LETTERS[kind] for kind in kinds or "")
        if kinds is None or len(letters) != len(call.arguments):
            raise NoFloor(f"it calls {name}")
        if name == DEFINE and call.result != "0":
            raise NoFloor("it defines a metric that the host refuses")
        self.imports.setdefault(name, f"{letters}>i")
        self.allocated = max([self.allocated, *call.allocated])
        place = list(self.imports).index(name)
        return b"".join(self._arguments(call, name, kinds)) + b"\x10" + _number(place) + _DROP

    def _arguments(self, call: Hostcall, name: str, kinds: str) -> Iterable[bytes]:
        given = iter(call.arguments)
        outs = 0
        for kind in kinds:
            value = next(given)
            if kind == "n":
                yield _const(value)
            elif kind == "N":
                yield b"\x42" + _signed(value)
            elif kind == "w":
                yield _const(_OUT + 8 * outs)
                outs += 1
            else:
                content = self._bytes(name, kind, value, next(given), found=call.result == "0")
                yield _const(self._place(content)) + _const(len(content))

    def _bytes(self, name: str, kind: str, pointer: int, size: int, *, found: bool) -> bytes:
        """What the plugin passed, or something of that size."""
        known = self._constants(pointer, size)
        if kind == "p":
            return _pairs(size)
        if name == DEFINE:
            self._metrics[size] += 1
            return known or f"{self._metrics[size]}".zfill(size).encode()[-size:]
        if known is None and kind == "k" and found and name.startswith("proxy_get_"):
            among = _PROPERTIES if name == "proxy_get_property" else self._names
            known = next((each for each in among if len(each) == size), None)
        return b"x" * size if known is None else known

    def _place(self, content: bytes) -> int:
        if content not in self._placed:
            self._placed[content] = self.at
            self.at += (len(content) + 7) // 8 * 8
        return self._placed[content]


def assemble(
    plugin: WasmFile,
    request: Sequence[Callback],
    before: Sequence[Hostcall] = (),
    names: Sequence[bytes] = (),
) -> bytes:
    """The module for the callbacks of one request; `before` has the hostcalls that preceded it.

    `names` are those of the request's headers. Raises `NoFloor` for a callback or a hostcall that depends
    on more than constants.
    """
    floor = _Floor(constant_data(plugin), names)
    metrics = [call for call in before if call.name.endswith(f".{DEFINE}")]
    configure = b"".join(map(floor.call, dict.fromkeys(metrics))) + _const(1)
    bodies = {"proxy_on_configure": ("ii>i", configure)} if metrics else {}
    by_name: dict[str, list[Callback]] = {}
    for callback in request:
        by_name.setdefault(callback.name, []).append(callback)
    for name, calls in by_name.items():
        if name.removeprefix(_STREAM) not in _CALLBACKS:
            raise NoFloor(f"the host calls {name.removeprefix('proxy_')}")
        signature = "i" * len(calls[0].arguments) + (">-" if calls[0].result == "void" else ">i")
        bodies[name] = signature, _body(floor, calls)
    marker = next(each.name for each in plugin.exports if each.name.startswith("proxy_abi_version_"))
    return _module(floor, marker, bodies)


def _body(floor: _Floor, calls: Sequence[Callback]) -> bytes:
    """What a callback does. One that comes several times does each time what it did with these arguments."""
    different = [next(same) for _, same in groupby(calls, lambda each: (each.hostcalls, each.result))]
    *others, last = different
    parts = []
    for each in others:
        same = [
            b"\x20" + _number(place) + _const(value) + _EQ
            for place, value in enumerate(each.arguments[1:], 1)
        ]
        if not same:
            raise NoFloor(f"{each.name.removeprefix('proxy_')} does something else each time")
        parts += [*same, _AND * (len(same) - 1), _IF, _run(floor, each), _RETURN, _END]
    return b"".join([*parts, _run(floor, last)])


def _run(floor: _Floor, callback: Callback) -> bytes:
    result = b"" if callback.result == "void" else _const(int(callback.result))
    return b"".join(map(floor.call, callback.hostcalls)) + result


def _pairs(size: int) -> bytes:
    """A list of headers, of that size: none, or one."""
    if size < _SMALLEST_PAIR:
        return bytes(size)
    value = size - 4 - 8 - 3
    lengths = [1, 1, value]
    return b"".join(each.to_bytes(4, "little") for each in lengths) + b"x\0" + b"x" * value + b"\0"


def constant_data(plugin: WasmFile) -> Callable[[int, int], bytes | None]:
    """What lies in a module's constant data at an address; None for what doesn't."""
    section = next((each.body(plugin.content) for each in plugin.sections if each.kind == "data"), b"\0")
    segments: list[tuple[int, bytes]] = []
    count, at = number(section, 0)
    for _ in range(count):
        kind, at = number(section, at)
        if kind != 0 or section[at] != 0x41:  # passive, of another memory, or at a computed address
            break
        address, at = number(section, at + 1)
        size, at = number(section, at + 1)  # after the `end`
        segments.append((address, section[at : at + size]))
        at += size

    def content(pointer: int, size: int) -> bytes | None:
        for address, segment in segments:
            if address <= pointer and pointer + size <= address + len(segment):
                return segment[pointer - address : pointer - address + size]
        return None

    return content


# --- the binary format


def _module(floor: _Floor, marker: str, callbacks: dict[str, tuple[str, bytes]]) -> bytes:
    heap = floor.at
    own = {marker: (">-", b""), "malloc": ("i>i", _const(heap)), **callbacks}
    pages = 1 + (heap + 2 * floor.allocated + _PAGE) // _PAGE
    kinds = [*floor.imports.values(), *(signature for signature, _ in own.values())]
    first = len(floor.imports)
    imports = [
        _name("env" if name.startswith("proxy_") else _WASI) + _name(name) + b"\0" + _number(place)
        for place, name in enumerate(floor.imports)
    ]
    exports = [_name(name) + b"\0" + _number(first + place) for place, name in enumerate(own)]
    code = [b"\0" + instructions + _END for _, instructions in own.values()]
    data = [
        b"\0" + _const(at) + _END + _number(len(content)) + content for at, content in floor.data if content
    ]
    sections = {
        1: map(_type, kinds),
        2: imports,
        3: map(_number, range(first, len(kinds))),
        5: [b"\0" + _number(pages)],
        7: [_name("memory") + b"\2\0", *exports],
        10: [_number(len(each)) + each for each in code],
        11: data,
    }
    return MAGIC + CORE + b"".join(_section(kind, list(items)) for kind, items in sections.items())


def _section(kind: int, items: Sequence[bytes]) -> bytes:
    body = _number(len(items)) + b"".join(items)
    return bytes([kind]) + _number(len(body)) + body


def _type(signature: str) -> bytes:
    parameters, results = (
        [_TYPES[letter] for letter in part if letter in _TYPES] for part in signature.split(">")
    )
    return b"\x60" + b"".join(_number(len(each)) + b"".join(each) for each in (parameters, results))


def _name(text: str) -> bytes:
    return _number(len(text)) + text.encode()


def _const(value: int) -> bytes:
    return b"\x41" + _signed(value - (1 << 32) if value >> 31 == 1 else value)


def _number(value: int) -> bytes:
    """An unsigned number, as LEB128."""
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _signed(value: int) -> bytes:
    """A signed number, as LEB128."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])
