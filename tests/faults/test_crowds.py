"""R7, R24: several at once, and reloads under load."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections import Counter

import pytest
from support.crowds import at_once
from support.places import Place, answers, digest, get, names, processes, supervisors, tree, until

RELOADS = 20


@pytest.mark.faults("R7")
def test_eight_make_the_same_project(place, record):
    out = place.project("out-of-it")
    ended = at_once(place, *[("new", "hello_world", "--no-input", "--output-dir", out)] * 8)
    codes = Counter(code for code, _, _ in ended)
    assert codes == {0: 1, 2: 7}
    assert all("already exists" in err for code, _, err in ended if code)
    assert names(out) == ["hello_world"]
    place.well("new", "hello_world", "--no-input", "--output-dir", place.folder / "model")
    assert tree(out / "hello_world") == tree(place.folder / "model/hello_world")
    assert names(place.cache / "staging") == []
    record("8 `new` of one name", "one makes it whole, 7 are told: exit code 2")


@pytest.mark.faults("R7")
def test_four_build_one_crate(place, record):
    crate = place.tiny()
    ended = at_once(place, *[("build", "--root", crate, "--json")] * 4)
    assert {code for code, _, _ in ended} == {0}
    assert len({out for _, out, _ in ended}) == 1
    said = json.loads(ended[0][1])
    assert digest(crate / "target/wasm32-wasip1/release/tiny.wasm") == said["digest"]
    record("4 `build` of one crate", "all end well with one digest, which the module has")


@pytest.mark.faults("R7")
def test_four_set_up_one_toolchain(machine, debian, record, tmp_path):
    log = debian(download="sleep 0.3")
    place = Place(tmp_path, dict(os.environ))
    ended = at_once(place, *[("setup", "--yes", "--root", tmp_path)] * 4)
    assert {code for code, _, _ in ended} == {0}
    assert len({out for _, out, _ in ended}) == 1
    assert log.read_text() == "downloaded\n"
    until(lambda: not processes(tmp_path), 3)
    record("4 `setup`", "one installs, 3 wait and find it")


@pytest.mark.faults("R7")
def test_four_deploy_one_project(place, probe, record):
    root = place.project()
    lines = [
        ("deploy", "envoy", probe.path, "--root", root, "--port=0", "--config", number, "--json")
        for number in range(4)
    ]
    ended = at_once(place, *lines)
    assert {code for code, _, _ in ended} == {0}, ended
    (url,) = {json.loads(out)["url"] for _, out, _ in ended}
    assert len(supervisors(place)) == 1
    assert get(url)[1]["x-configuration"] in "0123"
    record("4 `deploy` of one project", "all end well, one after the other, in one Envoy")


@pytest.mark.faults("R7")
def test_deploys_and_undeploys_of_one_project(place, probe, record):
    root = place.project()
    deploy = ("deploy", "envoy", probe.path, "--root", root, "--port=0")
    for _ in range(3):
        ended = at_once(place, *[deploy, ("undeploy", "--root", root)] * 3)
        assert {code for code, _, _ in ended} <= {0, 9}, ended
        now = place.status(root)
        if now:
            assert now["running"] and answers(now["url"])
            assert len(supervisors(place)) == 1
        else:
            until(lambda: not place.left(), 3, lambda: str(place.left()))
    record("3 `deploy` and 3 `undeploy` of one project, 3 times", "then it serves, or nothing is left of it")


@pytest.mark.faults("R7")
def test_four_run_one_project(place, probe, record):
    root = place.project()
    children = []
    for number in range(4):
        (place.folder / f"run-{number}").mkdir()
        spot = Place(place.folder / f"run-{number}", place.env)
        children.append((spot, spot.start("run", probe.path, "--root", root, "--port=0")))
    for spot, child in children:
        spot.until("Press Ctrl-C to stop", child)
    for _, child in children:
        child.terminate()
    assert [child.wait(20) for _, child in children] == [143] * 4
    place.nothing_left()
    record("4 `run` of one project, --port 0", "each has its own port")


@pytest.mark.faults("R24")
def test_reloads_under_load_with_bad_ones_among_them(place, probe, hello, record):
    """Eight clients without a pause; every third reload is refused, of two kinds."""
    root = place.project()
    url = place.deploy(root, "envoy", probe.path, "--config", "0")["url"]
    port = int(url.rpartition(":")[2])
    stop = threading.Event()
    seen: Counter[object] = Counter()
    worst = [0.0]

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not stop.is_set():
            begun = time.monotonic()
            try:
                connection.request("GET", "/status/200")
                answer = connection.getresponse()
                answer.read()
                seen[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[type(error).__name__] += 1
                connection.close()
            worst[0] = max(worst[0], time.monotonic() - begun)
            time.sleep(0.005)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    refused = place.folder / "refused.wasm"
    refused.write_bytes(b"\0asm\x01\0\0\0" + probe.path.read_bytes()[8:-100])
    live = "0"
    try:
        for number in range(1, RELOADS + 1):
            if number % 3 == 0:
                bad = (probe.path, "--config", '"panic"') if number % 2 else (refused,)
                assert place.run("deploy", "envoy", bad[0], "--root", root, *bad[1:]).code == 6
            else:
                module = hello if number % 5 == 0 else probe
                place.well("deploy", "envoy", module.path, "--root", root, "--config", number)
                live = str(number) if module is probe else None
            assert get(url)[1].get("x-configuration") == live
    finally:
        stop.set()
        for thread in clients:
            thread.join()
    assert set(seen) == {200}, seen
    assert sum(seen.values()) > 500
    record(
        f"{RELOADS} reloads, every third one bad, under 8 clients",
        f"{sum(seen.values())} requests, 0 lost; worst {worst[0] * 1000:.0f} ms; a good one answers always",
    )
