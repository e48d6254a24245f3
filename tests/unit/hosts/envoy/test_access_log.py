"""The requests in an access log."""

from __future__ import annotations

import json
import re

import pytest

from scaffold.core.events import Changes, HeaderChange
from scaffold.hosts.envoy.access_log import WantedRequests, newest, parse
from scaffold.hosts.envoy.log import set_aside

RECORD = {
    "time": "2026-01-31T14:30:00.250000+0000",
    "ended": "2026-01-31T14:30:00.260000+0000",
    "microseconds": 9500,
    "milliseconds": 9,
    "request_id": "abc",
    "method": "GET",
    "path": "/headers?x=1",
    "status": 200,
    "received": 5,
    "sent": 7,
    "flags": "-",
    "details": "via_upstream",
    "changes": None,
    "peer": "127.0.0.1:1",
    "closed": None,
}


def line(**more):
    return json.dumps(RECORD | more).encode()


def test_a_request():
    made = parse(line())
    assert (made.id, made.method, made.path, made.status) == ("abc", "GET", "/headers?x=1", 200)
    assert (made.milliseconds, made.received, made.sent) == (9.5, 5, 7)
    assert (made.flags, made.details, made.recorded) == ("", "", False)
    assert round(made.ended - made.time, 3) == 0.01


def test_one_of_an_envoy_that_says_neither_the_end_nor_the_microseconds():
    made = parse(line(ended=None, microseconds=None))
    assert (made.milliseconds, round(made.ended - made.time, 3)) == (9, 0.01)


def test_one_whose_client_went_away():
    made = parse(line(status=0, flags="DC", details="downstream_remote_disconnect"))
    assert (made.status, made.flags, made.details) == (None, "DC", "downstream_remote_disconnect")


def test_a_connection_has_no_method():
    made = parse(line(request_id=None, method=None, path=None, status=0, details=None, closed="why"))
    assert (made.id, made.method, made.path, made.status, made.details) == ("", "", "", None, "why")


def test_what_changed():
    request = (
        "-:path: /a\n+:path: /b\n+x-new: 1%25\n-x-old: a%0Ab%1B%FF\n+x-many: 2\n+x-many: 3\n-x-many: 1\n?7"
    )
    made = parse(line(changes={"request": request, "request_body": 3.0, "response": ""}))
    assert made.recorded
    assert made.request == Changes(
        (
            HeaderChange(":path", "/a", "/b"),
            HeaderChange("x-old", "a\nb\x1b\N{REPLACEMENT CHARACTER}", None),
            HeaderChange("x-many", "1", "2"),
            HeaderChange("x-many", None, "3"),
            HeaderChange("x-new", None, "1%"),
        ),
        3,
        7,
    )
    assert made.response == Changes()


def test_a_request_that_never_passed_the_plugins():
    made = parse(line(changes={"response": "", "response_body": 2}))
    assert (made.recorded, made.request, made.response) == (True, None, Changes((), 2))


def test_one_that_passed_the_plugins_although_nothing_else_is_known_of_it():
    assert parse(line(changes={"passed": True})).request == Changes()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x00\xff",
        b"[1]",
        b"null",
        line()[:-5],
        line(time="soon"),
        line(time=7),
        line(milliseconds="x"),
        line(changes={"request": "?x"}),
        line(changes=[1]),
        b'{"request_id": 1}',
    ],
)
def test_a_damaged_line_is_no_request(damaged):
    assert parse(damaged) is None


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({}, "abc"),
        ({"path": re.compile("/a")}, "a"),
        ({"statuses": re.compile("5[0-9][0-9]")}, "b"),
        ({"failed": True}, "bc"),
        ({"slow": 9.6}, "c"),
        ({"since": 1769869800.3}, "c"),
        ({"tail": 2}, "bc"),
        ({"failed": True, "statuses": re.compile("200")}, ""),
    ],
)
def test_those_that_fit(wanted, fits, tmp_path):
    lines = [
        line(request_id="a", path="/a"),
        line(request_id="b", path="/b", status=503),
        line(
            request_id="c",
            path="/c",
            status=0,
            flags="DC",
            microseconds=9700,
            ended="2026-01-31T14:30:01+0000",
        ),
    ]
    path = tmp_path / "access.log"
    path.write_bytes(b"\n".join([*lines, b""]))
    chosen = WantedRequests(**wanted)
    found = [each.id for each in newest(path) if chosen(each)][: chosen.tail]
    assert "".join(found[::-1]) == fits
    assert chosen.chooses is bool(wanted.keys() - {"tail"})


def test_the_last_one_first_over_both_parts_of_the_log(tmp_path):
    path = tmp_path / "access.log"
    assert list(newest(path)) == [], "there is no log"
    path.write_bytes(line(request_id="3") + b"\n" + line(request_id="4") + b"\n" + line(request_id="5")[:-1])
    set_aside(path).write_bytes(
        line(request_id="1") + b"\n" + b"x" * 1_500_000 + b"\n" + line(request_id="2") + b"\n"
    )
    assert [each.id for each in newest(path)] == ["4", "3", "2", "1"], "the last line isn't whole yet"


def test_a_log_that_is_being_set_aside_is_read_once(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(line() + b"\n")
    set_aside(path).hardlink_to(path)
    assert len(list(newest(path))) == 1


def test_a_log_that_is_set_aside_while_it_is_read_goes_on(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(line(request_id=str(number)) + b"\n" for number in range(10_000)))
    reading = newest(path)
    first = next(reading)
    path.rename(set_aside(path))
    path.write_bytes(line(request_id="later") + b"\n")
    assert [first.id, *(each.id for each in reading)] == [str(number) for number in reversed(range(10_000))]
