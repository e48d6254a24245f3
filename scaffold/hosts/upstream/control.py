"""The built-in upstream, as this process and others reach it: what arrived, and what it should answer.

HTTP over a Unix socket, the control socket: `GET /requests?since=N&request_id=ID`, `GET /about`,
`PUT /answer`, `DELETE /answers`, `PUT /trouble`, `DELETE /troubles`; JSON both ways, bodies in base64, header
bytes as latin-1.
"""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from scaffold.errors import HostError, UsageError
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.unix_http import UnixConnection

TIMEOUT = 10.0  # seconds for an answer on the control socket


class Origin:
    """The built-in upstream whose control socket is `control`, in this process or another.

    Every method raises `HostError` when nothing answers there.
    """

    def __init__(self, control: Path) -> None:
        self.control = control

    def __repr__(self) -> str:
        return f"Origin({str(self.control)!r})"

    def mark(self) -> int:
        """How many requests have arrived: a later `requests(since=...)` leaves these out."""
        count: int = self._ask("GET", "/about")["count"]
        return count

    def requests(self, request_id: str | None = None, since: int = 0) -> list[Request]:
        """The requests that arrived completely, oldest first: the last 1,000, and at most 64 MiB.

        Bodies are cut after 10 MiB. With `request_id`, only those with this `x-request-id`.
        """
        query = {"since": since} | ({} if request_id is None else {"request_id": request_id})
        return [_request(each) for each in self._ask("GET", f"/requests?{urlencode(query)}")]

    def answer(
        self, response: Response, *, path: str | None = None, after: float = 0, cut: bool = False
    ) -> None:
        """From now on, give this answer: for requests to `path`, whatever their query, or to any path.

        The latest matching answer is given, `after` seconds. `content-length` is always the body's; with
        `transfer-encoding: chunked`, each line of the body is a chunk, as with trailers. With `cut`, the
        connection ends one byte too early. Raises `UsageError` for what HTTP can't carry, such as a status
        below 200.
        """
        headers, trailers = (list(each.iteritems()) for each in (response.headers, response.trailers))
        body = base64.b64encode(response.body).decode()
        answer = {"path": path, "status": response.status, "headers": headers, "trailers": trailers}
        self._ask("PUT", "/answer", json.dumps(answer | {"body": body, "after": after, "cut": cut}).encode())

    def forget_answers(self) -> None:
        """Give the built-in answers again."""
        self._ask("DELETE", "/answers")

    def trouble(self, cluster: str, *, after: float = 0, cut: bool = False) -> None:
        """From now on, give every answer of a cluster late, or end its connection one byte too early."""
        trouble = {"cluster": cluster, "after": after, "cut": cut}
        self._ask("PUT", "/trouble", json.dumps(trouble).encode())

    def end_troubles(self) -> None:
        """Answer as usual again."""
        self._ask("DELETE", "/troubles")

    def _ask(self, method: str, target: str, body: bytes = b"") -> Any:
        connection = UnixConnection(str(self.control), TIMEOUT)
        try:
            connection.request(method, target, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise HostError(f"no upstream answers at {self.control}: {why}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise UsageError(answer["error"])
        return answer


def _request(shown: dict[str, Any]) -> Request:
    headers, trailers = (Headers(map(tuple, shown[name])) for name in ("headers", "trailers"))
    body = base64.b64decode(shown["body"])
    return Request(shown["method"], shown["target"], headers, body, shown["cluster"], trailers)
