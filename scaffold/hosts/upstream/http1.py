"""One HTTP/1 connection: bytes come in, a handler gets the requests in order, its replies go out."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast

import httptools

from scaffold.hosts.upstream.websocket import Echo

HEAD_LIMIT = 64 * 1024  # bytes: request line, header names and values
BODY_LIMIT = 10 * 1024 * 1024  # bytes of a body that are kept
LINGER = 1.0  # seconds in which a client may read our last answer before the connection is closed
APART = 0.01  # seconds between our last bytes and the end: a plugin on the way sees both, one after the other
_ONE_WRITE = 64 * 1024  # bytes of answers that are sent together


class Received(NamedTuple):
    """A request as its bytes arrived, and the cluster it came by; a long body is cut.

    `offers` says that it offers to go on in another protocol.
    """

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    cluster: str = ""
    trailers: Sequence[tuple[bytes, bytes]] = ()
    offers: bool = False

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header called `name`, which must be in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Reply(NamedTuple):
    """An answer: `fields` are its header lines, each with its CRLF, without those of the framing.

    With `chunked`, each line of the body is a chunk; so it is with `trailers`, which are lines like `fields`.
    `close` ends the connection, `cut` ends it one byte too early. `after` is a delay in seconds. With
    `websocket`, the connection goes on as one, and the rest doesn't count.
    """

    status: int
    fields: bytes = b""
    body: bytes = b""
    chunked: bool = False
    close: bool = False
    cut: bool = False
    after: float = 0.0
    trailers: bytes = b""
    websocket: Echo | None = None


Handler = Callable[[Received], Reply]


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


Later = Callable[..., _Cancellable]  # takes seconds, a function and its arguments


class _Turn(NamedTuple):
    received: Received
    modern: bool  # HTTP/1.1, which has chunks and keeps the connection open by default
    last: bool  # the client expects no other answer after it


class _Refused(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.reply = Reply(status, b"content-type: text/plain\r\n", f"{sentence}\n".encode())


class _Parser:
    """Parses bytes, however they are cut, and appends complete requests to `turns`."""

    def __init__(self, turns: deque[_Turn], body_limit: int) -> None:
        self.awaits_continue = False  # the client holds the body back until we say 100
        self._turns = turns
        self._body_limit = body_limit
        self._parser = httptools.HttpRequestParser(self)
        self._unfinished = 0  # bytes of a head whose end hasn't arrived
        self._again = b""
        self._offered: list[tuple[bytes, bytes]] = []  # the headers of a request that is parsed a second time
        self.on_message_begin()

    def feed(self, data: bytes) -> None:
        """Parse what was read. Raises `_Refused` when it isn't HTTP/1, or its head is too large."""
        while data and not (self._turns and self._turns[-1].last):
            self._began = False
            data = self._parse(data)

    def _parse(self, data: bytes) -> bytes:
        """Parse; returns what is left, after a request that offered to switch to another protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            return self._again + data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _Refused):
                raise error.__context__ from None
            if not (self._turns and self._turns[-1].last):  # otherwise the error is about what follows it
                raise _Refused(400, f"not HTTP/1: {error}") from error
            return b""
        if self._in_head:
            self._unfinished = 0 if self._began else self._unfinished + len(data)
            self._check(self._unfinished)
        return b""

    def _check(self, head: int) -> None:
        if head > HEAD_LIMIT:
            raise _Refused(431, f"more than {HEAD_LIMIT} bytes of headers")

    # httptools calls these

    def on_message_begin(self) -> None:
        self._in_head = self._began = True
        self._head = 0  # bytes
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._trailers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._room = self._body_limit

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._head += len(part)
        self._check(self._head)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + len(": \r\n")
        self._check(self._head)
        (self._headers if self._in_head else self._trailers).append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unfinished = 0
        for name, value in self._headers:
            if len(name) == 6 and name.lower() == b"expect":
                self.awaits_continue = value.lower() == b"100-continue"

    def on_body(self, part: bytes) -> None:
        self.awaits_continue = False
        if self._room > 0:
            self._body.append(part[: self._room])
            self._room -= len(part)

    def on_message_complete(self) -> None:
        self.awaits_continue = False
        parser, method = self._parser, self._parser.get_method()
        self._again = b""
        if parser.should_upgrade() and method != b"CONNECT":
            self._offered = self._headers
            self._again = self._without_offer(method)
            return
        offers = bool(self._offered)
        headers, self._offered = self._offered or self._headers, []
        body = b"".join(self._body)
        received = Received(method, self._target, headers, body, trailers=self._trailers, offers=offers)
        modern, last = parser.get_http_version() == "1.1", not parser.should_keep_alive()
        self._turns.append(_Turn(received, modern, last))

    def _without_offer(self, method: bytes) -> bytes:
        """The head of a request that offers another protocol, without the offer, to be parsed again.

        We may not accept the offer, but httptools takes the request's body for the other protocol.
        """
        line = b"%b %b HTTP/%b" % (method, self._target, self._parser.get_http_version().encode())
        fields = (b"%b: %b" % field for field in self._headers if field[0].lower() != b"upgrade")
        return b"\r\n".join([line, *fields, b"", b""])


class Connection(asyncio.Protocol):
    """Answers a client's requests in order, one at a time.

    `handle` is called when a request is complete and its turn has come; it must neither block nor raise.
    `register` contains the connection while it is open. Bodies are cut after `body_limit` bytes. `later`
    sets timers, instead of the event loop.
    """

    def __init__(
        self, handle: Handler, register: set[Connection], body_limit: int, later: Later | None = None
    ) -> None:
        self._handle = handle
        self._register = register
        self._turns: deque[_Turn] = deque()
        self._parser = _Parser(self._turns, body_limit)
        self._later = later
        self._delay: _Cancellable | None = None
        self._linger: _Cancellable | None = None
        self._writable = True
        self._refusal: Reply | None = None  # sent after all answers
        self._websocket: Echo | None = None
        self._unsent = b""
        self._ending = False  # whatever else the client sends is ignored
        self._has_all = False  # of what the client sends

    def abort(self) -> None:
        """Drop the client at once, without the answers that it waits for."""
        self._transport.abort()

    def has_lost_client(self) -> bool:
        """Whether the client has gone, even while a handler keeps the event loop from noticing."""
        with socket.fromfd(self._transport.get_extra_info("socket").fileno(), socket.AF_INET, 0) as client:
            try:
                return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._register.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone: drop its answers."""
        self._register.discard(self)
        self._turns.clear()
        for timer in (self._delay, self._linger):
            if timer:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """The client sent bytes."""
        if self._websocket and not self._ending:
            self._transport.write(self._websocket.answer(data))
            if self._websocket.ended:
                self._ending = True
                self._hang_up()
        elif not self._ending:
            try:
                self._parser.feed(data)
            except _Refused as refused:
                self._ending, self._refusal = True, refused.reply
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more, and may wait for answers. Returns True: we end the connection."""
        self._ending = self._has_all = True
        if not self._turns and not self._delay:
            if self._linger:
                self._linger.cancel()
            self._hang_up()
        return True

    def pause_writing(self) -> None:
        """The client reads more slowly than we answer."""
        self._writable = False
        if self._websocket:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up with reading."""
        self._writable = True
        self._advance()

    def _advance(self) -> None:
        """Answer in order, until an answer has to wait or the client doesn't keep up with reading."""
        self._answer()
        self._flush()
        if self._turns:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _answer(self) -> None:
        while self._turns and self._writable and not self._delay and not self._transport.is_closing():
            turn = self._turns.popleft()
            reply = self._handle(turn.received)
            if reply.after:
                self._delay = self._call_later(reply.after, self._delayed, reply, turn)
            else:
                self._write(reply, turn)
        if not self._turns and not self._delay and not self._linger:
            self._rest()

    def _rest(self) -> None:
        """No request waits: send what belongs between two answers, or after the last."""
        if self._parser.awaits_continue:
            self._parser.awaits_continue = False
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._refusal:
            self._send(_framed(self._refusal, close=True))
        if self._ending:
            self._hang_up()

    def _delayed(self, reply: Reply, turn: _Turn) -> None:
        self._delay = None
        self._write(reply, turn)
        self._advance()

    def _write(self, reply: Reply, turn: _Turn) -> None:
        if reply.websocket:
            self._websocket = reply.websocket
            self._send(reply.websocket.head)
            self._turns.clear()
            self._refusal = None  # of what came too early, which no answer could follow
            return
        last = turn.last or reply.close or reply.cut
        head = turn.received.method == b"HEAD"
        answer = _framed(reply, head=head, modern=turn.modern, close=last)
        self._send(answer[:-1] if reply.cut else answer)
        if last:
            self._ending, self._refusal = True, None
            self._turns.clear()

    def _send(self, data: bytes) -> None:
        """Send it with what else is sent now: in one write, it most probably arrives as one."""
        self._unsent += data
        if len(self._unsent) > _ONE_WRITE:
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, b""
        if unsent:
            self._transport.write(unsent)

    def _hang_up(self) -> None:
        """End the connection without losing an answer: closing with unread bytes would reset it."""
        self._linger = self._call_later(APART, self._finish)

    def _finish(self) -> None:
        if self._has_all:
            self._transport.close()
            return
        self._transport.write_eof()
        self._linger = self._call_later(LINGER, self._transport.close)

    def _call_later(self, seconds: float, action: Callable[..., object], *arguments: object) -> _Cancellable:
        later: Later = self._later or asyncio.get_running_loop().call_later
        return later(seconds, action, *arguments)


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(200, 600)
}


def _framed(reply: Reply, *, head: bool = False, modern: bool = True, close: bool = False) -> bytes:
    """The answer as bytes: status line, headers with the framing, body."""
    lines = _STATUS_LINES[reply.status] + reply.fields
    empty = reply.status in (204, 304)
    chunked = (reply.chunked or bool(reply.trailers)) and modern and not empty
    if chunked:
        lines += b"transfer-encoding: chunked\r\n"
    elif not empty:
        lines += b"content-length: %d\r\n" % len(reply.body)
    if close:
        lines += b"connection: close\r\n"
    elif not modern:
        lines += b"connection: keep-alive\r\n"
    lines += b"\r\n"
    if head or empty:
        return lines
    if chunked:
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in reply.body.splitlines(keepends=True)]
        return b"".join([lines, *parts, b"0\r\n%b\r\n" % reply.trailers])
    return lines + reply.body
