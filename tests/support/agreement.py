"""The same requests through the same plugins on a real Envoy and on the emulator: where they differ."""

from __future__ import annotations

import difflib
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scaffold.errors import HostError, ScaffoldError
from scaffold.hosts import client
from scaffold.hosts import host as hosts
from scaffold.hosts.exchange import Headers, Incomplete, Request
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin

METRICS = ("m1", "m2", "m3")  # those of generated plugins begin with one of these
_STEP = 0.06  # seconds between the steps of a conversation, in which both hosts come to rest
_TIMEOUT = 0.4  # seconds for an answer: some never get one
_SETTLED = "[host<-vm] proxy_on_delete"  # the last line of a stream
_MASKED = (
    (re.compile(r"malloc\(\d+\)"), "malloc(…)"),  # a header may be a digit longer
    (re.compile(r"malloc return: \d+"), "malloc return: …"),
    (re.compile(r"0x[0-9a-f]+ - .*"), "…"),  # of a backtrace
)
_VARYING = ("date", "x-envoy-upstream-service-time")  # headers


@dataclass(frozen=True)
class Conversation:
    """What a client does with a TCP connection: it sends bytes, or does what a word says (see `_talk`)."""

    steps: Sequence[bytes | str]

    method, target = "TCP", "connection"


@dataclass(frozen=True)
class Case:
    """What is played: `answers` are arguments of `Origin.answer`; `pause` are seconds between requests."""

    plugins: Sequence[Plugin]
    requests: Sequence[Request | Conversation]
    answers: Sequence[tuple[Any, dict[str, Any]]] = ()
    pause: float = 0


@dataclass
class Played:
    """What one host did: a transcript for the start and for each request, what client and upstream got."""

    transcripts: list[list[str]] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def differences(case: Case, envoy: str | None = None, attempts: int = 3) -> list[str]:
    """Where the two hosts differ, in words; empty where they agree.

    An answer in pieces may reach Envoy in other pieces when the machine is busy, and either host may be late
    for the next step: such a case is played again.
    """
    for _ in range(attempts):
        emulated = played("emulator", case, envoy)
        if not (found := compared(case, played("envoy", case, envoy), emulated)):
            break
    return found


def compared(case: Case, first: Played, second: Played) -> list[str]:
    """Where what two hosts did differs."""
    found = []
    names = ["start", *(f"{each.method} {each.target}" for each in case.requests)]
    for name, one, other in zip(names, first.transcripts, second.transcripts, strict=True):
        if one != other:
            lines = difflib.unified_diff(one, other, "envoy", "emulator", lineterm="", n=4)
            found.append("\n".join([name, *lines]))
    for name, one, other in zip(names[1:], first.answers, second.answers, strict=True):
        if one != other:
            found.append(f"{name}: {_apart(repr(one), repr(other))}")
    if first.metrics != second.metrics:
        found.append(f"metrics:\n  envoy    {first.metrics}\n  emulator {second.metrics}")
    return found


def _apart(one: str, other: str) -> str:
    """Where two texts begin to differ."""
    at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    begin = max(0, at - 80)
    return f"\n  envoy    …{one[begin : at + 120]}\n  emulator …{other[begin : at + 120]}"


def played(name: str, case: Case, envoy: str | None = None) -> Played:
    """Play a case on a host."""
    settings = replace(
        RunOptions(port=0, log_level="trace", envoy=envoy).settings,
        anywhere=True,
        adds_clusters=True,
        changes=False,
    )
    result = Played()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with hosts.player(name)(*case.plugins, folder=Path(folder), settings=settings) as host:
                _play(host, case, result, is_real=name == "envoy")
        except ScaffoldError as error:  # it refuses the plugin, or has crashed
            result.transcripts.append([f"{type(error).__name__} {error}".splitlines()[0]])
    missing = len(case.requests) - len(result.answers)
    result.answers += [None] * missing
    result.transcripts += [[]] * (1 + len(case.requests) - len(result.transcripts))
    return result


def _play(host: Any, case: Case, result: Played, *, is_real: bool) -> None:
    wait: Callable[[float], object] = time.sleep if is_real else host.clock.advance
    wait(0.3)
    mark = host.log.size()
    started = _transcript(host, 0)
    # several plugins, and what starts of itself, are told at the same time on the main thread and the worker
    mixed = len(case.plugins) > 1 or any("queue_ready" in each for each in started)
    result.transcripts.append(sorted(started) if mixed else started)
    for arguments, keywords in case.answers:
        host.origin.answer(arguments, **keywords)
    for number, request in enumerate(case.requests):
        if isinstance(request, Conversation):
            answer = _talked(host, request, wait, is_real=is_real)
        else:
            headers = Headers(request.headers)
            headers.setdefault("x-request-id", f"{number:032x}")
            answer = _answer(host, replace(request, headers=headers))
        if is_real:
            _settle(host, mark, 0.5 if isinstance(answer, str) else 0.05)
        if case.pause:
            wait(case.pause)
        at, mark = mark, host.log.size()
        result.transcripts.append(_transcript(host, at))
        result.answers.append(answer)
    found = {name: value for name, value in host.metrics.items() if name.startswith(METRICS)}
    result.metrics = {name: value for name, value in found.items() if value}


def _settle(host: Any, mark: int, patience: float) -> None:
    """Wait until the stream's last callback has been logged, or it seems to have none."""
    deadline, before = time.monotonic() + patience, 0
    while time.monotonic() < deadline:
        lines = list(host.log.since(mark))
        if len(lines) == before and any(each.text.startswith(_SETTLED) for each in lines[-200:]):
            return
        before = len(lines)
        time.sleep(0.006)


def _transcript(host: Any, mark: int) -> list[str]:
    lines = [f"{each.level} {each.text}" for each in host.log.since(mark) if each.logger == "wasm"]
    return [_masked(each) for each in lines if "Wasm" not in each[:40]]  # the rest is of Envoy itself


def _masked(text: str) -> str:
    for pattern, instead in _MASKED:
        text = pattern.sub(instead, text)
    return text


def _talked(
    host: Any, conversation: Conversation, wait: Callable[[float], object], *, is_real: bool
) -> list[Any]:
    """What a client and the upstream got over a connection."""
    mark = host.origin.mark()
    # not `connect`, which waits for an end that may never come
    opened = client.connected(host.port, _TIMEOUT) if is_real else host.connect(timeout=_TIMEOUT)
    with opened as connection:
        wait(_STEP)
        got = []
        for step in conversation.steps:
            got.append(_talk(connection, step))
            wait(_STEP)
    wait(3 * _STEP)  # until the last answer has come that the case delays
    return [got, [(each.method, each.target, each.body) for each in host.origin.requests(since=mark)]]


def _talk(connection: client.Connection, step: bytes | str) -> Any:
    """Do a step: send bytes, "read" what is there, "finish" sending, or "wait"."""
    if isinstance(step, bytes):
        try:
            connection.send(step)
        except HostError:
            return "not sent"
    elif step == "finish":
        connection.finish()
    elif step == "read":
        return _read(connection)
    return None


def _read(connection: client.Connection) -> tuple[bytes, str]:
    """What has come, and whether that is the end."""
    parts = []
    connection._socket.settimeout(0.002)
    try:
        while part := connection._socket.recv(1 << 16):
            parts.append(part)
        state = "ended"
    except ConnectionResetError:
        state = "reset"
    except OSError:
        state = "open"
    finally:
        connection._socket.settimeout(_TIMEOUT)
    return b"".join(parts), state


def _answer(host: Any, request: Request) -> Any:
    """What the client and the upstream got, or why there was no answer."""
    try:
        exchange = host.play(request, timeout=_TIMEOUT)
    except Incomplete as error:
        return f"incomplete, {error.exchange.response.status}"
    except HostError as error:
        return str(error).split(": ")[-1]
    response = exchange.response
    headers = sorted(each for each in response.headers.iteritems() if each[0] not in _VARYING)
    client = response.status, headers, response.body, list(response.trailers.iteritems()), exchange.details
    upstream = exchange.upstream
    if exchange.details != "via_upstream" or upstream is None:
        return client
    return client, upstream.method, upstream.target, list(upstream.headers.iteritems()), upstream.body
