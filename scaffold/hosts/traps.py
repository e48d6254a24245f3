"""Known traps: what goes wrong in a request, as its timeline shows it, and the cure.

A rule looks at a timeline and at how the request ended, as far as that is known, and yields what it found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scaffold.hosts.timeline import ANSWERS, CUT_AT_END, Callback, Hostcall, Timeline
from scaffold.wasm.hostcalls import BUFFERS, MAPS

_BUFFER_LIMIT = 1 << 20  # bytes that Envoy buffers of a body, unless its configuration says otherwise
_MOST_PAIRS, _LARGEST_MAP = 1024, 1 << 20  # of a map that a plugin passes, in pairs and bytes
_CONTENT_LENGTH = "content-length"
_SLOW = 0.2  # seconds in one callback, after which Envoy's watchdog counts a miss
_TIMED_OUT = 24  # bytes of Envoy's own answer: "upstream request timeout"
_NOT_CONNECTED = (
    80  # bytes at least of its own answer "upstream connect error or disconnect/reset before headers…"
)
_SYNTHETIC = 3  # headers of such an answer
_PANIC = re.compile(r"panicked at (.*)", re.DOTALL)
_CRATE = re.compile(r"(?:registry/src/[^/]+/|^/?)([a-z0-9_-]+)-(\d+\.\d+\.\d+[^/]*)/")
_FRAME = re.compile(r"\s*\d+:\s+(?:0x[0-9a-f]+ - )?(.+)")
_FOREIGN = (
    *("abort", "std::", "core::", "alloc::", "__rust", "rust_", "proxy_wasm::", "proxy_on_"),
    *("<std::", "<core::", "<alloc::", "<proxy_wasm::", "unknown"),
)
_SET_BY_ENVOY = ("server", "date", "connection", "transfer-encoding")
_OWN_CALLBACK: dict[int, tuple[str, ...]] = {
    0: ("on_request_headers",),
    1: ("on_request_trailers",),
    2: ("on_response_headers",),
    3: ("on_response_trailers",),
    6: ("on_http_call_response",),
    7: ("on_http_call_response",),
}


@dataclass(frozen=True)
class Ending:
    """How a request ended, as the access log has it; `body` is the answer's, as far as it is known."""

    status: int | None = None
    flags: str = ""
    details: str = ""
    body: str = ""


@dataclass(frozen=True)
class Trap:
    """A known trap: `what` happened, and the `cure`."""

    name: str
    what: str
    cure: str


Rule = Callable[[Timeline, Ending], Iterator[Trap]]
_RULES: list[Rule] = []


def found(timeline: Timeline, ending: Ending = Ending()) -> list[Trap]:
    """The traps in a request, each once, those that say most first."""
    traps = {(each.name, each.what): each for rule in _RULES for each in rule(timeline, ending)}
    return list(traps.values())


def _rule(rule: Rule) -> Rule:
    _RULES.append(rule)
    return rule


def _calls(timeline: Timeline, *names: str) -> Iterator[tuple[Callback, Hostcall]]:
    return ((callback, call) for callback, call in timeline.hostcalls if call.name in names)


def _map(call: Hostcall) -> str:
    """The map that a hostcall is about."""
    return MAPS[call.about] if 0 <= call.about < len(MAPS) else f"headers {call.about}"


# crashes


@_rule
def _panic(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback in timeline.callbacks:
        said = [match[1] for each in callback.said if (match := _PANIC.search(each.text))]
        if not callback.failed or not said:
            continue
        found = _CRATE.search(said[-1])
        words = " ".join(said[-1].split())
        refused = [call for call in callback.hostcalls if call.result not in ("0", "void", "")]
        own = own_frame(callback.failed)
        words += f"; the plugin's own code was at {own}" if own else ""
        cure = "return an error instead of `unwrap` and `expect`: a panic ends the VM with all its requests"
        if "unexpected status" in words and refused:
            words += f"; {refused[-1]} had returned {refused[-1].status}"
            cure = "the SDK panics at a status that it doesn't expect; the call before it says which"
        crate = f" in the crate {found[1]} {found[2]}" if found else ""
        yield Trap("panic", f"the plugin panicked in {callback.name}{crate}: {words}", cure)


def own_frame(failed: str) -> str:
    """The innermost function of a backtrace that isn't of Rust's libraries or the SDK; "" if none is."""
    frames = [match[1] for match in map(_FRAME.match, failed.splitlines()) if match]
    return next((each for each in frames if not each.startswith(_FOREIGN)), "")


@_rule
def _silent_crash(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback in timeline.callbacks:
        if callback.failed and not any(_PANIC.search(each.text) for each in callback.said):
            own = own_frame(callback.failed)
            at = f", at {own}" if own else ""
            why = callback.failed.splitlines()[0]
            what = f"the plugin crashed in {callback.name} without a word{at}: {why}"
            cure = (
                "`proxy_wasm::set_log_level(…)` in `proxy_wasm::main!` also has the SDK log why it panics;"
                " without it the panic's words and place are lost"
            )
            yield Trap("silent-crash", what, cure)


@_rule
def _crashed_before(timeline: Timeline, ending: Ending) -> Iterator[Trap]:
    if "wasm_fail_stream" in ending.details and not any(each.failed for each in timeline.callbacks):
        what = "the plugin wasn't called: its VM had crashed in an earlier request, and Envoy fails closed"
        cure = "`scaffold logs` has the crash; `failure_policy: FAIL_RELOAD` starts a new VM after one"
        yield Trap("crashed-before", what, cure)


@_rule
def _slow(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback in timeline.callbacks:
        if (callback.seconds or 0) >= _SLOW:
            what = f"{callback.name} took {callback.seconds:.1f} s, during which the worker served nobody"
            yield Trap("slow-callback", what, "do less in one callback, and wait with a callout or a timer")
        elif not callback.result and not callback.failed and CUT_AT_END in timeline.notes:
            what = f"{callback.name} doesn't return, as far as the trace goes"
            cure = "is there an endless loop? Envoy's watchdog ends a thread that is stuck"
            yield Trap("endless-callback", what, cure)


# pauses


@_rule
def _sent_twice(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "continue_stream"):
        if call.words == (0,) and callback.name == "on_request_headers" and callback.result == "0":
            what = "on_request_headers resumed the request and returned Continue: the upstream gets it twice"
            yield Trap("sent-twice", what, "do one of the two: return `Action::Continue`, and don't resume")


@_rule
def _resumed_after_answer(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    answered = False
    for callback, call in timeline.hostcalls:
        if call.name == "send_local_response" and call.ok and answered:
            what = f"{callback.name} sent a second answer, which Envoy ignores"
            yield Trap("second-answer", what, "return as soon as `send_http_response` was called")
        elif call.name == "continue_stream" and call.words == (0,) and answered:
            what = f"{callback.name} resumed the request after the plugin had answered it itself"
            cure = "after `send_http_response`, return `Action::Pause` and don't resume"
            yield Trap("resumed-after-answer", what, cure)
        answered = answered or (call.name == "send_local_response" and call.ok)


@_rule
def _wrong_stream(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "continue_stream", "close_stream"):
        if call.result in ("2", "12"):
            what = f"{callback.name} called {call}: {call.status}"
            yield Trap(
                "wrong-stream", what, "an HTTP plugin resumes and ends stream 0 (request) or 1 (response)"
            )


# answers of the plugin's own


@_rule
def _answer_too_late(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "send_local_response"):
        passed = any(each.name == "on_response_headers" and each.result == "0" for each in timeline.callbacks)
        if callback.name in ("on_response_body", "on_response_trailers") and passed:
            what = (
                f"{callback.name} sent an answer when the upstream's headers had gone out: Envoy cuts it off"
            )
            cure = (
                "decide in on_http_response_headers, or return `Action::Pause` there until the body is known"
            )
            yield Trap("answer-too-late", what, cure)
        elif callback.name in ANSWERS and not _effective(callback, call):
            what = f"{callback.name} sent an answer for no request: it ran in the root context"
            yield Trap("answer-from-root", what, "make the request the effective context first")


def _effective(callback: Callback, call: Hostcall) -> bool:
    before = callback.hostcalls[: callback.hostcalls.index(call)]
    return any(each.name == "set_effective_context" and each.ok and each.words != (0,) for each in before)


# headers


@_rule
def _outside_its_phase(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    names = (
        *("get_header_map_value", "add_header_map_value", "replace_header_map_value"),
        *("remove_header_map_value", "set_header_map_pairs", "get_header_map_size"),
    )
    for callback, call in _calls(timeline, *names):
        kind = call.about
        if call.result == "2" and kind in _OWN_CALLBACK and callback.name not in _OWN_CALLBACK[kind]:
            what = f"{callback.name} called {call}: there are no {_map(call)} then; the SDK panics at that"
            cure = (
                f"use them in {_OWN_CALLBACK[kind][0]}, and keep what is needed later in the plugin's struct"
            )
            yield Trap("headers-outside-phase", what, cure)
    for callback, call in _calls(timeline, "get_header_map_pairs"):
        kind = call.about
        own = _OWN_CALLBACK.get(kind, ())
        resumable = callback.name == "on_http_call_response" and kind in (0, 2)
        empty = call.given is None or call.given in (b"", bytes(4))
        outside = kind in (0, 2) and callback.name not in (*own, "on_log") and not resumable
        if call.ok and outside and empty:
            what = f"{callback.name} asked for all {_map(call)}: outside {own[0]} the list is empty"
            yield Trap("empty-outside-phase", what, f"read them in {own[0]}, and keep what is needed later")


@_rule
def _map_ignored(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "set_header_map_pairs"):
        content = next((each.content for each in call.arguments or () if each.kind == "pairs"), None)
        why = "it had no header" if call.number("pairs") in (0, 4) else ""
        if call.number("pairs") > _LARGEST_MAP:
            why = f"it is larger than {_LARGEST_MAP:,} bytes"
        elif content is not None and (why_not := _malformed(content)):
            why = why_not
        if call.ok and why:
            what = f"{callback.name} replaced all {_map(call)} with nothing: {why}; Envoy says Ok"
            yield Trap(
                "map-emptied", what, "set single headers, or pass all of them, with `:path` and the like"
            )


def _malformed(content: bytes) -> str:
    """Why Envoy takes a map for an empty one; "" if it doesn't."""
    count = int.from_bytes(content[:4], "little")
    if count > _MOST_PAIRS:
        return f"it has more than {_MOST_PAIRS:,} headers"
    sizes = [int.from_bytes(content[at : at + 4], "little") for at in range(4, 4 + 8 * count, 4)]
    is_whole = len(content) == 4 + 8 * count + sum(sizes) + 2 * count
    return "" if is_whole or not count else "its bytes aren't a list of headers"


@_rule
def _set_by_envoy(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "replace_header_map_value", "add_header_map_value"):
        name = (call.text("name") or "").lower()
        if call.ok and call.about == 2 and name in _SET_BY_ENVOY:
            what = f"{callback.name} set `{name}` in the answer, which Envoy sets itself after all plugins"
            cure = "for `server`, set `server_header_transformation: PASS_THROUGH` in Envoy's configuration"
            yield Trap("set-by-envoy", what, cure if name == "server" else "leave it to Envoy")


@_rule
def _refused_by_envoy(_timeline: Timeline, ending: Ending) -> Iterator[Trap]:
    text = f"{ending.details} {ending.body}".replace("_", " ")
    if match := re.search(r"(invalid header value for|missing required header): ?(\S+)", text):
        what = f"Envoy refused the headers that the plugin left: {match[1]} {match[2]}"
        cure = (
            "hostcalls check neither names nor values; no line breaks in a value, and keep the pseudo-headers"
        )
        yield Trap("headers-refused", what, cure)


@_rule
def _not_routed(timeline: Timeline, ending: Ending) -> Iterator[Trap]:
    changed = any(
        call.ok and call.words[:1] == (0,)
        for _, call in _calls(
            timeline,
            *(
                "set_header_map_pairs",
                "remove_header_map_value",
                "replace_header_map_value",
                "add_header_map_value",
            ),
        )
    )
    if changed and ending.status == 404 and (ending.flags == "NR" or "route_not_found" in ending.details):
        what = "no route fits the request after the plugin changed its headers"
        cure = "Envoy routes by the changed headers; `:path`, `:authority` and `x-forwarded-proto` must stay"
        yield Trap("not-routed", what, cure)


# bodies


@_rule
def _stale_length(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "set_buffer_bytes"):
        kind = call.about
        if not call.ok or kind not in (0, 1) or not callback.name.endswith("_body"):
            continue
        old, size = callback.size, call.number("bytes")
        start, length = call.number("start"), call.number("length")
        new = old + size if start >= old > 0 else max(old - length, 0) + size
        if new != old and not _length_changed(timeline, 0 if kind == 0 else 2):
            what = f"{callback.name} made {new} bytes of {old}, and the content-length is still the old one"
            headers = callback.name.replace("_body", "_headers")
            cure = f"remove `{_CONTENT_LENGTH}` in {headers}: Envoy then sends chunks"
            yield Trap("stale-content-length", what, cure)


def _length_changed(timeline: Timeline, kind: int) -> bool:
    """Whether the plugin changed the content-length: a name that isn't known is one of that size."""
    for _, call in _calls(
        timeline, "remove_header_map_value", "replace_header_map_value", "set_header_map_pairs"
    ):
        if not call.ok or call.words[:1] != (kind,):
            continue
        name = call.text("name")
        if call.name == "set_header_map_pairs" or (
            name.lower() == _CONTENT_LENGTH
            if name is not None
            else call.number("name") == len(_CONTENT_LENGTH)
        ):
            return True
    return False


@_rule
def _refused_body(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "set_buffer_bytes"):
        start, kind = call.number("start"), call.number("buffer")
        if call.result != "2" or not 0 <= kind < len(BUFFERS):
            continue
        if start > 0:
            what = f"{callback.name} wanted to change the {BUFFERS[kind]} from byte {start} on"
            cure = "Envoy replaces from byte 0 or appends at the end: write the whole body"
            yield Trap("middle-of-body", what, cure)
        else:
            what = f"{callback.name} wanted to change the {BUFFERS[kind]}, which can't be changed there"
            yield Trap("body-outside-phase", what, "change a body in its own callback, or while it is paused")


@_rule
def _absent_buffer(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "get_buffer_bytes"):
        kind = call.number("buffer")
        if call.result != "1" or kind not in (4, 7):
            continue
        where = "on_configure" if kind == 7 else "on_http_call_response"
        if callback.name != where:
            what = f"{callback.name} asked for the {BUFFERS[kind]}, which is only there in {where}"
            yield Trap("buffer-outside-callback", what, f"read it in {where}, and keep it")


@_rule
def _too_large(timeline: Timeline, ending: Ending) -> Iterator[Trap]:
    for callback in timeline.callbacks:
        if callback.name.endswith("_body") and callback.paused and callback.size >= _BUFFER_LIMIT:
            break
    else:
        if not re.search(r"(request|response)_payload_too_large", ending.details):
            return
    what = "a paused body grew over what Envoy buffers, 1 MiB by default"
    cure = "handle the body piece by piece, or raise `per_connection_buffer_limit_bytes` of the listener"
    yield Trap("body-too-large", what, cure)


# callouts


@_rule
def _callout_refused(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "http_call", "grpc_call", "grpc_stream"):
        target = call.text("cluster") or call.text("service")
        named = f" to {target}" if target else ""
        if call.result == "2":
            what = f"{callback.name} made a callout{named} that Envoy refused: BadArgument"
            cure = (
                'is the cluster known to Envoy? In Cargo.toml: `clusters = { NAME = "http://HOST:PORT" }`.'
                " And `:method`, `:path` and `:authority` must be among its headers"
            )
            yield Trap("callout-refused", what, cure)
        elif call.result == "10":
            what = f"{callback.name} made a callout{named} that failed at once: InternalFailure"
            yield Trap(
                "callout-without-host", what, "the cluster has no host that is up; no answer will come"
            )


@_rule
def _callout_failed(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback in timeline.callbacks:
        if callback.name != "on_http_call_response" or len(callback.words) < 5:
            continue
        headers, size = callback.words[2:4]  # a damaged line may have more
        if headers == 0:
            what = "the callout was reset: its answer has no headers"
            yield Trap("callout-reset", what, "expect an answer without `:status`, and answer or resume then")
        elif headers == _SYNTHETIC and size == _TIMED_OUT:
            what = "the callout timed out: Envoy itself answered it with 504"
            yield Trap(
                "callout-timeout", what, "look at `:status` of the answer, or give it a longer time-out"
            )
        elif headers == _SYNTHETIC and size >= _NOT_CONNECTED:
            what = "the callout's cluster couldn't be reached: Envoy itself answered it with 503"
            yield Trap("callout-unreachable", what, "look at `:status` of the answer; is that server up?")


@_rule
def _dead_context(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "set_effective_context"):
        if call.result == "2":
            what = f"{callback.name} wanted to act for the context {call.about}, which is gone"
            yield Trap(
                "dead-context",
                what,
                "the client may leave before an answer comes: forget what waits in on_done",
            )


@_rule
def _never_resumed(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for direction, stream, word in (("on_request_", 0, "request"), ("on_response_", 1, "answer")):
        own = [each for each in timeline.callbacks if each.name.startswith(direction)]
        if not own or not own[-1].paused or own[-1].failed:
            continue
        at = timeline.callbacks.index(own[-1])
        later = [call for each in timeline.callbacks[at:] for call in each.hostcalls]
        resumes = any(call.name == "continue_stream" and call.words == (stream,) for call in later)
        ends = any(call.name in ("send_local_response", "close_stream") for call in later)
        if resumes or ends:
            continue
        asked = any(call.name in ("http_call", "grpc_call", "grpc_stream") and call.ok for call in later)
        why = "no callout was on its way"
        if any(each.name in ANSWERS for each in timeline.callbacks[at:]):
            why = "its callout was answered"
        elif asked:
            why = "no answer to its callout had come"
        resume = "resume_http_request()" if stream == 0 else "resume_http_response()"
        so_far = "" if timeline.is_over else " as far as the trace goes"
        what = f"{own[-1].name} paused the {word}, and nothing resumed it{so_far}: {why}"
        yield Trap("never-resumed", what, f"call `self.{resume}`, or return `Action::Continue`")


# what is shared, and metrics


@_rule
def _cas(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "set_shared_data"):
        if call.result == "8":
            what = f"{callback.name} didn't store the shared data: somebody had changed it since it was read"
            yield Trap("cas-mismatch", what, "read it again with its new CAS number, and try again")


@_rule
def _metrics(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "increment_metric", "record_metric", "get_metric"):
        if call.result == "2":
            what = f"{callback.name} called {call}: not for a metric of that type"
            cure = "a counter only grows, and a histogram is recorded and never read"
            yield Trap("metric-refused", what, cure)
        elif call.result == "1":
            what = f"{callback.name} used the metric {call.about}, which this VM hasn't defined"
            yield Trap("metric-unknown", what, "define it in on_configure: each VM has ids of its own")


# properties, functions, capabilities


@_rule
def _property(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "get_property"):
        if call.result != "1":
            continue
        path = (call.text("path") or "").strip("\0").replace("\0", ".")
        what = f"{callback.name} found no property{f' {path}' if path else ''}"
        cure = (
            "`request.path`, `.headers` and the like are only there in on_request_headers;"
            " since Envoy 1.33 `route_name`, `cluster_name` and the like begin with `xds.`"
        )
        yield Trap("property-missing", what, cure)


@_rule
def _foreign(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback, call in _calls(timeline, "call_foreign_function"):
        if call.result == "1":
            name = call.text("function")
            named = f": {name}" if name else ""
            what = f"{callback.name} called a foreign function that this Envoy doesn't have{named}"
            yield Trap("foreign-function-unknown", what, "check its name, and since which Envoy it exists")


@_rule
def _restricted(timeline: Timeline, _ending: Ending) -> Iterator[Trap]:
    for callback in timeline.callbacks:
        for each in callback.said:
            if "restricted proxy-wasm capability" in each.text or "restricted WASI capability" in each.text:
                name = each.text.rpartition(": ")[2]
                what = f"{callback.name} called {name}, which Envoy's configuration doesn't allow the plugin"
                yield Trap(
                    "restricted", what, "add it to `allowed_capabilities` of `capability_restriction_config`"
                )


# what isn't the plugin's


@_rule
def _upstream(_timeline: Timeline, ending: Ending) -> Iterator[Trap]:
    known = {"UF": "Envoy couldn't connect to the upstream", "UH": "no host of the upstream is healthy"}
    known |= {"UT": "the upstream didn't answer in time", "UC": "the upstream closed the connection"}
    for flag in ending.flags.split(","):
        if flag in known:
            yield Trap(
                "upstream", f"{known[flag]}: this isn't the plugin's doing", "look at the upstream's own log"
            )
