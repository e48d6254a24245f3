"""The built-in upstream at a TCP port, as an upstream that is another program's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaffold.hosts.upstream.control import Origin
from scaffold.hosts.upstream.server import serve_at


@contextmanager
def at_a_port(folder: Path) -> Iterator[tuple[Origin, int]]:
    """The origin and its port, while the block runs."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        serve_at({"": listener}, folder / "c.sock") as origin,
    ):
        yield origin, listener.getsockname()[1]
