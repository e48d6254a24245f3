import http.client
import re
import socket
import threading
import time
from contextlib import suppress

import pytest

from scaffold.hosts.exchange import Headers
from scaffold.hosts.upstream.server import serve

GET = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n"


def test_a_connection_is_kept_for_the_next_request(dial):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = caller = dial()
    for number in range(3):
        connection.request("POST", f"/anything/{number}", body=b"abc")
        assert connection.getresponse().read()
    assert connection.sock is caller
    connection.close()


def test_pipelined_requests_are_answered_in_their_order(say):
    slow_first = [b"/delay/0.05", b"/stream/3", b"/status/201", b"/bytes/100000", b"/status/202"]
    answers = say(b"".join(GET % target for target in slow_first))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"200", b"201", b"200", b"202"]
    assert answers.endswith(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")


def test_answers_that_are_given_at_once_arrive_as_one(dial):
    caller = dial()
    caller.sendall(GET % b"/stream/3" + GET % b"/status/204")
    assert caller.recv(10_000).endswith(b"0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    caller.close()


def test_a_client_that_pipelines_and_does_not_read_fills_no_memory(dial, origin):
    greedy, request = dial(), GET.replace(b": h", b": " + b"h" * 20_000) % b"/bytes/200000"
    greedy.settimeout(60)

    def send() -> None:
        with suppress(OSError):  # it will be shut down
            greedy.sendall(request * 1000)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    marks = [0] * 5
    while marks[-1] == 0 or len(set(marks[-5:])) > 1:  # until no more are answered
        time.sleep(0.05)
        marks.append(origin.mark())
    assert marks[-1] < 100, "the others wait for their turn"
    assert sender.is_alive(), "most of them haven't been read"
    greedy.shutdown(socket.SHUT_RDWR)
    sender.join(5)


def test_a_client_that_reads_late_gets_all_its_answers(say):
    answers = say(GET % b"/bytes/200000" * 40)
    assert (answers.count(b"HTTP/1.1 200 OK"), len(answers) > 40 * 200_000) == (40, True)


def test_a_request_may_come_byte_by_byte(dial, origin):
    caller = dial()
    for byte in b"PUT /anything HTTP/1.1\r\nX-A: b\r\nContent-Length: 2\r\n\r\nab":
        caller.sendall(bytes([byte]))
    assert caller.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    (request,) = origin.requests()
    assert (request.method, request.target, request.body) == ("PUT", "/anything", b"ab")
    assert request.headers == Headers({"X-A": "b", "Content-Length": "2"})


def test_a_chunked_request_arrives_whole(say, origin):
    raw = b"POST /anything HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    answers = say(raw, b"3\r\nabc\r\n", b"4;ext=1\r\ndefg\r\n0\r\nX-Trailer: t\r\n\r\n", GET % b"/status/202")
    assert b'"data": "abcdefg"' in answers
    assert b"HTTP/1.1 202 Accepted" in answers
    assert origin.requests()[0].body == b"abcdefg"
    assert "X-Trailer" not in origin.requests()[0].headers


def test_a_client_that_expects_it_is_told_to_go_on(dial):
    caller = dial()
    caller.sendall(b"POST /anything HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
    assert caller.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.sendall(b"abc")
    assert b'"data": "abc"' in caller.recv(1000)


def test_it_is_told_so_only_when_earlier_answers_are_out(dial):
    caller = dial()
    caller.sendall(
        GET % b"/delay/0.05" + b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    answers = b""
    while b"100 Continue" not in answers:
        answers += caller.recv(1000)
    assert answers.startswith(b"HTTP/1.1 200 OK")


def test_a_body_that_did_not_wait_needs_no_go_ahead(say):
    raw = b"POST /status/200 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
    assert say(raw) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("target", [b"/headers", b"/stream/3", b"/bytes/100000", b"/status/204"])
def test_head_gets_the_head_of_what_get_gets(say, target):
    head = b"HEAD %b HTTP/1.1\r\nHost: h\r\n\r\n" % target
    got = say(GET % target).partition(b"\r\n\r\n")[0]
    assert say(head + GET % b"/status/200") == got + b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def test_a_connection_ends_when_the_client_asks(dial):
    caller = dial()
    caller.sendall(b"GET /status/200 HTTP/1.1\r\nConnection: close\r\n\r\n" + GET % b"/unheard")
    answer = b"".join(iter(lambda: caller.recv(1000), b""))
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def test_http_1_0_is_kept_open_only_when_asked(say):
    kept = b"GET /status/200 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answers = say(kept, b"GET /status/201 HTTP/1.0\r\n\r\n")
    assert answers == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
        b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )


def test_an_offer_of_another_protocol_is_not_taken_up(say, origin):
    upgrade = b"%b /anything HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n%b\r\n"
    requests = upgrade % (b"GET", b"") + upgrade % (b"POST", b"Content-Length: 3\r\n") + b"abc"
    answers = say(requests + GET % b"/status/202")
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.endswith(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
    assert [(each.body, each.headers.get("upgrade")) for each in origin.requests()] == [
        (b"", "h2c"),
        (b"abc", "h2c"),
        (b"", None),
    ]


def test_a_tunnel_is_not_made(say):
    assert say(b"CONNECT h:1 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nbroken header\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_ends_the_connection(dial, raw, origin):
    caller = dial()
    caller.sendall(GET % b"/status/200" + raw)
    answers = b"".join(iter(lambda: caller.recv(1000), b""))
    good, _, bad = answers.partition(b"content-length: 0\r\n\r\n")
    assert good == b"HTTP/1.1 200 OK\r\n"
    assert bad.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n")
    assert b"connection: close\r\n\r\nnot HTTP/1: " in bad
    assert origin.mark() == 1


@pytest.mark.parametrize(
    "head",
    [
        b"X: %b\r\n\r\n" % (b"x" * 70_000),
        b"X: x\r\n" * 30_000 + b"\r\n",
        b"X: " + b"x" * 2_000_000,  # and no end to it
    ],
)
def test_too_large_a_head_is_refused_in_words_that_arrive(dial, head):
    caller = dial()
    caller.sendall(b"GET / HTTP/1.1\r\n" + head)
    answer = b"".join(iter(lambda: caller.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert answer.endswith(b"more than 65536 bytes of headers\n")


def test_a_large_head_is_none_too_large(ask):
    large = {f"x-{number}": "y" * 6000 for number in range(10)}
    assert len(ask("/headers", headers=large).body) > 60_000


def test_heads_after_large_bodies_are_not_taken_for_large(say):
    raw = b"POST /status/200 HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
    assert say(raw, raw, raw + b"GET /status/202 HT", b"TP/1.1\r\n\r\n").count(b"HTTP/1.1 20") == 4


def test_a_client_that_leaves_during_a_delay_is_forgotten(dial, ask):
    caller = dial()
    caller.sendall(GET % b"/delay/60" + b"GET /")
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    caller.close()  # with a reset
    assert ask("/headers").status == 200


def test_serving_ends_at_once_even_with_clients_waiting(folder):
    before = threading.active_count()
    with serve(pipes={"upstream": folder / "pipe"}, control=folder / "control") as origin:
        waiting, idle = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        for caller in (waiting, idle):
            caller.settimeout(5)
            caller.connect(str(folder / "pipe"))
        waiting.sendall(GET % b"/delay/60")
        while not origin.mark():
            time.sleep(0.001)
        begun = time.monotonic()
    assert time.monotonic() - begun < 30
    for caller in (waiting, idle):
        assert caller.recv(1) == b""
        caller.close()
    assert list(folder.iterdir()) == []
    assert threading.active_count() == before
