"""Network plugins made at random, and what clients do with connections through them: see `random_plugins`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import wasmtime

from scaffold.hosts import plugin as hosts
from scaffold.hosts.exchange import Headers, Response
from scaffold.wasm.module import WasmModule
from support.agreement import Case, Conversation
from support.random_plugins import SCRATCH, VALUES
from support.random_plugins import Plugin as HttpPlugin

PROPERTIES = (
    "source.address", "source.port", "destination.address", "connection.id", "connection.mtls",
    "connection.requested_server_name", "connection.tls_version", "connection.termination_details",
    "connection.peer_certificate_valid", "connection_id", "connection", "source", "upstream",
    "upstream.port", "upstream.address", "upstream.locality", "upstream.transport_failure_reason",
    "upstream.request_attempt_count", "upstream.num_endpoints", "upstream.cx_pool_ready_duration", "request",
    "request.path", "request.headers", "request.headers.a", "request.time", "request.size",
    "request.total_size", "request.duration", "request.protocol", "response.code", "response.flags",
    "response.size", "response.headers", "response.trailers", "xds", "xds.node.id", "xds.cluster_name",
    "xds.cluster_metadata", "xds.route_name", "xds.virtual_host_name", "xds.filter_chain_name",
    "xds.upstream_host_metadata", "xds.listener_metadata", "xds.listener_direction", "metadata",
    "filter_state", "upstream_filter_state", "plugin_name", "plugin_root_id", "plugin_vm_id", "mine",
    "mine.two", "nope", "", "node.id",
)  # fmt: skip
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"failure_policy": "FAIL_CLOSED"},
    {"failure_policy": "FAIL_OPEN"},
    {"fail_open": True},
)
HEAD = "HTTP/1.1\r\nhost: example.com\r\n"
WEBSOCKET = (
    f"GET /websocket/echo {HEAD}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()
FRAME = b"\x82\x85\0\0\0\0hello"
LATE, CHECKED = 0.145, 0.085  # seconds: between the steps of conversations


@dataclass(frozen=True)
class Traits:
    """What a plugin may do beside the ordinary; `holds` says how often it holds data back."""

    holds: float = 0.3
    closes: float = 0.0
    calls: bool = False
    traps: bool = False
    chain: bool = False

    @classmethod
    def of(cls, seed: int) -> Traits:
        """Those of a seed."""
        chance = random.Random(seed * 5 + 2)
        return cls(
            holds=chance.choice((0.0, 0.3, 0.7)),
            closes=chance.choice((0.0, 0.0, 0.12)),
            calls=chance.random() < 0.25,
            traps=chance.random() < 0.2,
            chain=chance.random() < 0.25,
        )


class NetworkPlugin(HttpPlugin):
    """A network plugin made from a seed."""

    def __init__(self, seed: int, traits: Traits) -> None:
        self.own = traits
        super().__init__(2 * seed, alone=not traits.chain)  # even: without the traits of HTTP plugins

    # one hostcall each

    def buffer(self) -> str:
        """Read, change or ask for a buffer."""
        chance = self.chance
        kind, out = chance.choice((2, 2, 2, 3, 3, 3, 0, 4, 6, 9)), (SCRATCH, SCRATCH + 4)
        which = chance.randrange(5)
        if which == 0:
            return self._call("proxy_get_buffer_status", kind, *out)
        if which < 3:
            start, length = chance.choice(((0, 100), (0, 0), (2, 3), (50, 10), (3, 2**31 - 1)))
            return self._call("proxy_get_buffer_bytes", kind, start, length, *out)
        start, length = chance.choice(((0, 0), (0, 2), (1, 1), (2**31 - 1, 0), (0, 5)))
        return self._call("proxy_set_buffer_bytes", kind, start, length, *self._text(VALUES))

    def property(self) -> str:
        """Ask for a property, or set one."""
        if self.chance.random() < 0.15:
            return self.set_property()
        path = "\0".join(self.chance.choice(PROPERTIES).split(".", 2))
        return self._call("proxy_get_property", *self.data.place(path.encode()), SCRATCH, SCRATCH + 4)

    def stream(self) -> str:
        """Let something go on, or what only HTTP plugins have."""
        return self.chance.choice(
            (
                self._call("proxy_continue_stream", self.chance.choice((2, 2, 2, 0, 1, 3, 4))),
                self._call("proxy_close_stream", self.chance.choice((0, 1, 4))),
                self.get_value(),
                self.get_pairs(),
                self.get_size(),
                self.reply(),
            )
        )

    def _net(self, most: int) -> str:
        """Some hostcalls about a connection; some close it."""
        chance = self.chance
        makers: list[Callable[[], str]] = [self.buffer] * 3 + [self.property] * 2 + [self.stream]
        makers += [self.shared, self.metric, self.log, self.other]
        made = [chance.choice(makers)() for _ in range(chance.randrange(most + 1))]
        if chance.random() < self.own.closes:
            made.append(self._call("proxy_close_stream", chance.choice((2, 3))))
        return "\n    ".join(made)

    def _held(self) -> str:
        """Whether data are held back: until the end, until there is enough of them, or for good."""
        if self.chance.random() >= self.own.holds:
            return " (i32.const 0)"
        return self.chance.choice(
            (
                " (i32.eqz (local.get 2))",
                " (i32.eqz (local.get 2))",
                " (i32.lt_u (local.get 1) (i32.const 50))",
                " (i32.and (i32.lt_u (local.get 1) (i32.const 60)) (i32.eqz (local.get 2)))",
                " (i32.const 1)",
            )
        )

    def _callbacks(self) -> list[tuple[str, str, str]]:
        chance, calls = self.chance, self.own.calls
        data = self._net(4)
        if calls:
            data = f"(global.set $stream (local.get 0))\n    {data}\n    {self.http_call()}"
        new = " (i32.const 1)" if chance.random() < 0.04 else " (i32.const 0)"
        answered = (
            f"{self._net(2)}\n    (drop (call $proxy_set_effective_context (global.get $stream)))"
            f"\n    {self._net(2)}\n    {self._call('proxy_continue_stream', 2)}"
        )
        optional = [
            ("proxy_on_new_connection", "i>i", self._net(3) + new),
            ("proxy_on_downstream_data", "iii>i", data + (" (i32.const 1)" if calls else self._held())),
            ("proxy_on_upstream_data", "iii>i", self._net(4) + self._held()),
            ("proxy_on_downstream_connection_close", "ii>", self._net(2)),
            ("proxy_on_upstream_connection_close", "ii>", self._net(2)),
            ("proxy_on_done", "i>i", self._net(2) + f" (i32.const {chance.choice((0, 1))})"),
            ("proxy_on_log", "i>", self._net(3)),
            ("proxy_on_http_call_response", "iiiii>", answered),
        ]
        functions = [each for each in optional if chance.random() < 0.93]
        functions += [
            ("proxy_on_context_create", "ii>", ""),
            ("proxy_on_configure", "ii>i", self._some(2, stream=False) + " (i32.const 1)"),
            ("proxy_on_delete", "i>", self._net(1)),
        ]
        if self.own.traps:
            place = chance.randrange(len(functions) - 2)
            name, signature, body = functions[place]
            odd = "(i32.and (local.get 0) (i32.const 1))"
            condition = chance.choice(("(i32.const 1)", odd, odd))
            functions[place] = (name, signature, f"(if {condition} (then (unreachable)))\n    {body}")
        return functions


def conversation(chance: random.Random, *, late: bool) -> Conversation:
    """What a client does with one connection; `late` says that some answers come after a while."""
    requests: list[list[bytes | str]] = [
        [f"GET /status/204 {HEAD}\r\n".encode()],
        [f"GET /bytes/{chance.choice((0, 100, 3000))} {HEAD}\r\n".encode()],
        [f"GET /sta", f"tus/404 {HEAD}\r\n".encode()],  # noqa: F541
        [f"POST /anything {HEAD}content-length: 5\r\n\r\n".encode(), b"hello"],
        [f"GET /{'late' if late else 'nope'} {HEAD}\r\n".encode(), *["wait"] * chance.choice((0, 1, 4))],
        [f"GET /cut {HEAD}\r\n".encode()],
        [f"GET /status/200 {HEAD}connection: close\r\n\r\n".encode()],
        [WEBSOCKET, FRAME, "read", FRAME],
        [b"\x16 junk\r\n\r\n"],
        [b"x"],
        [],
    ]
    steps: list[bytes | str] = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        steps += [each.encode() if each == "GET /sta" else each for each in chance.choice(requests)]  # type: ignore[union-attr]
        steps += ["read"] * (chance.random() < 0.6)
    steps += chance.choice(([], ["finish"], ["finish", "read"], ["read"], ["finish", "wait", "read"]))
    return Conversation(tuple(steps))


def case(seed: int, count: int, folder: Path) -> Case:
    """A plugin, connections through it, and what other services answer; the module is a file in `folder`."""
    traits, chance = Traits.of(seed), random.Random(seed)
    seeds = [seed, seed + 1_000_000] if traits.chain else [seed]
    policy = chance.choice(POLICIES) if traits.traps else {}
    plugins = [
        # only the first calls: the second would at about the moment of the next step
        _plugin(each, place, folder, traits if not place else replace(traits, calls=False), policy)
        for place, each in enumerate(seeds)
    ]
    answer = Response(200, Headers({"x-user": "ann"}), b"yes")
    answers = [
        (answer, {"path": "/anything/check", "after": CHECKED}),
        (answer, {"path": "/late", "after": LATE}),
        (answer, {"path": "/cut", "cut": True}),
    ]
    # a call and a late answer together would end at about the moment of a step
    conversations = [conversation(chance, late=not traits.calls) for _ in range(count)]
    pause = 0.25 if traits.traps else 0.1 if traits.calls else 0
    return Case(plugins, conversations, answers, pause)


def _plugin(seed: int, place: int, folder: Path, traits: Traits, policy: dict[str, Any]) -> hosts.Plugin:
    path = folder / f"network{seed}.wasm"
    path.write_bytes(wasmtime.wat2wasm(NetworkPlugin(seed, traits).text))
    return hosts.Plugin(
        f"net{place or ''}",
        "",
        WasmModule.read(path),
        b"conf",
        type="network",
        clusters={"authz": "upstream"},
        more=policy,
    )
