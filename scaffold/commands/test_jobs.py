"""Whose tests are played, against what, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import process
from scaffold.errors import ProjectError, ScaffoldError, TargetError, UsageError
from scaffold.hosts.background import record as deployments
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.options import Options
from scaffold.project.model import Project
from scaffold.wasm.module import WasmModule

_KINDS = ("passed", "failed", "error", "skipped")
_CHAIN = "the chain"
_TESTS = ("test_*.py", "*_test.py")  # as pytest finds them


@dataclass(frozen=True)
class Play:
    """The tests played once: against what, how many ended how, in how many seconds, and what was wrong."""

    host: str
    passed: int
    failed: int
    errors: int
    skipped: int
    seconds: float
    error: ScaffoldError | None


@dataclass(frozen=True)
class Part:
    """Whose tests are played, a plugin's or a chain's, and against which modules, if they are given."""

    name: str
    root: Path
    modules: Sequence[WasmModule]
    options: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()  # where they are, unless that is said

    @property
    def words(self) -> list[str]:
        """What pytest is told of it."""
        return [*(f"--proxy-module={module.path}" for module in self.modules), *self.options]


@dataclass(frozen=True)
class Job:
    """The tests of a plugin, or of a chain, to be played in one place by pytest with these `words`."""

    name: str
    root: Path
    place: str
    words: list[str]

    @property
    def title(self) -> str:
        """What is done, in a line."""
        return f"Testing {self.name} in {self.place}"

    def program(self, counts: Path, *more: str) -> process.Program:
        """pytest, which leaves the numbers in the file `counts`."""
        # the project's own configuration loads the plugin; said here too for one that has none yet
        begin = [sys.executable, "-m", "pytest", "-p", "scaffold.pytest_plugin", f"--proxy-counts={counts}"]
        return process.Program([*begin, *more, *self.words], self.root)

    def play(self, counts: Path, seconds: float, error: ScaffoldError | None) -> Play:
        """What came of it."""
        read = json.loads(counts.read_text()) if counts.exists() else {}
        passed, failed, errors, skipped = (read.get(kind, 0) for kind in _KINDS)
        return Play(self.place, passed, failed, errors, skipped, seconds, error)


def parts(
    projects: Sequence[Project],
    chain: Sequence[Project],
    root: Path,
    modules: Sequence[WasmModule],
    *,
    deployed: bool,
) -> list[Part]:
    """What is tested of a workspace: each plugin alone, and its chain where there are tests of that.

    Of what is `deployed`, that which is.
    Raises `ProjectError` when only the chain is, and has none.
    """
    built = dict(zip((project.root for project in projects), modules, strict=False))
    alone = [Part(each.name, each.root, [built[each.root]] if built else []) for each in projects]
    # without a pytest.ini there, pytest would take `tests` itself for the project's folder
    links = [built[each.root] for each in chain] if built else []
    whole = Part(_CHAIN, root, links, (f"--rootdir={root}",), (str(root / "tests"),))
    tested = any(any((root / "tests").rglob(pattern)) for pattern in _TESTS)
    if not deployed:
        return [*alone, whole] if tested else alone
    running = [part for part in [*alone, whole] if (now := deployments.load(part.root)) and now.alive]
    if running == [whole] and not tested:
        hint = f"put them in {root}/tests/test_*.py"
        raise ProjectError("the chain is deployed, and there are no tests of it", hint=hint)
    return [part for part in running if tested or part is not whole]


def check_deployed(root: Path, projects: Sequence[Project]) -> None:
    """Raise `TargetError` unless one of the plugins runs, or their chain from `root`."""
    for place in [*(project.root for project in projects), root]:
        if (now := deployments.load(place)) and now.alive:
            return
    raise TargetError(f"nothing is deployed from {root}", hint="run `scaffold deploy` first")


def places(host: str, options: Options, deployed: bool) -> dict[str, list[str]]:
    """What the tests are played against, by its name on screen, and pytest's options for it."""
    if deployed and options != Options():
        raise UsageError("a deployment has its Envoy already", hint="give --deployed or --envoy")
    if deployed:
        return {"the deployment": ["--proxy-deployed"]}
    options.check_for(host)
    # with `=`, since pytest takes a path that stands alone for a place to look for its configuration
    on = f"--proxy-host={host}"
    if host == "docker":
        from scaffold.hosts.docker import host as container

        container.check(options.settings())
        given = f"--proxy-docker-args={options.docker_args or ''}"
        return {f"{options.envoy_image}": [on, f"--proxy-envoy-image={options.envoy_image}", given]}
    if options.envoy is None:
        return {host: [on]}
    found = envoys.several(options.envoy)
    places = {f"Envoy {name}": [on, f"--proxy-envoy={binary.path}"] for name, binary in found.items()}
    return places if len(places) > 1 else {host: next(iter(places.values()))}


def jobs(
    played: Sequence[Part],
    where: Mapping[str, list[str]],
    words: Sequence[str],
    junitxml: Path | None,
    *,
    by_name: bool,
) -> list[Job]:
    """Each of `played` in each place; the reports are named after the places, and `by_name`, if several."""
    made = []
    shares = _shared_out(played, words) if by_name else {part.root: list(words) for part in played}
    for part in played:
        for place, chosen in where.items() if part.root in shares else ():
            named = [part.name] * by_name + [place.removeprefix("Envoy ")] * (len(where) > 1)
            report = [f"--junitxml={_report(junitxml, named)}"] if junitxml else []
            said = shares[part.root]
            tests = () if any(_path(word, part.root) for word in said) else part.tests
            made.append(Job(part.name, part.root, place, [*chosen, *part.words, *report, *said, *tests]))
    return made


def _shared_out(played: Sequence[Part], words: Sequence[str]) -> dict[Path, list[str]]:
    """What pytest is told of each: a file or folder of tests goes to those in which it is, and to no others.

    It is named from here, or as in each of them.
    """
    places = {
        word: {part.root: path for part in played if (path := _path(word, part.root))} for word in words
    }
    here = {word: path for word in words if (path := _path(word, Path()))}
    for word, path in here.items():
        inner = [part.root for part in played if path.is_relative_to(part.root.resolve())]
        if inner:
            places[word] = {max(inner, key=lambda root: len(root.parts)): path}
    some = any(places.values())
    shares = {}
    for part in played:
        own = [word for word in words if not places[word] or part.root in places[word]]
        if not some or any(part.root in places[word] for word in own):
            shares[part.root] = [_named(word, places[word].get(part.root)) for word in own]
    return shares


def _path(word: str, root: Path) -> Path | None:
    """The file or folder that a word to pytest names, from `root`; None where it is something else."""
    name = word.partition("::")[0]
    path = (root / name).resolve()
    return path if name and not name.startswith("-") and path.exists() else None


def _named(word: str, path: Path | None) -> str:
    """The same word with an absolute path, if it is one."""
    return word if path is None else "::".join([str(path), *word.split("::")[1:]])


def _report(junitxml: Path, names: Sequence[str]) -> Path:
    words = [word for name in names for word in name.split()]
    return junitxml.with_stem("-".join((junitxml.stem, *words))).resolve()
