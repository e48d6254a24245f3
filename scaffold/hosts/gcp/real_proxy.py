"""Play a suite's cases on a host that is a proxy, or a model of one: those that a proxy can play."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from scaffold.core import files
from scaffold.errors import HostError, UsageError
from scaffold.hosts.emulator.exchange import check as check_request
from scaffold.hosts.emulator.status import LEVELS
from scaffold.hosts.exchange import Exchange, Headers, Request, Response
from scaffold.hosts.gcp import expectations
from scaffold.hosts.gcp.contexts import Result
from scaffold.hosts.gcp.headers import SortedHeaders
from scaffold.hosts.gcp.outcome import Failure, Played
from scaffold.hosts.host import PLAYERS, player
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites.suite import (
    REQUEST_BODY,
    REQUEST_HEADERS,
    RESPONSE_BODY,
    RESPONSE_HEADERS,
    Case,
    Phase,
    Suite,
)

if TYPE_CHECKING:
    from scaffold.hosts import host as hosts
    from scaffold.hosts.options import HostSettings

_BOTH = (b"connection", b"content-length", b"transfer-encoding", b"x-request-id")
# what a proxy puts into a request, and into an answer, whatever the plugin does
_OF_REQUEST = (*_BOTH, b":authority", b":method", b":path", b":scheme", b"host", b"x-forwarded-proto")
_OF_ANSWER = (*_BOTH, b":status", b"content-type", b"date", b"server")
_OF_ENVOY = b"x-envoy-"
_FRAMING = (b"content-length", b"transfer-encoding", b"connection", b"upgrade")
_STOPPED = 4  # what a callback returns that has sent a local reply
_UPSTREAM = "via_upstream"  # Envoy's word for an answer that isn't the plugin's own or the proxy's


def check(name: str, settings: HostSettings) -> None:
    """Install or pull what the host needs. Raises what would keep it from starting."""
    import_module(PLAYERS[name]).check(settings)


@contextmanager
def playing(
    name: str, plugin: Plugin, suite: Suite, settings: HostSettings
) -> Iterator[Callable[[Case], Played]]:
    """A host that plays the cases of a suite, each with a fresh plugin, while the block runs."""
    settings = replace(settings, log_level=LEVELS[suite.log_level], changes=False)
    used = False

    with files.scratch() as folder, player(name)(plugin, folder=folder, settings=settings) as host:

        def play(case: Case) -> Played:
            nonlocal used
            if why := unplayable(suite, case):
                return Played(case.name, skipped=why)
            if used:
                host.replace(plugin, fresh=True)
            used = True
            return _play(host, case)

        yield play


# what a proxy can't play


def unplayable(suite: Suite, case: Case) -> str:
    """Why a proxy can't play a case; "" if it can."""
    return next(_reasons(suite, case), "")


def _reasons(suite: Suite, case: Case) -> Iterator[str]:
    if suite.seconds is not None:
        yield "time_secs stops the clock, and a proxy's goes on"
    if case.properties:
        yield "it lists properties, and a proxy has its own"
    if case.chunked:
        yield f"{case.chunked} cuts a body, and a connection cuts it elsewhere"
    names = [phase.name for phase in case.phases]
    if twice := next((name for name in (REQUEST_BODY, RESPONSE_BODY) if names.count(name) > 1), None):
        yield f"{twice} comes in {names.count(twice)} pieces, and a connection has others"
    for name in ("plugin_init", "stream_init", "stream_destroy"):
        if getattr(case, name).log:
            yield f"it expects a log of {name}, and a proxy's log doesn't say where a line is from"
    for number, phase in enumerate(case.phases, 1):
        yield from _reasons_of(phase, last=number == len(case.phases))


def _reasons_of(phase: Phase, *, last: bool) -> Iterator[str]:
    expected, name = phase.expected, phase.name
    if any(each.invert for each in expected.log):
        yield f"{name} isn't to log something, and a proxy's log doesn't say where a line is from"
    if framing := next((key for key, _ in phase.headers if key.lower() in _FRAMING), None):
        yield f"{name} has {framing.decode()}, which is the connection's"
    if expected.immediate:
        if name in (REQUEST_BODY, RESPONSE_BODY):
            yield f"{name} expects an immediate response, which no body has in the tester"
        if expected.immediate.grpc_status is not None:
            yield f"{name} expects a grpc_status, which a client doesn't see"
        if not last:
            yield f"it goes on after the immediate response of {name}"
    of_request = name == REQUEST_HEADERS and not expected.immediate
    if of_request and any(key.lower() == b":scheme" for key, _ in expected.present):
        yield f"{name} expects :scheme, which is the connection's"
    for key in expected.absent:
        if _is_the_proxys(key, request=of_request):
            yield f"{name} expects no {key.decode()}, which the proxy itself sets"


def _is_the_proxys(name: bytes, *, request: bool) -> bool:
    key = name.lower()
    return key in (_OF_REQUEST if request else _OF_ANSWER) or key.startswith(_OF_ENVOY)


# what it can


def _play(host: hosts.Played, case: Case) -> Played:
    """Send a case's request, let the upstream answer as the case says, and look at both sides."""
    try:
        _answer(host, case)
        request = _request(case)
        check_request(request)
        exchange = host.play(request)
    except UsageError as error:
        return Played(case.name, skipped=f"HTTP can't carry it: {error.message}")
    except HostError as error:
        return Played(
            case.name, [Failure("the request", "the answer", "that there is one", (error.message,))]
        )
    return Played(case.name, list(_judged(case, exchange)), list(exchange.logs))


def _request(case: Case) -> Request:
    head, body = case.phase(REQUEST_HEADERS), case.phase(REQUEST_BODY)
    headers = SortedHeaders(head.headers if head else ())
    method = headers.get(b":method") or (b"POST" if body else b"GET")
    target = headers.get(b":path") or b"/"
    if not target.startswith(b"/"):
        raise UsageError(f"its path {target.decode(errors='replace')!r} doesn't begin with /")
    host = headers.get(b":authority") or headers.get(b"host") or b"localhost"
    fields = [(b"host", host)]
    fields += [(name, value) for name, value in headers if name[:1] != b":" and name.lower() != b"host"]
    return Request(
        method.decode("latin-1"), target.decode("latin-1"), _headers(fields), body.body if body else b""
    )


def _answer(host: hosts.Played, case: Case) -> None:
    """Let the upstream answer as the case says, or with its own answer if it says nothing."""
    if host.origin is None:
        raise HostError("the host has no upstream that can be told what to answer")
    head, body = case.phase(RESPONSE_HEADERS), case.phase(RESPONSE_BODY)
    headers = SortedHeaders(head.headers if head else ())
    status = headers.get(b":status") or b"200"
    if not status.isdigit():
        raise UsageError(f"its status {status.decode(errors='replace')!r} is no number")
    fields = _headers([(name, value) for name, value in headers if name[:1] != b":"])
    host.origin.forget_answers()
    host.origin.answer(Response(int(status), fields, body.body if body else b""))


def _headers(fields: list[tuple[bytes, bytes]]) -> Headers:
    return Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)


def _judged(case: Case, exchange: Exchange) -> Iterator[Failure]:
    """What isn't as the case expects it."""
    if exchange.trapped:
        logs = (f"log: {part}" for line in exchange.logs for part in line.splitlines())
        yield Failure("the request", "the VM", "that it goes on", ("the plugin crashed", *logs))
        return
    head = case.phase(REQUEST_HEADERS)
    if exchange.upstream is None and not (head and head.expected.immediate):
        yield from expectations.of_reply(REQUEST_HEADERS, None, _reply(exchange))
        return
    for phase in case.phases:
        yield from _of_phase(case, phase, exchange)


def _reply(exchange: Exchange) -> Result:
    """The plugin's own answer."""
    response, details = exchange.response, exchange.details.encode()
    return Result(_of_answer(response), response.body, _STOPPED, response.status, details=details)


def _of_phase(case: Case, phase: Phase, exchange: Exchange) -> Iterator[Failure]:
    name, expected = phase.name, phase.expected
    arrived = exchange.upstream if name in (REQUEST_HEADERS, REQUEST_BODY) else None
    if arrived and not expected.immediate:
        result = Result(_of_request(arrived), arrived.body)
    elif name != RESPONSE_BODY and exchange.details != _UPSTREAM and not arrived:
        result = _reply(exchange)
    else:
        result = Result(_of_answer(exchange.response), exchange.response.body)
    if not expected.immediate or result.http_status:  # else it is not the answer that is wanted
        headers = _as_spelled(case, phase, result.headers, request=arrived is not None)
        yield from expectations.of_output(name, expected, headers, result.body)
    yield from expectations.of_reply(name, expected.immediate, result)
    yield from expectations.of_logs(name, expected, exchange.logs)


def _of_request(request: Request) -> SortedHeaders:
    """A request's headers as a plugin has them."""
    found = SortedHeaders(_bytes(request.headers))
    host = found.get(b"host") or b""
    for name, value in ((":method", request.method), (":path", request.target)):
        found.add(name.encode(), value.encode("latin-1"))
    found.add(b":authority", host)
    return found


def _of_answer(response: Response) -> SortedHeaders:
    return SortedHeaders([(b":status", str(response.status).encode()), *_bytes(response.headers)])


def _bytes(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.iteritems()]


def _as_spelled(case: Case, phase: Phase, headers: SortedHeaders, *, request: bool) -> SortedHeaders:
    """Headers as the tester would have them: spelled as in the case, without what the proxy added."""
    known = {name.lower(): name for each in case.phases for name, _ in each.headers}
    known |= {name.lower(): known.get(name.lower(), name) for name, _ in phase.expected.present}
    kept = SortedHeaders()
    for name, value in headers:
        key = name.lower()
        if key in known or not _is_the_proxys(key, request=request and not phase.expected.immediate):
            kept.add(known.get(key, name), value)
    return kept
