"""Play a plugin's tests again on the emulator: those that failed, and those whose files were saved."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.events import Noted, Quoted, emit
from scaffold.hosts.host import EMULATOR
from scaffold.hosts.source import Source

_PATTERNS = ("test_*.py", "*_test.py")
_LAST_FAILED = Path("v/cache/lastfailed")  # in pytest's cache
_NOT_FOUND = 4  # pytest's exit code where a test that was named isn't there
_LOOK = 0.05  # seconds between two looks whether to stop


@dataclass
class Tests:
    """The tests of one plugin; `cache` is a folder for what pytest remembers of them."""

    source: Source
    cache: Path
    played: bool = field(default=False, init=False)
    _count: int = field(default=0, init=False)  # when all were played

    def play(self, saved: Collection[Path], *, every: bool, stop: Callable[[], bool]) -> bool | None:
        """Play those that failed last, and those in files that were `saved`; whether all pass.

        The first time, and with `every`, all are played. None if `stop` has ended them.
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
            whole = [str(path) for path in self._files() if path.resolve() in saved]
            failed = self._failed(project.root)
            chosen = whole + [each for each, path in failed.items() if str(path) not in whole]
            if not chosen:
                emit(Noted(f"tests: none of {self._count} played, since none had failed and none was saved"))
                return True
        code = self._run(project.root, chosen, stop)
        if code == _NOT_FOUND:  # one that failed has another name now
            whole = sorted({each.partition("::")[0] for each in chosen})
            code = self._run(project.root, whole, stop)
        if code is not None:
            self.played = True
        return code == 0 if code is not None else None

    def _run(self, root: Path, chosen: list[str], stop: Callable[[], bool]) -> int | None:
        """Have pytest play tests; its exit code, or None if it was stopped."""
        counts = self.cache / "counts.json"
        counts.unlink(missing_ok=True)
        failed = self._forget(chosen)
        words = ["-q", "--no-header", "--tb=short", f"--rootdir={root}", "-o", f"cache_dir={self.cache}"]
        words += ["-p", "scaffold.pytest_plugin", "--proxy-no-budgets", f"--proxy-counts={counts}"]
        words += [f"--proxy-host={EMULATOR}", f"--proxy-module={self.source.module.path}"]
        begun = time.monotonic()
        argv = [sys.executable, "-m", "pytest", *words, *chosen]
        with tempfile.TemporaryFile(dir=self.cache) as output:
            with process.spawn(argv, cwd=root, env=os.environ, stdout=output, stderr=output) as child:
                while (code := child.poll()) is None:
                    if stop():
                        files.write(self.cache / _LAST_FAILED, json.dumps(failed))
                        return None
                    time.sleep(_LOOK)
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if code == _NOT_FOUND and any("::" in each for each in chosen):
            return code
        seconds = time.monotonic() - begun
        numbers = json.loads(counts.read_text()) if counts.exists() else {}
        failed = numbers.get("failed", 0) + numbers.get("error", 0)
        if code:
            emit(Quoted(said))
        played = f"{numbers.get('passed', 0)} passed, {failed} failed"
        if chosen:
            played += f", of {self._count}"
        else:
            self._count = sum(numbers.values())
        told = f"{played}, in {seconds:.1f} s"
        emit(Noted(f"tests: {told if numbers else 'pytest stopped before the end'}"))
        return code

    def _files(self) -> list[Path]:
        root = self.source.project.root if self.source.project else Path()
        return [path for pattern in _PATTERNS for path in (root / "tests").rglob(pattern)]

    def _forget(self, chosen: Collection[str]) -> dict[str, bool]:
        """Forget what failed in files that are played whole: a test may be gone. What was known before."""
        path = self.cache / _LAST_FAILED
        known: dict[str, bool] = json.loads(path.read_text()) if path.exists() else {}
        kept = {each: True for each in known if chosen and not self._is_in(each, chosen)}
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(kept))
        return known

    def _is_in(self, test: str, chosen: Collection[str]) -> bool:
        root = self.source.project.root if self.source.project else Path()
        return str(root / test.partition("::")[0]) in {str(root / each) for each in chosen}

    def _failed(self, root: Path) -> dict[str, Path]:
        """The tests that failed when they were last played, with their files, which may be gone by now."""
        path = self.cache / _LAST_FAILED
        ids = json.loads(path.read_text()) if path.exists() else {}
        found = {each: root / each.partition("::")[0] for each in ids}
        return {each: file for each, file in found.items() if file.exists()}
