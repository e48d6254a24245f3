"""An open-loop client: it sends at planned times whatever the server does, so that stalls show.

It is a process of its own. `python -m scaffold.hosts.load` reads an order per line, a JSON object, and writes
what came of it as another; an order without `seconds` goes on until the next line. Latencies count from the
planned time.
"""

from __future__ import annotations

import base64
import errno
import itertools
import json
import select
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property

from scaffold.core import process
from scaffold.errors import HostError

TIMEOUT = 10.0  # seconds for an answer
_PART = 1 << 16  # bytes that are read at once
_LOOK = 0.1  # seconds between two looks at the server


@dataclass(frozen=True)
class Sent:
    """A request as bytes, the loopback port to which it goes, and how often compared with the others."""

    port: int
    content: bytes
    weight: int = 1
    has_body: bool = True  # whether an answer may have one: not that to HEAD


@dataclass(frozen=True)
class Answers:
    """What came of a load: latencies and delays in milliseconds, in the order in which the answers came.

    `failures` are requests without a whole answer, by the reason; `late` is how much later than planned the
    client itself sent each request.
    """

    latencies: list[float]
    late: list[float]
    statuses: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        """How many requests were sent."""
        return len(self.late)

    @property
    def failed(self) -> int:
        """How many of them got no whole answer."""
        return sum(self.failures.values())

    @cached_property
    def _sorted(self) -> list[float]:
        return sorted(self.latencies)

    def quantile(self, share: float) -> float:
        """The latency that this share of the requests doesn't exceed."""
        return at_share(self._sorted, share)


def at_share(ordered: Sequence[float], share: float) -> float:
    """The value that this share of some, which are in order, doesn't exceed; 0 if there are none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


class Client:
    """The client's process."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    def send(
        self,
        requests: Sequence[Sent],
        rate: float,
        seconds: float,
        look: Callable[[], object] = lambda: None,
    ) -> Answers:
        """Send the requests in turn, `rate` a second for so many `seconds`; call `look` now and then.

        Raises what `look` raises, and `HostError` when the client ends.
        """
        self._order(requests, rate, seconds)
        return self._result(look)

    @contextmanager
    def sending(self, requests: Sequence[Sent], rate: float) -> Iterator[Callable[[], Answers]]:
        """Send while the block runs. Calling what it yields, once, ends it and says what came of it."""
        self._order(requests, rate, None)

        def end() -> Answers:
            self._write(b"\n")
            return self._result(lambda: None)

        yield end

    def _order(self, requests: Sequence[Sent], rate: float, seconds: float | None) -> None:
        shown = [vars(each) | {"content": base64.b64encode(each.content).decode()} for each in requests]
        order = {"requests": shown, "rate": rate, "seconds": seconds}
        self._write(json.dumps(order).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        assert self._child.stdin  # noqa: S101 - for the type checker
        try:
            self._child.stdin.write(line)
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise HostError("the client that sends the requests has ended") from error

    def _result(self, look: Callable[[], object]) -> Answers:
        stdout = self._child.stdout
        assert stdout  # noqa: S101 - for the type checker
        while not process.readable(stdout, seconds=_LOOK):
            look()
        line = stdout.readline()
        if not line:
            raise HostError("the client that sends the requests has ended")
        return Answers(**json.loads(line))


@contextmanager
def client() -> Iterator[Client]:
    """A client, whose process runs while the block does."""
    argv = [sys.executable, "-P", "-m", "scaffold.hosts.load"]
    with process.spawn(argv, stdin=process.PIPE, stdout=process.PIPE, stderr=None) as child:
        yield Client(child)


# --- in the client's process


class _Broken(Exception):
    """An answer isn't whole."""


class _Connection:
    """A connection, and the request on it if any; `planned` is 0 between requests."""

    __slots__ = ("fresh", "has_body", "out", "planned", "received", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self.socket.connect_ex(("127.0.0.1", port))
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(code, "cannot connect")
        self.out = memoryview(b"")
        self.received = b""
        self.planned = 0.0
        self.has_body = True

    def begin(self, content: bytes, planned: float, *, has_body: bool) -> None:
        self.out, self.received = memoryview(content), b""
        self.planned, self.has_body = planned, has_body
        self.write()

    def write(self) -> None:
        with suppress(BlockingIOError):
            self.out = self.out[self.socket.send(self.out) :]

    def read(self) -> int | None:
        """The status of the answer, once it is whole; 0 if the connection ended between two requests."""
        try:
            part = self.socket.recv(_PART)
        except BlockingIOError:
            return None
        self.received += part
        if not self.planned:
            if part:
                raise _Broken("bytes came that belong to no request")
            return 0
        status = complete(self.received, has_body=self.has_body, ended=not part)
        if status is None and not part:
            raise _Broken("the connection ended before the answer did")
        return status


def complete(received: bytes, *, has_body: bool = True, ended: bool = False) -> int | None:
    """The status of an HTTP/1 answer if it is whole; `ended` says whether nothing more comes.

    Raises `_Broken` for what is no answer.
    """
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise _Broken("what came is no answer of HTTP/1")
    status = int(words[1])
    if status // 100 == 1:  # an interim answer comes before the real one
        return complete(body, has_body=has_body, ended=ended)
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if not has_body or status in (204, 304):
        return status
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return status if _has_last_chunk(body) else None
    length = fields.get(b"content-length")
    if length is None:
        return status if ended else None
    return status if len(body) >= int(length) else None


def _has_last_chunk(body: bytes) -> bool:
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        try:
            size = int(body[at:end].partition(b";")[0], 16)
        except ValueError as error:
            raise _Broken("a chunk has no size") from error
        if size == 0:
            return body.startswith(b"\r\n", end + 2) or body.find(b"\r\n\r\n", end) >= 0
        at = end + 2 + size + 2
    return False


def in_turn(weights: Sequence[int]) -> Iterator[int]:
    """Indices without end, each as often as its weight says, and as evenly as possible."""
    total = sum(weights)
    credit = [0] * len(weights)
    while True:
        credit = [each + weight for each, weight in zip(credit, weights, strict=True)]
        chosen = max(range(len(credit)), key=credit.__getitem__)
        credit[chosen] -= total
        yield chosen


class _Loop:
    """Carries out one order."""

    def __init__(self, requests: Sequence[Sent], rate: float, seconds: float | None) -> None:
        self._requests = requests
        self._turns = in_turn([each.weight for each in requests])
        self._interval = 1 / rate
        self._count = None if seconds is None else max(1, round(seconds * rate))
        self._selector = selectors.DefaultSelector()
        self._idle: dict[int, list[_Connection]] = {each.port: [] for each in requests}
        self._busy: dict[_Connection, int] = {}  # with their ports, the oldest first
        self._stopped = False
        self.answers = Answers([], [])
        self._statuses: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        if self._count is None:
            self._selector.register(0, selectors.EVENT_READ)

    def run(self) -> Answers:
        begun = time.perf_counter()
        for number in itertools.count():
            planned = begun + number * self._interval
            while not self._done(number) and (wait := planned - time.perf_counter()) > 0:
                self._wait(wait)
            if self._done(number):
                break
            self._send(planned)
        while self._busy:
            self._wait(_LOOK)
        for connection in itertools.chain.from_iterable(self._idle.values()):
            connection.socket.close()
        self._selector.close()
        return Answers(self.answers.latencies, self.answers.late, dict(self._statuses), dict(self._failures))

    def _done(self, number: int) -> bool:
        return self._stopped if self._count is None else number >= self._count

    def _send(self, planned: float) -> None:
        request = self._requests[next(self._turns)]
        self.answers.late.append(1000 * (time.perf_counter() - planned))
        try:
            idle = self._idle[request.port]
            connection = idle.pop() if idle else self._opened(request.port)
        except OSError as error:
            self._failures[_why(error)] += 1
            return
        self._busy[connection] = request.port
        try:
            connection.begin(request.content, planned, has_body=request.has_body)
        except OSError as error:
            self._lose(connection, error)
        else:
            self._watch(connection)
        if time.perf_counter() - planned < self._interval:
            self._wait(0)

    def _opened(self, port: int) -> _Connection:
        connection = _Connection(port)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def _watch(self, connection: _Connection) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.out else 0)
        if self._selector.get_key(connection.socket).events != events:
            self._selector.modify(connection.socket, events, connection)

    def _wait(self, seconds: float) -> None:
        """Take in what comes in that time. `select` waits for microseconds, where epoll has milliseconds."""
        if seconds > 0:
            select.select([self._selector.fileno()], [], [], seconds)
        for key, events in self._selector.select(0):
            if key.data is None:
                self._stopped = True
                self._selector.unregister(0)
                continue
            self._serve(key.data, events)
        self._expire()

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                connection.write()
                self._watch(connection)
            status = connection.read() if events & selectors.EVENT_READ else None
        except (OSError, _Broken) as error:
            self._lose(connection, error)
            return
        if status is None:
            return
        if not status:
            self._lose(connection, None)
            return
        self.answers.latencies.append(1000 * (time.perf_counter() - connection.planned))
        self._statuses[str(status)] += 1
        port = self._busy.pop(connection)
        connection.planned = 0.0
        if b"\r\nconnection: close" in connection.received.partition(b"\r\n\r\n")[0].lower():
            self._close(connection)
        else:
            self._idle[port].append(connection)

    def _expire(self) -> None:
        overdue = time.perf_counter() - TIMEOUT
        while self._busy and (oldest := next(iter(self._busy))).planned < overdue:
            self._lose(oldest, TimeoutError(errno.ETIMEDOUT, f"no answer within {TIMEOUT:g} s"))

    def _lose(self, connection: _Connection, why: Exception | None) -> None:
        if why:
            self._failures[_why(why)] += 1
        if self._busy.pop(connection, None) is None:
            for idle in self._idle.values():
                if connection in idle:
                    idle.remove(connection)
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def main() -> None:
    """Carry out the orders that come on standard input, until it ends."""
    process.allow_many_files()
    # without a buffer: what waits to be read shows in `select`
    lines = iter(open(0, "rb", buffering=0, closefd=False).readline, b"")  # noqa: SIM115 - not a file
    for line in lines:
        order = json.loads(line)
        requests = [
            Sent(**each | {"content": base64.b64decode(each["content"])}) for each in order["requests"]
        ]
        answers = _Loop(requests, order["rate"], order["seconds"]).run()
        if order["seconds"] is None:
            next(lines, b"")  # the line that ended it
        sys.stdout.write(json.dumps(vars(answers)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
