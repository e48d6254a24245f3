"""The live view under load: what it loses, what it takes, and what it costs the requests.

Three deployments of one module get the load in turn: one whose requests are followed all the time, one that
nobody looks at, and one that records no changes. SCAFFOLD_BENCH_MINUTES is how long each gets it (10).
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

import scaffold
from bench.measure import BIN, Row, run, timed
from bench.reload import RATE, load
from scaffold.hosts.background import deployments

ROUND = 15.0  # seconds
GIGABYTE = 10**9


def requests() -> list[Row]:
    """Rounds of load on each deployment; then the last requests of a log of a gigabyte."""
    minutes = float(os.environ.get("SCAFFOLD_BENCH_MINUTES", "10"))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        place = Path(name)
        run(BIN / "scaffold", "new", "seen", "--no-input", "--output-dir", place)
        scaffold.build(place / "seen")
        module = next((place / "seen/target").glob("*/release/seen.wasm"))
        ports = {
            side: stack.enter_context(_deployed(place / side, module, changes=side != "no changes"))
            for side in ("followed", "alone", "no changes")
        }
        rows = _under_load(ports, place / "followed", max(2, round(60 * minutes / ROUND)))
        return [*rows, _tail(place / "followed")]


@contextmanager
def _deployed(root: Path, module: Path, *, changes: bool) -> Iterator[int]:
    root.mkdir()
    options = scaffold.RunOptions(port=0, changes=changes)
    status = scaffold.deploy(root, module=str(module), run=options, no_probe=True)
    try:
        yield int(status.url.rpartition(":")[2])
    finally:
        scaffold.undeploy(root)


def _under_load(ports: dict[str, int], followed: Path, rounds: int) -> list[Row]:
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in ports}
    memory: list[int] = []
    cpu = 0.0
    out = followed / "seen.jsonl"
    with _following(followed, out) as view:
        for _ in range(rounds):
            for side, port in ports.items():
                used = sum(view.cpu_times()[:2])
                with load(port) as figures:
                    time.sleep(ROUND)
                seen[side].append(figures)
                if side == "followed":
                    cpu += sum(view.cpu_times()[:2]) - used
                    memory.append(view.memory_info().rss)
        time.sleep(2)
    sent = sum(int(each["sent"]) for each in seen["followed"])
    shown = [json.loads(line) for line in out.read_text().splitlines()]
    ids = [each["id"] for each in shown if "id" in each]
    times = [each["time"] for each in shown if "id" in each]
    late = sum(after < before for before, after in itertools.pairwise(times))

    def median(side: str, figure: str) -> float:
        return statistics.median(each[figure] for each in seen[side])

    what = f"{RATE}/s, {rounds * ROUND / 60:g} min:"
    return [
        Row(
            f"{what} requests that the live view lost",
            sent - len(set(ids)),
            None,
            0,
            "",
            "ours",
            f"of {sent:,}",
        ),
        Row(f"{what} that began before the one above", late, None, None, "", "ours", "of requests at once"),
        Row(f"{what} p99, followed and not", median("followed", "p99"), median("alone", "p99"), 1.1, "ms"),
        Row(f"{what} p50, followed and not", median("followed", "p50"), median("alone", "p50"), None, "ms"),
        Row(
            f"{what} p50, changes recorded or not",
            median("alone", "p50"),
            median("no changes", "p50"),
            None,
            "ms",
        ),
        Row(f"{what} share of a core for the view", cpu / (rounds * ROUND), None, 0.1, "", "ours"),
        Row(f"{what} the view's memory, end and begin", memory[-1] / 1e6, memory[0] / 1e6, 1.02, "MB"),
    ]


@contextmanager
def _following(root: Path, out: Path) -> Iterator[psutil.Process]:
    words = [BIN / "scaffold", "requests", "-f", "--json", "--root", root]
    with out.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=subprocess.PIPE) as view:
        assert view.stderr
        view.stderr.readline()  # it follows
        try:
            yield psutil.Process(view.pid)
        finally:
            view.terminate()


def _tail(root: Path) -> Row:
    """The time for the last hundred requests, when the log is a gigabyte."""
    logs = deployments.logs(deployments.folder(root))
    for path in (logs / "access.log", logs / "envoy.log"):
        older = path.with_suffix(".old")  # a part may have been set aside
        lines = (older.read_bytes() if older.exists() else b"") + path.read_bytes()
        with path.open("ab") as file:
            while file.tell() < GIGABYTE:
                file.write(lines)
    words = [BIN / "scaffold", "requests", "--tail", "100", "--root", root]
    taken = statistics.median(timed(lambda: run(*words)) for _ in range(5))
    version = statistics.median(timed(lambda: run(BIN / "scaffold", "--version")) for _ in range(5))
    for path in (logs / "access.log", logs / "envoy.log"):
        path.write_bytes(b"")
    note = f"start-up {version:.2f} s in it"
    return Row("requests --tail 100 of a log of 1 GB", taken, None, 0.3, "s", "ours", note)
