"""What a host and a plugin called of each other: Envoy's trace of it, parsed, and made fit to be compared.

Envoy writes a line for each call and each return, in either direction, if the component `wasm` logs traces:

    [host->vm] proxy_on_request_headers(2, 6, 1)                  the host calls the plugin
    [vm->host] env.proxy_get_property(4096, 12, 8, 12)            the plugin calls the host
    [vm<-host] env.proxy_get_property return: 1
    [host<-vm] proxy_on_request_headers return: 0
    wasm log NAME ROOT-ID VM-ID: text                             the plugin logs

Sources: proxy-wasm-cpp-host, src/v8/v8.cc; for the parameters, proxy-wasm/spec, abi-versions/v0.2.1, and
WASI preview 1.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from pathlib import Path

from scaffold.hosts.envoy.log_files import LARGEST
from scaffold.hosts.envoy.run_folder import LOG, LOGS

_CALL = re.compile(r"\[(host->vm|vm->host)\] ([\w.]+)\((.*)\)")
_RETURN = re.compile(r"\[(host<-vm|vm<-host)\] ([\w.]+) return: (\S+)")
_FAILURE = re.compile(r"Function: (\w+) failed")
_LOG = re.compile(r"wasm log(?: [^:]*)?: ?(.*)", re.DOTALL)
_NUMBER = re.compile(r"\d+")

# A letter for each parameter of a function of the host: p is a pointer, n a number that the host hands out or
# a time, c the id of a context; a dot is what has to be the same.
PARAMETERS: Mapping[str, str] = {
    "env.proxy_add_header_map_value": ".p.p.",
    "env.proxy_call_foreign_function": "p.p.pp",
    "env.proxy_close_stream": ".",
    "env.proxy_continue_stream": ".",
    "env.proxy_define_metric": ".p.p",
    "env.proxy_dequeue_shared_queue": "npp",
    "env.proxy_done": "",
    "env.proxy_enqueue_shared_queue": "np.",
    "env.proxy_get_buffer_bytes": "...pp",
    "env.proxy_get_buffer_status": ".pp",
    "env.proxy_get_current_time_nanoseconds": "p",
    "env.proxy_get_header_map_pairs": ".pp",
    "env.proxy_get_header_map_value": ".p.pp",
    "env.proxy_get_log_level": "p",
    "env.proxy_get_metric": "np",
    "env.proxy_get_property": "p.pp",
    "env.proxy_get_shared_data": "p.ppp",
    "env.proxy_get_status": "ppp",
    "env.proxy_grpc_call": "p.p.p.p.p..p",
    "env.proxy_grpc_cancel": "n",
    "env.proxy_grpc_close": "n",
    "env.proxy_grpc_send": "np..",
    "env.proxy_grpc_stream": "p.p.p.p.p",
    "env.proxy_http_call": "p.p.p.p..p",
    "env.proxy_increment_metric": "n.",
    "env.proxy_log": ".pn",  # the length: the text is compared, without its numbers
    "env.proxy_record_metric": "n.",
    "env.proxy_register_shared_queue": "p.p",
    "env.proxy_remove_header_map_value": ".p.",
    "env.proxy_replace_header_map_value": ".p.p.",
    "env.proxy_resolve_shared_queue": "p.p.p",
    "env.proxy_send_local_response": ".p.p.p..",
    "env.proxy_set_buffer_bytes": "...p.",
    "env.proxy_set_effective_context": "c",
    "env.proxy_set_header_map_pairs": ".p.",
    "env.proxy_set_property": "p.p.",
    "env.proxy_set_shared_data": "p.p.n",
    "env.proxy_set_tick_period_milliseconds": ".",
    "wasi_snapshot_preview1.args_get": "pp",
    "wasi_snapshot_preview1.args_sizes_get": "pp",
    "wasi_snapshot_preview1.clock_time_get": "..p",
    "wasi_snapshot_preview1.environ_get": "pp",
    "wasi_snapshot_preview1.environ_sizes_get": "pp",
    "wasi_snapshot_preview1.fd_close": ".",
    "wasi_snapshot_preview1.fd_fdstat_get": ".p",
    "wasi_snapshot_preview1.fd_prestat_dir_name": ".p.",
    "wasi_snapshot_preview1.fd_prestat_get": ".p",
    "wasi_snapshot_preview1.fd_write": ".p.p",
    "wasi_snapshot_preview1.path_open": "..p.....p",
    "wasi_snapshot_preview1.poll_oneoff": "pp.p",
    "wasi_snapshot_preview1.proc_exit": ".",
    "wasi_snapshot_preview1.random_get": "p.",
    "wasi_snapshot_preview1.sched_yield": "",
}
# the same for the plugin's functions; the others have their context's id, and then what has to be the same
_CALLBACKS = {
    "_initialize": "",
    "_start": "",
    "malloc": ".",
    "proxy_on_memory_allocate": ".",
    "proxy_on_context_create": "cc",
    # how much has come, when it is called, is up to the network
    "proxy_on_request_body": "cn.",
    "proxy_on_response_body": "cn.",
    "proxy_on_downstream_data": "cn.",
    "proxy_on_upstream_data": "cn.",
    "proxy_on_queue_ready": "cn",
    "proxy_on_http_call_response": "cn...",
    "proxy_on_grpc_receive": "cn.",
    "proxy_on_grpc_receive_initial_metadata": "cn.",
    "proxy_on_grpc_receive_trailing_metadata": "cn.",
    "proxy_on_grpc_close": "cn.",
}
_ALL_HEADERS = "env.proxy_get_header_map_pairs"
_OF_THE_VM = ("_initialize", "_start")
_ALLOCATORS = ("malloc", "proxy_on_memory_allocate")
_NO_CONTEXT = "0"  # the parent of a root context
# what a root context is called for when it starts; its end comes before or after the next one's start
_OF_A_START = ("proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure")
# what comes when it comes, so that two runs have it in another order, or not equally often
_IN_ITS_OWN_TIME = (
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_close",
)
# of which there are as many as the network makes of a body; the last argument marks the last
_PARTS = (
    "proxy_on_request_body",
    "proxy_on_response_body",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
)
# what the SDK's own return, and the host takes for granted where there is none; the others 0 or nothing
_EMPTY = {"proxy_on_vm_start": "1", "proxy_on_configure": "1", "proxy_on_done": "1"}
FAILED = "failed"


@dataclass(frozen=True)
class Log:
    """What the plugin logged."""

    text: str

    def lines(self, indent: str = "") -> Iterator[str]:
        """As text; one line."""
        yield f"{indent}log {self.text!r}"


@dataclass(frozen=True)
class Call:
    """A call of a function, and what happened during it.

    `name` is "env.proxy_log" for a function of the host, and "proxy_on_tick" for one of the plugin. `result`
    is "void", a number, `FAILED`, or "" while it isn't back.
    """

    name: str
    arguments: tuple[str, ...]
    result: str = ""
    inside: tuple[Call | Log, ...] = ()

    def lines(self, indent: str = "") -> Iterator[str]:
        """As text: its own line, and below it those of what happened during it."""
        yield f"{indent}{self.name}({', '.join(self.arguments)}) -> {self.result}"
        for each in self.inside:
            yield from each.lines(f"{indent}  ")

    @property
    def is_empty(self) -> bool:
        """Whether it did what a host does without it."""
        return not self.inside and self.result in (_EMPTY.get(self.name, "0"), "void")


@dataclass
class _Open:
    """A call that isn't back yet."""

    call: Call
    inside: list[Call | Log] = field(default_factory=list)

    def closed(self, result: str) -> Call:
        return replace(self.call, result=result, inside=tuple(self.inside))


def parse(messages: Iterable[str]) -> list[Call]:
    """The calls of the plugin in what one thread of a host wrote; a log outside of any is left out."""
    outermost: list[Call] = []
    opened: list[_Open] = []

    def close(name: str, result: str) -> None:
        while opened:
            last = opened.pop()
            call = last.closed(result if last.call.name == name else FAILED)
            if opened:
                opened[-1].inside.append(call)
            else:
                outermost.append(call)
            if call.name == name:
                return
        raise ValueError(f"{name} came back without having been called")

    for message in messages:
        if found := _CALL.fullmatch(message):
            opened.append(_Open(Call(found[2], tuple(filter(None, found[3].split(", "))))))
        elif found := _RETURN.fullmatch(message):
            close(found[2], found[3])
        elif (found := _FAILURE.match(message)) and any(each.call.name == found[1] for each in opened):
            close(found[1], FAILED)
        elif (found := _LOG.fullmatch(message)) and opened:
            opened[-1].inside.append(Log(found[1]))
    return [*outermost, *(each.closed("") for each in opened[:1])]


@dataclass(frozen=True)
class Transcript:
    """What two runs of the same tests have in common, however their threads and connections were timed.

    `lives` has the calls of each context from its creation on; `others` what comes in its own time, a timer,
    an answer, or the end of a root context. Each is there once: a test that waits asks again, until it is as
    it should be.
    """

    lives: frozenset[str]
    others: frozenset[str]

    @classmethod
    def of(cls, threads: Iterable[Iterable[Call]], dropped: Collection[str] = ()) -> Transcript:
        """The transcript of the calls of each thread, without those of `dropped` callbacks that are empty."""
        lives: list[list[str]] = []
        others: set[str] = set()
        for calls in threads:
            current: dict[str, list[str]] = {}
            roots: set[str] = set()
            for call in calls:
                if (call.name in dropped and call.is_empty) or _is_part(call):
                    continue
                text = "\n".join(masked(call).lines())
                if call.name in _OF_THE_VM:
                    lives.append([text])
                elif call.name in _IN_ITS_OWN_TIME or (
                    call.arguments[0] in roots and call.name not in _OF_A_START
                ):
                    others.add(text)
                elif call.name == "proxy_on_context_create" or call.arguments[0] not in current:
                    lives.append([text])
                    current[call.arguments[0]] = lives[-1]
                    if call.arguments[1:] == (_NO_CONTEXT,):
                        roots.add(call.arguments[0])
                else:
                    current[call.arguments[0]].append(text)
        return cls(frozenset(map("\n".join, lives)), frozenset(others))

    def __or__(self, other: Transcript) -> Transcript:
        return Transcript(self.lives | other.lives, self.others | other.others)

    def difference(self, other: Transcript) -> str:
        """What one of them has and the other hasn't, as a diff; empty if they are the same."""
        pairs = [
            (sorted(one - two), sorted(two - one))
            for one, two in ((self.lives, other.lives), (self.others, other.others))
        ]
        texts = [["\n\n".join(each).splitlines() for each in pair] for pair in pairs]
        return "\n".join(line for one, two in texts for line in unified_diff(one, two, lineterm="", n=50))


def _is_part(call: Call) -> bool:
    """Whether a part of a body came that isn't the last, and the plugin did nothing about it."""
    return call.name in _PARTS and not call.inside and call.arguments[-1] == "0"


def masked(call: Call) -> Call:
    """A call without what differs from run to run: pointers, ids, times, the numbers in what is logged."""
    kinds = PARAMETERS[call.name] if "." in call.name else _CALLBACKS.get(call.name)
    if kinds is None:
        kinds = "c".ljust(len(call.arguments), ".")
    if len(kinds) != len(call.arguments):
        raise ValueError(f"{call.name} has {len(call.arguments)} arguments, not {len(kinds)}")
    arguments = tuple(
        value if kind == "." else f"<{_KINDS[kind]}>"
        for kind, value in zip(kinds, call.arguments, strict=True)
    )
    parts = [masked(each) if isinstance(each, Call) else each for each in call.inside]
    if call.name == _ALL_HEADERS:  # among them is the request's id
        parts = [replace(each, arguments=("<number>",)) for each in parts if isinstance(each, Call)]
    inside = tuple(
        Log(_NUMBER.sub("<number>", each.text)) if isinstance(each, Log) else each for each in parts
    )
    result = "<pointer>" if call.name in _ALLOCATORS and call.result != FAILED else call.result
    return Call(call.name, arguments, result, inside)


_KINDS = {"p": "pointer", "n": "number", "c": "context"}

_RECORDER = """#!/bin/bash
# Envoy, whose log stays when its folder goes: with traces of wasm, and the thread of each line
words=()
for word; do
    case "$word" in
        '{"time"'*) word='{"thread":%t,'"${word#?}" ;;
        wasm:*) word=wasm:trace ;;
    esac
    words+=("$word")
done
[ "$1" != -c ] || [ ! -f "${2%/*}/LOG" ] || ln "${2%/*}/LOG" FOLDER/$$.log
exec ENVOY "${words[@]}"
"""


def recorder(envoy: Path, folder: Path) -> Path:
    """A program that is this Envoy, and leaves in `folder` what `recorded` reads."""
    program = folder / "envoy"
    text = _RECORDER.replace("FOLDER", shlex.quote(str(folder))).replace("LOG", f"{LOGS}/{LOG}")
    program.write_text(text.replace("ENVOY", shlex.quote(str(envoy))))
    program.chmod(0o755)
    return program


def recorded(folder: Path) -> list[list[Call]]:
    """The calls that a `recorder` has seen, by thread, once all of its Envoys have ended."""
    threads: dict[tuple[str, int], list[str]] = {}
    for path in folder.glob("*.log"):
        assert path.stat().st_size < 0.9 * LARGEST, "the end of its log may be in another file"
        for line in path.read_text(errors="replace").splitlines():
            entry = json.loads(line) if line.startswith('{"thread":') else {}
            if entry.get("logger") == "wasm":
                threads.setdefault((path.name, entry["thread"]), []).append(entry["message"])
    return [parse(messages) for messages in threads.values()]
