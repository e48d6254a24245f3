"""A Unix socket that leads on to a TCP address, for an Envoy that may see another network than we do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from scaffold.hosts.upstream import server

_CHUNK = 1 << 16  # bytes


@contextmanager
def relay(pipe: Path, host: str, port: int) -> Iterator[None]:
    """See `scaffold.hosts.upstream.serve`."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # a connection that is cut, at either end
            try:
                there, back = await asyncio.open_connection(host, port)
                try:
                    await asyncio.gather(_copy(reader, back), _copy(there, writer))
                finally:
                    back.close()
            finally:
                writer.close()

    async def serve(stopped: asyncio.Event) -> None:
        accepting = await asyncio.start_unix_server(carry, sock=listener, backlog=server.BACKLOG)
        await stopped.wait()
        accepting.close()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    with ExitStack() as stack:
        listener = stack.enter_context(server.at_path(pipe))
        stack.enter_context(server.in_thread(serve))
        yield


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy what comes until there is no more, and say so: either side may end first."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
