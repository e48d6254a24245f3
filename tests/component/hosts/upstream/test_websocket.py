"""WebSockets at the built-in upstream. The bytes are the examples in RFC 6455."""

import socket
import threading
import time
from contextlib import suppress

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request, TextMessage

from scaffold.hosts.exchange import Headers, Response

OFFER = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
HELLO = bytes.fromhex("818537fa213d7f9f4d5158")  # masked
MASK = b"\x37\xfa\x21\x3d"


def masked(head: int, payload: bytes) -> bytes:
    mixed = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    return bytes([head, 0x80 | len(payload)]) + MASK + mixed


@pytest.fixture
def opened(dial):
    """A WebSocket, open."""
    caller = dial()
    caller.sendall(OFFER % b"")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += caller.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
    return caller


def read(caller: socket.socket, count: int) -> bytes:
    return caller.recv(count, socket.MSG_WAITALL)


def test_a_message_comes_back(opened, origin):
    for _ in range(2):
        opened.sendall(HELLO)
        assert read(opened, 7) == b"\x81\x05Hello"
    (request,) = origin.requests()
    assert (request.path, request.headers["upgrade"]) == ("/chat", "websocket")


def test_a_message_in_parts_comes_back_though_a_ping_comes_between(opened):
    opened.sendall(masked(0x01, b"Hel") + masked(0x89, b"are you there?") + masked(0x80, b"lo"))
    assert read(opened, 5) == b"\x01\x03Hel"
    assert read(opened, 16) == b"\x8a\x0eare you there?"
    assert read(opened, 4) == b"\x80\x02lo"


def test_who_closes_is_told_so_and_hung_up(opened):
    opened.sendall(masked(0x88, b"\x03\xe8bye") + HELLO)
    assert b"".join(iter(lambda: opened.recv(100), b"")) == b"\x88\x05\x03\xe8bye"


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x81\x05Hello", 1002), (masked(0x81, b"\xff"), 1007), (masked(0x83, b""), 1002)],
    ids=["not masked", "not UTF-8", "an unknown kind"],
)
def test_what_is_no_frame_ends_it(frame, code, opened):
    opened.sendall(frame)
    answer = b"".join(iter(lambda: opened.recv(100), b""))
    assert (answer[0], int.from_bytes(answer[2:4])) == (0x88, code)


def test_a_large_message_comes_back_to_a_client_of_its_own_choice(dial):
    """Larger than what the sockets hold: the upstream reads on only when the client does."""
    caller, client = dial(), WSConnection(ConnectionType.CLIENT)
    caller.sendall(client.send(Request(host="h", target="/", subprotocols=["chat", "other"])))
    text, came = "é" * 1_000_000, ""
    while True:
        client.receive_data(caller.recv(65536))
        for event in client.events():
            if isinstance(event, AcceptConnection):
                assert event.subprotocol == "chat"
                sent = [client.send(TextMessage(text[:1000], message_finished=False))]
                sent += [client.send(TextMessage(text[1000:]))]
                sending = threading.Thread(target=caller.sendall, args=[b"".join(sent)], daemon=True)
                sending.start()
            elif isinstance(event, Message):
                came += event.data
                if event.message_finished:
                    caller.sendall(client.send(CloseConnection(1000)))
            elif isinstance(event, CloseConnection):
                assert came == text
                return


def test_a_client_that_does_not_read_is_not_read_from_either(opened):
    frame, sent = masked(0x82, bytes(125)), []
    opened.settimeout(60)

    def send() -> None:
        with suppress(OSError):  # it will be shut down
            for _ in range(100):
                opened.sendall(frame * 1000)
                sent.append(1)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    marks = [0] * 5
    while marks[-1] == 0 or len(set(marks[-5:])) > 1:  # until it stands still
        time.sleep(0.05)
        marks.append(len(sent))
    assert sender.is_alive()
    opened.shutdown(socket.SHUT_RDWR)
    sender.join(5)


@pytest.mark.parametrize(
    "offer",
    [
        (OFFER % b"").replace(b"Sec-WebSocket-Key", b"X-Key"),
        (OFFER % b"").replace(b"Host", b"X-Host"),
        (OFFER % b"").replace(b"Version: 13", b"Version: 8"),
        (OFFER % b"Content-Length: 0\r\n").replace(b"GET", b"POST"),
        (OFFER % b"").replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    ],
    ids=["no key", "no host", "an old version", "POST", "another protocol"],
)
def test_who_asks_otherwise_gets_an_ordinary_answer(offer, say):
    assert say(offer.replace(b"/chat", b"/status/202")).startswith(b"HTTP/1.1 202 ")


def test_an_answer_that_a_test_has_set_comes_first(origin, say):
    origin.answer(Response(403, Headers(), b"no"), path="/chat")
    assert say(OFFER % b"").startswith(b"HTTP/1.1 403 ")


def test_a_frame_before_the_answer_ends_the_connection(say):
    answer = say(OFFER % b"" + HELLO)
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.count(b"HTTP/1.1") == 1
