"""R15, R16, R19, R20, R21: ports, an Envoy that dies, clocks, names of folders, no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from support.places import (
    Place,
    answers,
    copy_env,
    digest,
    envoys,
    get,
    names,
    namespace,
    ordinary,
    supervisors,
    until,
)

WASM = "target/wasm32-wasip1/release/tiny.wasm"

# --- R15


@pytest.mark.faults("R15")
def test_a_port_that_another_run_has(place, probe, record):
    child = place.start("run", probe.path, "--root", place.project(), "--port=0")
    port = re.search(r"localhost:(\d+)", place.until("Press Ctrl-C to stop", child))[1]
    (envoy,) = envoys(place)
    second = Place(place.project("second"), place.env)
    for words in (("run", probe.path), ("deploy", "envoy", probe.path)):
        ran = second.run(*words, "--root", second.folder, "--port", port)
        assert (ran.code, ran.sentence) == (8, f"port {port} is taken by envoy (pid {envoy.pid})"), ran.err
    assert answers(f"http://localhost:{port}")
    child.terminate()
    place.end(child)
    second.deploy(second.folder, "envoy", probe.path, "--port", port)
    record("run, deploy: the port of another run", "exit code 8, names the pid; free at once when that ends")


@pytest.mark.faults("R15")
def test_a_port_that_an_orphan_of_ours_has(place, probe, record):
    """Its record is gone, as after `rm -r ~/.local/state`, while it serves on."""
    url = place.deploy(place.project(), "envoy", probe.path)["url"]
    port = url.rpartition(":")[2]
    (envoy,) = envoys(place)
    (supervisor,) = supervisors(place)
    for folder in place.deployments:
        (folder / "deployment.json").unlink()
    ran = place.run("deploy", "envoy", probe.path, "--root", place.project("other"), "--port", port)
    assert ran.code == 8, ran.err
    assert ran.sentence == f"port {port} is taken by envoy (pid {envoy.pid})"
    os.kill(int(supervisor.partition(":")[0]), signal.SIGTERM)
    place.nothing_left()
    place.well("deploy", "envoy", probe.path, "--root", place.project("other"), "--port", port)
    record("deploy: the port is taken by an orphan of scaffold's", "exit code 8, names its pid")


@pytest.mark.faults("R15")
def test_a_port_that_only_root_may_have(place, probe, record):
    unprivileged = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not unprivileged.exists() or int(unprivileged.read_text()) <= 80:
        pytest.skip("here anybody may have port 80")
    place.wrapper = ordinary()
    for words in (("run", probe.path), ("deploy", "envoy", probe.path)):
        ran = place.run(*words, "--root", place.project(), "--port=80")
        assert ran.code in (4, 8), ran.err
        assert "taken" not in ran.sentence, ran.err
        assert ran.sentence == "you may not listen on port 80"
    record("run, deploy: port 80, as an ordinary user", f"exit code {ran.code}: {ran.sentence}")


# --- R16


@pytest.mark.faults("R16")
def test_an_envoy_that_is_killed_again_and_again(place, probe, record):
    """Its supervisor starts it each time, later each time; what is deployed goes on."""
    root = place.project()
    url = place.deploy(root, "envoy", probe.path, "--config", '"mine"')["url"]
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        (envoy,) = envoys(place)
        envoy.send_signal(number)
        until(lambda: not envoy.is_running(), 10)  # noqa: B023
        until(lambda: envoys(place) and answers(url), 20)
        assert get(url)[1]["x-configuration"] == '"mine"'
    said = place.well("logs", "--root", root).out
    assert "Envoy ended by signal 9" in said and "by signal 11" in said
    assert said.count("Envoy runs again") == 3
    place.well("deploy", "envoy", probe.path, "--root", root, "--config", '"next"')
    assert get(url)[1]["x-configuration"] == '"next"'
    record("deploy: Envoy gets SIGKILL, SIGSEGV, SIGTERM", "it runs again each time, `logs` has the signal")


@pytest.mark.faults("R16")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["SIGKILL", "SIGSEGV"])
def test_an_envoy_that_dies_ends_run(place, probe, record, number):
    child = place.start("run", probe.path, "--root", place.project(), "--port=0")
    place.until("Press Ctrl-C to stop", child)
    (envoy,) = envoys(place)
    envoy.send_signal(number)
    ran = place.end(child)
    assert ran.code == 8
    assert f"Envoy ended by signal {number.value}" in ran.err
    place.nothing_left()
    record(f"run: Envoy gets {number.name}", "exit code 8, names the signal")


# --- R19


def edited(crate: Path, number: int) -> None:
    source = crate / "src/lib.rs"
    source.write_text(
        re.sub(r"        \d+\n    }\n}\n", f"        {number}\n    }}\n}}\n", source.read_text())
    )


@pytest.mark.faults("R19")
def test_sources_from_the_future(place, record):
    """An hour and a year ahead: as after the clock was set back, or unpacked from elsewhere."""
    crate = place.tiny()
    source = crate / "src/lib.rs"
    seen = set()
    for number, ahead in enumerate((3600, 31_536_000, 0), 1):
        edited(crate, number)
        future = time.time() + ahead
        os.utime(source, (future, future))
        place.well("build", "--root", crate)
        seen.add(digest(crate / WASM))
    assert len(seen) == 3
    record("build: sources an hour, a year ahead", "each edit is built")


@pytest.mark.faults("R19")
def test_an_edit_while_it_builds_is_in_the_next_build(place, record):
    """After rustc has read the source and before cargo is done."""
    crate = place.tiny()
    wrapper = place.folder / "rustc-wrapper"
    wrapper.write_text(
        '#!/bin/sh\n"$@" || exit\n'
        f'case "$*" in *"--crate-name tiny"*)\n'
        f"if [ ! -e {place.folder}/edited ]; then touch {place.folder}/edited\n"
        f"sed -i 's/^        0$/        7/' {crate}/src/lib.rs; fi ;; esac\n"
    )
    wrapper.chmod(0o755)
    place.well("build", "--root", crate, RUSTC_WRAPPER=str(wrapper))
    assert (place.folder / "edited").exists()
    assert "        7\n" in (crate / "src/lib.rs").read_text()
    old = digest(crate / WASM)
    place.well("build", "--root", crate, RUSTC_WRAPPER=str(wrapper))
    assert digest(crate / WASM) != old
    record("build: an edit while rustc runs", "the next build has it")


@pytest.mark.faults("R19")
@pytest.mark.xfail(reason="cargo compares times, and ignores an edit older than the last build", strict=True)
def test_an_edit_from_the_past(place, record):
    crate = place.tiny()
    place.well("build", "--root", crate)
    old = digest(crate / WASM)
    edited(crate, 1)
    past = time.time() - 3600
    os.utime(crate / "src/lib.rs", (past, past))
    place.well("build", "--root", crate)
    assert digest(crate / WASM) != old
    record("build: an edit an hour old, as after the clock was set back", "is built")


@pytest.mark.faults("R19")
def test_a_deployment_from_the_future(place, probe, record):
    """Its record and files have times a year ahead."""
    root = place.project()
    url = place.deploy(root, "envoy", probe.path)["url"]
    (folder,) = place.deployments
    record_file = folder / "deployment.json"
    told = json.loads(record_file.read_text())
    told["since"] += 31_536_000
    record_file.write_text(json.dumps(told))
    for path in folder.rglob("*"):
        os.utime(path, (4e9, 4e9))
    now = place.status(root)
    assert (now["running"], now["age"]) == (True, 0)
    place.well("deploy", "envoy", probe.path, "--root", root, "--config", '"next"')
    assert get(url)[1]["x-configuration"] == '"next"'
    record("status, deploy: a deployment from next year", "0 s old; replaced as any other")


# --- R20

NAMES = {
    "spaces": "a  b ",
    "quotes": 'it\'s "a" `b`',
    "an option": "-rf",
    "a shell's": "$(touch x); rm *",
    "umlauts, composed": "\u00fc",
    "umlauts, decomposed": "u\u0308",
    "emoji": "\U0001f980",
    "braces": "{0} {{x}} {cookiecutter}",
    "a line's end": "a\nb",
    "200 bytes": "x" * 200,
}


def through_all(place: Place, folder: Path, *, tests: bool = True) -> str:
    """new, build, deploy, status, test, undeploy in a folder; which worked, and how the others ended."""
    crate = shutil.copytree(place.tiny(), folder / "tiny")
    told = {}
    for words in (
        ("new", "hello_world", "--no-input"),
        ("build", "--root", "tiny"),
        ("deploy", "--root", "tiny", "--port=0"),
        ("status", "--root", "tiny"),
        *([("test", "--root", "tiny")] if tests else []),
        ("undeploy", "--root", "tiny"),
        ("build", "--root", crate),
    ):
        ran = place.run(*words, cwd=folder)
        assert ran.explained, f"{words}: {ran.code} {ran.err}"
        told[words[0]] = ran.code
    assert (folder / "hello_world/Cargo.toml").exists() == (told["new"] == 0)
    refused = {command: code for command, code in told.items() if code}
    return f"refused: {refused}" if refused else "all work"


@pytest.mark.faults("R20")
@pytest.mark.parametrize("kind", NAMES)
def test_projects_in_a_folder_of_any_name(place, record, kind):
    around = place.project("around")
    folder = around / NAMES[kind]
    folder.mkdir()
    tests = kind in ("quotes", "an option", "a line's end", "200 bytes")
    seen = through_all(place, folder, tests=tests)
    assert names(around) == [NAMES[kind]]
    assert seen == "all work"
    commands = "new, build, deploy, test, undeploy" if tests else "new, build, deploy, undeploy"
    record(f"{commands} below a folder named with {kind}", seen)


@pytest.mark.faults("R20")
def test_projects_in_a_folder_with_a_percent_sign(place, record):
    """The linker takes the sign for a place to put letters of its own, and doesn't find the file then."""
    folder = place.project("50%")
    seen = through_all(place, folder)
    record("new, build, deploy, test, undeploy below a folder named with a percent sign", seen)


@pytest.mark.faults("R20")
def test_projects_in_a_folder_whose_name_is_no_text(place, record):
    folder = Path(os.fsdecode(os.fsencode(place.project("around")) + b"/\xff\xfe"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes text only")
    seen = through_all(place, folder)
    record("new, build, deploy, test, undeploy in a folder whose name isn't UTF-8", seen)


# --- R21


@pytest.fixture
def offline(place: Place):
    """A place whose commands see no network but loopback."""
    with namespace("net", first="ip link set lo up") as place.wrapper:
        yield place


@pytest.mark.faults("R21")
def test_without_a_network(offline, crate, probe, record):
    """In a namespace with loopback only; the crates that were downloaded once are cargo's to keep."""
    place = offline
    target = {"CARGO_TARGET_DIR": os.environ["CARGO_TARGET_DIR"]}
    copy = Path(shutil.copytree(crate, place.folder / "hello_world"))
    place.well("new", "another", "--no-input", "--output-dir", place.folder)
    (copy / "src/lib.rs").write_text((copy / "src/lib.rs").read_text() + "// edited\n")
    place.well("build", "--root", copy, **target)
    place.well("deploy", "--root", copy, "--port=0", **target)
    assert place.status(copy)["running"]
    place.well("deploy", "envoy", probe.path, "--root", copy, "--probe", "/headers")
    place.well("undeploy", "--root", copy)
    ran = place.run("test", "--root", copy, **target)
    assert ran.code == 0, ran.err
    child = place.start("run", probe.path, "--root", copy, "--port=0")
    place.until("Press Ctrl-C to stop", child)
    child.terminate()
    assert place.end(child).code == 143
    record("new, build, deploy, test, run: loopback only", "work")


@pytest.mark.faults("R21")
def test_a_new_project_without_a_network(offline, crate, record):
    """cargo knows no versions yet: it says so, or with CARGO_NET_OFFLINE takes those it has."""
    place = offline
    project = place.folder / "another"
    place.well("new", "another", "--no-input", "--output-dir", place.folder)
    begun = time.monotonic()
    ran = place.run("build", "--root", project)
    took = time.monotonic() - begun
    assert (ran.code, ran.explained) == (5, True), ran.err
    place.well("build", "--root", project, CARGO_NET_OFFLINE="true")
    record(
        "build of a project made just now: loopback only",
        f"exit code 5 in cargo's words after {took:.0f} s; with CARGO_NET_OFFLINE=true it builds",
    )


@pytest.mark.faults("R21")
def test_behind_a_proxy_that_is_dead(place, crate, probe, record):
    dead = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), dead)
    place.env = copy_env(place.env, **proxies, no_proxy=None, NO_PROXY=None)
    tiny = place.tiny()
    place.well("new", "another", "--no-input", "--output-dir", place.folder)
    place.well("build", "--root", tiny)
    place.deploy(tiny, "envoy", probe.path, "--probe", "/headers")
    place.well("test", "--root", tiny)
    record("new, build, deploy, test: a proxy that is dead", "work: what is on loopback goes past it")
