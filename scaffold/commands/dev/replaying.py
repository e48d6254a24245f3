"""Play a plugin's tests again on the emulator: those that failed, and those whose files were saved."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.core import process
from scaffold.core.events import Noted, Quoted, emit
from scaffold.hosts.host import EMULATOR
from scaffold.hosts.source import Source

_PATTERNS = ("test_*.py", "*_test.py")
_LAST_FAILED = Path("v/cache/lastfailed")  # in pytest's cache


@dataclass
class Tests:
    """The tests of one plugin; `cache` is a folder for what pytest remembers of them."""

    source: Source
    cache: Path
    played: bool = field(default=False, init=False)

    def play(self, saved: Collection[Path], *, every: bool) -> bool:
        """Play those that failed last, and those in files that were `saved`; whether all pass.

        The first time, and with `every`, all are played.
        """
        project = self.source.project
        if project is None or not self._files():
            return True
        chosen: list[str] = []
        folder, tests = (project.root / "tests").resolve(), {path.resolve() for path in self._files()}
        helped = any(
            path.is_relative_to(folder) and path not in tests for path in saved
        )  # such as a conftest
        if self.played and not every and not helped:
            files = [str(path) for path in self._files() if path.resolve() in saved]
            failed = self._failed(project.root)
            chosen = files + [each for each, path in failed.items() if str(path) not in files]
            if not chosen:
                return not failed
        self.played = True
        return self._run(project.root, chosen)

    def _run(self, root: Path, chosen: list[str]) -> bool:
        counts = self.cache / "counts.json"
        counts.unlink(missing_ok=True)
        words = ["-q", "--no-header", "--tb=short", "-o", f"cache_dir={self.cache}"]
        words += ["-p", "scaffold.pytest_plugin", "--proxy-no-budgets", f"--proxy-counts={counts}"]
        words += [f"--proxy-host={EMULATOR}", f"--proxy-module={self.source.module.path}"]
        begun = time.monotonic()
        ran = process.run([sys.executable, "-m", "pytest", *words, *chosen], cwd=root, env=os.environ)
        seconds = time.monotonic() - begun
        numbers = json.loads(counts.read_text()) if counts.exists() else {}
        failed = numbers.get("failed", 0) + numbers.get("error", 0)
        if ran.code:
            emit(Quoted((ran.stdout + ran.stderr).strip()))
        told = f"{numbers.get('passed', 0)} passed, {failed} failed, in {seconds:.1f} s"
        emit(Noted(f"tests: {told if numbers else 'pytest stopped before the end'}"))
        return ran.code == 0

    def _files(self) -> list[Path]:
        root = self.source.project.root if self.source.project else Path()
        return [path for pattern in _PATTERNS for path in (root / "tests").rglob(pattern)]

    def _failed(self, root: Path) -> dict[str, Path]:
        """The tests that failed when they were last played, with their files, which may be gone by now."""
        path = self.cache / _LAST_FAILED
        ids = json.loads(path.read_text()) if path.exists() else {}
        found = {each: root / each.partition("::")[0] for each in ids}
        return {each: file for each, file in found.items() if file.exists()}
