"""Plugins made at random: every callback, each with a few hostcalls on constants; and requests to play.

They are written as WebAssembly text, which wasmtime assembles. The same seed makes the same plugin.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import wasmtime

from scaffold.hosts import plugin as hosts
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.wasm.check import facts
from scaffold.wasm.module import WasmModule
from support.agreement import Case
from support.grpc import frame, service

SCRATCH = 2048  # where hostcalls write their results
HEAP = 65536
RANDOM = 4 * 65536  # where random bytes go: nothing else is there
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
    "request.nope", "", "request.headers", "response.headers", "response", "connection", "xds.cluster_name",
)  # fmt: skip
CLUSTERS = ("upstream", "authz", "nope", "")
LAYOUT_FIELDS = ("request.", "response.")


WASI = {
    "fd_write": "iiii>i", "environ_sizes_get": "ii>i", "environ_get": "ii>i", "args_sizes_get": "ii>i",
    "args_get": "ii>i", "random_get": "ii>i", "clock_time_get": "iIi>i", "fd_fdstat_get": "ii>i",
    "fd_close": "i>i", "fd_seek": "iIii>i", "fd_read": "iiii>i", "sched_yield": ">i",
    "poll_oneoff": "iiii>i", "proc_exit": "i>",
}  # fmt: skip
_MINE = b"\x0a\x04mine"  # a field in a message
FOREIGN = (  # functions with their arguments
    (b"compress", b"hello" * 9), (b"compress", b""), (b"uncompress", zlib.compress(b"hello" * 9)),
    (b"uncompress", b"nonsense"), (b"uncompress", zlib.compress(b"")), (b"clear_route_cache", b""),
    (b"declare_property", _MINE), (b"declare_property", _MINE + b"\x10\x01"), (b"declare_property", b"\xff"),
    (b"set_envoy_filter_state", b"\x0a\x0cenvoy.string\x12\x01v"), (b"set_envoy_filter_state", _MINE),
    (b"expr_delete", bytes(4)), (b"expr_evaluate", bytes(4)), (b"expr_evaluate", b""),
)  # fmt: skip
GRPC = {"svc": "grpc://upstream", "dead": "grpc://127.0.0.1:1"}  # clusters
HELD = "(i32.eqz (local.get 2))"  # headers wait if a body comes


@dataclass(frozen=True)
class Traits:
    """What a plugin may do beside the ordinary: how often it closes streams, and more.

    It `unframes` a message by removing its content-length, and `holds` headers until the body has come, if
    its configuration allows that. `traps` says that a callback traps.
    """

    wasi: int = 0
    closes: float = 0.0
    unframes: bool = False
    holds: bool = False
    traps: bool = False
    trailers: bool = False
    chain: bool = False
    late: bool = False  # calls to other services time out
    grpc: bool = False  # those calls are by gRPC
    restricted: bool = False  # it may not have every callback and hostcall
    foreign: int = 0

    @classmethod
    def of(cls, seed: int) -> Traits:
        """Those of a seed; half of them have none."""
        chance = random.Random(seed * 7 + 1)
        if seed % 2 == 0:
            return cls()
        made = cls(
            wasi=chance.choice((0, 0, 2)),
            closes=chance.choice((0.0, 0.0, 0.05)),
            unframes=chance.random() < 0.4,
            holds=chance.random() < 0.2,
            traps=chance.random() < 0.2,
            trailers=chance.random() < 0.4,
            chain=chance.random() < 0.15,
            late=chance.random() < 0.15,
            grpc=chance.random() < 0.25,
            restricted=chance.random() < 0.3,
            foreign=chance.choice((0, 0, 2)),
        )
        # Envoy's first word of a refusal is then another; and a stream without messages is answered at once
        odd = made.traps or made.grpc or made.chain
        return replace(made, restricted=made.restricted and not odd)


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

    def __init__(self, seed: int, *, calls: bool = True, alone: bool = True) -> None:
        self.chance = random.Random(seed)
        self.seed, self.traits = seed, Traits.of(seed)
        self.abi = "0.2.1" if seed % 2 == 0 else self.chance.choice(("0.2.1",) * 4 + ("0.2.0", "0.1.0"))
        self.data = Data()
        self.calls_by_grpc = self.traits.grpc and seed % 4 == 1  # else it opens streams
        self.calls, self.alone = calls, alone
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
        kind, name, value = self._map(), self.chance.choice(names[2:]), self.chance.choice(VALUES)
        if name == "content-length":  # another text would be refused by our upstream, and not by Envoy
            value, which = "1", "replace"
        texts = [self.data.place(each.encode("latin-1")) for each in (name, value)]
        return self._call(f"proxy_{which}_header_map_value", kind, *texts[0], *texts[1])

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
                self._call("proxy_get_log_level", SCRATCH) if self.abi == "0.2.1" else self.shared(),
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
                self._call("proxy_enqueue_shared_queue", self.chance.choice((1, 9)), *self._text(VALUES)),
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
            20 if self.traits.late else self.chance.choice((1000, 2000)),
            SCRATCH,
        )

    def foreign(self) -> str:
        chance = self.chance
        name, arguments = chance.choice(FOREIGN)
        out = chance.choice(((SCRATCH, SCRATCH + 4), (SCRATCH, SCRATCH + 4), (0, 0), (0, SCRATCH)))
        return self._call(
            "proxy_call_foreign_function", *self.data.place(name), *self.data.place(arguments), *out
        )

    def grpc(self) -> str:
        """A call, or a stream with messages; the SDK names a cluster as it is, others by a message."""
        chance = self.chance
        cluster = chance.choice(("svc", "svc", "svc", "authz", "authz", "dead", "nope"))
        metadata = chance.choice(((), (("x-a", "1"), ("X-B", "two")), (("k-bin", "ab"),), ((":path", "/z"),)))
        if not self.calls_by_grpc or self.traits.holds:  # what isn't answered late may come before or after
            metadata = metadata if (":path", "/z") not in metadata else ()
            cluster = cluster if cluster != "dead" else "svc"
        target = cluster.encode() if chance.random() < 0.2 else service(cluster)
        place = *self.data.place(target), *self.data.place(b"a.B"), *self.data.place(b"C")
        place += self.data.place(_packed(metadata))
        if self.calls_by_grpc:
            timeout = 20 if self.traits.late else chance.choice((1000, 0))
            return self._call("proxy_grpc_call", *place, *self._text(("", "question")), timeout, SCRATCH)
        token = f"(i32.load (i32.const {SCRATCH}))"
        lines = [self._call("proxy_grpc_stream", *place, SCRATCH)]
        lines += [self._on_token("send", token) for _ in range(chance.randrange(1, 4))]
        lines += [self._on_token(chance.choice(("close", "close", "cancel")), token)]
        return "\n    ".join(lines)

    def _on_token(self, what: str, token: str) -> str:
        if what == "send":
            end = self.chance.choice((0, 0, 1))
            return self._call("proxy_grpc_send", token, *self._text(("", "one", "two")), end)
        return self._call(f"proxy_grpc_{what}", token)

    def _look(self) -> str:
        """What a callback of gRPC asks for."""
        out, kind = (SCRATCH, SCRATCH + 4), self.chance.choice((4, 5))
        return self.chance.choice(
            (
                self._call("proxy_get_header_map_pairs", kind, *out),
                self._call("proxy_get_header_map_size", kind, SCRATCH),
                self._call("proxy_get_header_map_value", kind, *self._text(("grpc-status", "x-a")), *out),
                self._call("proxy_get_buffer_bytes", 5, 0, 100, *out),
                self._call("proxy_get_buffer_status", 5, *out),
                self._call("proxy_set_buffer_bytes", 5, 0, 1, *self._text(VALUES)),
                self._call("proxy_get_status", *out, SCRATCH + 8),
            )
        )

    def _grpc_callbacks(self, resume: str) -> list[tuple[str, str, str]]:
        made = []
        for name in ("receive_initial_metadata", "receive", "receive_trailing_metadata", "close"):
            lines = [self._look() for _ in range(self.chance.randrange(1, 4))]
            if self.chance.random() < 0.15:
                lines.append(self._on_token(self.chance.choice(("close", "cancel", "send")), "(local.get 1)"))
            lines.append(self._some(2, stream=True, replies=True))
            if name in ("receive", "close"):
                lines.append(resume)
            made.append((f"proxy_on_grpc_{name}", "iii>", "\n    ".join(lines)))
        return made

    def wasi(self) -> str:
        chance = self.chance
        vectors = [self._text(("line\n", "", "two\nlines\n\n")) for _ in range(chance.randrange(3))]
        place, _ = self.data.place(b"".join(struct.pack("<II", *each) for each in vectors))
        written = (chance.choice((1, 1, 2, 2, 0, 3)), place, len(vectors), SCRATCH)
        return chance.choice(
            (
                self._call("fd_write", *written),
                self._call("fd_write", *written),
                self._call("environ_sizes_get", SCRATCH, SCRATCH + 4),
                self._call("environ_get", SCRATCH, SCRATCH + 64),
                self._call("args_sizes_get", SCRATCH, SCRATCH + 4),
                self._call("args_get", SCRATCH, SCRATCH + 64),
                self._call("random_get", RANDOM, chance.choice((0, 8, 65536, 65537))),
                self._call("clock_time_get", chance.choice((0, 1, 2, 9)), "(i64.const 0)", SCRATCH),
                self._call("fd_fdstat_get", chance.choice((0, 1, 2, 3)), SCRATCH),
                self._call("fd_close", 1),
                self._call("fd_seek", 1, "(i64.const 0)", 0, SCRATCH),
                self._call("fd_read", 0, SCRATCH, 0, SCRATCH),
                self._call("sched_yield"),
                self._call("poll_oneoff", SCRATCH, SCRATCH, 0, SCRATCH + 8),
                f"(call $proc_exit (i32.const {chance.choice((0, 3))}))",
            )
        )

    def close_stream(self) -> str:
        return self._call("proxy_close_stream", self.chance.choice((0, 1)))

    def _some(self, most: int, *, stream: bool, replies: bool = False) -> str:
        makers: list[Callable[[], str]] = [self.shared, self.metric, self.log, self.other, self.queue]
        if not (stream or self.alone):  # plugins of a chain start on two threads at the same time
            makers = [self.metric, self.log, self.other]
        makers += [self.wasi] * self.traits.wasi + [self.foreign] * self.traits.foreign
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
        if replies and self.abi != "0.1.0" and self.chance.random() < self.traits.closes:
            made.insert(self.chance.randrange(len(made) + 1), self.close_stream())
        return "\n    ".join(made)

    def _imports(self) -> list[str]:
        lines = []
        for name, entry in facts()["hostcalls"].items():
            if name.startswith("proxy_") and self.abi in entry.get("abi", [self.abi]):
                lines.append(_import("env", name, entry["signature"]))
        return lines + [_import("wasi_snapshot_preview1", *each) for each in WASI.items()]

    def _stream_callbacks(self) -> list[tuple[str, str, str]]:
        """The callbacks about messages, each with its signature and what it does."""
        chance, traits = self.chance, self.traits
        calls = (self.calls and chance.random() < 0.4) or traits.grpc
        waits = calls and (self.calls_by_grpc or not traits.grpc)
        pauses = {
            "request_headers": 1 if waits else 0,
            "request_body": chance.choice((0, 0, 1)),
            "response_body": chance.choice((0, 0, 1)),
        }
        functions = []
        for name in ("request_headers", "response_headers", "request_body", "response_body"):
            body = self._some(5, stream=True, replies=True)
            if name.endswith("headers") and traits.unframes:
                kind = 0 if name == "request_headers" else 2
                text = self.data.place(b"content-length")
                body += "\n    " + self._call("proxy_remove_header_map_value", kind, *text)
            if name == "request_headers" and calls:
                call = self.grpc() if traits.grpc else self.http_call()
                body = f"(global.set $stream (local.get 0))\n    {body}\n    {call}"
            if name.endswith("body") and pauses[name]:  # until the end
                body += " (i32.eqz (local.get 2))"
            elif name.endswith("headers") and traits.holds and not calls:  # until its body has come
                body += f" {HELD}" if self.abi != "0.1.0" else " (i32.const 0)"
            else:
                body += f" (i32.const {pauses.get(name, 0)})"
            early = name.endswith("headers") and self.abi == "0.1.0"
            functions.append((f"proxy_on_{name}", "ii>i" if early else "iii>i", body))
        for name in ("request_trailers", "response_trailers"):
            functions.append((f"proxy_on_{name}", "ii>i", self._some(3, stream=True) + " (i32.const 0)"))
        resume = "(drop (call $proxy_continue_request))"
        if self.abi != "0.1.0":
            resume = "(drop (call $proxy_continue_stream (i32.const 0)))"
        first = self._some(3, stream=True, replies=True)
        resume = (
            "(drop (call $proxy_set_effective_context (global.get $stream)))"
            f"\n    {self._some(2, stream=True)}\n    {resume}"
        )
        functions.append(("proxy_on_http_call_response", "iiiii>", f"{first}\n    {resume}"))
        return functions + (self._grpc_callbacks(resume) if traits.grpc else [])

    def _callbacks(self) -> list[tuple[str, str, str]]:
        started = self.chance.choice((1,) * 30 + (0,)) if self.traits.traps else 1
        functions = [
            ("proxy_on_context_create", "ii>", self._some(1, stream=False)),
            ("proxy_on_vm_start", "ii>i", self._some(3, stream=False) + " (i32.const 1)"),
            ("proxy_on_configure", "ii>i", self._some(3, stream=False) + f" (i32.const {started})"),
            ("proxy_on_done", "i>i", self._some(2, stream=True) + f" (i32.const {self.seed // 2 % 2})"),
            ("proxy_on_log", "i>", self._some(3, stream=True)),
            ("proxy_on_delete", "i>", self._some(1, stream=True)),
            *self._stream_callbacks(),
            ("proxy_on_queue_ready", "ii>", self._some(1, stream=False)),
        ]
        if self.traits.traps:
            place = self.chance.randrange(len(functions))
            name, signature, body = functions[place]
            odd = "(i32.and (local.get 0) (i32.const 1))"
            condition = self.chance.choice(("(i32.const 1)", odd, odd))
            functions[place] = (name, signature, f"(if {condition} (then (unreachable)))\n    {body}")
        return functions

    def _module(self) -> str:
        lines = ["(module", *self._imports()]
        functions = self._callbacks()
        lines.append('  (memory (export "memory") 6)')
        lines.append(f"  (global $heap (mut i32) (i32.const {HEAP}))")
        lines.append("  (global $stream (mut i32) (i32.const 0))")
        lines.append(f'  (func (export "proxy_abi_version_{self.abi.replace(".", "_")}"))')
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


def _import(module: str, name: str, signature: str) -> str:
    given, _, result = signature.partition(">")
    parameters = "".join(f" (param {_TYPES[each]})" for each in given)
    results = " (result i32)" if result else ""
    return f'  (import "{module}" "{name}" (func ${name}{parameters}{results}))'


def requests(seed: int, count: int, *, trailers: bool = False) -> list[Request]:
    """Requests made at random, with bodies and odd headers, and some with trailers."""
    chance = random.Random(seed)
    targets = ["/headers", "/anything?a=b", "/status/204", "/status/404", "/stream/3", "/bytes/1000", "/nope"]
    made = []
    for _ in range(count):
        method = chance.choice(("GET", "GET", "POST", "PUT", "HEAD", "DELETE"))
        target = chance.choice(targets + ["/trailing"] * 3 * trailers)
        headers = Headers({"host": "example.com"})
        for _ in range(chance.randrange(4)):
            headers.add(
                chance.choice(("x-a", "X-B", "cookie", "accept", "via")), chance.choice(("1", "a b", "\xe9"))
            )
        has_body = method in ("POST", "PUT")
        body = chance.choice((b"", b"hello", b"x" * 3000)) if has_body else b""
        tail = Headers({"x-tail": "1"} if trailers and has_body and chance.random() < 0.5 else {})
        if trailers and body and not tail and chance.random() < 0.3:
            headers.add("transfer-encoding", "chunked")
            body = b"5\r\nhello\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        made.append(Request(method, target, headers, body, trailers=tail))
    return made


def case(seed: int, count: int, folder: Path) -> Case:
    """A plugin, requests through it, and what other services answer; the module is a file in `folder`."""
    traits = Traits.of(seed)
    seeds = [seed, seed + 1_000_000] if traits.chain else [seed]
    alone = len(seeds) == 1
    plugins = [_plugin(each, place, folder, traits, alone=alone) for place, each in enumerate(seeds)]
    answer = Response(200, Headers({"x-user": "ann"}), b"yes")
    trailing = Response(200, Headers({"x-c": "1"}), b"body", Headers({"x-end": "1", "grpc-status": "0"}))
    answers = [
        (answer, {"path": "/anything/check", "after": 0.08 if traits.late else 0.04}),
        (trailing, {"path": "/trailing"}),
    ]
    if traits.grpc:
        answers.append(_grpc_answer(seed, traits))
    # after a trap or an exit, longer than Envoy waits before it gives the plugin a new VM; after a call to
    # another service, until its answer has come, even where the request didn't wait for it
    calls = traits.grpc or any(b"/anything/check" in each.module.content for each in plugins)
    fails = any(each.traps or each.wasi for each in map(Traits.of, seeds))
    pause = 0.25 if fails else 0.1 if calls else 0
    return Case(plugins, requests(seed, count, trailers=traits.trailers), answers, pause)


def _restriction(chance: random.Random) -> dict[str, Any]:
    """Most of the capabilities, as Envoy's configuration names them."""
    names = [*facts()["hostcalls"], *facts()["callbacks"], *WASI]
    allowed = {name: {} for name in names if chance.random() < 0.85}
    return {"capability_restriction_config": {"allowed_capabilities": allowed}}


def _grpc_answer(seed: int, traits: Traits) -> tuple[Response, dict[str, Any]]:
    """What a method answers: a bare message, as behind the bridge, or gRPC; or it fails."""
    bare, framed = {"content-type": "application/x-protobuf"}, {"content-type": "application/grpc"}
    whole = Headers({"grpc-status": "0", "x-end": "1"})
    answer = random.Random(seed).choice(
        (
            Response(200, Headers(bare), b"MSG"),
            Response(200, Headers(bare), b"MSG"),
            Response(200, Headers(framed | {"x-a": "v"}), frame(b"MSG"), whole),
            Response(
                200, Headers(framed), frame(b"MSG"), Headers({"grpc-status": "5", "grpc-message": "no"})
            ),
            Response(200, Headers(framed | {"grpc-status": "7"})),
            Response(503, Headers(bare), b"down"),
            Response(404, Headers(), b"nothing"),
        )
    )
    return answer, {"path": "/a.B/C", "after": 0.08 if traits.late else 0.03, "cut": seed % 16 == 3}


def _plugin(seed: int, place: int, folder: Path, traits: Traits, *, alone: bool) -> hosts.Plugin:
    path = folder / f"plugin{seed}.wasm"
    path.write_bytes(wasmtime.wat2wasm(Plugin(seed, alone=alone).text))
    module = WasmModule.read(path)
    chance = random.Random(seed)
    plain = seed % 2 == 0
    return hosts.Plugin(
        f"hello{place or ''}",
        "" if plain else chance.choice(("", "root")),
        module,
        b"conf",
        clusters={"authz": "upstream"} | (GRPC if traits.grpc else {}),
        ticks=module.ticks,
        env=() if plain else chance.choice(((), ("ONE=1", "TWO=two"))),
        vm_configuration=b"" if plain else chance.choice((b"", b"vm configuration")),
        allow_stop_iteration=traits.holds,
        more=_restriction(chance) if traits.restricted else {},
    )
