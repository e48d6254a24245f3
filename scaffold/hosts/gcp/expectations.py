"""What a case expects of a phase, held against what came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scaffold.hosts.gcp.contexts import Result
from scaffold.hosts.gcp.headers import SortedHeaders
from scaffold.hosts.gcp.outcome import Failure
from scaffold.project.suites.matcher import Matcher, shown
from scaffold.project.suites.suite import Expectation, Immediate

_MOST = 20  # texts that a failure shows


def of_logs(phase: str, expected: Expectation, logs: Sequence[str]) -> Iterator[Failure]:
    """What the plugin's log doesn't have, or has."""
    lines = [line.encode(errors="surrogateescape") for line in logs]
    yield from _matched(phase, "log", expected.log, lines)


def of_output(phase: str, expected: Expectation, headers: SortedHeaders, body: bytes) -> Iterator[Failure]:
    """Where headers and body aren't as they should be."""
    for name, value in expected.present:
        found = headers.get(name)
        if found != value:
            got = _without(headers) if found is None else shown(found)
            yield Failure(phase, f"has_header {name.decode()}", shown(value), (got,))
    for name in expected.absent:
        found = headers.get(name)
        if found is not None:
            yield Failure(phase, f"no_header {name.decode()}", "no such header", (shown(found),))
    yield from _matched(phase, "headers", expected.headers, headers.lines())
    yield from _matched(phase, "body", expected.body, [body])


def of_reply(phase: str, expected: Immediate | None, result: Result) -> Iterator[Failure]:
    """Whether the plugin has answered itself, and how, as it should."""
    replied = result.http_status > 0
    if expected is None:
        if replied:
            got = f"status {result.http_status}, body {shown(result.body)}"
            yield Failure(phase, "immediate", "no immediate response", (got,))
        elif not result.goes_on:
            yield Failure(phase, "immediate", "that the stream goes on", ("the plugin paused it",))
        return
    if not replied or result.goes_on:
        got = "none" if not replied else "one, and yet the stream goes on"
        yield Failure(phase, "immediate", "an immediate response", (got,))
        return
    for what, wanted in vars(expected).items():
        got = getattr(result, what)
        if wanted is not None and wanted != got:
            yield Failure(phase, f"immediate {what}", _value(wanted), (_value(got),))


def _matched(phase: str, what: str, matchers: Iterable[Matcher], texts: Sequence[bytes]) -> Iterator[Failure]:
    for each in matchers:
        if not each.agrees(texts):
            wanted = f"none that is {each.written}" if each.invert else each.written
            yield Failure(phase, what, wanted, _texts(texts))


def _texts(texts: Sequence[bytes]) -> tuple[str, ...]:
    more = [f"… and {len(texts) - _MOST} more"] * (len(texts) > _MOST)
    return (*map(shown, texts[:_MOST]), *more)


def _without(headers: SortedHeaders) -> str:
    names = ", ".join(name.decode(errors="backslashreplace") for name, _ in headers)
    return f"no such header; there are {names}" if names else "no headers"


def _value(value: int | bytes) -> str:
    return str(value) if isinstance(value, int) else shown(value)
