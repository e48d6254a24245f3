"""The sockets and the thread that the built-in upstream is served from, and relays to other upstreams."""

from __future__ import annotations

import asyncio
import socket
import stat
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from scaffold.errors import HostError
from scaffold.hosts.upstream.control import Origin
from scaffold.hosts.upstream.handler import Recorder
from scaffold.hosts.upstream.http1 import BODY_LIMIT, Connection, Handler, Received, Reply

BACKLOG = 1024  # connections that may wait to be accepted
_CHUNK = 1 << 16  # bytes


@contextmanager
def serve(*, control: Path, pipes: Mapping[str, Path] = {}) -> Iterator[Origin]:
    """Answer requests on Unix sockets while the block runs.

    `pipes` maps a cluster's name to its socket; requests that arrive there are recorded with that name.
    `control` is the control socket (see `control.py`). The sockets are for this user alone, and removed
    afterwards. Raises `HostError` when one can't be created.
    """
    with ExitStack() as stack:
        listeners = {cluster: stack.enter_context(_listening(pipe)) for cluster, pipe in pipes.items()}
        yield stack.enter_context(serve_at(listeners, control))


@contextmanager
def serve_at(listeners: Mapping[str, socket.socket], control: Path) -> Iterator[Origin]:
    """Like `serve`, on sockets that listen already."""
    recorder = Recorder()
    handlers: list[tuple[socket.socket, Handler, int]] = [
        (listener, partial(recorder.receive, cluster=cluster), BODY_LIMIT)
        for cluster, listener in listeners.items()
    ]
    with _listening(control) as listener:
        handlers.append((listener, recorder.control, sys.maxsize))
        with _in_thread(partial(_serve, handlers)):
            yield Origin(control)


@contextmanager
def answering(
    listener: socket.socket, handle: Callable[[Received, Callable[[], bool]], Reply]
) -> Iterator[None]:
    """Have `handle` answer what comes to a socket that listens, while the block runs.

    It gets each request with a function that tells whether its client has gone.
    """

    def connection(connections: set[Connection]) -> Connection:
        made = Connection(lambda received: handle(received, made.has_lost_client), connections, BODY_LIMIT)
        return made

    async def serve(stopped: asyncio.Event) -> None:
        await _accept([(listener, connection)], stopped)

    with _in_thread(serve):
        yield


@contextmanager
def relay(pipe: Path, host: str, port: int) -> Iterator[None]:
    """Relay every connection from the Unix socket `pipe` to a TCP address while the block runs.

    For an Envoy in a container, whose network is another one. The socket is for this user alone. Raises
    `HostError` when it can't be created.
    """

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # either end may break the connection
            try:
                there, back = await asyncio.open_connection(host, port)
                try:
                    await asyncio.gather(_copy(reader, back), _copy(there, writer))
                finally:
                    back.close()
            finally:
                writer.close()

    async def accept(stopped: asyncio.Event) -> None:
        accepting = await asyncio.start_unix_server(carry, sock=listener, backlog=BACKLOG)
        await stopped.wait()
        accepting.close()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    with _listening(pipe) as listener, _in_thread(accept):
        yield


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on: either side may end first."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A Unix socket for this user alone that listens; it is removed after the block."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(0o600)  # before anyone can connect, which takes the listen
            listener.listen(BACKLOG)
        except OSError as error:
            why = error.strerror or error
            raise HostError(f"the upstream can't listen at {path}: {why}") from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HostError(f"the upstream can't listen at {path}: a file is there")
    with socket.socket(socket.AF_UNIX) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise HostError(f"the upstream can't listen at {path}: another one does")


@contextmanager
def _in_thread(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run `serve` in a thread while the block runs; then the event that it was given is set."""
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()
    running = serve(stopped)
    thread = threading.Thread(target=loop.run_until_complete, args=[running], name="upstream", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


async def _serve(handlers: list[tuple[socket.socket, Handler, int]], stopped: asyncio.Event) -> None:
    made = [
        (listener, partial(Connection, handle, body_limit=body_limit))
        for listener, handle, body_limit in handlers
    ]
    await _accept(made, stopped)


async def _accept(
    listeners: Sequence[tuple[socket.socket, Callable[[set[Connection]], Connection]]], stopped: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    servers = []
    for listener, make in listeners:
        factory = partial(make, connections)
        servers.append(await loop.create_server(factory, sock=listener, backlog=BACKLOG))
    await stopped.wait()
    for server in servers:
        server.close()
    while connections or len(asyncio.all_tasks()) > 1:  # a client may be connecting just now
        for connection in list(connections):
            connection.abort()
        await asyncio.sleep(0)
