"""Try mutants of a plugin in a pytest session: the tests run as always, and then again for each mutant.

A mutant runs the tests that reach it, as those without the change have shown, and only until one of them
fails. All fixtures are made anew for each, so that nothing of one mutant is left for the next.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from scaffold.errors import UsageError
from scaffold.hosts.emulator.probe import PROBE, Counts

RESULTS = "results.json"  # the name of a file beside the plan
_FUEL_FACTOR = 10  # as much as any callback has used without a change: one that takes more never returns
_LEAST_FUEL = 10_000_000
_LEAST_SECONDS = 5.0  # that a mutant's tests may take, which may wait for what never comes


@dataclass(frozen=True)
class Plan:
    """What to try: the mutants of each module by its digest, which have the counters from `first` on."""

    modules: dict[str, tuple[int, int]]  # how many mutants, and the first counter
    seconds: float

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The reverse of `write`."""
        made = json.loads(path.read_text())
        return cls({module: tuple(each) for module, each in made["modules"].items()}, made["seconds"])

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)))


@dataclass
class Results:
    """What became of mutants, by their module's digest and their number. `seconds` is what trying took.

    `unsteady` tests were left out: they don't pass a second time, alone or without waiting.
    """

    reached: int = 0
    noticed: int = 0
    survived: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0
    unsteady: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Results | None:
        """What a run has written; None if it hasn't."""
        if not path.exists():
            return None
        made = json.loads(path.read_text())
        return cls(**made | {"survived": [tuple(each) for each in made["survived"]]})


class _Late(BaseException):
    """A test of a mutant takes too long."""


class Mutation:
    """The pytest plugin. It writes `Results` beside the plan, unless a test fails without a change."""

    def __init__(self, plan: Path) -> None:
        self._plan = Plan.read(plan)
        self._results = plan.with_name(RESULTS)
        self._seen: Counts = {}
        self._everywhere: set[tuple[str, int]] = set()  # mutants that are reached before a test begins
        self._reached: dict[pytest.Item, set[tuple[str, int]]] = {}
        self._passed: dict[str, float] = {}  # tests, with their seconds
        self._quiet = False
        _make_hypothesis_quick()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Keep which mutants a test reaches."""
        if self._quiet:
            return (yield)
        self._everywhere |= self._newly_reached()
        try:
            return (yield)
        finally:
            self._reached[item] = self._newly_reached()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep which tests pass without a change."""
        if report.when == "call" and report.passed:
            self._passed[report.nodeid] = report.duration

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run the tests; if they pass, try the mutants."""
        begun = time.monotonic()
        answer = yield
        if session.testsfailed or session.config.option.collectonly:
            return answer
        self._quiet = True
        PROBE.hurries = True
        PROBE.fuel = max(_FUEL_FACTOR * PROBE.most_fuel, _LEAST_FUEL)
        counts = PROBE.counts()
        limit = _LEAST_SECONDS + 2 * (time.monotonic() - begun)
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter:
            reporter.ensure_newline()
        results = self._try_all(session, limit, reporter.write if reporter else lambda _: None)
        PROBE.restore(counts)
        self._results.write_text(json.dumps(asdict(results)))
        return answer

    def _try_all(self, session: pytest.Session, limit: float, say: Any) -> Results:
        begun = time.monotonic()
        passed = [item for item in session.items if item.nodeid in self._passed]
        steady = [item for item in passed if not self._is_noticed(session, [item], limit)]
        waiting = self._to_try(sorted(steady, key=lambda item: self._passed[item.nodeid]))
        results = Results(len(waiting), unsteady=[item.nodeid for item in passed if item not in steady])
        count = "1 change" if len(waiting) == 1 else f"{len(waiting)} changes"
        say(f"{count} to the plugin that the tests reach: " if waiting else "")
        for (module, number), tests in waiting:
            if time.monotonic() - begun >= self._plan.seconds:
                break
            PROBE.playing = {module: number}
            if self._is_noticed(session, tests, limit):
                results.noticed += 1
                say(".")
            else:
                results.survived.append((module, number))
                say("S")
        PROBE.playing, PROBE.hurries = {}, False
        results.seconds = time.monotonic() - begun
        say("\n" if waiting else "")
        return results

    def _to_try(self, tests: Sequence[pytest.Item]) -> list[tuple[tuple[str, int], list[pytest.Item]]]:
        """Each mutant that is reached, in order, with the tests to run: first those that reach it itself."""
        found = []
        for module, (count, _) in self._plan.modules.items():
            for number in range(1, count + 1):
                key = module, number
                reaching = [test for test in tests if key in self._reached.get(test, ())]
                others = [test for test in tests if test not in reaching] if key in self._everywhere else []
                if reaching or others:
                    found.append((key, [*reaching, *others]))
        return found

    def _newly_reached(self) -> set[tuple[str, int]]:
        """The mutants whose counters have risen since this was asked last."""
        before, self._seen = self._seen, PROBE.counts()
        found = set()
        for module, (count, first) in self._plan.modules.items():
            now = self._seen.get(module, ())
            old = before.get(module) or [0] * len(now)
            found |= {
                (module, number)
                for number in range(1, count + 1)
                if now and now[first + number - 1] > old[first + number - 1]
            }
        return found

    def _is_noticed(self, session: pytest.Session, tests: Sequence[pytest.Item], limit: float) -> bool:
        """Whether one of the tests doesn't pass, or a callback never returns."""
        PROBE.ran_out = False
        try:
            with _at_most(limit):
                for test, after in zip_longest(tests, tests[1:]):
                    test._initrequest()  # type: ignore[union-attr]  # its fixtures are made again
                    reports = runtestprotocol(test, nextitem=after, log=False)
                    if PROBE.ran_out or not all(report.passed for report in reports):
                        return True
                return False
        except (_Late, pytest.exit.Exception):  # the latter is how the plugin is refused
            return True
        finally:
            with suppress(Exception, pytest.exit.Exception):
                session._setupstate.teardown_exact(None)


def refuse_workers(config: pytest.Config) -> None:
    """Raise `UsageError` if pytest-xdist would run the tests."""
    if hasattr(config, "workerinput") or config.getoption("numprocesses", None):
        raise UsageError("mutants are tried in one process", hint="leave out -n, or pass `-- -n0`")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_Late` in the block after so many seconds, where the machine can do that."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _make_hypothesis_quick() -> None:
    """Have Hypothesis try the same requests for each mutant, and keep and shrink none that fails."""
    with suppress(ImportError):
        from hypothesis import Phase, settings

        settings.register_profile(
            "scaffold-mutants", database=None, derandomize=True, phases=(Phase.explicit, Phase.generate)
        )
        settings.load_profile("scaffold-mutants")
