"""The thread and the sockets that the origin is served from."""

from __future__ import annotations

import asyncio
import socket
import stat
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from scaffold.core.process import port_owner
from scaffold.errors import HostError
from scaffold.hosts.upstream.http1 import BODY_LIMIT, Connection, Handler
from scaffold.hosts.upstream.origin import Origin
from scaffold.hosts.upstream.recorder import Desk

HOST = "127.0.0.1"
BACKLOG = 1024  # clients that may wait to be let in


class _Door(NamedTuple):
    listener: socket.socket
    handle: Handler
    body_limit: int = BODY_LIMIT


@contextmanager
def serve(*, control: Path, pipes: Mapping[str, Path], port: int | None) -> Iterator[Origin]:
    """See `scaffold.hosts.upstream.serve`."""
    with ExitStack() as stack:
        public = {} if port is None else {"": stack.enter_context(_port(port))}
        port = public[""].getsockname()[1] if public else None
        public |= {cluster: stack.enter_context(at_path(pipe)) for cluster, pipe in pipes.items()}
        door = stack.enter_context(at_path(control))
        desk = Desk(port)
        doors = [_Door(each, partial(desk.receive, cluster=cluster)) for cluster, each in public.items()]
        doors.append(_Door(door, desk.control, sys.maxsize))
        stack.enter_context(in_thread(partial(_serve, doors)))
        yield Origin(control)


@contextmanager
def at_path(path: Path) -> Iterator[socket.socket]:
    """A Unix socket of this user's alone that is listened at; it is gone after the block."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _clear(path)
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


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens at any more."""
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
def _port(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET) as listener:
        # a port that was just in use is free for us at once
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            owner = port_owner(port)
            why = f"{owner} does" if owner else getattr(error, "strerror", None) or error
            raise HostError(f"the upstream can't listen on port {port}: {why}") from error
        yield listener


@contextmanager
def in_thread(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Serve in a thread of its own while the block runs; then what was handed over is set."""
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


async def _serve(doors: list[_Door], stopped: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    servers = []
    for door in doors:
        factory = partial(Connection, door.handle, connections, door.body_limit)
        servers.append(await loop.create_server(factory, sock=door.listener, backlog=BACKLOG))
    await stopped.wait()
    for server in servers:
        server.close()
    while connections or len(asyncio.all_tasks()) > 1:  # a client may be coming in just now
        for connection in list(connections):
            connection.abort()
        await asyncio.sleep(0)
