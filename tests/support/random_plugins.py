"""Plugins made at random: every callback, each with a few hostcalls on constants; and requests to play.

They are written as WebAssembly text, which wasmtime assembles. The same seed makes the same plugin.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import wasmtime

from scaffold.hosts import plugin as hosts
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.wasm.check import facts
from scaffold.wasm.module import WasmModule
from support.agreement import Case

SCRATCH = 2048  # where hostcalls write their results
HEAP = 65536
_TYPES = {"i": "i32", "I": "i64"}
NAMES = (
    ":authority", ":path", ":method", ":scheme", ":status", "host", "Host", "x-a", "X-B", "cookie", "accept",
    "content-type", "content-length", "set-cookie", "server", "x-request-id", "x-forwarded-proto", "nope",
    "via",
)  # fmt: skip
VALUES = ("", "1", "text/plain", "a,b", "example.org", "caf\xe9", "x" * 60)
PROPERTIES = (
    "request.path", "request.url_path", "request.query", "request.host", "request.method", "request.scheme",
    "request.headers.x-a", "request.headers.host", "request.id", "request.protocol", "request.useragent",
    "response.code", "response.headers.content-type", "response.code_details", "plugin_name",
    "plugin_root_id", "plugin_vm_id", "node.id", "cluster_name", "mine", "mine.two", "no.such", "request",
    "request.nope", "",
)  # fmt: skip
CLUSTERS = ("upstream", "authz", "nope", "")
LAYOUT_FIELDS = ("request.", "response.")


class Data:
    """Constant bytes of a module, each at one place."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._places: dict[bytes, int] = {}

    def place(self, text: bytes) -> tuple[int, int]:
        """Where a text is, and its length."""
        if text not in self._places:
            self._places[text] = SCRATCH * 2 + len(self.content)
            self.content += text + b"\0"
        return self._places[text], len(text)


def _packed(pairs: Iterable[tuple[str, str]]) -> bytes:
    each = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    sizes = [size for name, value in each for size in (len(name), len(value))]
    return struct.pack(f"<I{len(sizes)}I", len(each), *sizes) + b"".join(
        name + b"\0" + value + b"\0" for name, value in each
    )


class Plugin:
    """A plugin made from a seed: `text` is its module as WebAssembly text."""

    def __init__(self, seed: int, *, calls: bool = True) -> None:
        self.chance = random.Random(seed)
        self.data = Data()
        self.calls = calls
        self.text = self._module()

    # one hostcall each, as instructions that leave nothing on the stack

    def _call(self, name: str, *arguments: int | str) -> str:
        words = [each if isinstance(each, str) else f"(i32.const {each})" for each in arguments]
        return f"(drop (call ${name} {' '.join(words)}))"

    def _text(self, choices: tuple[str, ...]) -> tuple[int, int]:
        return self.data.place(self.chance.choice(choices).encode("latin-1"))

    def _map(self) -> int:
        return self.chance.choice((0, 0, 0, 2, 2, 2, 1, 3, 6, 7, 9))

    def get_value(self) -> str:
        return self._call("proxy_get_header_map_value", self._map(), *self._text(NAMES), SCRATCH, SCRATCH + 4)

    def get_pairs(self) -> str:
        return self._call("proxy_get_header_map_pairs", self._map(), SCRATCH, SCRATCH + 4)

    def get_size(self) -> str:
        return self._call("proxy_get_header_map_size", self._map(), SCRATCH)

    def change(self) -> str:
        names = NAMES[5:16] if self.chance.random() < 0.9 else NAMES
        which = self.chance.choice(("add", "replace"))
        return self._call(
            f"proxy_{which}_header_map_value", self._map(), *self._text(names[2:]), *self._text(VALUES)
        )

    def remove(self) -> str:
        return self._call("proxy_remove_header_map_value", self._map(), *self._text(NAMES[7:15]))

    def get_buffer(self) -> str:
        start, length = self.chance.choice(((0, 100), (0, 0), (2, 3), (50, 10), (3, 2**31 - 1)))
        kind = self.chance.choice((0, 0, 1, 1, 4, 6, 7, 2, 9, 11))
        return self._call("proxy_get_buffer_bytes", kind, start, length, SCRATCH, SCRATCH + 4)

    def buffer_status(self) -> str:
        kind = self.chance.choice((0, 1, 4, 6, 7, 9))
        return self._call("proxy_get_buffer_status", kind, SCRATCH, SCRATCH + 4)

    def set_buffer(self) -> str:
        start, length = self.chance.choice(((0, 100), (0, 0), (0, 2), (1, 1), (50, 10), (2**31 - 1, 0)))
        kind = self.chance.choice((0, 0, 1, 1, 4, 7))
        return self._call("proxy_set_buffer_bytes", kind, start, length, *self._text(VALUES))

    def get_property(self) -> str:
        path = self.chance.choice(PROPERTIES).split(".", 2)
        return self._call(
            "proxy_get_property", *self.data.place("\0".join(path).encode()), SCRATCH, SCRATCH + 4
        )

    def set_property(self) -> str:
        path = self.chance.choice(("mine", "mine.two")).split(".")
        return self._call(
            "proxy_set_property", *self.data.place("\0".join(path).encode()), *self._text(VALUES)
        )

    def shared(self) -> str:
        key = self._text(("one", "two"))
        if self.chance.random() < 0.5:
            return self._call("proxy_get_shared_data", *key, SCRATCH, SCRATCH + 4, SCRATCH + 8)
        return self._call(
            "proxy_set_shared_data", *key, *self._text(VALUES), self.chance.choice((0, 0, 1, 999))
        )

    def metric(self) -> str:
        which = self.chance.randrange(4)
        number = self.chance.choice((4, 5, 6, 8, 9, 10, 3, 4000))
        if which == 0:
            kind = self.chance.choice((0, 1, 2, 3))
            return self._call("proxy_define_metric", kind, *self._text(("m1", "m2", "m3")), SCRATCH)
        if which == 1:
            return self._call("proxy_get_metric", number, SCRATCH)
        name = "record" if which == 2 else "increment"
        value = self.chance.choice((1, 2, 0, 7)) if which == 2 else self.chance.choice((1, 2, 0, -1))
        return self._call(f"proxy_{name}_metric", number, f"(i64.const {value})")

    def log(self) -> str:
        return self._call(
            "proxy_log", self.chance.choice((0, 1, 2, 3, 4, 5, 6)), *self._text(("hello", "", "bye"))
        )

    def other(self) -> str:
        return self.chance.choice(
            (
                self._call("proxy_get_log_level", SCRATCH),
                self._call("proxy_get_current_time_nanoseconds", SCRATCH),
                self._call("proxy_set_effective_context", self.chance.choice((1, 0, 999))),
                self._call("proxy_done"),
                self._call("proxy_get_status", SCRATCH, SCRATCH + 4, SCRATCH + 8),
                self._call("proxy_call_foreign_function", *self._text(("nope",)), 0, 0, SCRATCH, SCRATCH + 4),
                self._call("proxy_get_buffer_bytes", 0, 0, 10, 2**31 - 1, SCRATCH),
                self._call("proxy_log", 2, 2**31 - 1, 5),
            )
        )

    def queue(self) -> str:
        name = self._text(("q",))
        return self.chance.choice(
            (
                self._call("proxy_register_shared_queue", *name, SCRATCH),
                self._call("proxy_resolve_shared_queue", 0, 0, *name, SCRATCH),
                self._call("proxy_dequeue_shared_queue", self.chance.choice((1, 9)), SCRATCH, SCRATCH + 4),
            )
        )

    def reply(self) -> str:
        headers = self.data.place(
            _packed(self.chance.choice(((), (("x-own", "1"),), (("content-type", "a/b"),))))
        )
        body = self._text(("", "LOCAL"))
        status = self.chance.choice((200, 403, 500))
        return self._call("proxy_send_local_response", status, *self._text(("", "why")), *body, *headers, -1)

    def http_call(self) -> str:
        pairs: list[tuple[str, str]] = [
            (":method", "POST"),
            (":path", "/anything/check"),
            (":authority", "authz"),
        ]
        if self.chance.random() < 0.2:
            pairs.pop(self.chance.randrange(3))
        where = (
            self.chance.choice(CLUSTERS[:2]) if self.chance.random() < 0.8 else self.chance.choice(CLUSTERS)
        )
        return self._call(
            "proxy_http_call",
            *self.data.place(where.encode()),
            *self.data.place(_packed(pairs)),
            *self._text(("", "question")),
            0,
            0,
            self.chance.choice((1000, 2000)),
            SCRATCH,
        )

    def _some(self, most: int, *, stream: bool, replies: bool = False) -> str:
        makers: list[Callable[[], str]] = [self.shared, self.metric, self.log, self.other, self.queue]
        if stream:
            makers += [self.get_value, self.get_pairs, self.get_size, self.change, self.remove] * 2
            makers += [
                self.get_buffer,
                self.buffer_status,
                self.set_buffer,
                self.get_property,
                self.set_property,
            ]
        made = [self.chance.choice(makers)() for _ in range(self.chance.randrange(most + 1))]
        if replies and self.chance.random() < 0.04:
            made.insert(self.chance.randrange(len(made) + 1), self.reply())
        return "\n    ".join(made)

    def _module(self) -> str:
        hostcalls = {
            name: entry["signature"]
            for name, entry in facts()["hostcalls"].items()
            if name.startswith("proxy_") and "0.2.1" in entry.get("abi", ["0.2.1"]) and "grpc" not in name
        }
        lines = ["(module"]
        for name, signature in hostcalls.items():
            parameters = "".join(f" (param {_TYPES[each]})" for each in signature.partition(">")[0])
            lines.append(f'  (import "env" "{name}" (func ${name}{parameters} (result i32)))')
        chance = self.chance
        calls = self.calls and chance.random() < 0.4
        pauses = {
            "proxy_on_request_headers": 1 if calls else 0,
            "proxy_on_request_body": chance.choice((0, 0, 1)),
            "proxy_on_response_body": chance.choice((0, 0, 1)),
        }
        remember = "(global.set $stream (local.get 0))"
        functions = [
            ("proxy_on_context_create", "ii>", self._some(1, stream=False)),
            ("proxy_on_vm_start", "ii>i", self._some(3, stream=False) + " (i32.const 1)"),
            ("proxy_on_configure", "ii>i", self._some(3, stream=False) + " (i32.const 1)"),
            ("proxy_on_done", "i>i", self._some(2, stream=True) + " (i32.const 1)"),
            ("proxy_on_log", "i>", self._some(3, stream=True)),
            ("proxy_on_delete", "i>", self._some(1, stream=True)),
        ]
        for name in ("request_headers", "response_headers", "request_body", "response_body"):
            full = f"proxy_on_{name}"
            body = self._some(5, stream=True, replies=True)
            if full == "proxy_on_request_headers" and calls:
                body = f"{remember}\n    {body}\n    {self.http_call()}"
            if full.endswith("body") and pauses[full]:  # until the end
                body += " (i32.eqz (local.get 2))"
            else:
                body += f" (i32.const {pauses.get(full, 0)})"
            functions.append((full, "iii>i", body))
        for name in ("request_trailers", "response_trailers"):
            functions.append((f"proxy_on_{name}", "ii>i", self._some(3, stream=True) + " (i32.const 0)"))
        answered = (
            f"{self._some(3, stream=True, replies=True)}"
            "\n    (drop (call $proxy_set_effective_context (global.get $stream)))"
            f"\n    {self._some(2, stream=True)}\n    (drop (call $proxy_continue_stream (i32.const 0)))"
        )
        functions.append(("proxy_on_http_call_response", "iiiii>", answered))
        functions.append(("proxy_on_queue_ready", "ii>", self._some(1, stream=False)))
        lines.append('  (memory (export "memory") 4)')
        lines.append(f"  (global $heap (mut i32) (i32.const {HEAP}))")
        lines.append("  (global $stream (mut i32) (i32.const 0))")
        lines.append('  (func (export "proxy_abi_version_0_2_1"))')
        lines.append(
            '  (func (export "malloc") (param i32) (result i32)\n'
            "    (if (i32.gt_u (global.get $heap) (i32.const 200000))"
            f" (then (global.set $heap (i32.const {HEAP}))))\n"
            "    (global.get $heap)\n"
            "    (global.set $heap (i32.add (global.get $heap) (local.get 0))))"
        )
        for name, signature, body in functions:
            given, _, result = signature.partition(">")
            parameters = " (param i32)" * len(given) + (" (result i32)" if result else "")
            lines.append(f'  (func (export "{name}"){parameters}\n    {body})')
        escaped = "".join(f"\\{byte:02x}" for byte in self.data.content)
        lines.append(f'  (data (i32.const {SCRATCH * 2}) "{escaped}"))')
        return "\n".join(lines)


def requests(seed: int, count: int) -> list[Request]:
    """Requests made at random, with bodies, trailers and odd headers."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        method = chance.choice(("GET", "GET", "POST", "PUT", "HEAD", "DELETE"))
        target = chance.choice(
            ("/headers", "/anything?a=b", "/status/204", "/status/404", "/stream/3", "/bytes/1000", "/nope")
        )
        headers = Headers({"host": "example.com"})
        for _ in range(chance.randrange(4)):
            headers.add(
                chance.choice(("x-a", "X-B", "cookie", "accept", "via")), chance.choice(("1", "a b", "\xe9"))
            )
        body = chance.choice((b"", b"hello", b"x" * 3000)) if method in ("POST", "PUT") else b""
        made.append(Request(method, target, headers, body))
    return made


def case(seed: int, count: int, folder: Path) -> Case:
    """A plugin, requests through it, and what other services answer; the module is a file in `folder`."""
    path = folder / f"plugin{seed}.wasm"
    path.write_bytes(wasmtime.wat2wasm(Plugin(seed).text))
    module = WasmModule.read(path)
    plugin = hosts.Plugin("hello", "", module, b"conf", clusters={"authz": "upstream"}, ticks=module.ticks)
    answer = Response(200, Headers({"x-user": "ann"}), b"yes")
    return Case([plugin], requests(seed, count), [(answer, {"path": "/anything/check", "after": 0.04})])
