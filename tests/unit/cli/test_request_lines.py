"""How a request looks in a terminal, and in a file."""

from __future__ import annotations

from dataclasses import replace

import click

from scaffold.cli.request_lines import request_lines
from scaffold.core.events import Changes, HeaderChange, Logged, Requested
from scaffold.core.times import shown

REQUEST = Requested(
    1769869800.25,
    1769869800.26,
    "0123456789abcdef",
    "GET",
    "/headers",
    200,
    9.53,
    0,
    0,
    recorded=True,
    request=Changes(),
)
TIME = shown(REQUEST.time)
LONG = replace(
    REQUEST,
    method="OPTIONS",
    path="/" + "path/" * 100,
    status=503,
    milliseconds=123456.0,
    flags="UF,URX",
    details="upstream_reset_before_response_started{connection_failure}" * 3,
    request=Changes((HeaderChange("x-long", None, "v" * 300),), 7, 3),
    response=Changes((HeaderChange("x-gone", "a", None), HeaderChange("x-set", "a", "b")), 12),
    sent=98,
    received=9,
    logs=(Logged("info", "said " * 50, None, "hello", True), Logged("warn", "two\nlines")),
    metrics={"my.requests": 1, "my.gauge": -1200},
)


def lines(request, columns=None):
    return [click.unstyle(each) for each in request_lines(request, columns)]


def test_a_request_is_a_line():
    (line,) = lines(REQUEST)
    assert line.split() == [*TIME.split(), "200", "GET", "/headers", "9.5", "ms", "01234567"]


def test_it_fills_80_columns_and_fits_into_them():
    (line,) = lines(REQUEST, 80)
    assert len(line) == 80 or " " in TIME  # with a date the path gets less room
    first, *others = lines(LONG, 80)
    assert first.split()[-3:] == ["123.5", "s", "01234567"]
    assert "…" in first
    assert all(len(each) <= 80 for each in [first, *others] if " log " not in each), "log lines come whole"


def test_what_happened_stands_below_it():
    _, *below = lines(LONG)
    assert [each.split()[:2] for each in below] == [
        ["ended", "UF,URX"],
        ["+", "request"],
        ["request", "and"],
        ["~", "request"],
        ["-", "answer"],
        ["~", "answer"],
        ["~", "answer"],
        ["metric", "my.requests"],
        ["metric", "my.gauge"],
        ["log", "[info]"],
        ["log", "[warn]"],
    ]
    assert below[3].endswith("body 9 → 7 bytes")
    assert below[5].endswith("x-set: a → b")
    assert below[6].endswith("body 12 → 98 bytes"), "from the upstream's to the client's"
    assert below[8].endswith("my.gauge -1,200")
    assert "hello: said" in below[9]
    assert below[10].endswith(r"two\nlines")


def test_one_that_a_plugin_answered():
    _, below = lines(replace(REQUEST, request=None, response=Changes()))
    assert "didn't get to the upstream" in below
    assert len(lines(replace(REQUEST, request=None, recorded=False))) == 1, "nobody has looked"


def test_one_without_an_answer_and_a_connection():
    assert "--- GET" in lines(replace(REQUEST, status=None))[0]
    connection = replace(
        REQUEST, method="", path="", status=None, id="", received=1234, sent=5, recorded=False
    )
    (line,) = lines(connection, 100)
    assert "--- connection 1,234 bytes received, 5 sent" in line


def test_nothing_foreign_reaches_the_terminal():
    evil = "\x1b[2J\nerror: forged"
    hostile = replace(
        LONG,
        path=evil,
        method=evil,
        id=evil,
        request=Changes((HeaderChange(evil, evil, evil),)),
        details=evil,
    )
    text = "\n".join(lines(hostile, 80))
    assert "\x1b" not in text
    assert not any(each.startswith("error:") for each in text.splitlines())


def test_the_status_has_a_colour():
    coloured = {
        status: next(request_lines(replace(REQUEST, status=status), 80))
        for status in (200, 302, 404, 503, None)
    }
    codes = {status: text.split("\x1b[")[3].partition("m")[0] for status, text in coloured.items()}
    assert codes == {200: "32", 302: "36", 404: "33", 503: "31", None: "31"}
