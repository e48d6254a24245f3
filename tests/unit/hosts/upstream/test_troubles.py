"""The built-in upstream in trouble: its answers are late, or cut off, for one cluster."""

from __future__ import annotations

import json

from scaffold.hosts.upstream.handler import Recorder
from scaffold.hosts.upstream.http1 import Received


def ask(recorder, method, target, **body):
    return recorder.control(Received(method, target, [], json.dumps(body).encode()))


def answered(recorder, cluster):
    return recorder.receive(Received(b"GET", b"/headers", [], b""), cluster=cluster)


def test_a_cluster_in_trouble_answers_as_it_would_and_late_and_cut():
    recorder = Recorder()
    healthy = answered(recorder, "upstream")
    assert ask(recorder, b"PUT", b"/trouble", cluster="upstream", after=2, cut=True).status == 200
    assert answered(recorder, "upstream") == healthy._replace(after=2.0, cut=True)
    assert answered(recorder, "authz") == healthy
    ask(recorder, b"DELETE", b"/troubles")
    assert answered(recorder, "upstream") == healthy


def test_an_answer_that_is_later_still_stays_so():
    recorder = Recorder()
    answer = {"path": None, "status": 200, "headers": [], "trailers": [], "body": "", "after": 9}
    ask(recorder, b"PUT", b"/answer", **answer)
    ask(recorder, b"PUT", b"/trouble", cluster="upstream", after=2)
    assert answered(recorder, "upstream").after == 9
