"""What trimming saves, and what it costs: bytes of modules, and the time of a cold build.

`python -m bench.trim VERSION ...` isn't a benchmark: it runs each template's tests in these versions of
Envoy, with its module trimmed and not, and ends at the first that fails.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.commands import builds
from bench.measure import BIN, TEMPLATES, Row, run

PLAIN = ("cargo", "build", "--release", "--target", "wasm32-wasip1")
GOALS = {"http": (78_000, 60_000), "auth": (136_000, 113_000)}  # alone, and with wasm-opt


def size() -> list[Row]:
    """Bytes against cargo's, by scaffold alone and with wasm-opt, if that is there."""
    return [row for template, goals in GOALS.items() for row in _sizes(template, *goals)]


def _sizes(template: str, alone: int, with_wasm_opt: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        crate, tools = _crate(Path(name), template), Path(name, "bin")
        _all_but("wasm-opt", tools)

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
        _all_but("wasm-opt", tools)
        before, os.environ["PATH"] = os.environ["PATH"], str(tools)
        try:
            cold, noop = builds(crate, (str(BIN / "scaffold"), "build", "--no-trim"), rounds=7)
        finally:
            os.environ["PATH"] = before
    return [
        Row("cold `build` of http, against --no-trim", *cold, 1.05),
        Row("`build` of http with nothing to do, against --no-trim", *noop, 1.05),
    ]


def _crate(place: Path, template: str) -> Path:
    words = ("--template", template, "--no-input", "--output-dir", place)
    run(BIN / "scaffold", "new", "small", *words)
    return place / "small"


def _all_but(name: str, folder: Path) -> None:
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
