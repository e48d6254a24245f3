"""What trimming saves, and what it costs: bytes of modules, the time to load one, and that of a cold build.

`python -m bench.trim VERSION ...` isn't a benchmark: it runs each template's tests in these versions of
Envoy, with its module trimmed and not, and ends at the first that fails.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.by_hand import Envoy, await_answer
from bench.commands import builds
from bench.measure import BIN, TEMPLATES, Row, interleaved, run

PLAIN = ("cargo", "build", "--release", "--target", "wasm32-wasip1")
GOALS = {"http": (78_000, 60_000), "auth": (136_000, 113_000)}  # alone, and with wasm-opt


def size() -> list[Row]:
    """Bytes against cargo's, by scaffold alone and with wasm-opt, if that is there."""
    return [row for template, goals in GOALS.items() for row in _sizes(template, *goals)]


def _sizes(template: str, alone: int, with_wasm_opt: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        crate, tools = _crate(Path(name), template), Path(name, "bin")
        all_but("wasm-opt", tools)

        def bytes_of(target: str, *words: object, **env: str) -> int:
            run(*words, cwd=crate, CARGO_TARGET_DIR=f"{name}/{target}", **env)
            return Path(name, target, "wasm32-wasip1/release/small.wasm").stat().st_size

        cargo = bytes_of("cargo", *PLAIN)
        ours = bytes_of("ours", tools / "scaffold", "build", PATH=str(tools))
        rows = [Row(f"size of {template}", ours, cargo, alone, "bytes", "ours")]
        if shutil.which("wasm-opt"):
            ours = bytes_of("ours", BIN / "scaffold", "build")
            rows.append(
                Row(f"size of {template}, with wasm-opt", ours, cargo, with_wasm_opt, "bytes", "ours")
            )
    return rows


def trim() -> list[Row]:
    """A cold build, and one with nothing to do, against the same untrimmed; without wasm-opt."""
    with tempfile.TemporaryDirectory() as name:
        crate, tools = _crate(Path(name), "http"), Path(name, "bin")
        all_but("wasm-opt", tools)
        before, os.environ["PATH"] = os.environ["PATH"], str(tools)
        try:
            cold, noop = builds(crate, (str(BIN / "scaffold"), "build", "--no-trim"), rounds=7)
        finally:
            os.environ["PATH"] = before
    return [
        Row("cold `build` of http, against --no-trim", *cold, 1.05),
        Row("`build` of http with nothing to do, against --no-trim", *noop, 1.05),
    ]


def load() -> list[Row]:
    """From Envoy's start to its first answer, and its processor time until then; against untrimmed."""
    return [row for template in GOALS for row in _loads(template)]


def _loads(template: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        crate, tools = _crate(Path(name), template), Path(name, "bin")
        all_but("wasm-opt", tools)

        def made(side: str, *words: str, path: str = str(tools)) -> Path:
            target = {"PATH": path, "CARGO_TARGET_DIR": f"{name}/target", "XDG_DATA_HOME": f"{name}/data"}
            run(BIN / "scaffold", "build", *words, cwd=crate, **target)
            kept = Path(name, f"{side}.wasm")
            return Path(shutil.copyfile(Path(name, "target/wasm32-wasip1/release/small.wasm"), kept))

        modules = {"untrimmed": made("untrimmed", "--no-trim"), "trimmed": made("trimmed")}
        if shutil.which("wasm-opt"):
            modules["trimmed, with wasm-opt"] = made("optimised", path=os.environ["PATH"])
        envoys = {side: Envoy(Path(name, side), module) for side, module in modules.items()}
        used: dict[str, list[float]] = {side: [] for side in envoys}

        def start(side: str, _: int) -> float:
            envoy, begun = envoys[side], time.perf_counter()
            envoy.start()
            took = await_answer(envoy.port, "") - begun
            used[side].append(_processor_time(envoy.process.pid))
            envoy.stop()
            return took

        seen = interleaved({side: partial(start, side) for side in envoys}, 21)
        for envoy in envoys.values():
            envoy.close()
    cpu = {side: statistics.median(each) for side, each in used.items()}
    return [
        Row(f"{what} of {template}, {side}, against untrimmed", by[side], by["untrimmed"], 0.9)
        for what, by in (("start to first answer", seen), ("processor time until then", cpu))
        for side in list(modules)[1:]
    ]


def _processor_time(pid: int) -> float:
    """That of all threads of a process, in seconds; /proc/PID/stat counts hundredths."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _crate(place: Path, template: str) -> Path:
    words = ("--template", template, "--no-input", "--output-dir", place)
    run(BIN / "scaffold", "new", "small", *words)
    return place / "small"


def all_but(name: str, folder: Path) -> None:
    """A folder with links to all programs on PATH but one."""
    folder.mkdir()
    for place in map(Path, [str(BIN), *os.environ["PATH"].split(os.pathsep)]):
        for program in place.iterdir() if place.is_dir() else ():
            link = folder / program.name
            if program.name != name and not link.is_symlink():
                link.symlink_to(program)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for template in sorted(path.parent.name for path in TEMPLATES.glob("*/cookiecutter.json")):
            crate = _crate(Path(name) / template, template)
            for trimmed in ((), ("--no-trim",)):
                for version in sys.argv[1:]:
                    run(BIN / "scaffold", "test", "--root", crate, "--envoy", version, *trimmed)
                    print(template, version, *(trimmed or ["trimmed"]), "passes", flush=True)


if __name__ == "__main__":
    main()
