"""The origin as other processes reach it, and our own: what arrived there, what it should answer.

HTTP over a Unix socket, the control door: `GET /requests?since=N&request_id=ID`, `GET /about`,
`PUT /answer`, `DELETE /answers`; JSON both ways, bodies in base64, header bytes as latin-1.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from scaffold.errors import HostError, UsageError
from scaffold.hosts.exchange import Headers, Request, Response

PATIENCE = 10.0  # seconds that the origin may take to answer at its door


class Origin:
    """The origin whose control door is the socket `control`, in this process or another.

    Every method raises `HostError` when nobody answers at the door.
    """

    def __init__(self, control: Path) -> None:
        self.control = control

    def __repr__(self) -> str:
        return f"Origin({str(self.control)!r})"

    def port(self) -> int | None:
        """The TCP port on 127.0.0.1 that it listens on; None when it has only its pipe."""
        port: int | None = self._ask("GET", "/about")["port"]
        return port

    def mark(self) -> int:
        """How many requests arrived so far: a later `requests(since=...)` leaves these out."""
        count: int = self._ask("GET", "/about")["count"]
        return count

    def requests(self, request_id: str | None = None, since: int = 0) -> list[Request]:
        """The requests that arrived whole, oldest first: the last 1,000 or the last 64 MiB of them.

        Of a body the first MiB is kept. `request_id` asks for those with this `x-request-id`.
        """
        query = {"since": since} | ({} if request_id is None else {"request_id": request_id})
        return [_request(each) for each in self._ask("GET", f"/requests?{urlencode(query)}")]

    def answer(
        self, response: Response, *, path: str | None = None, after: float = 0, cut: bool = False
    ) -> None:
        """From now on answer like this: at `path`, compared without the query; None stands for all paths.

        The latest answer that fits is given. `content-length` is always the body's; with
        `transfer-encoding: chunked` the body goes out in chunks of a line each. `after` is in seconds;
        with `cut` the connection ends one byte too early.
        Raises `UsageError` for what HTTP can't carry, like a status below 200.
        """
        headers = list(Headers(response.headers).iteritems())
        body = base64.b64encode(response.body).decode()
        told = {"path": path, "status": response.status, "headers": headers, "body": body}
        self._ask("PUT", "/answer", json.dumps(told | {"after": after, "cut": cut}).encode())

    def forget_answers(self) -> None:
        """Give the built-in answers again."""
        self._ask("DELETE", "/answers")

    def _ask(self, method: str, target: str, body: bytes = b"") -> Any:
        connection = _UnixConnection(self.control)
        try:
            connection.request(method, target, body)
            response = connection.getresponse()
            said = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise HostError(f"no upstream answers at {self.control}: {why}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise UsageError(said["error"])
        return said


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


def _request(shown: dict[str, Any]) -> Request:
    headers = Headers()
    for name, value in shown["headers"]:
        headers.add(name, value)
    return Request(
        shown["method"], shown["target"], headers, base64.b64decode(shown["body"]), shown["cluster"]
    )
