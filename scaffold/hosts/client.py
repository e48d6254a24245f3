"""Plays a request against a host, or opens a connection, and gathers what came of it on every side."""

from __future__ import annotations

import http.client
import json
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scaffold.errors import HostError, UsageError
from scaffold.hosts.connection import Connection
from scaffold.hosts.envoy.config import REQUEST_ID
from scaffold.hosts.envoy.log import lines_from
from scaffold.hosts.exchange import Exchange, Headers, LogLines, Request, Response
from scaffold.project.clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.envoy.running import EnvoyHost

LOG_SECONDS = 5.0


def play(host: EnvoyHost, request: Request, timeout: float) -> Exchange:
    """Send `request` through the host's listener and wait until its log is whole.

    The request is found again at the origin, and its end in the access log, by an id in the header
    `x-request-id`, which Envoy would set itself; behind a network filter, its end is the connection's.
    """
    headers = Headers(request.headers)
    request_id = headers.setdefault(REQUEST_ID, uuid.uuid4().hex)
    sent = Request(request.method, request.target, headers, request.body)
    meanwhile = Meanwhile(host)
    response, port = send(host.port, sent, timeout)
    ended = meanwhile.await_end(request_id, port)
    details = str(ended.get("details") or ended.get("closed") or "")
    return Exchange(
        sent,
        response,
        meanwhile.arrived(request_id),
        meanwhile.logs(),
        meanwhile.metrics(),
        details,
        meanwhile.trapped(),
    )


@contextmanager
def connect(host: EnvoyHost, timeout: float) -> Iterator[Connection]:
    """A connection through the host's listener, open while the block runs; then what came of it is in it.

    Raises `HostError` when nobody listens.
    """
    meanwhile = Meanwhile(host)
    try:
        opened = socket.create_connection(("127.0.0.1", host.port), timeout)
    except OSError as error:
        raise HostError(f"no connection to port {host.port}: {error}") from error
    with opened:
        connection = Connection(opened, timeout)
        yield connection
    ended = meanwhile.await_end(None, connection.port)
    connection.details = str(ended.get("details") or ended.get("closed") or "")
    connection.requests = meanwhile.requests()
    connection.logs = meanwhile.logs()
    connection.metrics = meanwhile.metrics()
    connection.trapped = meanwhile.trapped()


class Meanwhile:
    """What a host's sides show since this was made: its access log, its origin, its log, its metrics."""

    def __init__(self, host: EnvoyHost) -> None:
        self._host = host
        self._opened = host.opened
        host.opened += 1
        self._log = host.log.size()
        access_log = host.folder.access_log
        self._access_log = access_log.stat().st_size if access_log.exists() else 0
        self._arrived = host.origin.mark() if host.origin else 0
        self._metrics = host.admin.metrics()

    def await_end(self, request_id: str | None, port: int) -> dict[str, Any]:
        """Wait for the end of a request, or of the connection from `port`; what the access log says of it."""
        deadline = time.monotonic() + LOG_SECONDS
        while not (ended := self._end_of(request_id, port)) and time.monotonic() < deadline:
            time.sleep(0.001)
        return ended or {}

    def requests(self) -> list[Request]:
        """What arrived at the origin."""
        return self._host.origin.requests(since=self._arrived) if self._host.origin else []

    def arrived(self, request_id: str) -> Request | None:
        """The request of that id as the origin received it."""
        if self._host.origin is None:
            return None
        found = self._host.origin.requests(request_id, since=self._arrived)
        if found:
            return found[-1]
        # a filter may have taken the id away: then it is the one request that came meanwhile, and no callout
        new = [each for each in self.requests() if each.cluster == UPSTREAM]
        return new[0] if len(new) == 1 and REQUEST_ID not in new[0].headers else None

    def logs(self) -> LogLines:
        """What the plugin logged, and Envoy of it."""
        return LogLines(line.text for line in self._host.log.since(self._log) if line.of_plugin)

    def trapped(self) -> bool:
        """Whether the plugin crashed."""
        return any(line.startswith("Function: ") and " failed" in line for line in self.logs())

    def metrics(self) -> dict[str, float]:
        """The counters and gauges that changed, by how much."""
        after = self._host.admin.metrics()
        changed = {name: value - self._metrics.get(name, 0) for name, value in after.items()}
        return {name: by for name, by in changed.items() if by}

    def _end_of(self, request_id: str | None, port: int) -> dict[str, Any] | None:
        """A request whose id a filter took away, and a connection, are known by where they come from.

        An enclosed Envoy doesn't see that, for Docker carries the connections to it: there, all that this
        host opened since must have ended.
        """
        access_log = self._host.folder.access_log
        records = [json.loads(line) for line in lines_from(access_log, self._access_log)[0]]
        unnamed = [record for record in records if not record["request_id"]]
        if self._host.folder.enclosed:
            found = unnamed[self._host.opened - self._opened - 1 :]
        else:
            found = [record for record in unnamed if str(record.get("peer")).endswith(f":{port}")]
        named = [record for record in records if record["request_id"] and record["request_id"] == request_id]
        return next(iter([*named, *found]), None)


def send(port: int, request: Request, timeout: float) -> tuple[Response, int]:
    """Send a request to a loopback port byte for byte as it is, and read the whole answer.

    `http.client`, since it neither normalises the target nor adds, drops or merges headers.
    Returned too is the port that it came from. Raises `HostError` when no whole answer came.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.connect()
        own_port: int = connection.sock.getsockname()[1]
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        names = {name.lower() for name in request.headers}
        if "host" not in names:
            connection.putheader("host", f"localhost:{port}")
        for name, value in request.headers.iteritems():
            connection.putheader(name, value.encode("latin-1"))
        if request.body and not names & {"content-length", "transfer-encoding"}:
            connection.putheader("content-length", str(len(request.body)))
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        response = Response(answer.status, Headers(answer.getheaders()), answer.read())
        return response, own_port
    except (ValueError, http.client.InvalidURL) as error:
        raise UsageError(f"{request.method} {request.target!r} can't be sent: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise HostError(f"{request.method} {request.target} got no whole answer: {error!r}") from error
    finally:
        connection.close()
