"""One HTTP request and its answer on their way through filters, as Envoy's filter manager leads them.

Source: envoyproxy/envoy, source/common/http/filter_manager.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Protocol

from scaffold.hosts.emulator.header_map import REQUEST_TRAILERS, RESPONSE, RESPONSE_TRAILERS, HeaderMap

BUFFER_LIMIT = 1 << 20  # bytes: Envoy's default


class Body:
    """Bytes of a body, which filters may change."""

    __slots__ = ("content",)

    def __init__(self, content: bytes = b"") -> None:
        self.content = content

    def __len__(self) -> int:
        return len(self.content)

    def take(self) -> bytes:
        """What is in it, which is moved out."""
        content, self.content = self.content, b""
        return content


class Status(Enum):
    """What a filter says of headers, data or trailers."""

    CONTINUE = auto()
    STOP = auto()  # of headers, and trailers: the body comes nevertheless
    STOP_ALL = auto()  # of headers
    STOP_AND_BUFFER = auto()  # of data
    STOP_NO_BUFFER = auto()  # of data


class Filter(Protocol):
    """A filter for one stream."""

    def decode_headers(self, headers: HeaderMap, end: bool) -> Status:
        """Headers of the request; with `end` they are everything."""
        ...

    def decode_data(self, data: Body, end: bool) -> Status:
        """Data of the request; with `end` the last."""
        ...

    def decode_trailers(self, trailers: HeaderMap) -> Status:
        """Trailers of the request."""
        ...

    def encode_headers(self, headers: HeaderMap, end: bool) -> Status:
        """Headers of the answer; with `end` they are everything."""
        ...

    def encode_data(self, data: Body, end: bool) -> Status:
        """Data of the answer; with `end` the last."""
        ...

    def encode_trailers(self, trailers: HeaderMap) -> Status:
        """Trailers of the answer."""
        ...

    def log(self, stream: Stream) -> None:
        """The stream is over."""
        ...

    def destroy(self) -> None:
        """The stream is gone."""
        ...


class Sink(Protocol):
    """Where a direction ends: the upstream, or the client."""

    def headers(self, headers: HeaderMap, end: bool) -> None:
        """Headers arrive; with `end` they are everything."""
        ...

    def data(self, data: bytes, end: bool) -> None:
        """Data arrive; with `end` the last."""
        ...

    def trailers(self, trailers: HeaderMap) -> None:
        """Trailers arrive, which are the end."""
        ...


class _Going(Enum):
    ON = auto()
    STOPPED = auto()
    STOPPED_ALL = auto()


class _Step:
    """A filter in one direction: whether it goes on there, and what it has seen."""

    def __init__(
        self,
        headers: Callable[[HeaderMap, bool], Status],
        data: Callable[[Body, bool], Status],
        trailers: Callable[[HeaderMap], Status],
    ) -> None:
        self.headers, self.data, self.trailers = headers, data, trailers
        self.going = _Going.ON
        self.headers_continued = False
        self.ended = False
        self.from_itself = False


class Direction:
    """Headers, data and trailers that go through the filters, to the sink."""

    def __init__(
        self, stream: Stream, steps: Sequence[_Step], sink: Sink, trailers: frozenset[bytes]
    ) -> None:
        self.stream, self.steps, self.sink = stream, steps, sink
        self.buffered: Body | None = None
        self.headers: HeaderMap | None = None
        self.trailers: HeaderMap | None = None
        self.complete = False  # its end has come, at least to the first filter
        self.aborted = False
        self.in_call = False
        self.sent = False  # the sink has its headers
        self._single = trailers
        self.is_request = trailers is REQUEST_TRAILERS

    @property
    def is_stopped(self) -> bool:
        """Whether a filter holds it back."""
        return any(step.going is not _Going.ON for step in self.steps)

    # what comes in

    def begin(self, headers: HeaderMap, end: bool) -> None:
        """Headers come; with `end` they are everything."""
        self.headers, self.complete = headers, end
        self._lead_headers(0, end)

    def body(self, content: bytes, end: bool) -> None:
        """Data come."""
        self.complete = self.complete or end
        self._lead_data(0, Body(content), end)

    def finish(self, trailers: HeaderMap) -> None:
        """Trailers come, and end it."""
        self.trailers, self.complete = trailers, True
        self._lead_trailers(0)

    def add_trailers(self) -> HeaderMap:
        """Trailers that a filter adds while it sees the last data."""
        self.trailers = HeaderMap(self._single)
        return self.trailers

    def add_data(self, place: int, data: Body) -> None:
        """Data that a filter adds to what is held back."""
        self._buffer(data)

    def resume(self, place: int) -> None:
        """A filter lets go on what it has stopped."""
        if self.stream.is_over or self.aborted:
            return
        step = self.steps[place]
        # within the resumption of everything it stays: there Envoy loses a body that is held back once more
        step.from_itself = step.from_itself or step.going is _Going.STOPPED_ALL
        step.going = _Going.ON
        if not step.headers_continued:
            step.headers_continued = True
            self._lead_headers(place + 1, self.complete and self.buffered is None and self.trailers is None)
        had_trailers = self.trailers is not None
        start = place if step.from_itself else place + 1
        if self.buffered is not None:
            self._lead_data(start, self.buffered, self.complete and not had_trailers)
        if had_trailers:
            self._lead_trailers(start)
        step.from_itself = False

    # through the filters

    def _ask(self, question: Callable[[], Status]) -> Status | None:
        """What a filter says; None if this direction has ended meanwhile, with a local reply or a reset."""
        before, self.in_call = self.in_call, True
        try:
            status = question()
        finally:
            self.in_call = before
        if self.aborted:
            self.stream.reply_as_prepared()
            return None
        return None if self.stream.is_over else status

    def _lead_headers(self, start: int, end: bool) -> None:
        headers = self.headers
        if headers is None:
            return
        for step in self.steps[start:]:
            if self.aborted:
                return
            status = self._ask(lambda: step.headers(headers, end))  # noqa: B023
            if status is None:
                return
            step.ended = step.ended or end
            if status is Status.STOP:
                step.going = _Going.STOPPED
                return
            if status is Status.STOP_ALL:
                step.going = _Going.STOPPED_ALL
                return
            step.headers_continued = True
        self._to_sink(lambda: self.sink.headers(headers, end))

    def _lead_data(self, start: int, data: Body, end: bool) -> None:
        if self.stream.is_over:
            return
        had_trailers, added_at = self.trailers is not None, None
        for place in range(start, len(self.steps)):
            step = self.steps[place]
            if self.aborted:
                return
            if step.going is _Going.STOPPED_ALL:
                self._buffer(data, streaming=True)
                return
            if step.ended:
                return
            last = end and self.trailers is None
            status = self._ask(lambda: step.data(data, last))  # noqa: B023
            if status is None:
                return
            step.ended = step.ended or end
            if not had_trailers and self.trailers is not None and added_at is None:
                end, added_at = False, place
            if not self._goes_on(place, status, data):
                if self.is_request:
                    self._lead_added(added_at)
                return
        content = data.take()
        self._to_sink(lambda: self.sink.data(content, end and self.trailers is None))
        self._lead_added(added_at)

    def _lead_added(self, place: int | None) -> None:
        """Lead on trailers that a filter has added, which sees them itself if its data were held back."""
        if place is not None:
            self._lead_trailers(place if self.steps[place].from_itself else place + 1)

    def _goes_on(self, place: int, status: Status, data: Body) -> bool:
        step = self.steps[place]
        if status is Status.CONTINUE:
            if step.going is _Going.STOPPED:
                self._buffer(data)
                self.resume(place)
                return False
            return True
        step.going = _Going.STOPPED
        if status is Status.STOP_AND_BUFFER:
            self._buffer(data)
        elif self.complete and self.trailers is None and self.buffered is None:
            self.buffered = Body()
        return False

    def _buffer(self, data: Body, *, streaming: bool = False) -> None:
        if self.buffered is data:
            return
        if self.buffered is None:
            self.buffered = Body()
        self.buffered.content += data.take()
        if len(self.buffered) > BUFFER_LIMIT and not streaming:
            self.stream.too_large(self)

    def _lead_trailers(self, start: int) -> None:
        trailers = self.trailers
        if trailers is None or self.stream.is_over:
            return
        for place in range(start, len(self.steps)):
            step = self.steps[place]
            if self.aborted or step.going is _Going.STOPPED_ALL:
                return
            status = self._ask(lambda: step.trailers(trailers))  # noqa: B023
            if status is None:
                return
            step.ended = True
            if status is not Status.CONTINUE:
                step.going = _Going.STOPPED
                return
            if step.going is _Going.STOPPED:
                self.resume(place)
                return
        self._to_sink(lambda: self.sink.trailers(trailers))

    def _to_sink(self, send: Callable[[], None]) -> None:
        if self.aborted or self.stream.is_over:
            return
        self.sent = True

        def sent() -> Status:
            send()
            return Status.CONTINUE

        self._ask(sent)


class Stream:
    """A request through `filters`; `upstream` gets it, `client` gets the answer."""

    def __init__(self, filters: Sequence[Filter], upstream: Sink, client: Sink) -> None:
        self.filters = filters
        self.is_over = False  # the client has its whole answer, or was cut off
        self.was_reset = False
        self.details: str | None = None  # why there is this answer, once there is one; it may be empty
        there = [_Step(each.decode_headers, each.decode_data, each.decode_trailers) for each in filters]
        back = [_Step(each.encode_headers, each.encode_data, each.encode_trailers) for each in filters[::-1]]
        self.decode = Direction(self, there, upstream, REQUEST_TRAILERS)
        self.encode = Direction(self, back, client, RESPONSE_TRAILERS)
        self._prepared: Callable[[], None] | None = None
        self.is_head = False  # the request has the method HEAD: answers have no body

    def place(self, one: Filter, direction: Direction) -> int:
        """A filter's place in a direction."""
        at = next(number for number, each in enumerate(self.filters) if each is one)
        return at if direction is self.decode else len(self.filters) - 1 - at

    def local_reply(
        self,
        status: int,
        body: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        details: str = "",
    ) -> None:
        """Answer without the upstream: through the filters unless an answer has begun; once in a callback."""
        if self.is_over or self._prepared:
            return
        if self.decode.in_call:
            self.decode.aborted = True
        elif self.encode.in_call:
            self.encode.aborted = True
        self.details = details
        made = HeaderMap(RESPONSE, [(b":status", str(status).encode())])
        for name, value in headers:
            made.add(name, value)
        if body:
            made.replace(b"content-length", str(len(body)).encode())
            if made.get(b"content-type") is None:
                made.add(b"content-type", b"text/plain")
        else:
            made.remove(b"content-length")
            made.remove(b"content-type")
        if self.is_head:
            body = b""
        if self.encode.headers is None:
            self._prepared = lambda: self._through_filters(made, body)
            if not (self.decode.in_call or self.encode.in_call):
                self.reply_as_prepared()
        elif not self.encode.sent:
            self.encode.sent, self.encode.headers = True, made
            self.encode.sink.headers(made, not body)
            if body:
                self.encode.sink.data(body, True)
        else:
            self.reset()

    def reply_as_prepared(self) -> None:
        """Send the local reply that was asked for in a callback, now that it has returned."""
        prepared, self._prepared = self._prepared, None
        if prepared:
            prepared()

    def _through_filters(self, headers: HeaderMap, body: bytes) -> None:
        self.encode.begin(headers, not body)
        if body:
            self.encode.body(body, True)

    def too_large(self, direction: Direction) -> None:
        """A body that is held back has grown beyond what Envoy keeps."""
        if direction is self.decode:
            self.local_reply(413, b"Payload Too Large", details="request_payload_too_large")
        elif not self.encode.sent:
            self.local_reply(500, b"Internal Server Error", details="response_payload_too_large")
        else:
            self.reset()

    def reset(self) -> None:
        """End the stream; the client, whose connection Envoy keeps, waits for the rest of its answer."""
        if self.is_over:
            return
        self.was_reset = True
        self.end()

    def abandon(self) -> None:
        """Forget the stream, whose host couldn't go on with it."""
        self.is_over = True

    def end(self) -> None:
        """The stream is over: the filters log it, and are destroyed."""
        if self.is_over:
            return
        self.is_over = True
        for each in self.filters:
            each.log(self)
        for each in self.filters:
            each.destroy()
