"""What a plugin did with each request, from a trace: Envoy's log at the level `trace`, or the emulator's.

A trace has a line for each call and for each return, and no request's name: of a request there is the number
of its context, which is unique in its VM, and each of Envoy's workers has a VM of its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from scaffold.hosts.envoy.log import Line
from scaffold.wasm import hostcalls
from scaffold.wasm.hostcalls import Argument, Read, short
from scaffold.wasm.symbols import explained

_NUMBERS = r"(?:-?[0-9]{1,20}(?:, ?-?[0-9]{1,20})*)?"
_CALL = re.compile(rf"\[(host->vm|vm->host)\] ([\w.]+)\(({_NUMBERS})\)")
_RETURN = re.compile(r"\[(host<-vm|vm<-host)\] ([\w.]+) return: (\S+)")
_FAILED = re.compile(r"Function: (\w+) failed: (.*)", re.DOTALL)
_RESTRICTED = "Attempted call to restricted proxy-wasm capability"
_PLUGIN_LOG = re.compile(r"wasm log(?: [^:]*)?: ?(.*)", re.DOTALL)
_ALLOCATORS = ("malloc", "on_memory_allocate")
_OF_ROOT = ("on_tick", "on_queue_ready", "on_vm_start", "on_configure")
_ROOTS_OWN = "on_foreign_function"
# callouts, and what is called when something comes back
CALLOUTS = (
    (("http_call",), ("on_http_call_response",)),
    (("grpc_call", "grpc_stream"), ("on_grpc_receive", "on_grpc_close")),
)
ANSWERS = tuple(name for _, names in CALLOUTS for name in names)
_GRPC = "on_grpc_"
_ENDS = ("on_log", "on_done", "on_delete")
# how Envoy writes a line by itself, how Istio has it written, and how Istio does as JSON
_FORMATS = (
    re.compile(
        r"\[(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\]\[(?P<thread>\d+)\]\[(?P<level>\w+)\]"
        r"\[(?P<logger>\w+)\] (?:\[[^\]]*:\d+\] )?(?P<text>.*)"
    ),
    re.compile(
        r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[-+]\d\d:?\d\d))\t(?P<level>\w+)\t"
        r"envoy (?P<logger>\w+) [^\t]*\t(?P<text>.*?)(?:\tthread=(?P<thread>\d+))?$"
    ),
)
_ANY = re.compile(r"(\[(?:host->vm|vm->host|host<-vm|vm<-host)\].*|wasm log.*|Function: \w+ failed.*)")
_STAMPED = re.compile(r"\[?\d{4}-\d\d-\d\d")  # a line of somebody else
CUT_AT_START = "the trace begins in the middle of it"
CUT_AT_END = "the trace ends before it does"
INTERLEAVED = (
    "calls of several threads are mixed, and the lines have no thread's number: put `%t` into Envoy's"
    " --log-format, or run it with `--concurrency 1`"
)
SEVERAL_PLUGINS = "several plugins with VMs of their own have used its number, so that their calls are mixed"


def no_constants(_pointer: int, _size: int) -> bytes | None:
    """What is known of a module that isn't known."""
    return None


@dataclass
class Said:
    """A line of the log in a callback: the plugin's, or Envoy's about it."""

    level: str
    text: str
    time: float | None = None


@dataclass
class Hostcall:
    """A call of the host; `result` is "" if it hasn't returned. `arguments` is None if they aren't known."""

    name: str
    words: tuple[int, ...]
    arguments: tuple[Argument, ...] | None
    time: float | None = None
    result: str = ""
    ended: float | None = None
    given: bytes | None = None

    @property
    def about(self) -> int:
        """The first argument, such as a map or a context; -1 without one."""
        return self.words[0] if self.words else -1

    @property
    def status(self) -> str:
        """The status by name; "" if it hasn't returned."""
        return hostcalls.status_name(self.result)

    @property
    def ok(self) -> bool:
        """Whether it worked."""
        return self.result == "0"

    def number(self, name: str) -> int:
        """The argument of that name: a number, or the size of bytes; -1 if it isn't known."""
        return next((each.value for each in self.arguments or () if each.name == name), -1)

    def text(self, name: str) -> str | None:
        """The argument of that name, if its bytes are known."""
        found = next((each for each in self.arguments or () if each.name == name), None)
        return None if found is None or found.content is None else found.content.decode(errors="replace")

    def __str__(self) -> str:
        if self.arguments is None:
            return f"{self.name}({', '.join(map(str, self.words))})"
        return f"{self.name}({', '.join(map(str, self.arguments))})"


@dataclass
class Callback:
    """A call of the plugin; `result` is "" if it hasn't returned, `failed` is how it trapped."""

    name: str
    words: tuple[int, ...]
    time: float | None = None
    result: str = ""
    ended: float | None = None
    failed: str = ""
    steps: list[Hostcall | Said] = field(default_factory=list)

    @property
    def hostcalls(self) -> list[Hostcall]:
        """What it asked of the host."""
        return [each for each in self.steps if isinstance(each, Hostcall)]

    @property
    def said(self) -> list[Said]:
        """What was logged during it."""
        return [each for each in self.steps if isinstance(each, Said)]

    @property
    def has_action(self) -> bool:
        """Whether its result says how the request goes on."""
        of_stream = self.name.startswith(("on_request_", "on_response_", "on_downstream_", "on_upstream_"))
        return (of_stream and not self.name.endswith("_close")) or self.name == "on_new_connection"

    @property
    def size(self) -> int:
        """How many headers, or bytes, it is about; 0 if its line is damaged."""
        return self.words[1] if len(self.words) > 1 else 0

    @property
    def paused(self) -> bool:
        """Whether it holds the request, or the answer."""
        return self.has_action and self.action not in (None, 0)

    @property
    def action(self) -> int | None:
        """Its result as a number; None without one."""
        return int(self.result) if self.result.isascii() and self.result.isdecimal() else None

    @property
    def seconds(self) -> float | None:
        """How long it took, if that is known."""
        return None if self.time is None or self.ended is None else self.ended - self.time

    def __str__(self) -> str:
        return f"{self.name}({hostcalls.callback_arguments(self.name, self.words)})"


@dataclass
class Timeline:
    """The callbacks of one request, or connection, in order. `notes` say what isn't known for sure."""

    context: int
    thread: str = ""
    callbacks: list[Callback] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def time(self) -> float | None:
        """When it began."""
        return next((each.time for each in self.callbacks if each.time is not None), None)

    @property
    def is_over(self) -> bool:
        """Whether the plugin has forgotten it, or crashed."""
        return any(each.name == "on_delete" or each.failed for each in self.callbacks)

    @property
    def hostcalls(self) -> Iterator[tuple[Callback, Hostcall]]:
        """All hostcalls in order, each with the callback in which it was made."""
        return ((callback, call) for callback in self.callbacks for call in callback.hostcalls)


def read(lines: Iterable[Line], constants: Read = no_constants) -> list[Timeline]:
    """The requests in a trace, the first that began first; `constants` reads a module's constant data."""
    reader = _Reader(constants)
    for line in lines:
        reader.take(line, thread="")
    return reader.end()


def read_text(text: str, constants: Read = no_constants) -> list[Timeline]:
    """The same for a trace as Envoy, or Istio, wrote it; lines of anything else are skipped."""
    reader = _Reader(constants)
    before: tuple[Line, str] | None = None
    for raw in text.split("\n"):  # splitlines() would split at other characters, too
        found = _parsed(raw)
        if found is None:
            # a backtrace, and what a plugin logs, go on in lines of their own
            if before and raw.strip() and not _STAMPED.match(raw):
                reader.more(raw, before[0])
            continue
        before = found
        reader.take(*found)
    return reader.end()


def _parsed(raw: str) -> tuple[Line, str] | None:
    """A line of a log and its thread's number; None if it isn't one that we read."""
    if raw.lstrip().startswith("{") and (found := _of_json(raw)):
        return found
    for each in _FORMATS:
        if match := each.search(raw):
            return Line(
                match["level"], match["logger"], match["text"], None, match["time"].replace(" ", "T")
            ), match["thread"] or ""
    match = _ANY.search(raw)
    return (Line("", "wasm", match[1]), "") if match else None


def _of_json(raw: str) -> tuple[Line, str] | None:
    try:
        record = json.loads(raw, strict=False)
        text = record.get("message", record.get("msg"))
    except (ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(text, str):
        return None
    logger = str(record.get("logger", record.get("scope", ""))).rpartition(" ")[2]
    thread = str(record.get("thread", ""))
    return Line(str(record.get("level", "")), logger, text, None, str(record.get("time", ""))), thread


@dataclass
class _Thread:
    """What one thread is doing: the calls that haven't returned, and the requests that are under way."""

    stack: list[Callback | Hostcall | str] = field(default_factory=list)
    open: dict[int, Timeline] = field(default_factory=dict)
    roots: set[int] = field(default_factory=set)

    @property
    def callback(self) -> Callback | None:
        """The innermost callback that hasn't returned."""
        return next((each for each in reversed(self.stack) if isinstance(each, Callback)), None)


class _Reader:
    """Puts the lines of a trace together."""

    def __init__(self, constants: Read) -> None:
        self._constants = constants
        self._threads: dict[str, _Thread] = {}
        self._found: list[Timeline] = []
        self._last: Callback | None = None  # that failed
        self._said: Said | None = None  # the last line of a plugin

    def take(self, line: Line, thread: str) -> None:
        """Take in a line."""
        state = self._threads.setdefault(thread, _Thread())
        time = line.moment
        if call := _CALL.match(line.text):
            words = tuple(map(int, call[3].split(","))) if call[3] else ()
            name = short(call[2])
            if call[1] == "host->vm":
                self._begin(state, thread, name, words, time)
            else:
                self._ask(state, name, words, time, line)
        elif ended := _RETURN.match(line.text):
            self._return(state, ended[1], short(ended[2]), ended[3], time, line)
        elif line.logger in ("wasm", "") or line.plugin is not None:
            self._say(state, line, time)

    def more(self, raw: str, before: Line) -> None:
        """Take in a line that belongs to what the last one said, or to its failure."""
        if _FAILED.search(before.text):
            if self._last:
                self._last.failed += "\n" + raw
        elif self._said and _PLUGIN_LOG.match(before.text):
            self._said.text += "\n" + raw

    def end(self) -> list[Timeline]:
        """All requests."""
        for state in self._threads.values():
            for each in state.stack:
                if isinstance(each, Callback):
                    self._attach_answer(state, each)
            for timeline in state.open.values():
                if not timeline.is_over:
                    timeline.notes.append(CUT_AT_END)
        for timeline in self._found:
            for callback in timeline.callbacks:
                callback.failed = explained(callback.failed)
            timeline.notes = list(dict.fromkeys(timeline.notes))
        return self._found

    def _begin(
        self, state: _Thread, thread: str, name: str, words: tuple[int, ...], time: float | None
    ) -> None:
        if name in _ALLOCATORS:
            state.stack.append(name)
            return
        mixed = bool(state.stack) and isinstance(state.stack[-1], Callback)
        callback = Callback(name, words, time)
        state.stack.append(callback)
        timeline = self._timeline_of(state, thread, callback)
        if timeline is None:
            return
        timeline.callbacks.append(callback)
        if mixed:
            for each in state.open.values():
                each.notes.append(INTERLEAVED)
        if name == "on_delete":
            state.open.pop(timeline.context, None)

    def _timeline_of(self, state: _Thread, thread: str, callback: Callback) -> Timeline | None:
        """The request to which a callback belongs; None if it is the root's, or not known yet."""
        name, words = callback.name, callback.words
        context = words[0] if words else 0
        if name == "on_context_create" and len(words) > 1:
            if words[1] == 0:
                state.roots.add(context)
                return None
            state.roots.add(words[1])
            if context in state.open:
                state.open[context].notes.append(SEVERAL_PLUGINS)
                return state.open[context]
            return self._new(state, context, thread)
        if name in _OF_ROOT or name == _ROOTS_OWN or _is_answer(name) or context in state.roots:
            return None
        if not name.startswith("on_") or (context not in state.open and name in _ENDS[1:]):
            return None
        if context not in state.open:
            timeline = self._new(state, context, thread)
            timeline.notes.append(CUT_AT_START)
        return state.open[context]

    def _new(self, state: _Thread, context: int, thread: str) -> Timeline:
        timeline = Timeline(context, thread)
        self._found.append(timeline)
        state.open[context] = timeline
        return timeline

    def _ask(self, state: _Thread, name: str, words: tuple[int, ...], time: float | None, line: Line) -> None:
        callback = state.callback
        read = self._constants if line.memory is None else _memory(line.memory)
        call = Hostcall(name, words, hostcalls.passed(name, words, read), time)
        state.stack.append(call)
        if callback:
            callback.steps.append(call)

    def _return(
        self, state: _Thread, way: str, name: str, result: str, time: float | None, line: Line
    ) -> None:
        kind: type[Callback | Hostcall | str]
        kind = Hostcall if way == "vm<-host" else str if name in _ALLOCATORS else Callback
        for at in range(len(state.stack) - 1, -1, -1):
            each = state.stack[at]
            if isinstance(each, kind) and (each if isinstance(each, str) else each.name) == name:
                break
        else:
            return  # the trace begins after its call
        del state.stack[at:]
        if isinstance(each, str):
            return
        each.result, each.ended = result, time
        if isinstance(each, Callback):
            self._attach_answer(state, each)
        elif line.memory is not None and result == "0":
            each.given = hostcalls.given(name, each.words, _memory(line.memory))

    def _attach_answer(self, state: _Thread, callback: Callback) -> None:
        """An answer comes to the root; the SDK then makes the request its effective context."""
        if callback.name != _ROOTS_OWN and not _is_answer(callback.name):
            return
        chosen = [
            call.words[0]
            for call in callback.hostcalls
            if call.name == "set_effective_context" and call.words and call.words[0] in state.open
        ]
        waiting = [each.context for each in state.open.values() if _waits(each)]
        known = chosen or (waiting if len(waiting) == 1 else [])
        if known and callback not in state.open[known[-1]].callbacks:
            state.open[known[-1]].callbacks.append(callback)

    def _say(self, state: _Thread, line: Line, time: float | None) -> None:
        if failed := _FAILED.match(line.text):
            self._fail(state, short(failed[1]), failed[2], time)
            return
        written = _PLUGIN_LOG.match(line.text) if line.plugin is None else None
        is_ours = line.plugin is not None or written or line.text.startswith(_RESTRICTED)
        if is_ours and (inside := state.callback):
            self._said = Said(line.level, written[1] if written else line.text, time)
            inside.steps.append(self._said)

    def _fail(self, state: _Thread, name: str, why: str, time: float | None) -> None:
        """A callback has trapped."""
        for at, each in reversed([*enumerate(state.stack)]):
            if isinstance(each, Callback) and each.name == name:
                each.failed, each.ended = why, time
                self._last = each
                del state.stack[at:]
                self._attach_answer(state, each)
                # its VM is done for: another counts its contexts from the start
                for context in [key for key, open_ in state.open.items() if each in open_.callbacks]:
                    del state.open[context]
                return


def _is_answer(name: str) -> bool:
    return name in ANSWERS or name.startswith(_GRPC)


def _waits(timeline: Timeline) -> bool:
    """Whether a request has asked for more answers than have come."""
    asked = Counter(call.name for _, call in timeline.hostcalls if call.ok)
    came = Counter(each.name for each in timeline.callbacks)
    _, of_grpc = (tokens(timeline, answers) for _, answers in CALLOUTS)
    return (
        asked["http_call"] > came["on_http_call_response"]
        or asked["grpc_call"] + asked["grpc_stream"] > len(of_grpc)
        or asked["grpc_stream"] > came["on_grpc_close"]
    )


def tokens(timeline: Timeline, answers: tuple[str, ...]) -> list[int]:
    """The numbers of the callouts to which such answers came, in the order in which they were made."""
    return sorted(
        {each.words[1] for each in timeline.callbacks if each.name in answers and len(each.words) > 1}
    )


def _memory(known: Mapping[tuple[int, int], bytes]) -> Read:
    return lambda pointer, size: known.get((pointer, size))
