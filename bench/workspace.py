"""A workspace of 20 plugins: `build` at its root, against one `cargo build --workspace`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench.commands import RELEASE
from bench.measure import BIN, Row, interleaved, run, timed

PLUGINS = 20


def workspace() -> list[Row]:
    """Each side in its own target folder, removed before a cold build."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "filters"
        root.mkdir()
        (root / "Cargo.toml").write_text('[workspace]\nmembers = []\nresolver = "2"\n')
        for number in range(PLUGINS):
            run(BIN / "scaffold", "new", f"plugin{number}", "--no-input", "--output-dir", root)
        run("cargo", "fetch", cwd=root)
        targets = {side: str(Path(name) / side) for side in ("ours", "cargo")}

        def ours(cold: bool) -> float:
            if cold:
                shutil.rmtree(targets["ours"], ignore_errors=True)
            return timed(lambda: run(BIN / "scaffold", "build", cwd=root, CARGO_TARGET_DIR=targets["ours"]))

        def cargo(cold: bool) -> float:
            if cold:
                shutil.rmtree(targets["cargo"], ignore_errors=True)
            words = ("cargo", "build", "--workspace", *RELEASE)
            return timed(lambda: run(*words, cwd=root, CARGO_TARGET_DIR=targets["cargo"]))

        cold = interleaved({"ours": lambda _: ours(True), "cargo": lambda _: cargo(True)}, 3)
        noop = interleaved({"ours": lambda _: ours(False), "cargo": lambda _: cargo(False)}, 7)
    what = f"`build` of a workspace of {PLUGINS} plugins"
    return [
        Row(f"cold {what}, against `cargo build --workspace`", cold["ours"], cold["cargo"], 1.02),
        Row(f"{what} with nothing to do", noop["ours"], noop["cargo"], 0.3, goal_of="difference"),
    ]
