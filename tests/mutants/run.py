"""`invoke dev.mutants`: put bugs into copies of this repository, one at a time, and see what notices them.

The bugs are in the files beside this one. `[[mutant]]` has a `name`, a `file`, and the text `old`, found
exactly once in that file, which becomes `new`. `tests` are the files, folders or tests that should notice;
without it, the folders of the file's package. `known` says why nothing has to notice.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import psutil

TIERS = ("unit", "component", "e2e")
STOPPED = threading.Event()  # by Ctrl-C or SIGTERM: an exception in a handler may be lost
FAILED, TOO_LONG = 1, -1  # pytest's exit code when a test failed; ours when it took too long
NOT_COPIED = (".git", ".venv", ".*_cache", ".hypothesis", "target", "__pycache__", "dist")
PYTEST = ("-m", "pytest", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-seed=0")


@dataclass(frozen=True)
class Mutant:
    """A bug, and the tests that should notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: Sequence[str] = ()
    known: str = ""

    def text(self, root: Path) -> str:
        """The file's text with the bug in it."""
        text = (root / self.file).read_text()
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.name}: its text is in {self.file} {text.count(self.old)} times")
        return text.replace(self.old, self.new)

    def of_tier(self, tier: str, root: Path) -> list[str]:
        """Those of its tests that belong to a tier."""
        package = Path(self.file).parent.as_posix().removeprefix("scaffold/")
        tests = self.tests or [
            name for each in TIERS if (root / (name := f"tests/{each}/{package}")).exists()
        ]
        if missing := [test for test in tests if not (root / test.partition("::")[0]).exists()]:
            raise ValueError(f"{self.name}: there is no {missing[0]}")
        return [test for test in tests if test.startswith(f"tests/{tier}/")]


def mutants(root: Path, only: str) -> list[Mutant]:
    """The listed bugs with `only` in their name or file, each of which fits its file."""
    paths = sorted((root / "tests/mutants").glob("*.toml"))
    found = [Mutant(**record) for path in paths for record in tomllib.loads(path.read_text())["mutant"]]
    names = [mutant.name for mutant in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two mutants are called {twice[0]}")
    found = [mutant for mutant in found if only in mutant.name or only in mutant.file]
    if not found:
        raise ValueError(f"no bug in the list has {only!r} in its name or file")
    misfits = []
    for mutant in found:
        try:
            _ = mutant.text(root), mutant.of_tier("unit", root)
        except ValueError as error:
            misfits.append(str(error))
    if misfits:
        raise ValueError("\n".join(misfits))
    return found


class Stopped(Exception):
    """Somebody has interrupted us."""


class Copy:
    """A copy of the repository, with an environment in which `scaffold` is that copy."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.tree, own = folder / "tree", folder / "venv"
        folder.mkdir(mode=0o755)  # some tests are another user's
        shutil.copytree(root, self.tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        venv.create(own, symlinks=True)
        theirs = f"import site; site.addsitedir({site.getsitepackages()[0]!r})"
        (next(own.glob("lib/python*/site-packages")) / "copy.pth").write_text(f"{self.tree}\n{theirs}\n")
        for program in Path(sys.executable).parent.iterdir():
            if program.is_file() and not (own / "bin" / program.name).exists():
                (own / "bin" / program.name).symlink_to(program)
        for name in ("scaffold", "invoke", "pytest"):  # each names its Python in the first line
            text = (own / "bin" / name).read_text().replace(sys.prefix, str(own))
            (own / "bin" / name).unlink()
            (own / "bin" / name).write_text(text)
            (own / "bin" / name).chmod(0o755)
        self.python = str(own / "bin/python")
        self.env = os.environ | {"PATH": f"{own / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        self.env["SCAFFOLD_TESTS_TARGET"] = str(folder / "target")

    def pytest(self, *words: str, seconds: float = math.inf) -> tuple[int, str]:
        """The exit code of pytest, and what it printed. Raises `Stopped`."""
        argv, deadline = [self.python, *PYTEST, *words], time.monotonic() + seconds
        with tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen(
                argv, cwd=self.tree, env=self.env, stdout=out, stderr=out, text=True, start_new_session=True
            )
            while child.poll() is None and time.monotonic() < deadline and not STOPPED.is_set():
                time.sleep(0.05)
            code = TOO_LONG if child.poll() is None else child.returncode
            self._end(child)
            if STOPPED.is_set():
                raise Stopped
            out.seek(0)
            return code, out.read()

    def _end(self, child: subprocess.Popen[str]) -> None:
        """End pytest, with what it started: some bugs let a process live on in a group of its own."""
        for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 60.0)):
            with suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
                os.killpg(child.pid, number)
                child.wait(seconds)
        for left in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if left.environ().get("TMPDIR") == self.env["TMPDIR"]:
                    left.kill()

    def noticed(self, mutant: Mutant, tiers: Sequence[str], seconds: float) -> tuple[str, str]:
        """The first tier with a test that notices a bug, and that test; "" twice if there is none."""
        path = self.tree / mutant.file
        text, stat = path.read_text(), path.stat()
        path.write_text(mutant.text(self.tree))
        os.utime(path, (newer := time.time() + 10, newer))  # than any code that Python has cached
        try:
            for tier in tiers:
                if tests := mutant.of_tier(tier, self.tree):
                    code, output = self.pytest("-x", *tests, seconds=seconds)
                    if code not in (0, FAILED, TOO_LONG):
                        raise ValueError(f"{mutant.name}: pytest ended with {code}:\n{output[-800:]}")
                    if code:
                        told = re.search(r"^(FAILED|ERROR) tests/.*?(?= - |$)", output, re.MULTILINE)
                        return tier, told[0] if told else "it took too long"
            return "", "nothing noticed"
        finally:
            path.write_text(text)
            os.utime(path, (stat.st_atime, stat.st_mtime))


def run(
    root: Path, chosen: list[Mutant], tiers: Sequence[str], seconds: float, *, checked: bool
) -> dict[str, str]:
    """The tier that notices each bug, printed with the test. If `checked`, all must pass without any."""
    seen, idle, jobs = {}, SimpleQueue[Copy](), os.cpu_count() or 1

    def one(mutant: Mutant) -> tuple[str, str]:
        copy = idle.get()
        try:
            return copy.noticed(mutant, tiers, seconds)
        finally:
            idle.put(copy)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        Path(folder).chmod(0o755)
        copies = [Copy(root, Path(folder) / str(number)) for number in range(jobs)]
        for tier in tiers if checked else ():
            tests = sorted({test for mutant in chosen for test in mutant.of_tier(tier, root)})
            code, output = copies[0].pytest(f"-n{jobs}", *tests) if tests else (0, "")
            if code:
                raise ValueError(f"a test of {tier}/ fails without any bug:\n{output[-2000:]}")
        for copy in copies:
            idle.put(copy)
        futures = {pool.submit(one, mutant): mutant.name for mutant in chosen}
        try:
            for future in as_completed(futures):
                seen[futures[future]], test = future.result()
                print(f"{futures[future]}: {test}", flush=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return seen


def main() -> int:
    """Exit code 1 when a bug survived that isn't `known`, 2 when the list is wrong."""
    parser = argparse.ArgumentParser(description="Put bugs into copies of this repository.")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their name or file")
    parser.add_argument("--tier", default="component", choices=TIERS, help="the last tests to run")
    parser.add_argument("--seconds", default=600.0, type=float, help="for one bug and tier")
    parser.add_argument("--unchecked", action="store_true", help="don't run the tests without a bug first")
    parser.add_argument("--root", default=Path(__file__).parents[2], type=Path, help="the repository")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: STOPPED.set())
    tiers = TIERS[: TIERS.index(args.tier) + 1]
    try:
        chosen = mutants(args.root, args.only)
        seen = run(args.root, chosen, tiers, args.seconds, checked=not args.unchecked)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped:
        return 130
    unseen = [mutant for mutant in chosen if not seen[mutant.name]]
    later = [mutant for mutant in unseen if not any(mutant.of_tier(tier, args.root) for tier in tiers)]
    survivors = [mutant for mutant in unseen if mutant not in later]
    print(f"\n| of {len(chosen)} bugs | noticed |\n|---|---|")
    for tier in tiers:
        print(f"| {tier} | {list(seen.values()).count(tier)} |")
    print(f"| not tried: only other tests would notice | {len(later)} |\n| survived | {len(survivors)} |")
    for mutant in survivors:
        print(f"- {mutant.name} ({mutant.file}){': ' if mutant.known else ''}{mutant.known}")
    return int(any(not mutant.known for mutant in survivors))


if __name__ == "__main__":
    sys.exit(main())
