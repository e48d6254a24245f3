"""The built-in origin behind the proxy: it answers like httpbin, and remembers what arrived.

It runs in a thread of whatever process serves it, and needs no network but its own sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from scaffold.hosts.upstream.origin import Origin

__all__ = ["Origin", "relay", "serve"]


def serve(
    *, control: Path, pipes: Mapping[str, Path] = {}, port: int | None = None
) -> AbstractContextManager[Origin]:
    """Answer requests while the block runs: on Unix sockets, and on a TCP port of 127.0.0.1.

    `pipes` are by the name of the cluster that each serves, as which a request there is recorded. Port 0
    stands for a free one, which `Origin.port` tells. `control` is the socket of the control door.
    The sockets are for this user alone, and gone afterwards. Raises `HostError` when one can't be had.
    """
    from scaffold.hosts.upstream import (
        server,  # asyncio and the parser come in only where something is served
    )

    return server.serve(control=control, pipes=pipes, port=port)


def relay(pipe: Path, host: str, port: int) -> AbstractContextManager[None]:
    """Carry every connection to the Unix socket `pipe` on to a TCP address while the block runs.

    The socket is for this user alone. Raises `HostError` when it can't be had.
    """
    from scaffold.hosts.upstream import relay as tunnel

    return tunnel.relay(pipe, host, port)
