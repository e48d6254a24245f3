"""What the arguments of callbacks and hostcalls mean. Source: proxy-wasm/spec, abi-versions/v0.2.1."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

STATUSES = {
    0: "Ok",
    1: "NotFound",
    2: "BadArgument",
    3: "SerializationFailure",
    4: "ParseFailure",
    5: "BadExpression",
    6: "InvalidMemoryAccess",
    7: "Empty",
    8: "CasMismatch",
    9: "ResultMismatch",
    10: "InternalFailure",
    11: "BrokenConnection",
    12: "Unimplemented",
}
MAPS = (
    *("request headers", "request trailers", "response headers", "response trailers"),
    *("gRPC initial metadata", "gRPC trailing metadata", "headers of the callout", "trailers of the callout"),
)
BUFFERS = (
    *("request body", "response body", "downstream data", "upstream data", "body of the callout"),
    *("gRPC message", "VM configuration", "plugin configuration", "arguments of the foreign function"),
)
_KINDS = {
    "level": ("trace", "debug", "info", "warn", "error", "critical"),
    "map": MAPS,
    "buffer": BUFFERS,
    "stream": ("request", "response", "downstream", "upstream"),
    "metric": ("counter", "gauge", "histogram"),
}
ACTIONS = ("Continue", "Pause", "StopAndWatermark", "StopAllAndBuffer", "StopAllAndWatermark")
PAUSE = 1
# hostcall -> its parameters, as NAME:KIND. A text, a path and pairs are an address and a size; `value` is
# where the host writes the address and the size of what it gives, `out` where it writes a number
_PARAMETERS = {
    "log": "level:level message:text",
    "get_log_level": "level:out",
    "get_current_time_nanoseconds": "time:out",
    "set_tick_period_milliseconds": "period:ms",
    "set_effective_context": "context:number",
    "done": "",
    "get_status": "code:out message:value",
    "get_property": "path:path value:value",
    "set_property": "path:path value:text",
    "get_header_map_value": "map:map name:text value:value",
    "add_header_map_value": "map:map name:text value:text",
    "replace_header_map_value": "map:map name:text value:text",
    "remove_header_map_value": "map:map name:text",
    "get_header_map_pairs": "map:map pairs:value",
    "set_header_map_pairs": "map:map pairs:pairs",
    "get_header_map_size": "map:map size:out",
    "get_buffer_bytes": "buffer:buffer start:number length:number bytes:value",
    "get_buffer_status": "buffer:buffer size:out flags:out",
    "set_buffer_bytes": "buffer:buffer start:number length:number bytes:text",
    "continue_stream": "stream:stream",
    "close_stream": "stream:stream",
    "send_local_response": "status:number details:text body:text headers:pairs grpc_status:number",
    "http_call": "cluster:text headers:pairs body:text trailers:pairs timeout:ms token:out",
    "grpc_call": "service:text name:text method:text metadata:pairs message:text timeout:ms token:out",
    "grpc_stream": "service:text name:text method:text metadata:pairs token:out",
    "grpc_send": "token:number message:text end:number",
    "grpc_cancel": "token:number",
    "grpc_close": "token:number",
    "get_shared_data": "key:text value:value cas:out",
    "set_shared_data": "key:text value:text cas:number",
    "register_shared_queue": "name:text token:out",
    "resolve_shared_queue": "vm:text name:text token:out",
    "dequeue_shared_queue": "token:number value:value",
    "enqueue_shared_queue": "token:number value:text",
    "define_metric": "type:metric name:text token:out",
    "increment_metric": "metric:number by:number",
    "record_metric": "metric:number value:number",
    "get_metric": "metric:number value:out",
    "call_foreign_function": "function:text arguments:text result:value",
}
# callback -> its parameters after the context's id
_CALLBACKS = {
    "context_create": "root",
    "vm_start": "bytes of configuration",
    "configure": "bytes of configuration",
    "request_headers": "headers end",
    "response_headers": "headers end",
    "request_body": "bytes end",
    "response_body": "bytes end",
    "request_trailers": "trailers",
    "response_trailers": "trailers",
    "downstream_data": "bytes end",
    "upstream_data": "bytes end",
    "http_call_response": "token,headers,bytes,trailers",
}
_BYTES = ("text", "path", "pairs")
_TWO = (*_BYTES, "value")
_MINUS_ONE = 0xFFFFFFFF  # as a number without a sign, in which Envoy writes it
_LONGEST = 100  # characters of a text that is shown
Read = Callable[[int, int], bytes | None]


@dataclass(frozen=True)
class Argument:
    """An argument of a hostcall: `value` is a number, `content` the bytes, if it has any that are known."""

    name: str
    kind: str
    value: int  # of bytes, their size
    content: bytes | None = None

    def __str__(self) -> str:
        if self.kind in _KINDS:
            names = _KINDS[self.kind]
            return names[self.value] if 0 <= self.value < len(names) else f"{self.name} {self.value}"
        if self.kind == "ms":
            return f"{self.name} {self.value} ms"
        if self.kind not in _BYTES:
            return f"{self.name} {-1 if self.value == _MINUS_ONE else self.value}"
        if self.kind == "pairs" and self.value in (0, 4):
            return f"no {self.name}"
        if self.kind == "pairs" and self.content is not None:
            return f"{self.name} {pairs(self.content)}"
        if self.content is None:
            return f"{self.name} of {self.value} bytes"
        return f"{self.name} {shown(self.content, dotted=self.kind == 'path')}"


def short(name: str) -> str:
    """The name of a hostcall or a callback without the prefixes that all have."""
    return name.rpartition(".")[2].removeprefix("proxy_")


def passed(name: str, words: Sequence[int], read: Read) -> tuple[Argument, ...] | None:
    """What a hostcall is called with; None if it isn't known. `read` reads the module's memory."""
    found: list[Argument] = []
    rest = list(words)
    if name not in _PARAMETERS:
        return None
    for each in _PARAMETERS[name].split():
        title, _, kind = each.partition(":")
        taken = rest[: 2 if kind in _TWO else 1]
        if len(taken) < (2 if kind in _TWO else 1):
            return None
        del rest[: len(taken)]
        if kind in _BYTES:
            content = read(taken[0], taken[1]) if taken[1] else b""
            found.append(Argument(title, kind, taken[1], content))
        elif kind not in ("value", "out"):
            found.append(Argument(title, kind, taken[0]))
    return None if rest else tuple(found)


def given(name: str, words: Sequence[int], read: Read) -> bytes | None:
    """The bytes that the host has given to a hostcall that worked; None if they aren't known."""
    at = 0
    for each in _PARAMETERS.get(name, "").split():
        kind = each.partition(":")[2]
        if kind == "value" and len(words) > at + 1:
            pointer, size = (read(words[at + place], 4) for place in (0, 1))
            if pointer is None or size is None:
                return None
            length = int.from_bytes(size, "little")
            return read(int.from_bytes(pointer, "little"), length) if length else b""
        at += 2 if kind in _TWO else 1
    return None


def callback_arguments(name: str, words: Sequence[int]) -> str:
    """The arguments of a callback in words, without the context's id."""
    kinds = _CALLBACKS.get(name.removeprefix("on_"), "")
    values = list(words[1:])
    if kinds.endswith(" end") and len(values) == 2:
        end = ", end of stream" if values[1] else ""
        return f"{values[0]} {kinds.removesuffix(' end')}{end}"
    if "," in kinds and len(values) == 4:
        token, *counts = values
        titles = kinds.split(",")[1:]
        told = ", ".join(f"{count} {title}" for count, title in zip(counts, titles, strict=True))
        return f"token {token}, {told}"
    if kinds == "root" and len(values) == 1:
        return f"root {values[0]}" if values[0] else "a root"
    if kinds and len(values) == 1:
        return f"{values[0]} {kinds}"
    return ", ".join(map(str, values))


def shown(content: bytes, *, dotted: bool = False) -> str:
    """Bytes as a quoted text, cut if they are many."""
    text = (content.strip(b"\0").replace(b"\0", b".") if dotted else content).decode(errors="replace")
    cut = text[:_LONGEST] + ("…" if len(text) > _LONGEST else "")
    return '"' + cut.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def pairs(content: bytes) -> str:
    """Headers in the ABI's bytes, as text."""
    count = int.from_bytes(content[:4], "little")
    at, found = 4 + 8 * count, []
    for place in range(4, min(at, len(content)), 8):
        name, value = (int.from_bytes(content[start : start + 4], "little") for start in (place, place + 4))
        parts = content[at : at + name], content[at + name + 1 : at + name + 1 + value]
        found.append(": ".join(each.decode(errors="replace") for each in parts))
        at += name + value + 2
        if at > len(content):
            break
    return shown(", ".join(found).encode())


def status_name(result: str) -> str:
    """A hostcall's status by name."""
    return STATUSES.get(int(result), result) if re.fullmatch("[0-9]{1,9}", result) else result
