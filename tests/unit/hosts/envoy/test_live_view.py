"""Which log lines belong to which request."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from scaffold.core.events import Logged, Requested
from scaffold.hosts.envoy.access_log import WantedRequests
from scaffold.hosts.envoy.live_view import LiveView, past, with_requests
from scaffold.hosts.envoy.log import Log, Logs

BEGUN = datetime(2026, 1, 31, 14, 30, tzinfo=UTC).timestamp()


def stamp(seconds):
    return datetime.fromtimestamp(BEGUN + seconds, UTC).isoformat(timespec="microseconds")


class Place:
    """The two logs of an Envoy, in a folder."""

    def __init__(self, folder):
        self.path, self.access_log = folder / "envoy.log", folder / "access.log"
        self.path.touch()
        self.access_log.touch()
        self.log = Log(self.path)

    def say(self, text, at, name="hello"):
        prefix = f"wasm log {name}: " if name else "wasm log: "
        record = {"time": stamp(at), "level": "info", "logger": "wasm", "message": prefix + text}
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def end(self, name, begun, ended, **more):
        record = {"time": stamp(begun), "ended": stamp(ended), "milliseconds": 1000 * (ended - begun)}
        record |= {
            "request_id": name,
            "method": "GET",
            "path": f"/{name}",
            "status": 200,
            "received": 0,
            "sent": 0,
        }
        with self.access_log.open("a") as file:
            file.write(json.dumps(record | {"flags": "-", "details": "via_upstream"} | more) + "\n")

    def view(self, **more):
        return LiveView(Logs(self.log, self.access_log), None, **more)

    def past(self, **wanted):
        return [
            (each.id, [line.text for line in each.logs])
            for each in past(Logs(self.log, self.access_log), WantedRequests(**wanted))
        ]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_line_belongs_to_the_request_that_was_served_alone(place):
    place.say("before", 0.5)
    place.say("in one", 1.5)
    place.end("one", 1, 2)
    place.say("between", 2.5)
    place.say("in two", 3)
    place.say("still in two", 4)
    place.end("two", 3, 4)
    assert place.past() == [("one", ["in one"]), ("two", ["in two", "still in two"])]
    assert place.past(tail=1) == [("two", ["in two", "still in two"])]
    events = with_requests(place.log.until(place.log.size()), place.access_log)
    assert [each.request for each in events] == ["", "one", "", "two", "two"]


def test_a_line_belongs_to_none_of_two_that_were_served_at_once(place):
    place.say("one alone", 1)
    place.say("both", 2)
    place.end("two", 2, 3)
    place.say("one alone, too", 4)
    place.end("one", 1, 5)
    assert place.past() == [("two", []), ("one", ["one alone", "one alone, too"])]
    assert place.past(tail=0) == []
    assert place.past(slow=2000) == [("one", ["one alone", "one alone, too"])], (
        "the other counts all the same"
    )


def test_a_timers_line_belongs_to_no_request(place):
    place.say("tick", 1.5, name="")
    place.end("one", 1, 2)
    assert place.past() == [("one", [])]


def test_what_is_new_since_the_last_look(place):
    place.say("old", 0)
    place.end("old", 0, 1)
    view = place.view()
    assert list(view.look()) == []
    place.say("in one", 2)
    assert list(view.look()) == [], "it waits for the end of its request"
    place.end("one", 2, 3)
    (request,) = view.look()
    assert isinstance(request, Requested)
    assert [(line.text, line.request) for line in request.logs] == [("in one", "one")]
    place.say("tick", 4, name="")
    (line,) = view.look()
    assert isinstance(line, Logged)
    assert (line.text, line.request) == ("tick", "")


def test_a_line_whose_request_doesnt_end_comes_alone(place):
    view = place.view(hold=0)
    place.say("endless", 2)
    list(view.look())
    place.say("more", 3)
    assert [each.text for each in view.look()] in (["endless"], ["endless", "more"])
    waiting = place.view(hold=1000)
    place.say("last words", 4)
    assert list(waiting.look()) == []
    assert [each.text for each in waiting.unowned()] == ["last words"]


def test_only_some_requests_come_without_the_lines_of_others(place):
    view = place.view(wanted=WantedRequests(failed=True), hold=0)
    place.say("fine", 1)
    place.end("fine", 1, 2)
    place.say("broken", 3)
    place.end("broken", 3, 4, status=500)
    place.say("tick", 5, name="")
    place.say("of none", 6)
    found = [each for _ in range(3) for each in view.look()]
    assert [(each.id, [line.text for line in each.logs]) for each in found] == [("broken", ["broken"])]


def test_those_that_were_served_at_once_share_their_lines(place):
    view = place.view(hold=0)
    place.say("whose", 1.5)
    place.end("two", 1, 2)
    place.end("one", 1, 3)
    found = [each for _ in range(2) for each in view.look()]
    assert [type(each) for each in found] == [Requested, Requested, Logged]
    assert found[-1].request == ""


def test_a_clock_that_was_set_back(place):
    place.say("in one", 101)
    place.end("one", 100, 102)
    place.say("in two", 1.5)
    place.end("two", 1, 2)
    view = place.view()
    place.say("in three", 0.5)
    place.end("three", 0, 1)
    assert [each.id for each in view.look()] == ["three"]
    assert [name for name, _ in place.past()] == ["one", "two", "three"]
    assert [name for name, _ in place.past(tail=2)] == ["two", "three"]


def test_logs_that_are_set_aside_while_they_are_followed(place):
    for number in range(10):
        place.say("earlier", number / 100)
        place.end("earlier", number / 100, number / 100)
    view = place.view()
    place.say("in one", 1)
    place.end("one", 1, 2)
    for path in (place.path, place.access_log):
        path.rename(path.with_suffix(".old"))
        path.touch()
    place.say("in two", 3)
    place.end("two", 3, 4)
    found = [each for _ in range(2) for each in view.look()]
    assert [(each.id, [line.text for line in each.logs]) for each in found] == [
        ("one", ["in one"]),
        ("two", ["in two"]),
    ]


def test_what_ended_while_the_view_began_comes_once(place):
    place.end("one", 1, 2)
    view = place.view()
    place.end("two", 3, 4)
    earlier = past(Logs(place.log, place.access_log), WantedRequests(), until=view.begun_at)
    assert [each.id for each in earlier] == ["one"]
    assert [each.id for each in view.look()] == ["two"]
