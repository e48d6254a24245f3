"""The client's side: a request sent byte for byte, or a TCP connection held open."""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from scaffold.errors import HostError, UsageError
from scaffold.hosts.exchange import BAD_ARGUMENT, Headers, LogLines, Request, Response, Seen, Sides

_CHUNK = 1 << 16  # bytes
_APART = 0.002  # seconds between pieces of a body
_MOST_KEPT = 1 << 16  # bytes of what a test sends
_MOST_SHOWN = 40  # of those, in a name for it
_SENDS_APART = 0.005  # seconds between what a test sends over a connection, for the host to read it apart


@dataclass(frozen=True)
class Conversation:
    """What a client sends over a TCP connection, piece by piece; with `finishes`, it then closes its side."""

    pieces: tuple[bytes, ...] = ()
    finishes: bool = False

    method: ClassVar = "TCP"

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)

    @property
    def target(self) -> str:
        """How it begins, as text."""
        start = self.body.partition(b"\n")[0][:_MOST_SHOWN].decode("latin-1").strip()
        return ascii(start)[1:-1] if start else "connection"


class Connection:
    """A TCP connection through the plugin, open while its block runs.

    `port` is the port of our own end. The other attributes are filled in after the block: `logs` is what
    the plugin logged, `details` is the host's word for how the connection ended, and `trapped` says
    whether the plugin crashed.
    """

    def __init__(self, opened: Any, timeout: float, apart: float = _SENDS_APART) -> None:
        self._socket = opened  # or what has a socket's methods
        self._timeout = timeout
        self._apart, self._sent_at = apart, -math.inf
        self._received: list[bytes] = []
        self._rest = b""
        self._sent: list[bytes] = []
        self._left_to_keep, self._finished = _MOST_KEPT, False
        self.sides: Sides = Seen()
        self.port: int = opened.getsockname()[1]
        self.logs = LogLines()
        self.details = ""
        self.trapped = False

    @property
    def requests(self) -> list[Request]:
        """The requests that the upstream received during the connection."""
        return self.sides.requests

    @property
    def conversation(self) -> Conversation | None:
        """What the test has sent, unless that was too much to keep."""
        return Conversation(tuple(self._sent), self._finished) if self._left_to_keep >= 0 else None

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics that changed during the connection, as `Exchange.metrics` has them."""
        return self.sides.metrics

    def send(self, data: bytes | str) -> None:
        """Send bytes as they are. Raises `HostError` when the connection has ended."""
        content = data.encode() if isinstance(data, str) else data
        self._left_to_keep -= len(content)
        if self._left_to_keep >= 0:
            self._sent.append(content)
        self._keep_apart()
        try:
            self._socket.sendall(content)
        except OSError as error:
            raise HostError(f"cannot send: {error}") from error

    def finish(self) -> None:
        """Close the sending side; answers may still come. Over TLS it stays open."""
        if hasattr(self._socket, "unwrap"):
            return
        self._finished = True
        self._keep_apart()
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_WR)

    def receive(self, size: int | None = None, *, until: bytes | None = None) -> bytes:
        """The next `size` bytes, or everything up to and including `until`; without either, everything.

        Raises `HostError` when the connection ends first, or when nothing arrives within its timeout.
        """
        if size is not None and until is not None:
            raise UsageError("receive() takes a size or `until`, not both")
        if size is not None:
            return self._take(lambda buffer: size if len(buffer) >= size else None)
        if until is not None:
            return self._take(lambda buffer: at + len(until) if (at := buffer.find(until)) >= 0 else None)
        return self._take(None)

    def rest(self) -> tuple[bytes, bool]:
        """What still comes, until the end or until nothing more does; and whether it was the end."""
        try:
            return self.receive(), True
        except HostError:
            left, self._rest = self._rest, b""
            return left, False

    def _keep_apart(self) -> None:
        """Wait until the host has most probably read what was sent before."""
        time.sleep(max(0.0, self._sent_at + self._apart - time.monotonic()))
        self._sent_at = time.monotonic()

    def _take(self, enough: Callable[[bytes], int | None] | None) -> bytes:
        """Read until `enough` says where to cut, or without it until the end."""
        deadline = time.monotonic() + self._timeout
        while enough is None or (end := enough(self._rest)) is None:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(_CHUNK)
            except ConnectionResetError:
                part = b""
            except OSError as error:
                message = f"nothing more arrived within {self._timeout:g} s, after {self._rest!r}"
                raise HostError(message) from error
            if not part and enough is None:
                end = len(self._rest)
                break
            if not part:
                raise HostError(f"the connection ended after {self._rest!r}")
            self._rest += part
        taken, self._rest = self._rest[:end], self._rest[end:]
        self._received.append(taken)
        return taken


def why(cause: BaseException | None, logs: LogLines) -> tuple[str, str] | None:
    """Why a request got no whole answer, as far as client and log can tell, and what to do about it."""
    if logs.trapped:
        return f"the plugin crashed ({logs.crash})", "its log has the backtrace"
    if BAD_ARGUMENT in logs:
        call = f"the plugin waits for a call that failed with {BAD_ARGUMENT}: is the cluster defined?"
        return call, 'in Cargo.toml, such as `clusters = { NAME = "upstream" }`'
    if isinstance(cause, CutOff):
        hint = "a plugin that shortens the body has to remove its content-length; one that pauses, to resume"
        return "the answer's end never came", hint
    if isinstance(cause, ConnectionError):
        return "the connection was closed early", "does the plugin end the stream?"
    return None


@contextmanager
def connected(port: int, timeout: float, certificate: Path | None = None) -> Iterator[Connection]:
    """A connection to a loopback port while the block runs, over TLS if the server has a `certificate`.

    Raises `HostError` when nothing listens there.
    """
    try:
        opened = socket.create_connection(("127.0.0.1", port), timeout)
        if certificate:
            from scaffold.hosts.certificates import trusting

            opened = trusting(certificate).wrap_socket(opened)
    except OSError as error:
        raise HostError(f"cannot connect to port {port}: {error}") from error
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with opened:
        connection = Connection(opened, timeout)
        yield connection
        connection._keep_apart()


def send(
    port: int, request: Request, timeout: float, certificate: Path | None = None
) -> tuple[Response, int]:
    """Send a request to a loopback port byte for byte, and read the whole answer within `timeout` seconds.

    With `http.client`, since it neither normalises the target nor adds, drops or merges headers.
    `certificate` is as above. Also returns the port that the request came from. Raises `HostError` without a
    whole answer.
    """
    return _sent(_connection(port, timeout, certificate), request, timeout)


def send_over(opened: Any, port: int, request: Request, timeout: float) -> tuple[Response, int]:
    """The same over a connection that is open already."""
    connection = _connection(port, timeout, None)
    connection.sock = opened
    return _sent(connection, request, timeout)


def _sent(connection: _Connection, request: Request, timeout: float) -> tuple[Response, int]:
    try:
        if not connection.sock:
            connection.connect()
        own_port: int = connection.sock.getsockname()[1]
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        names = {name.lower() for name in request.headers}
        if "host" not in names:
            connection.putheader("host", f"localhost:{connection.port}")
        for name, value in request.headers.iteritems():
            connection.putheader(name, value.encode("latin-1"))
        if request.trailers and not names & {"content-length", "transfer-encoding"}:
            connection.putheader("transfer-encoding", "chunked")
        elif request.body and not names & {"content-length", "transfer-encoding"}:
            connection.putheader("content-length", str(len(request.body)))
        if request.pieces and not request.trailers:
            connection.endheaders()
            connection.flush()
            _send_in_pieces(connection.sock, request.parts)
        else:
            connection.endheaders(_chunked(request) if request.trailers else request.body or None)
            connection.flush()
        answer = connection.getresponse()
        body = _body(answer)
        trailers = Headers(getattr(answer, "trailers", None))
        response = Response(answer.status, Headers(answer.getheaders()), body, trailers)
        return response, own_port
    except (ValueError, OSError, http.client.HTTPException) as error:
        if isinstance(error, CutOff):
            error.port = own_port
        raise _failed(request, error, timeout) from error
    finally:
        connection.close()


def _send_in_pieces(opened: socket.socket, parts: list[bytes]) -> None:
    """Send each part by itself, so that the host most probably reads it by itself."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in parts:
        time.sleep(_APART)
        opened.sendall(part)


def _failed(request: Request, error: Exception, timeout: float) -> HostError | UsageError:
    """What is wrong with a request, or with what came back."""
    # a certificate that isn't the listener's is both an OSError and a ValueError
    if isinstance(error, ValueError | http.client.InvalidURL) and not isinstance(error, OSError):
        return UsageError(f"{request.method} {request.target!r} can't be sent: {error}")
    why = f": {error}" if isinstance(error, CutOff | ConnectionError) else f": {error!r}"
    why = f" within {timeout:g} s" if isinstance(error, TimeoutError) else why
    return HostError(f"{request.method} {request.target} got no whole answer{why}")


class CutOff(http.client.HTTPException):
    """A body isn't complete: says how much of it came. `port` is our own, as `send` returns it."""

    def __init__(self, message: str, response: Response) -> None:
        super().__init__(message)
        self.response = response
        self.port = 0


def _body(answer: http.client.HTTPResponse) -> bytes:
    """The whole body. Raises `CutOff`."""
    parts: list[bytes] = []
    announced, why = answer.getheader("content-length"), "the connection ended"
    try:
        while part := answer.read1(_CHUNK):
            parts.append(part)
    except (OSError, http.client.IncompleteRead) as error:
        why = "no more came in time" if isinstance(error, TimeoutError) else why
    else:
        if not answer.length:
            return b"".join(parts)
    of = f"of the {announced} bytes that its content-length announces" if announced else "bytes of its body"
    body = b"".join(parts)
    came = Response(answer.status, Headers(answer.getheaders()), body, complete=False)
    raise CutOff(f"{len(body)} {of} came, and {why}", came)


def _chunked(request: Request) -> bytes:
    """The body in one chunk, and the trailers."""
    trailers = b"".join(
        b"%b: %b\r\n" % (name.encode("ascii"), value.encode("latin-1"))
        for name, value in request.trailers.iteritems()
    )
    chunk = b"%x\r\n%b\r\n" % (len(request.body), request.body) if request.body else b""
    return b"%b0\r\n%b\r\n" % (chunk, trailers)


class _Timed(io.RawIOBase):
    """What comes from a socket until a deadline, however slowly it comes."""

    def __init__(self, opened: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = opened, deadline
        self._raw = opened.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """A response that has to be whole by a deadline.

    It keeps its trailers, which the library reads to throw them away.
    """

    def __init__(self, opened: socket.socket, *args: Any, deadline: float, **more: Any) -> None:
        super().__init__(opened, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(opened, deadline))

    def _read_and_discard_trailer(self) -> None:
        self.trailers = http.client.parse_headers(self.fp).items()


class _Connection(http.client.HTTPConnection):
    """One that sends head and body of a request together, so that the host reads them together."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._gathered: list[Any] = []

    def send(self, data: Any) -> None:
        self._gathered.append(data)

    def flush(self) -> None:
        """Send what has been gathered."""
        content, self._gathered = b"".join(self._gathered), []
        super().send(content)


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


def _connection(port: int, timeout: float, certificate: Path | None) -> _Connection:
    if certificate is None:
        made = _Connection("127.0.0.1", port, timeout=timeout)
    else:
        from scaffold.hosts.certificates import trusting

        made = _TlsConnection("127.0.0.1", port, timeout=timeout, context=trusting(certificate))
    made.response_class = partial(_Answer, deadline=time.monotonic() + timeout)  # type: ignore[assignment]
    return made
