"""Thousands of connections at once, under the limit of open files that most systems set."""

from __future__ import annotations

import asyncio
import collections
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scaffold

CONNECTIONS = 2000
SOFT_LIMIT = 1024


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """The client needs a file for each connection."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 3 * CONNECTIONS:
        pytest.skip("this machine doesn't allow so many open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def status_of(port: int, all_connected: asyncio.Barrier) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await all_connected.wait()
    writer.write(b"GET /headers HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.split()[1].decode() if answer else "closed"


async def statuses(port: int) -> collections.Counter[str]:
    barrier = asyncio.Barrier(CONNECTIONS)
    clients = [status_of(port, barrier) for _ in range(CONNECTIONS)]
    return collections.Counter(await asyncio.wait_for(asyncio.gather(*clients), 60))


@pytest.mark.faults("R24", injected="2,000 requests at once, 1,024 open files", seen="2,000 answers")
def test_every_client_gets_an_answer(probe, tmp_path: Path):
    line = f'ulimit -Sn {SOFT_LIMIT} && exec "$0" -m scaffold deploy envoy "$1" --port 0 --json'
    argv = ["bash", "-c", line, sys.executable, str(probe.path)]
    deployed = json.loads(subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True).stdout)
    try:
        assert asyncio.run(statuses(int(deployed["url"].rpartition(":")[2]))) == {"200": CONNECTIONS}
    finally:
        scaffold.undeploy(tmp_path)
