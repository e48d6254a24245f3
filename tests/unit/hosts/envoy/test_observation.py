"""What is said of one request, among others that meet it in the logs and at the upstream."""

from __future__ import annotations

import json

import pytest

from scaffold.hosts.envoy import observation
from scaffold.hosts.envoy.log import Log
from scaffold.hosts.envoy.observation import Observer
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.exchange import REQUEST_ID, Headers, Request
from scaffold.project.envoy_clusters import UPSTREAM


class Origin:
    """An upstream that has everything in a list."""

    def __init__(self):
        self.arrived = []

    def mark(self):
        return len(self.arrived)

    def requests(self, request_id=None, since=0):
        later = self.arrived[since:]
        return [each for each in later if request_id in (None, each.headers.get(REQUEST_ID))]

    def arrive(self, target, request_id=None, cluster=UPSTREAM):
        headers = Headers({REQUEST_ID: request_id} if request_id else {})
        self.arrived.append(Request("GET", target, headers, b"", cluster))


class Admin:
    """Envoy's counters."""

    def __init__(self):
        self.counters = {"hello.requests": 0, "hello.other": 7}

    def stats(self):
        return json.dumps({"stats": [{"name": name, "value": each} for name, each in self.counters.items()]})


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def origin():
    return Origin()


@pytest.fixture
def admin():
    return Admin()


@pytest.fixture
def observer(folder, origin, admin, monkeypatch):
    monkeypatch.setattr(observation, "LOG_SECONDS", 0.02)
    folder.make_folders()
    folder.access_log.write_text("")
    folder.log.write_text("")
    return Observer(folder, admin, origin, Log(folder.log))


@pytest.fixture
def ends(folder):
    """Writes the line of a request's end, or of a connection's."""

    def ends(details, request_id=None, port=1, **more):
        record = {"request_id": request_id, "details": details, "peer": f"127.0.0.1:{port}", **more}
        with folder.access_log.open("a") as file:
            file.write(json.dumps(record) + "\n")

    return ends


@pytest.fixture
def logs(folder):
    """Writes a line of Envoy's log."""

    def logs(text, logger="wasm"):
        with folder.log.open("a") as file:
            file.write(json.dumps({"level": "info", "logger": logger, "message": text}) + "\n")

    return logs


# --- the upstream


def test_upstream_is_this_request_whatever_else_arrives(observer, origin):
    origin.arrive("/before", "a")
    seen = observer.begin()
    for target, request_id in (("/other", "b"), ("/first try", "a"), ("/again", "a"), ("/later", "c")):
        origin.arrive(target, request_id)
    seen.await_end("a", 1)
    assert seen.upstream.target == "/again"
    assert [each.target for each in seen.requests] == ["/other", "/first try", "/again", "/later"]


def test_a_request_that_never_arrived_is_none_though_it_has_an_earlier_namesake(observer, origin):
    origin.arrive("/before", "a")
    seen = observer.begin()
    origin.arrive("/other", "b")
    seen.await_end("a", 1)
    assert seen.upstream is None


def test_a_request_whose_id_the_plugin_removed_is_the_only_one_without(observer, origin):
    seen = observer.begin()
    origin.arrive("/callout", cluster="auth")
    origin.arrive("/it")
    seen.await_end("a", 1)
    assert seen.upstream.target == "/it"


def test_of_two_without_an_id_none_is_this_request(observer, origin):
    seen = observer.begin()
    origin.arrive("/one")
    origin.arrive("/two")
    seen.await_end("a", 1)
    assert seen.upstream is None


# --- how it ended


def test_details_are_this_requests(observer, ends):
    ends("before", "a")
    seen = observer.begin()
    ends("other", "b")
    ends("unnamed", port=11)  # whose port only ends like ours
    ends("it", "a")
    assert seen.await_end("a", 1) == "it"


def test_details_of_a_request_without_its_id_are_those_of_its_port(observer, ends):
    seen = observer.begin()
    ends("other", port=2)
    ends("longer", port=11)
    ends("it", port=1)
    assert seen.await_end("a", 1) == "it"


def test_a_connection_ends_with_the_hosts_word(observer, ends):
    seen = observer.begin()
    ends(None, port=1, closed="by the plugin")
    assert seen.await_end(None, 1) == "by the plugin"


def test_a_request_whose_end_nobody_logged_has_no_details(observer, ends):
    seen = observer.begin()
    ends("other", "b", port=2)
    assert seen.await_end("a", 1) == ""


# --- what was logged, and counted


def test_logs_are_the_plugins_since_the_request(observer, logs):
    logs("wasm log hello: before")
    seen = observer.begin()
    logs("wasm log hello: meanwhile")
    logs("upstream connect error", "upstream")
    assert list(seen.logs) == ["meanwhile"]


@pytest.mark.parametrize(
    ("line", "crashed"),
    [
        ("Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable", True),
        ("wasm log hello: Function: it failed", True),
        ("wasm log hello: the function failed", False),
        ("Function: all is well", False),
    ],
)
def test_a_crash_is_what_envoy_says_of_a_function(observer, logs, line, crashed):
    seen = observer.begin()
    logs(line)
    assert seen.trapped is crashed


def test_metrics_are_what_changed_until_the_next_request(observer, admin):
    first = observer.begin()
    first.await_end("a", 1)
    admin.counters["hello.requests"] = 1
    second = observer.begin()
    admin.counters |= {"hello.requests": 3, "hello.new": 1}
    assert first.metrics == {"hello.requests": 1}
    assert second.metrics == {"hello.requests": 2, "hello.new": 1}
