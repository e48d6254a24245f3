"""A workspace of 20 plugins: `build` at its root, against one `cargo build --workspace`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.commands import RELEASE, builds
from bench.measure import BIN, Row, run

PLUGINS = 20


def workspace() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "filters"
        root.mkdir()
        (root / "Cargo.toml").write_text('[workspace]\nmembers = []\nresolver = "2"\n')
        for number in range(PLUGINS):
            run(BIN / "scaffold", "new", f"plugin{number}", "--no-input", "--output-dir", root)
        run("cargo", "fetch", cwd=root)
        cold, noop = builds(root, ("cargo", "build", "--workspace", *RELEASE), rounds=3)
    what = f"`build` of a workspace of {PLUGINS} plugins"
    return [
        Row(f"cold {what}, against `cargo build --workspace`", *cold, 1.02),
        Row(f"{what} with nothing to do", *noop, 0.3, goal_of="difference"),
    ]
