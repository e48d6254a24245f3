"""How the built-in upstream handles requests: it records and answers them, and serves the control socket."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from scaffold.hosts.exchange import REQUEST_ID
from scaffold.hosts.upstream import httpbin
from scaffold.hosts.upstream.http1 import Received, Reply

MOST_REQUESTS = 1000
MOST_BYTES = 64 * 1024 * 1024
_OBJECTS = 160  # bytes that CPython takes for a header's tuple and two strings, beside their content


class Record:
    """The last requests, in bounded memory; the oldest are dropped first.

    `count` is how many have arrived; a request's number is the count when it arrived, from 1.
    """

    def __init__(self) -> None:
        self.count = 0
        self._size = 0
        self._kept: deque[tuple[int, int, Received]] = deque()

    def add(self, received: Received) -> None:
        """Record a request."""
        self.count += 1
        size = len(received.body) + len(received.target) + _OBJECTS
        for name, value in (*received.headers, *received.trailers):
            size += len(name) + len(value) + _OBJECTS
        self._size += size
        self._kept.append((self.count, size, received))
        while len(self._kept) > MOST_REQUESTS or self._size > MOST_BYTES:
            self._size -= self._kept.popleft()[1]

    def newest_first(self, since: int) -> Iterator[Received]:
        """The recorded requests that arrived after number `since`."""
        for number, _, received in reversed(self._kept):
            if number <= since:
                return
            yield received


class Trouble(NamedTuple):
    """What goes wrong with every answer of a cluster, in the fields of `Reply`."""

    after: float
    cut: bool


class Recorder:
    """Handles requests: `receive` those through the proxy, `control` those on the control socket."""

    def __init__(self) -> None:
        self._record = Record()
        self._answers: dict[str | None, Reply] = {}
        self._troubles: dict[str, Trouble] = {}  # by cluster

    @property
    def count(self) -> int:
        """How many requests have arrived."""
        return self._record.count

    def receive(self, received: Received, *, cluster: str = "") -> Reply:
        """Record a request, and give the answer that was set for it, or else the built-in one."""
        self._record.add(received._replace(cluster=cluster))
        reply = self._answer(received)
        trouble = self._troubles.get(cluster)
        if trouble is None:
            return reply
        return reply._replace(after=max(reply.after, trouble.after), cut=reply.cut or trouble.cut)

    def _answer(self, received: Received) -> Reply:
        if self._answers:
            answer = self._answers.get(httpbin.path_of(received)) or self._answers.get(None)
            if answer:
                return answer
        return httpbin.answer(received)

    def control(self, received: Received) -> Reply:
        """Answer a request on the control socket; an invalid one gets a 400 with a sentence."""
        path, _, query = received.target.decode("latin-1").partition("?")
        question = f"{received.method.decode('latin-1')} {path}"
        try:
            if question == "GET /about":
                return httpbin.json_reply({"count": self._record.count})
            if question == "GET /requests":
                return self._requests(**dict(parse_qsl(query, keep_blank_values=True)))
            if question == "PUT /answer":
                self._set_answer(**json.loads(received.body))
            elif question == "DELETE /answers":
                self._answers.clear()
            elif question == "PUT /trouble":
                self._set_trouble(**json.loads(received.body))
            elif question == "DELETE /troubles":
                self._troubles.clear()
            else:
                return httpbin.json_reply({"error": f"unknown: {question}"}, status=404)
        except (ValueError, TypeError) as error:
            return httpbin.json_reply({"error": str(error)}, status=400)
        return httpbin.json_reply({})

    def _requests(self, since: str = "0", request_id: str | None = None) -> Reply:
        requests = self._record.newest_first(int(since))
        if request_id is not None:
            name, value = REQUEST_ID.encode(), request_id.encode()
            requests = (each for each in requests if each.header(name) == value)
        shown = [_shown(each) for each in requests]
        return Reply(200, body=json.dumps(shown[::-1]).encode())

    def _set_answer(
        self,
        path: str | None,
        status: int,
        headers: list[tuple[str, str]],
        trailers: list[tuple[str, str]],
        body: str,
        after: float = 0.0,
        cut: bool = False,
    ) -> None:
        answer = httpbin.reply(status, headers, base64.b64decode(body), trailers)
        answer = answer._replace(after=httpbin.seconds(after), cut=cut)
        if path is None:
            self._answers.clear()  # the latest one counts, even before those for single paths
        self._answers[path] = answer

    def _set_trouble(self, cluster: str, after: float = 0.0, cut: bool = False) -> None:
        self._troubles[cluster] = Trouble(httpbin.seconds(after), bool(cut))


def _shown(received: Received) -> dict[str, Any]:
    return {
        "method": received.method.decode("latin-1"),
        "target": received.target.decode("latin-1"),
        "headers": _texts(received.headers),
        "trailers": _texts(received.trailers),
        "body": base64.b64encode(received.body).decode(),
        "cluster": received.cluster,
    }


def _texts(fields: Iterable[tuple[bytes, bytes]]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in fields]
