"""An open-loop client: it sends at planned times whatever the server does, so that stalls show.

`python -m bench.openloop PORT RATE` goes on until its standard input ends, then prints a JSON object:
how many were sent, how many failed, and latencies in milliseconds from the planned time.
"""

from __future__ import annotations

import asyncio
import json
import sys

REQUEST = b"GET /status/200 HTTP/1.1\r\nhost: bench\r\n\r\n"
TIMEOUT = 10.0


async def one(port: int, idle: list, planned: float, latencies: list[float], failures: list[str]) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise OSError(head.split(b"\r\n")[0].decode())
            idle.append((reader, writer))
    except (OSError, EOFError, TimeoutError) as error:
        failures.append(repr(error))
    latencies.append(1000 * (loop.time() - planned))


async def main(port: int, rate: float) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    idle: list = []
    latencies: list[float] = []
    failures: list[str] = []
    tasks: set[asyncio.Task[None]] = set()
    planned = loop.time()
    while not ended.done():
        planned += 1 / rate
        await asyncio.sleep(max(0.0, planned - loop.time()))
        task = asyncio.create_task(one(port, idle, planned, latencies, failures))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    latencies.sort()
    print(
        json.dumps(
            {
                "sent": len(latencies),
                "failed": len(failures),
                "failures": failures[:3],
                "p50": latencies[len(latencies) // 2],
                "p99": latencies[len(latencies) * 99 // 100],
                "worst": latencies[-1],
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
