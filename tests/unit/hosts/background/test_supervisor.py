"""A supervisor whose Envoy ends again and again: how long it waits, and when it takes the previous plugin."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from scaffold.errors import HostError
from scaffold.hosts.background import supervisor
from scaffold.hosts.background.deployments import RESTART
from scaffold.hosts.envoy.log import Log
from scaffold.hosts.envoy.running import ABORTED
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule


@pytest.fixture(autouse=True)
def handlers():
    """The supervisor's signals, as they were before."""
    before = {number: signal.getsignal(number) for number in (RESTART, signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Enough(Exception):
    """The test has seen enough."""


class Clock:
    """Time that passes at once. `pauses` is how long was waited, and after `most` of them it is enough."""

    def __init__(self, most: int) -> None:
        self.now, self.pauses, self.most = 0.0, [], most

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if len(self.pauses) == self.most:
            raise Enough
        self.pauses.append(seconds)
        self.now += seconds


@dataclass
class Envoy:
    """An Envoy that lives for some seconds, and then ends with a code: its own process, folder and log."""

    clock: Clock
    log: Log
    seconds: float
    code: int
    previous: bool = False  # whether there are filters to revert to
    reverted: int = 0
    process: Envoy = field(init=False)
    folder: Envoy = field(init=False)

    def __post_init__(self) -> None:
        self.process = self.folder = self

    def wait(self) -> int:
        self.clock.now += self.seconds
        if self.code == RESTART:
            signal.raise_signal(RESTART)
        return self.code

    def kill(self) -> None:
        pass

    def revert(self) -> bool:
        self.reverted += self.previous
        return self.previous


@pytest.fixture
def supervise(tmp_path, monkeypatch):
    """Runs Envoys one after the other; returns the clock, and what is in the log."""

    def supervise(lives, *, pauses, previous=False):
        clock, path = Clock(pauses), tmp_path / "envoy.log"
        monkeypatch.setattr(supervisor, "time", clock)
        left = iter(lives)

        @contextmanager
        def begin():
            seconds, code = next(left)
            if code is None:
                raise HostError("the port is taken")
            yield Envoy(clock, Log(path), seconds, code, previous)

        with pytest.raises(Enough):
            supervisor._run_again(begin, path)
        return clock.pauses, [json.loads(line)["message"] for line in path.read_text().splitlines()]

    return supervise


def crashes(seconds=0.1, code=-11):
    while True:
        yield seconds, code


def test_the_pauses_of_a_crash_loop_grow_up_to_a_limit(supervise):
    pauses, said = supervise(crashes(), pauses=10)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert said[0] == "Envoy runs again, after 0.25 s"
    assert "Envoy runs again, after 30 s" in said


def test_an_envoy_that_cannot_start_is_tried_again_with_the_same_pauses(supervise):
    pauses, said = supervise(crashes(code=None), pauses=4)
    assert pauses == [0.25, 0.5, 1, 2]
    assert said == ["the port is taken"] * 4


def test_after_a_long_run_the_pause_is_the_first_again(supervise):
    lives = [(0.1, 1), (0.1, 1), (59, 1), (61, 1), (0.1, 1)]
    assert supervise(lives, pauses=5)[0] == [0.25, 0.5, 1, 2, 0.25]


def test_after_a_restart_that_was_asked_for_the_pause_is_the_first_again(supervise):
    lives = [(0.1, 1), (0.1, 1), (0.1, RESTART), (0.1, 1)]
    pauses, said = supervise(lives, pauses=4)
    assert pauses == [0.25, 0.5, 1, 0.25]
    assert "Envoy didn't answer any more, so it is restarted" in said


REVERTED = "the plugin hangs again and again; the previous version runs instead"


@pytest.mark.parametrize(
    ("lives", "at"),
    [
        ([(1, ABORTED)] * 4, 2),  # the first abort was the one before
        ([(1, ABORTED), (1, -11), (1, ABORTED), (1, ABORTED)], 4),
        ([(1, ABORTED), (61, ABORTED), (1, ABORTED), (1, ABORTED)], 4),
        ([(1, -11)] * 4, None),
        ([(61, ABORTED)] * 4, None),
    ],
    ids=["in a row", "after a crash", "after a long run", "crashes", "far apart"],
)
def test_a_plugin_that_hangs_soon_and_again_gives_way_to_the_previous_one(supervise, lives, at):
    pauses, said = supervise(lives, pauses=4, previous=True)
    lives_until = [line for line in said if line.startswith("Envoy runs again") or line == REVERTED]
    assert (lives_until.index(REVERTED) if REVERTED in said else None) == at
    if at == 2:
        assert pauses[2] == 0.25, "the previous one hasn't failed yet"


def test_without_a_previous_one_a_plugin_that_hangs_is_tried_again(supervise):
    pauses, said = supervise([(1, ABORTED)] * 4, pauses=4)
    assert (pauses, REVERTED in said) == ([0.25, 0.5, 1, 2], False)


@pytest.mark.parametrize(("line", "goes_on"), [("commit\n", True), ("", False), ("commi", False)])
def test_it_ends_with_the_command_that_started_it_unless_that_commits(monkeypatch, line, goes_on):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    committed = threading.Event()
    supervisor._wait_for_commit(committed)
    assert (committed.is_set(), not ended) == (goes_on, goes_on)


def test_a_plugin_reaches_it_as_it_is():
    module = WasmModule(Path("/a.wasm"), 8, f"sha256:{'0' * 64}", "0.2.1", {"f": "function"}, True)
    odd = bytes(range(256))
    plugin = Plugin("p", "r", module, odd, {"beta": "upstream"}, env=("A=1", "B"), vm_configuration=odd[::-1])
    assert Plugin.from_json(json.loads(json.dumps(plugin.to_json()))) == plugin


@pytest.fixture
def ordered(tmp_path, monkeypatch, capsys):
    """Gives a supervisor its order, and lets its Envoys crash; returns what they were started with."""

    def ordered(fails=None):
        clock, path, started = Clock(2), tmp_path / "envoy.log", []

        @contextmanager
        def start(*plugins, folder, settings):
            if fails:
                raise fails
            started.append((plugins, folder, settings))
            envoy = Envoy(clock, Log(path), 0.1, -11)
            envoy.port, envoy.version = settings.port or 4711, (1, 40, 0)
            yield envoy

        order = {"host": "envoy", "folder": str(tmp_path), "log": str(path), "plugins": []}
        order["settings"] = asdict(HostSettings(port=0, log_level="info"))
        monkeypatch.setattr(supervisor, "time", clock)
        monkeypatch.setattr(supervisor.hosts, "find", lambda _: start)
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(order) + "\ncommit\n"))
        with pytest.raises(type(fails) if fails else Enough):
            supervisor._supervise()
        return started, json.loads(capsys.readouterr().out)

    return ordered


def test_an_envoy_keeps_its_port_and_its_settings_when_it_is_restarted(ordered):
    started, answer = ordered()
    assert answer == {"port": 4711, "envoy_version": [1, 40, 0]}
    assert [(settings.port, settings.log_level) for _, _, settings in started] == [
        (0, "info"),
        (4711, "info"),
        (4711, "info"),
    ]
    assert len({folder for _, folder, _ in started}) == 1


@pytest.mark.parametrize(
    ("fails", "code"),
    [(HostError("the port is taken", hint="choose"), 8), (KeyError("x"), 70)],
    ids=["ours", "a bug"],
)
def test_what_keeps_it_from_starting_is_told_to_the_command(ordered, fails, code):
    started, answer = ordered(fails)
    assert (started, answer["code"], answer["hint"]) == ([], code, "choose" if code == 8 else None)
    assert answer["error"] == ("the port is taken" if code == 8 else "a bug in scaffold: KeyError('x')")
