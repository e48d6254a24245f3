"""Scenes are kept while tests run, and read again as they were."""

from __future__ import annotations

from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.faults.scenes import Answer, Scene, keep, read

REQUEST = Request(
    "POST",
    "/anything?a=b",
    Headers([("x-a", "1"), ("X-A", "caf\xe9")]),
    b"\xff\x00body",
    trailers=Headers([("x-t", "2")]),
    pieces=(1, 2),
)
ANSWER = Answer(
    Response(403, Headers([("x-b", "3")]), b"\xffno", Headers([("x-u", "4")])), "/check", 0.5, True
)


def test_a_scene_is_read_as_it_was(tmp_path):
    scene = Scene(REQUEST, b"\xfe{}", (ANSWER,))
    keep(tmp_path / "kept", scene)
    (found,) = read(tmp_path / "kept")
    assert found == scene
    assert list(found.request.headers.iteritems()) == list(REQUEST.headers.iteritems())


def test_the_same_scene_counts_once(tmp_path):
    for scene in (Scene(REQUEST), Scene(Request("GET", "/")), Scene(REQUEST)):
        keep(tmp_path / "kept", scene)
    assert [str(each) for each in read(tmp_path / "kept")] == ["POST /anything?a=b", "GET /"]


def test_without_a_file_there_are_none(tmp_path):
    assert read(tmp_path / "none") == []
