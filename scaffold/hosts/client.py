"""Plays a request against a host, and gathers what came of it on every side."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaffold.envoy_config import REQUEST_ID
from scaffold.errors import HostError, UsageError
from scaffold.exchange import Exchange, Headers, LogLines, Request, Response

if TYPE_CHECKING:
    from scaffold.hosts.envoy_host import EnvoyHost

LOG_SECONDS = 5.0


def play(host: EnvoyHost, request: Request, timeout: float) -> Exchange:
    """Send `request` through the host's listener and wait until its log is whole.

    The request is found again at the origin, and its end in the access log, by an id in the header
    `x-request-id`, which Envoy would set itself.
    """
    headers = Headers(request.headers)
    request_id = headers.setdefault(REQUEST_ID, uuid.uuid4().hex)
    sent = Request(request.method, request.target, headers, request.body)
    access_log, log_mark = host.folder.access_log, host.log.size()
    access_mark = access_log.stat().st_size if access_log.exists() else 0
    arrived = host.origin.mark() if host.origin else 0
    before = host.admin.metrics()

    response = send(host.port, sent, timeout)

    deadline = time.monotonic() + LOG_SECONDS
    while not (ended := _end_of(access_log, access_mark, request_id)) and time.monotonic() < deadline:
        time.sleep(0.001)
    upstream = None
    if host.origin:
        upstream = next(iter(host.origin.requests(request_id, since=arrived)[-1:]), None)
        new = host.origin.requests(since=arrived) if upstream is None else []
        # a filter may have taken the id away: then it is the one request that came meanwhile
        upstream = new[0] if len(new) == 1 and REQUEST_ID not in new[0].headers else upstream
    lines = LogLines(line.text for line in host.log.since(log_mark) if line.of_plugin)
    trapped = any(line.startswith("Function: ") and " failed" in line for line in lines)
    after = host.admin.metrics()
    changed = {name: value - before.get(name, 0) for name, value in after.items()}
    metrics = {name: by for name, by in changed.items() if by}
    details = str((ended or {}).get("details") or "")
    return Exchange(sent, response, upstream, lines, metrics, details, trapped)


def send(port: int, request: Request, timeout: float) -> Response:
    """Send a request to a loopback port byte for byte as it is, and read the whole answer.

    `http.client`, since it neither normalises the target nor adds, drops or merges headers.
    Raises `HostError` when no whole answer came.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
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
        return Response(answer.status, Headers(answer.getheaders()), answer.read())
    except (UnicodeEncodeError, ValueError) as error:
        raise UsageError(f"{request.method} {request.target!r} can't be sent: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise HostError(f"{request.method} {request.target} got no whole answer: {error!r}") from error
    finally:
        connection.close()


def _end_of(access_log: Path, position: int, request_id: str) -> dict[str, Any] | None:
    """What the access log tells of the request, once it has ended; a filter may have taken its id away."""
    with access_log.open("rb") as file:
        file.seek(position if position <= access_log.stat().st_size else 0)
        lines = file.read().split(b"\n")[:-1]
    records = (json.loads(line) for line in lines)
    return next((record for record in records if record["request_id"] in (request_id, None)), None)
