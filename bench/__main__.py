"""`python -m bench [NAME ...]`: run the benchmarks, print the table, write bench/results.json."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

from bench import commands, images, instructions, names, reload, requests, trim, workspace
from bench.measure import BIN, Row, table

BENCHES = {
    bench.__name__: bench
    for bench in (
        *(commands.version, commands.new, commands.build, commands.job, commands.test, commands.suite),
        commands.emulator,
        workspace.workspace,
        requests.requests,
        *(trim.size, trim.load, trim.trim),
        *(instructions.instructions, instructions.load_instructions),
        *(names.panic, names.blame),
        *(reload.edit, reload.dev, reload.saves, reload.saves_memory, reload.loss, reload.memory),
        *(images.push_pull, images.in_process, images.package, images.images),
    )
}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installed has its bytecode, all sides' too
        os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found = BENCHES[name]()
            print(table(found), file=sys.stderr, flush=True)
            rows += found
    print(table(rows))
    results = [dataclasses.asdict(row) | {"ratio": row.ratio, "reached": row.reached} for row in rows]
    (Path(__file__).parent / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
