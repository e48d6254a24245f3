"""R5, R22: what a plugin logs: bounded files, on a full disk too, flat memory, no command to a terminal."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from support.disks import SMALL_DISK, fill
from support.places import (
    SCAFFOLD,
    Place,
    answers,
    envoys,
    get,
    inside,
    namespace,
    supervisors,
    until,
)

NOT_FOUND = 404  # the built-in upstream's answer to what makes the plugin log
LARGEST = 17e6  # bytes of a log with the part that was set aside
MEGABYTES = 20  # more than an empty log costs its reader


def logs_of(place: Place) -> list[Path]:
    (folder,) = place.deployments
    return [path for path in (folder / "envoy").iterdir() if path.suffix in (".log", ".old", ".new")]


def size_of(place: Place) -> int:
    size = 0
    for path in logs_of(place):
        with suppress(FileNotFoundError):  # it has just been replaced
            size += path.stat().st_size
    return size


def memory(place: Place, *words: object) -> float:
    """The most memory that a command took, in megabytes."""
    argv = [*SCAFFOLD, *map(str, words)]
    measures = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    ran = subprocess.run([SCAFFOLD[0], "-c", measures, *argv], env=place.env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout) / 1024


@pytest.mark.faults("R5")
@pytest.mark.parametrize(("path", "named"), [("/flood", "100 MB"), ("/huge", "a line of 20 MB")])
def test_a_plugin_that_logs_without_end_fills_no_disk(place, probe, record, path, named):
    """The bound holds while the request is being answered, too."""
    root = place.project()
    url = place.deploy(root, "envoy", probe.path)["url"]
    empty = memory(place, "logs", "--root", root)
    with ThreadPoolExecutor() as pool:
        request, most = pool.submit(get, url, path), 0
        while not request.done():
            most = max(most, size_of(place))
            time.sleep(0.002)
    assert request.result()[0] == NOT_FOUND
    until(lambda: "more)" in place.well("logs", "--root", root).out)
    assert max(most, size_of(place)) < LARGEST
    took = memory(place, "logs", "--root", root)
    assert took < empty + MEGABYTES, f"{took:.0f} MB, {empty:.0f} for an empty log"
    assert get(url, "/after")[0] == NOT_FOUND
    until(lambda: "saw /after" in place.well("logs", "--root", root).out)
    record(f"deploy: a request logs {named}", "the logs stay below 17 MB; `logs` takes little memory")


@pytest.mark.faults("R5")
def test_a_deployment_whose_disk_is_full_serves_and_logs_again_later(place, probe, record):
    """If Envoy dies meanwhile, it gets a new one once there is room."""
    disk, root = place.folder / "s", place.project()
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "20m")) as place.wrapper:
        seen = inside(place.wrapper, disk)
        url = place.deploy(root, "envoy", probe.path)["url"]
        get(url, "/before")
        until(lambda: "saw /before" in place.well("logs", "--root", root).out)
        filler = fill(seen)
        (supervisor,) = supervisors(place)
        for path in ("/flood", "/huge", "/full"):
            assert get(url, path)[0] == NOT_FOUND
        (envoy,) = envoys(place)
        envoy.kill()
        time.sleep(1)  # a start that fails can leave no sign on a full disk
        assert supervisors(place) == [supervisor]
        assert not answers(url)
        filler.unlink()
        until(lambda: answers(url))
        assert get(url, "/later")[0] == NOT_FOUND
        until(lambda: "saw /later" in place.well("logs", "--root", root).out)
        said = place.well("logs", "--root", root).out
        assert re.search(r"lines of the log are lost: (the disk is full|No space left on device)", said)
        assert answers(url)
        place.well("undeploy", "--root", root)
    record(
        "deploy: the disk fills up, 200 MB are logged, Envoy is killed",
        "it serves on; `logs` counts lost lines",
    )


@pytest.mark.faults("R22")
def test_a_log_line_commands_no_terminal_and_forges_no_line(place, probe, record):
    root = place.project()
    url = place.deploy(root, "envoy", probe.path)["url"]
    assert get(url, "/hostile")[0] == NOT_FOUND
    until(lambda: "forged" in place.well("logs", "--root", root).out)
    out = place.well("logs", "--root", root).out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)
    assert not re.search(r"^ ?error:", out, re.MULTILINE)
    out = place.well("logs", "--root", root, GITHUB_ACTIONS="true").out
    assert not re.search(r"^\s*::", out, re.MULTILINE)
    record("logs: a plugin logs escapes and line ends", "shown safely")
