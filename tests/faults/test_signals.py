"""R9, R10: somebody ends a command, politely or not; all it started ends with it."""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest
from support.commands import terminal
from support.places import SCAFFOLD, Place, answers, envoys, until

# how it is ended: by which signals, and the exit codes that may follow
ENDINGS = {  # `run` takes a Ctrl-C for the way to end it: 0
    "Ctrl-C": ((signal.SIGINT,), 130),
    "Ctrl-C twice": ((signal.SIGINT, signal.SIGINT), 130),
    "SIGTERM": ((signal.SIGTERM,), 143),
    "SIGHUP": ((signal.SIGHUP,), 129),
}
HANGS = (
    'fn main() { println!("cargo:rerun-if-changed=never"); std::thread::sleep(std::time::Duration::MAX) }\n'
)
WAITS = """import time


def test_it_waits(proxy):
    assert proxy.get("/headers").status == 200
    print("the test waits", flush=True)
    time.sleep(600)
"""


def serving(place: Place, probe) -> object:
    child = place.start("run", probe.path, "--root", place.project(), "--port=0")
    place.until("Press Ctrl-C to stop", child)
    assert envoys(place)
    return child


def building(place: Place, _probe) -> object:
    crate = place.tiny()
    (crate / "build.rs").write_text(HANGS)
    child = place.start("build", "--root", crate)
    until(lambda: any("build-script-build" in line for line in place.left()), 60)
    return child


def deploying(place: Place, probe) -> object:
    child = place.start("deploy", "envoy", probe.path, "--root", place.project(), "--port=0")
    until(lambda: envoys(place), 30)
    return child


def a_test_waiting(place: Place, _probe) -> object:
    crate = place.tiny()
    (crate / "tests/test_tiny.py").write_text(WAITS)
    child = place.start("test", "--root", crate, "--", "-s")
    place.until("the test waits", child)
    assert envoys(place)
    return child


def following(place: Place, probe) -> object:
    root = place.project()
    url = place.deploy(root, "envoy", probe.path)["url"]
    child = place.start("logs", "--follow", "--root", root)
    until(lambda: answers(url) and "saw /headers" in place.said("out"))
    return child


WHILE = {
    "run": serving,
    "build": building,
    "deploy": deploying,
    "test": a_test_waiting,
    "logs -f": following,
}


@pytest.mark.faults("R9")
@pytest.mark.parametrize("command", WHILE)
@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_when_asked_with_all_it_started(place, probe, record, command, ending):
    numbers, code = ENDINGS[ending]
    child = WHILE[command](place, probe)
    for number in numbers:
        child.send_signal(number)
    ran = place.end(child)
    if command == "deploy" and ran.code == 0:  # it was quicker
        assert "deployed" in ran.out
    elif ending == "Ctrl-C" and command in ("run", "logs -f"):
        assert (ran.code, ran.err.splitlines()[-1]) == (0, "Stopped")
    elif not (
        command in ("run", "logs -f") and ran.err.endswith("Stopped\n")
    ):  # the second may come too late
        assert ran.code == code, ran.err
        assert "Traceback" not in ran.err.replace("KeyboardInterrupt\n", ""), ran.err
        word = "interrupted" if code == 130 else "terminated"
        assert f"error: {word}" in ran.err, ran.err
    if command in ("deploy", "logs -f"):  # what is deployed goes on, what was being deployed is gone
        until(lambda: not [line for line in place.left() if " -m scaffold " in line], 3)
        place.well("undeploy", "--all")
    took = place.nothing_left()
    record(f"{ending} in {command}", f"exit code {ran.code}, all gone within {max(took, 0.1):.1f} s")


@pytest.mark.faults("R9")
@pytest.mark.parametrize("command", ["run", "test"])
def test_a_terminal_that_is_closed_ends_it(place, probe, record, command):
    crate = place.tiny()
    (crate / "tests/test_tiny.py").write_text(WAITS)
    words = ("run", probe.path, "--port=0", "--root", crate)
    words = words if command == "run" else ("test", "--root", crate, "--", "-s")
    sign = "Press Ctrl-C to stop" if command == "run" else "the test waits"
    env = [f"{key}={place.env[key]}" for key in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "TMPDIR")]
    argv = ["env", "--unset=CARGO_TARGET_DIR", *env, *SCAFFOLD, *words]
    with terminal(*argv, cwd=place.folder) as screen:
        screen.until(sign, within=60)
        assert envoys(place)
        os.close(screen.master)
        try:
            screen.child.wait(20)
            place.nothing_left()
        finally:
            screen.master = os.open(os.devnull, os.O_RDWR)
    record(f"the terminal of {command} is closed", f"ended ({screen.child.returncode}), all gone")


@pytest.mark.faults("R10")
def test_pytest_is_killed_and_envoy_ends_with_it(place, probe, record):
    child = a_test_waiting(place, probe)
    (pytest_of_it,) = [
        process
        for process in psutil.Process(child.pid).children(recursive=True)
        if "pytest" in process.cmdline()
    ]
    pytest_of_it.kill()
    ran = place.end(child)
    assert (ran.code, ran.sentence) == (4, "signal 9 ended pytest")
    place.nothing_left()
    record("SIGKILL of pytest below `test`", "named, exit code 4; Envoy gone within 3 s")


@pytest.mark.faults("R10")
def test_test_is_killed_and_pytest_and_envoy_end_with_it(place, probe, record):
    child = a_test_waiting(place, probe)
    child.kill()
    took = place.nothing_left()
    record("SIGKILL of `test`", f"pytest and Envoy gone within {took:.1f} s")


@pytest.mark.faults("R10")
@pytest.mark.parametrize("command", ["run", "deploy"])
def test_the_guard_is_killed_and_still_all_ends(place, probe, record, command):
    """The process that would end what a kill leaves is gone itself: a polite end needs it not."""
    if command == "run":
        child = serving(place, probe)
        parent = child.pid
    else:
        place.deploy(place.project(), "envoy", probe.path)
        (parent,) = [
            process.pid for process in psutil.process_iter(["cmdline"]) if is_supervisor(place, process)
        ]
    guards = [each for each in psutil.Process(parent).children() if each.name() == "sh"]
    assert guards
    for guard in guards:
        guard.kill()
    if command == "run":
        child.send_signal(signal.SIGINT)
        assert place.end(child).code == 0
    else:
        place.well("undeploy", "--all")
    place.nothing_left()
    record(f"SIGKILL of the guard of {command}", "ended politely, nothing is missed")


def is_supervisor(place: Place, process: psutil.Process) -> bool:
    words = process.info["cmdline"] or []
    return "scaffold.hosts.background.supervisor" in words and str(place.folder) in str(process.environ())


@pytest.mark.faults("R9")
def test_a_looping_filter_does_not_keep_run_from_ending(place, probe, record):
    child = serving(place, probe)
    url = re.search(r"answers at (http://\S+)", place.said())[1]
    (envoy,) = envoys(place)
    with pytest.raises(OSError):
        answers_slowly(url)
    child.send_signal(signal.SIGINT)
    ran = place.end(child)
    assert ran.code in (0, 8), ran.err  # 8: the watchdog was quicker
    took = place.nothing_left()
    assert not envoy.is_running()
    record("Ctrl-C in run while its filter loops", f"all gone within {took:.1f} s")


def answers_slowly(url: str) -> None:
    """Send a request that the filter never ends, and don't wait for it."""
    import http.client

    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=0.3)
    try:
        connection.request("GET", "/loop")
        connection.getresponse()
    finally:
        connection.close()
