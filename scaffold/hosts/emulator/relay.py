"""A port through which other programs reach network plugins in the emulator."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from scaffold.errors import HostError

if TYPE_CHECKING:
    from scaffold.hosts.emulator.client_socket import ClientSocket

PATIENCE = 3600.0  # seconds that a connection may be silent
_CHUNK = 1 << 16  # bytes


@contextmanager
def relaying(listener: socket.socket, connect: Callable[[], ClientSocket]) -> Iterator[None]:
    """Have what comes to a socket that listens go to connections of its own, while the block runs."""
    callers: set[socket.socket] = set()

    def accept() -> None:
        with suppress(OSError):  # until it is closed
            while True:
                caller, _ = listener.accept()
                callers.add(caller)
                threading.Thread(target=carry, args=[caller], daemon=True).start()

    def carry(caller: socket.socket) -> None:
        with caller, suppress(OSError, HostError):  # what a callback raises ends the connection
            there = connect()
            back = threading.Thread(target=_copy, args=[there, caller], daemon=True)
            back.start()
            _copy(caller, there)
            back.join()
            there.close()
        callers.discard(caller)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        for each in (listener, *callers):
            with suppress(OSError):  # it may have ended
                each.shutdown(socket.SHUT_RDWR)


def _copy(source: ClientSocket | socket.socket, sink: ClientSocket | socket.socket) -> None:
    """Copy until the end, and pass the end on."""
    with suppress(OSError, HostError):
        while part := source.recv(_CHUNK):
            sink.sendall(part)
    with suppress(OSError, HostError):
        sink.shutdown(socket.SHUT_WR)
