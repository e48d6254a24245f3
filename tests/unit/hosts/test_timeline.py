"""Unit: the requests in a trace, in every format, whole or cut, of one worker or of two."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import ROOT
from support.trap_plugins import CASES, HEADERS, plugin
from support.wat_plugins import Wat, running

import scaffold
from scaffold.errors import HostError, ProjectError, UsageError
from scaffold.hosts import timeline, traps
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.explanation import Explanation, Explanations, explain_timeline
from scaffold.hosts.timeline import CUT_AT_END, CUT_AT_START, INTERLEAVED, SEVERAL_PLUGINS, read_text
from scaffold.hosts.traps import Ending
from scaffold.wasm import hostcalls

TRACE = """\
[host->vm] proxy_on_context_create({0}, 1)
[host<-vm] proxy_on_context_create return: void
[host->vm] proxy_on_request_headers({0}, 6, 1)
[vm->host] env.proxy_get_header_map_value(0, 4096, 10, 12, 16)
[host->vm] malloc(9)
[host<-vm] malloc return: 70000
[vm<-host] env.proxy_get_header_map_value return: 0
[vm->host] env.proxy_http_call(4096, 4, 5000, 60, 0, 0, 6000, 4, 500, 12)
[vm<-host] env.proxy_http_call return: 0
wasm log hello  hello_vm: asked
[host<-vm] proxy_on_request_headers return: 1
[host->vm] proxy_on_http_call_response(1, 4, 7, 175, 0)
[vm->host] env.proxy_set_effective_context({0})
[vm<-host] env.proxy_set_effective_context return: 0
[vm->host] env.proxy_continue_stream(0)
[vm<-host] env.proxy_continue_stream return: 0
[host<-vm] proxy_on_http_call_response return: void
[host->vm] proxy_on_response_headers({0}, 9, 1)
[host<-vm] proxy_on_response_headers return: 0
[host->vm] proxy_on_log({0})
[host<-vm] proxy_on_log return: void
[host->vm] proxy_on_done({0})
[host<-vm] proxy_on_done return: 1
[host->vm] proxy_on_delete({0})
[host<-vm] proxy_on_delete return: void
"""
NAMES = ["on_context_create", "on_request_headers", "on_http_call_response", "on_response_headers"]
NAMES += ["on_log", "on_done", "on_delete"]
SOURCE = "external/proxy_wasm_cpp_host/src/v8/v8.cc:589"


def envoy(number: int, text: str, thread: int = 17) -> str:
    return f"[2026-12-01 11:00:00.{number:03}][{thread}][trace][wasm] [{SOURCE}] {text}"


def istio(number: int, text: str, thread: int = 17) -> str:
    return f"2026-12-01T11:00:00.{number:03}000Z\ttrace\tenvoy wasm {SOURCE}\t{text}\tthread={thread}"


def istio_json(number: int, text: str, thread: int = 17) -> str:
    time = f"2026-12-01T11:00:00.{number:03}000Z"
    return json.dumps(
        {"level": "trace", "time": time, "scope": "envoy wasm", "msg": text, "thread": str(thread)}
    )


def pod(number: int, text: str, thread: int = 17) -> str:
    return f"[pod/web-1/istio-proxy] {istio(number, text, thread)}"


def bare(number: int, text: str, thread: int = 17) -> str:
    return f"trace|wasm|{text}"


def written(form: Callable[..., str], lines: list[str], thread: int = 17) -> list[str]:
    return [form(number, each, thread) for number, each in enumerate(lines)]


def lines(context: int = 2) -> list[str]:
    return TRACE.format(context).splitlines()


@pytest.mark.parametrize("form", [envoy, istio, istio_json, pod, bare])
def test_every_format_has_the_same_calls(form: Callable[..., str]) -> None:
    noise = ["", "[2026-12-01 11:00:00.000][1][info][main] [source/server.cc:1] starting", "{}", '{"a": 1}']
    (found,) = read_text("\n".join([*noise, *written(form, lines()), *noise]))
    assert [each.name for each in found.callbacks] == NAMES
    assert (found.context, found.thread, found.notes) == (2, "" if form is bare else "17", [])
    headers, answer = found.callbacks[1:3]
    assert [(each.name, each.status) for each in headers.hostcalls] == [
        ("get_header_map_value", "Ok"),
        ("http_call", "Ok"),
    ]
    assert [each.text for each in headers.said] == ["asked"]
    assert headers.paused and not answer.paused
    assert headers.seconds == (None if form is bare else pytest.approx(0.008, abs=1e-6))


def test_the_steps_say_what_is_known() -> None:
    (found,) = read_text("\n".join(written(envoy, lines())))
    shown = explain_timeline(found).summary()
    assert "on_request_headers(6 headers, end of stream) → Pause  (8.000 ms)" in shown
    assert "get_header_map_value(request headers, name of 10 bytes)" in shown
    assert 'http_call(cluster of 4 bytes, headers of 60 bytes, body "", no trailers' in shown
    assert "… paused until on_http_call_response for 1.000 ms" in shown
    assert shown.endswith("no known trap")


def test_an_answer_of_the_plugins_own_pauses_nothing() -> None:
    answered = ["[vm->host] env.proxy_send_local_response(401, 0, 0, 0, 0, 0, 0, 4294967295)"]
    answered += ["[vm<-host] env.proxy_send_local_response return: 0"]
    trace = [*lines()[:7], *answered, *lines()[10:11], *lines()[-6:]]
    (found,) = read_text("\n".join(written(envoy, trace)))
    shown = explain_timeline(found).summary()
    assert 'send_local_response(status 401, details "", body "", no headers, grpc_status -1)' in shown
    assert "paused" not in shown and shown.endswith("no known trap")


def test_a_trace_that_is_cut_says_so() -> None:
    whole = written(envoy, lines())
    (found,) = read_text("\n".join(whole[5:20]))
    assert [each.name for each in found.callbacks] == ["on_response_headers", "on_log"]
    assert found.notes == [CUT_AT_START, CUT_AT_END]
    (found,) = read_text("\n".join(whole[:8])[:-20])
    assert found.notes == [CUT_AT_END]
    assert found.callbacks[-1].result == "" and found.callbacks[-1].hostcalls[-1].status == "Ok"
    (found,) = read_text("\n".join(whole[:11]))
    (trap,) = explain_timeline(found).traps
    assert trap.name == "never-resumed" and "as far as the trace goes" in trap.what


def test_two_workers_are_told_apart_by_their_threads() -> None:
    one, two = written(envoy, lines(), 17), written(envoy, lines(), 18)
    mixed = [each for pair in zip(one, two, strict=True) for each in pair]
    found = read_text("\n".join(mixed))
    assert [(each.context, each.thread, each.notes) for each in found] == [(2, "17", []), (2, "18", [])]
    assert [[each.name for each in one.callbacks] for one in found] == [NAMES, NAMES]


def test_two_workers_without_threads_are_noticed() -> None:
    one, two = written(bare, lines(2)), written(bare, lines(3))
    mixed = [each for pair in zip(one, two, strict=True) for each in pair]
    found = read_text("\n".join(mixed))
    assert [each.context for each in found] == [2, 3]
    assert all(INTERLEAVED in each.notes for each in found)


def test_two_plugins_that_use_the_same_number_are_noticed() -> None:
    begin = lines()[:11]
    (found,) = read_text("\n".join(written(envoy, [*begin, *begin])))
    assert SEVERAL_PLUGINS in found.notes


def test_another_version_of_envoy_has_calls_that_we_do_not_know() -> None:
    new = ["[vm->host] env.proxy_frobnicate(1, 2)", "[vm<-host] env.proxy_frobnicate return: 99"]
    more = ["[vm->host] env.proxy_continue_stream(0, 1, 2)", "[vm<-host] env.proxy_continue_stream return: 2"]
    trace = [*lines()[:9], *new, *more, *lines()[9:]]
    (found,) = read_text("\n".join(written(envoy, trace)))
    shown = explain_timeline(found).summary()
    assert "frobnicate(1, 2) → 99" in shown
    assert "continue_stream(0, 1, 2) → BadArgument" in shown


def test_a_trace_without_returns_has_no_statuses() -> None:
    trace = [each for each in lines() if "return" not in each]
    (found, *_) = read_text("\n".join(written(envoy, trace)))
    assert all(not each.result for each in found.callbacks)
    assert "never-resumed" not in [each.name for each in explain_timeline(found).traps]


def test_a_crash_keeps_its_backtrace_of_several_lines() -> None:
    failed = "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable"
    text = "\n".join(
        [*written(envoy, [*lines()[:4], failed]), "Proxy-Wasm plugin in-VM backtrace:", "  0:  0x1 - f"]
    )
    (found,) = read_text(text)
    assert found.callbacks[-1].failed.splitlines()[-1].strip() == "0:  f"
    assert [each.name for each in explain_timeline(found).traps] == ["silent-crash"]


def test_a_panic_is_found_in_the_crate_and_in_the_plugins_own_code() -> None:
    said = "wasm log hello: panicked at /proxy-wasm-0.2.5/src/hostcalls.rs:267:23:\\nunexpected status: 2"
    frames = [
        "RuntimeError: unreachable",
        "Proxy-Wasm plugin in-VM backtrace:",
        "  0:  0x1a - std::process::abort",
    ]
    frames += ["  1:  proxy_wasm::hostcalls::get (proxy-wasm-0.2.5/src/hostcalls.rs:267)"]
    frames += ["  2:  <mine::Filter as proxy_wasm::traits::HttpContext>::on (mine-0.1.0/src/lib.rs:29)"]
    failed = f"Function: proxy_on_request_headers failed: Uncaught {frames[0]}"
    trace = written(envoy, [*lines()[:3], said, failed])
    (found,) = read_text("\n".join([*trace, *frames[1:]]))
    (trap,) = explain_timeline(found).traps
    assert trap.name == "panic"
    assert "in the crate proxy-wasm 0.2.5: /proxy-wasm-0.2.5/src/hostcalls.rs:267:23:" in trap.what
    assert (
        "own code was at <mine::Filter as proxy_wasm::traits::HttpContext>::on (mine-0.1.0/src/lib.rs:29)"
        in trap.what
    )


def line_of_a_trace() -> st.SearchStrategy[str]:
    """A line with calls that there are, and arguments that there may not be."""
    names = [
        *hostcalls._PARAMETERS,
        *(f"on_{each}" for each in hostcalls._CALLBACKS),
        "on_log",
        "on_delete",
        "x",
    ]
    words = st.lists(st.sampled_from([0, 1, 2, 3, 8, 4096, -1, 2**32 - 1, 2**70]), max_size=11)
    call = st.builds(
        lambda way, name, words: f"[{way}] proxy_{name}({', '.join(map(str, words))})",
        *(st.sampled_from(["host->vm", "vm->host"]), st.sampled_from(names), words),
    )
    ended = st.builds(
        lambda way, name, result: f"[{way}] proxy_{name} return: {result}",
        *(st.sampled_from(["host<-vm", "vm<-host"]), st.sampled_from(names)),
        st.sampled_from(["0", "1", "2", "8", "10", "12", "99", "void", "?"]),
    )
    return call | ended | st.sampled_from(["Function: proxy_on_log failed: x", "Function: proxy_x failed:  "])


@given(st.lists(line_of_a_trace(), max_size=30), st.randoms())
def test_no_trace_breaks_it(trace: list[str], chance: random.Random) -> None:
    kept = [each for each in lines() if chance.random() < 0.7]
    for each in trace:
        kept.insert(chance.randrange(len(kept) + 1), each)
    for found in read_text("\n".join(written(envoy, kept))):
        assert explain_timeline(found).summary()


# --- the command


def explained(path: Path, **options: object) -> Explanation | Explanations:
    return scaffold.explain([str(path)], **options)  # type: ignore[arg-type]


def test_several_requests_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    log = tmp_path / "envoy.log"
    log.write_text("\n".join([*written(envoy, lines(2)), *written(envoy, lines(3))]))
    listed = explained(log)
    assert isinstance(listed, Explanations) and len(listed.requests) == 2
    second = listed.summary().splitlines()[1]
    assert re.fullmatch(
        r"   2  .*\d\d:\d\d:\d\d\.\d{3}  context 3, thread 17: 7 callbacks, 24.0 ms: no known trap", second
    )
    chosen = explained(log, request=2, html=tmp_path / "page.html")
    assert isinstance(chosen, Explanation) and chosen.context == 3
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and "on_http_call_response" in page
    assert "http://" not in page and "https://" not in page


def test_the_module_that_ran_tells_the_names(tmp_path: Path) -> None:
    wat = Wat()
    (tmp_path / "plugin.wasm").write_bytes(wat.module({HEADERS: wat.call("proxy_log", 2, b"x-from-us!")}))
    log = tmp_path / "log"
    log.write_text("\n".join(written(envoy, lines())))
    found = explained(log, module=tmp_path / "plugin.wasm")
    assert 'get_header_map_value(request headers, name "x-from-us!")' in found.summary()


def test_what_cannot_be_explained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="what is to be explained"):
        scaffold.explain([])
    with pytest.raises(UsageError, match="neither a file nor a request's id"):
        scaffold.explain(["nowhere.log"])
    with pytest.raises(UsageError, match="isn't a curl command line"):
        scaffold.explain(["wget", "http://a/"])
    with pytest.raises(UsageError, match="`--frob` isn't known"):
        scaffold.explain(["curl", "--frob", "http://a/"])
    with pytest.raises(UsageError, match="this is one request"):
        scaffold.explain(["curl", "http://a/"], request=1)
    with pytest.raises(UsageError, match="--module is for a trace"):
        scaffold.explain(["abcdef"], module=tmp_path / "plugin.wasm")
    (tmp_path / "log").write_bytes(b"\xff\0 no trace\n")
    with pytest.raises(ProjectError, match="no call of a plugin in") as caught:
        explained(tmp_path / "log")
    assert "wasm:trace" in str(caught.value.hint)
    (tmp_path / "log").write_text("\n".join(written(envoy, lines())))
    with pytest.raises(UsageError, match="the trace has 1"):
        explained(tmp_path / "log", request=2)


def test_hostile_text_is_escaped_in_the_page(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "\n".join(written(envoy, [*lines()[:3], "wasm log a: <script>alert(1)</script>", *lines()[3:]]))
    )
    explained(log, html=tmp_path / "page.html")
    assert "&lt;script&gt;" in (tmp_path / "page.html").read_text()
    assert "<script>" not in (tmp_path / "page.html").read_text()


# --- the emulator


@pytest.mark.parametrize(("name"), [name for name, case in CASES.items() if not case.only_envoy])
def test_each_trap_is_named_on_the_emulator(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    with running(plugin(), tmp_path) as run:
        try:
            sent = Request(case.method, f"/{case.letter}", Headers({"host": "h"}), case.body)
            exchange = run.host.play(sent)
            ending = Ending(exchange.response.status, "", exchange.details, exchange.response.text)
        except HostError as error:
            ending = Ending(None, "", error.message)
        found = timeline.read(run.host.log.since(run.mark))
        shown = explain_timeline(found[-1], ending=ending)
    assert name in [trap.name for trap in shown.traps], shown.summary()
    assert 'get_header_map_value(request headers, name ":path") = "/' in shown.summary()


def test_a_hostcall_that_the_configuration_forbids(tmp_path: Path) -> None:
    callbacks = {HEADERS: Wat().call("proxy_set_tick_period_milliseconds", 0)}
    allowed = {"capability_restriction_config": {"allowed_capabilities": {HEADERS: {}}}}
    with running(Wat().module(callbacks), tmp_path, more=allowed) as run:
        run.host.play(Request("GET", "/", Headers({"host": "h"})))
        (found,) = timeline.read(run.host.log.since(run.mark))
    (trap,) = explain_timeline(found).traps
    assert trap.name == "restricted" and "proxy_set_tick_period_milliseconds" in trap.what


def traps_in(*changed: tuple[str, str], ending: Ending = Ending(), until: int | None = None) -> list[str]:
    """The names of the traps in the trace with some texts replaced."""
    text = "\n".join(written(envoy, lines()[:until]))
    for old, new in changed:
        assert old in text
        text = text.replace(old, new)
    (found,) = read_text(text)
    return [each.name for each in explain_timeline(found, ending=ending).traps]


def test_traps_that_need_a_broken_network() -> None:
    assert traps_in() == []
    assert traps_in(("response(1, 4, 7, 175, 0)", "response(1, 4, 0, 0, 0)")) == ["callout-reset"]
    assert traps_in(("proxy_http_call return: 0", "proxy_http_call return: 10")) == ["callout-without-host"]
    assert traps_in(until=6) == ["endless-callback"]
    assert traps_in(ending=Ending(503, "UF", "")) == ["upstream"]


def test_the_documentation_lists_every_trap() -> None:
    made = ast.walk(ast.parse(Path(traps.__file__).read_text("utf-8")))
    names = {
        each.args[0].value
        for each in made
        if isinstance(each, ast.Call) and getattr(each.func, "id", "") == "Trap"
        if isinstance(each.args[0], ast.Constant)
    }
    page = (ROOT / "docs/how-to/explain.md").read_text("utf-8").partition("## The traps")[2]
    assert names == set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert names >= set(CASES)


def test_a_context_that_crashed_is_not_the_next_ones():
    crashed, other = timeline.read_text(
        "\n".join(
            [
                "[host->vm] proxy_on_context_create(2, 1)",
                "[host<-vm] proxy_on_context_create return: void",
                "[host->vm] proxy_on_request_headers(2, 3, 1)",
                "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable",
                "[host->vm] proxy_on_context_create(2, 1)",
                "[host<-vm] proxy_on_context_create return: void",
                "[host->vm] proxy_on_request_headers(2, 4, 1)",
                "[host<-vm] proxy_on_request_headers return: 0",
                "[host->vm] proxy_on_delete(2)",
                "[host<-vm] proxy_on_delete return: void",
            ]
        )
    )
    assert crashed.callbacks[-1].failed
    assert not any(each.failed for each in other.callbacks)
    assert other.notes == []


@pytest.mark.parametrize(
    "line",
    [
        "[host->vm] proxy_on_request_headers(-, 1)",
        "[host->vm] proxy_on_request_headers(1 2, 1)",
        f"[host->vm] proxy_on_request_headers({'1' * 5000}, 1)",
        "[host->vm] proxy_on_request_headers(2, 1, 1)\n[host<-vm] proxy_on_request_headers return: ²",
        "[host->vm] proxy_on_request_headers(2, 1, 1)\n[vm->host] env.proxy_continue_stream(0)\n"
        "[vm<-host] env.proxy_continue_stream return: ²",
        '{"a":' + "[" * 100_000,
        "[host->vm] proxy_on_context_create(2, 1)\n[host->vm] proxy_on_request_headers(2, 1, 1)\n"
        "[vm->host] env.proxy_http_call(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)\n"
        "[vm<-host] env.proxy_http_call return: 0\n[host<-vm] proxy_on_request_headers return: 1\n"
        "[host->vm] proxy_on_http_call_response(1, 2, 3, 4, 5, 6)\n"
        "[host<-vm] proxy_on_http_call_response return: void",
    ],
)
def test_a_damaged_line_is_no_error_of_ours(line):
    for each in timeline.read_text(line):
        assert explain_timeline(each).summary()


def test_a_log_of_several_lines_is_one():
    (found,) = timeline.read_text(
        "\n".join(
            [
                "[2026-12-01 10:00:00.000][7][trace][wasm] [host->vm] proxy_on_request_headers(2, 1, 1)",
                "[2026-12-01 10:00:00.001][7][critical][wasm] wasm log p: panicked at a.rs:1:2:",
                "unexpected status: 2",
                "[2026-12-01 10:00:00.001][7][info][main] starting",
                "2026-12-01T10:00:00Z info not ours",
            ]
        )
    )
    assert [each.text for each in found.callbacks[0].said] == ["panicked at a.rs:1:2:\nunexpected status: 2"]


def test_a_line_ends_with_a_newline_alone():
    (found,) = timeline.read_text(
        '{"logger": "wasm", "message": "[host->vm] proxy_on_request_headers(2, 1, 1)", "agent": "a\u2028b"}\n'
    )
    assert found.context == 2


def calls(*lines: str) -> str:
    """A request that makes callouts, and what comes after."""
    return "\n".join(["[host->vm] proxy_on_request_headers(2, 1, 1)", *lines])


def made(name: str, *words: int) -> list[str]:
    return [f"[vm->host] env.{name}({', '.join(map(str, words))})", f"[vm<-host] env.{name} return: 0"]


def came(name: str, *words: int) -> list[str]:
    within = [
        "[vm->host] env.proxy_set_effective_context(2)",
        "[vm<-host] env.proxy_set_effective_context return: 0",
    ]
    return [f"[host->vm] {name}({', '.join(map(str, words))})", *within, f"[host<-vm] {name} return: void"]


PAUSE = "[host<-vm] proxy_on_request_headers return: 1"
HTTP = (64, 4, 80, 20, 0, 0, 0, 0, 1000, 99)


def test_an_answer_belongs_to_the_callout_of_its_number():
    named = {(64, 4): b"slow", (32, 4): b"fast"}
    (found,) = timeline.read_text(
        calls(
            *made("proxy_http_call", *HTTP),
            *made("proxy_http_call", 32, *HTTP[1:]),
            PAUSE,
            *came("proxy_on_http_call_response", 1, 8, 1, 0, 0),
            *came("proxy_on_http_call_response", 1, 7, 1, 0, 0),
        ),
        lambda pointer, size: named.get((pointer, size)),
    )
    answers = [each.text for each in explain_timeline(found).steps if "answer of" in each.text]
    assert ["fast" in answers[0], "slow" in answers[1]] == [True, True]


def test_of_two_callouts_with_one_answer_nobody_knows_which():
    (found,) = timeline.read_text(
        calls(
            *made("proxy_http_call", *HTTP),
            *made("proxy_http_call", *HTTP),
            PAUSE,
            *came("proxy_on_http_call_response", 1, 8, 1, 0, 0),
        )
    )
    assert any("answer of a callout" in each.text for each in explain_timeline(found).steps)


def test_an_answer_by_grpc_is_one():
    (found,) = timeline.read_text(
        calls(
            *made("proxy_grpc_call", 64, 4, 80, 4, 90, 4, 0, 0, 0, 0, 1000, 99),
            PAUSE,
            *came("proxy_on_grpc_receive", 1, 3, 10),
        )
    )
    explained = explain_timeline(found)
    (trap,) = [each for each in explained.traps if each.name == "never-resumed"]
    assert trap.what.endswith("its callout was answered")
    assert any("answer of the callout" in each.text for each in explained.steps)
