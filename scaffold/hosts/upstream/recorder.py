"""The origin's side of the control door (`origin.py`), and of what comes through the proxy."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

from scaffold.hosts.envoy.config import REQUEST_ID
from scaffold.hosts.upstream import routes
from scaffold.hosts.upstream.http1 import Received, Reply
from scaffold.hosts.upstream.record import Record


class Desk:
    """The origin's side: `receive` answers what comes through the proxy, `control` what comes by the door."""

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._record = Record()
        self._answers: dict[str | None, Reply] = {}

    def receive(self, received: Received, *, cluster: str = "") -> Reply:
        """Record a request, and give the answer that was told, or else the built-in one."""
        self._record.add(received._replace(cluster=cluster))
        if self._answers:
            told = self._answers.get(routes.path_of(received)) or self._answers.get(None)
            if told:
                return told
        return routes.answer(received)

    def control(self, received: Received) -> Reply:
        """Answer at the door; 400 with a sentence when what is asked can't be."""
        path, _, query = received.target.decode("latin-1").partition("?")
        asked = f"{received.method.decode('latin-1')} {path}"
        try:
            if asked == "GET /about":
                return routes.json_reply({"count": self._record.count, "port": self._port})
            if asked == "GET /requests":
                return self._recorded(**dict(parse_qsl(query, keep_blank_values=True)))
            if asked == "PUT /answer":
                self._tell(**json.loads(received.body))
            elif asked == "DELETE /answers":
                self._answers.clear()
            else:
                return routes.json_reply({"error": f"the door knows no {asked}"}, status=404)
        except (ValueError, TypeError) as error:
            return routes.json_reply({"error": str(error)}, status=400)
        return routes.json_reply({})

    def _recorded(self, since: str = "0", request_id: str | None = None) -> Reply:
        found = self._record.newest_first(int(since))
        if request_id is not None:
            name, value = REQUEST_ID.encode(), request_id.encode()
            found = (each for each in found if each.header(name) == value)
        shown = [_shown(each) for each in found]
        return Reply(200, body=json.dumps(shown[::-1]).encode())

    def _tell(
        self,
        path: str | None,
        status: int,
        headers: list[tuple[str, str]],
        body: str,
        after: float = 0.0,
        cut: bool = False,
    ) -> None:
        made = routes.reply(status, headers, base64.b64decode(body))
        made = made._replace(after=routes.seconds(after), cut=cut)
        if path is None:
            self._answers.clear()  # the latest word goes before those for single paths
        self._answers[path] = made


def _shown(received: Received) -> dict[str, Any]:
    return {
        "method": received.method.decode("latin-1"),
        "target": received.target.decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in received.headers],
        "body": base64.b64encode(received.body).decode(),
        "cluster": received.cluster,
    }
