import http.client
import socket
import stat
import subprocess
import sys
import time

import pytest

from scaffold.errors import HostError, UsageError
from scaffold.hosts.exchange import Headers, Response
from scaffold.hosts.upstream.control import Origin
from scaffold.hosts.upstream.server import serve


def test_what_arrived_is_told_as_it_arrived(origin, say):
    say(
        b"POST /anything?q=1 HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-a: 2\r\nX-b: caf\xe9\r\nEmpty:\r\n"
        b"Content-Length: 3\r\n\r\n\x00\xff\n"
    )
    (request,) = origin.requests()
    assert (request.method, request.target, request.path) == ("POST", "/anything?q=1", "/anything")
    assert request.body == b"\x00\xff\n"
    assert request.headers.getlist("x-b") == ["1", "café"]
    assert list(request.headers) == ["Host", "X-B", "x-a", "Empty", "Content-Length"]


def test_requests_are_found_by_their_id_and_by_a_mark(origin, ask):
    for number in range(3):
        ask(f"/anything/{number}", headers={"X-Request-Id": f"id-{number % 2}"})
    mark = origin.mark()
    ask("/anything/3", headers={"x-request-id": "id-0"})
    assert mark == 3
    assert [request.target[-1] for request in origin.requests()] == ["0", "1", "2", "3"]
    assert [request.target[-1] for request in origin.requests("id-0")] == ["0", "2", "3"]
    assert [request.target[-1] for request in origin.requests(since=mark)] == ["3"]
    assert origin.requests("id-1", since=mark) == []
    assert origin.requests("id-9") == origin.requests("") == []


def test_answers_are_given_by_path_the_latest_first(origin, ask):
    headers = Headers([("X-Two", "1"), ("X-Two", "é"), ("content-length", "99")])
    origin.answer(Response(201, headers, b"\x00\xff"), path="/there")
    told = ask("/there?q=1", "POST", body=b"abc")
    assert (told.status, told.body) == (201, b"\x00\xff")
    assert list(told.headers.iteritems()) == [("X-Two", "1"), ("X-Two", "é"), ("content-length", "2")]
    assert ask("/headers").status == 200

    origin.answer(Response(202))
    assert [ask("/there").status, ask("/headers").status] == [202, 202]
    origin.answer(Response(203), path="/headers")
    assert [ask("/there").status, ask("/headers").status] == [202, 203]
    origin.forget_answers()
    assert [ask("/there").status, ask("/headers").status] == [404, 200]
    assert len(origin.requests()) == 8


def test_an_answer_may_be_large_chunked_or_the_last(origin, ask, say):
    origin.answer(Response(200, body=b"x" * 5_000_000), path="/large")
    assert ask("/large").body == b"x" * 5_000_000
    origin.answer(Response(200, Headers({"Transfer-Encoding": "chunked"}), b"a\nb"), path="/chunked")
    assert say(b"GET /chunked HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n2\r\na\n\r\n1\r\nb\r\n0\r\n\r\n")
    origin.answer(Response(200, Headers({"Connection": "close"})), path="/last")
    answered = say(b"GET /last HTTP/1.1\r\n\r\n" * 2)
    assert answered == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def test_an_answer_may_take_its_time(origin, ask):
    origin.answer(Response(200), path="/late", after=0.2)
    begun = time.monotonic()
    assert ask("/late").status == 200
    assert time.monotonic() - begun >= 0.2


@pytest.mark.parametrize("after", [-1, 61, float("inf")])
def test_an_answer_that_nobody_would_wait_for_is_refused(origin, after):
    with pytest.raises(UsageError, match="isn't a number of seconds from 0 to 60"):
        origin.answer(Response(200), after=after)


def test_an_answer_may_be_cut_off(origin, say):
    origin.answer(Response(200, body=b"abc"), path="/short", cut=True)
    answered = say(b"GET /short HTTP/1.1\r\n\r\n" * 2)
    assert answered == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nab"
    origin.answer(Response(200, Headers({"transfer-encoding": "chunked"}), b"a"), path="/chunked", cut=True)
    assert say(b"GET /chunked HTTP/1.1\r\n\r\n").endswith(b"1\r\na\r\n0\r\n\r")
    origin.answer(Response(200), path="/none", after=0.05, cut=True)
    assert not say(b"GET /none HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        (Response(100), "100 isn't the status of an answer, which is from 200 to 599"),
        (Response(200, Headers({"a": "b\r\nc: d"})), "the header a can't carry 'b\\r\\nc: d'"),
        (Response(200, Headers({"a": "☃"})), "the header a can't carry '☃'"),
        (Response(200, Headers({"a b": ""})), "'a b' isn't a valid header name"),
    ],
)
def test_an_answer_that_http_cannot_carry_is_refused(origin, ask, response, sentence):
    with pytest.raises(UsageError) as refused:
        origin.answer(response)
    assert refused.value.message == sentence
    assert ask("/headers").status == 200


def test_another_process_asks_and_tells_at_the_same_door(origin, folder, ask):
    ask("/anything", "PUT", {"x-request-id": "7"}, b"abc")
    script = (
        "import sys; from pathlib import Path\n"
        "from scaffold.hosts.upstream.control import Origin; from scaffold.hosts.exchange import Response\n"
        "origin = Origin(Path(sys.argv[1]))\n"
        "origin.answer(Response(418, body=b'told'))\n"
        "print(origin.mark(), origin.requests('7')[0].text)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, folder / "control"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "1 abc\n"
    assert ask("/").text == "told"


def test_the_door_keeps_its_manners(folder, origin):
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(folder / "control"))
        connection = http.client.HTTPConnection("door")
        connection.sock = caller
        for method, target, body in (
            ("GET", "/nothing", b""),
            ("GET", "/requests?since=x", b""),
            ("GET", "/requests?odd=1", b""),
            ("PUT", "/answer", b"{"),
            ("PUT", "/answer", b'{"odd": 1}'),
            ("PUT", "/answer", b'{"path": 1, "status": "", "headers": [], "body": ""}'),
        ):
            connection.request(method, target, body)
            answer = connection.getresponse()
            assert answer.status in (400, 404)
            assert answer.read().startswith(b'{\n  "error": "')
    assert origin.mark() == 0


def test_a_dead_door_is_a_host_error(folder):
    with serve(control=folder / "control") as origin:
        assert origin.mark() == 0
    with pytest.raises(HostError) as error:
        origin.mark()
    assert error.value.message == f"no upstream answers at {folder / 'control'}: No such file or directory"
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind(str(folder / "control"))
        with pytest.raises(HostError, match="Connection refused"):
            Origin(folder / "control").requests()


def test_the_sockets_are_for_this_user_alone(origin, folder):
    for name in ("pipe", "control"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_a_socket_left_by_the_dead_is_replaced(folder):
    for name in ("pipe", "control"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(folder / name))
    with serve(pipes={"upstream": folder / "pipe"}, control=folder / "control") as origin:
        assert origin.mark() == 0
    assert list(folder.iterdir()) == []


def test_what_is_not_ours_is_left_alone(folder, origin):
    with (
        pytest.raises(HostError, match=r"can't listen at .*pipe: another one does"),
        serve(pipes={"upstream": folder / "pipe"}, control=folder / "second"),
    ):
        pass
    (folder / "file").write_text("dear")
    with pytest.raises(HostError, match="a file is there"), serve(control=folder / "file"):
        pass
    assert (folder / "file").read_text() == "dear"
    assert not (folder / "second").exists()
    assert origin.mark() == 0


def test_a_folder_that_is_not_there_is_a_host_error(folder):
    with pytest.raises(HostError, match="No such file"), serve(control=folder / "no" / "control"):
        pass
    with pytest.raises(HostError, match="path too long"), serve(control=folder / ("x" * 120)):
        pass
