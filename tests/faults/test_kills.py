"""R1, R2: a command is killed at a random moment; what it makes is whole or absent, and can be made again."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from typing import Any

import psutil
import pytest
from support.kills import SELDOM, SIGNALS, Command, kill, seen, told
from support.places import Place, answers, digest, get, names, processes, supervisors, tree, until


@pytest.mark.faults("R1")
@SIGNALS
def test_new(place, record, chance, numbers, times):
    out = place.folder / "out-of-it"
    out.mkdir()
    place.well("new", "hello_world", "--no-input", "--output-dir", place.folder / "model")
    model = tree(place.folder / "model/hello_world")

    def look() -> str:
        there = names(out)
        assert there in ([], ["hello_world"])
        assert not there or tree(out / "hello_world") == model
        return "new" if there else "absent"

    def prepare() -> None:
        if names(out):
            (out / "hello_world").rename(place.folder / f"old-{time.monotonic_ns()}")

    words = ("new", "hello_world", "--no-input", "--output-dir", out)
    command = Command(lambda: place.start(*words), look, place.left, prepare, said=place.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    assert names(place.cache / "staging") == [], "the last, which ended well, swept what was left"
    assert place.temporary() == []
    record(told(numbers, times, "new", chance), seen(outcomes, slowest))


@pytest.mark.faults("R1")
@SIGNALS
def test_adopt_a_file(place, record, chance, numbers, times):
    out = place.folder / "out-of-it"
    out.mkdir()
    source = place.folder / "gate.rs"
    source.write_text("proxy_wasm::main! {{ proxy_wasm::set_http_context(|_, _| todo!()); }}\n")
    words = ("adopt", "--no-check", source)
    place.well(*words, cwd=place.folder)
    model = tree(place.folder / "gate")

    def look() -> str:
        there = names(out)
        assert there in ([], ["gate"])
        assert not there or tree(out / "gate") == model
        return "new" if there else "absent"

    def prepare() -> None:
        if names(out):
            (out / "gate").rename(place.folder / f"old-{time.monotonic_ns()}")

    command = Command(lambda: place.start(*words, cwd=out), look, place.left, prepare, said=place.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    assert names(place.cache / "staging") == names(place.cache / "scratch") == []
    assert place.temporary() == []
    record(told(numbers, times, "adopt FILE", chance), seen(outcomes, slowest))


@pytest.mark.faults("R1")
@SIGNALS
def test_new_in_a_workspace(place, record, chance, numbers, times):
    """The workspace never names a folder that is missing or half; one that it doesn't name yet is whole."""
    root = place.folder / "workspace"
    root.mkdir()
    manifest, before = root / "Cargo.toml", "[workspace]\nmembers = []\n"
    words = ("new", "hello_world", "--no-input", "--output-dir", root)

    def prepare() -> None:
        if (root / "hello_world").exists():
            (root / "hello_world").rename(place.folder / f"old-{time.monotonic_ns()}")
        manifest.write_text(before)

    prepare()
    place.well(*words)
    model, after = tree(root / "hello_world"), manifest.read_text()

    def look() -> str:
        there = names(root)
        assert there in (["Cargo.toml"], ["Cargo.toml", "hello_world"])
        assert len(there) == 1 or tree(root / "hello_world") == model
        assert manifest.read_text() in (before, after)
        if manifest.read_text() == after:
            assert len(there) == 2
            return "new"
        return "absent" if len(there) == 1 else "not named yet"

    command = Command(lambda: place.start(*words), look, place.left, prepare, said=place.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    record(told(numbers, times, "new in a workspace", chance), seen(outcomes, slowest))


@pytest.mark.faults("R2")
@SIGNALS
def test_build(place, record, chance, numbers, times):
    crate = place.tiny()
    module = crate / "target/wasm32-wasip1/release/tiny.wasm"
    source = crate / "src/lib.rs"
    turns: list[str | None] = []

    def prepare() -> None:
        turns.append(digest(module))
        source.write_text(
            source.read_text().replace(f"        {len(turns) - 1}\n", f"        {len(turns)}\n")
        )

    def look() -> str:
        now = digest(module)
        if now is None:
            return "absent"  # between cargo's removing the old and linking the new
        assert module.read_bytes()[:4] == b"\0asm"
        if now != turns[-1]:
            place.well("build", "--root", crate)
            # it may have been killed while it gave the linker's module the marks that backtraces need
            linked = module.parent / f"deps/{module.name}.link/linked.wasm"
            assert now in (digest(module), digest(linked)), "neither the old one nor the new one"
        return "old" if now == turns[-1] else "new"

    words = ("build", "--root", crate)
    command = Command(lambda: place.start(*words), look, place.left, prepare, said=place.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    # an older rustc that is killed leaves a folder of its own
    assert [name for name in place.temporary() if not name.startswith("rustc")] == []
    record(told(numbers, times, "build of a changed source", chance), seen(outcomes, slowest))


@pytest.mark.faults("R2")
@SIGNALS
def test_setup(machine, debian, record, chance, numbers, times, tmp_path):
    """apt-get and dpkg-deb are stand-ins; their real ones: tests/e2e/test_private.py."""
    from scaffold.toolchain.debian import install as private

    debian()
    place = Place(tmp_path, dict(os.environ))
    home = private.folder().parent

    def prepare() -> None:
        if private.folder().is_dir():
            private.folder().rename(machine.folder / f"old-{time.monotonic_ns()}")

    def look() -> str:
        found = tree(private.folder())
        assert found in (None, model)
        return "new" if found else "absent"

    def left() -> list[str]:
        return processes(tmp_path)

    model = None
    words = ("setup", "--yes", "--root", tmp_path)
    command = Command(lambda: place.start(*words), lambda: "new", left, prepare, said=place.said)
    command.whole()
    model = tree(private.folder())
    command.seen = look
    outcomes, slowest = kill(command, numbers, times, chance)
    assert names(home) == [".lock", private.folder().name], "what a kill left was swept"
    record(told(numbers, times, "set-up of the toolchain", chance), seen(outcomes, slowest))


def consistent(place: Place) -> None:
    """Every module that lies there is the one that its name says."""
    for module in place.folder.glob("s/**/modules/*.wasm"):
        assert digest(module) == f"sha256:{module.stem}"


@pytest.mark.faults("R2")
@SIGNALS
@pytest.mark.parametrize("command", ["deploy", "undeploy"])
def test_deploy_and_undeploy(place, probe, record, chance, command, numbers, times):
    """What was killed half-way serves whole, or isn't there."""
    root = place.project()
    deploy = ("deploy", "envoy", probe.path, "--root", root, "--port=0")
    undeploy = ("undeploy", "--root", root)

    def serves() -> bool:
        consistent(place)
        # one that was asked to end may not have yet
        until(lambda: not (now := deployed(place)) or answers(f"http://localhost:{now['port']}"), 5)
        if deployed(place):
            assert len(supervisors(place)) == 1
            return True
        until(lambda: not place.left(), 3, lambda: str(place.left()))
        return False

    words, before = (deploy, undeploy) if command == "deploy" else (undeploy, deploy)

    def prepare() -> None:
        if bool(deployed(place)) == (command == "deploy"):
            place.well(*before)

    killed = Command(
        lambda: place.start(*words),
        lambda: "new" if serves() == (command == "deploy") else "old",
        lambda: [line for line in place.left() if f"scaffold {command}" in line],
        prepare,
        said=place.said,
        again_every=SELDOM,
    )
    outcomes, slowest = kill(killed, numbers, times, chance)
    record(told(numbers, times, command, chance), seen(outcomes, slowest))


def temporary(place: Place) -> list[str]:
    """What lies where temporary files go; pytest sweeps its own."""
    left = [*place.temporary(), *names(place.cache / "scratch")]
    return [name for name in left if not name.startswith("pytest-of-")]


def deployed(place: Place) -> dict[str, Any] | None:
    """The record of what runs."""
    for folder in place.deployments:
        with suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((folder / "deployment.json").read_text())
            return found if psutil.pid_exists(found["pid"]) else None
    return None


@pytest.mark.faults("R2")
@SIGNALS
def test_deploy_again(place, probe, record, chance, numbers, times):
    """Another configuration, put in the place of one that serves, which goes on whatever happens."""
    root = place.project()
    url = place.deploy(root, "envoy", probe.path, "--config", "0")["url"]
    turns = [0]

    def served() -> str:
        consistent(place)
        status, headers = get(url)
        assert status == 200
        now = headers["x-configuration"]
        assert now in (str(turns[0]), str(turns[0] - 1))
        return "new" if now == str(turns[0]) else "old"

    def prepare() -> None:
        turns[0] += 1

    command = Command(
        lambda: place.start("deploy", "envoy", probe.path, "--root", root, f"--config={turns[0]}"),
        served,
        lambda: [line for line in place.left() if "scaffold deploy" in line],
        prepare,
        said=place.said,
    )
    # the run that follows a kill takes the next turn, or the old one would be that before it
    outcomes, slowest = kill(command, numbers, times, chance)
    record(told(numbers, times, "deploy over a running deployment", chance), seen(outcomes, slowest))


@pytest.mark.faults("R2")
@SIGNALS
def test_run(place, probe, record, chance, numbers, times):
    words = ("run", probe.path, "--root", place.project(), "--port=0")
    command = Command(
        lambda: place.start(*words),
        lambda: "new",
        place.left,
        ready=lambda child: place.until("Press Ctrl-C to stop", child),
        ends=False,
        said=place.said,
        again_every=SELDOM,
    )
    _, slowest = kill(command, numbers, times, chance)
    assert temporary(place) == [], "the last, which ended well, swept what was left"
    record(told(numbers, times, "run", chance), f"gone within {slowest:.1f} s; it runs again")


@pytest.mark.faults("R2")
@SIGNALS
def test_test(place, record, chance, numbers, times):
    times = times if signal.SIGKILL in numbers else max(4, times // 2)
    crate = place.tiny()
    place.well("test", "--root", crate)
    command = Command(
        lambda: place.start("test", "--root", crate),
        lambda: "new",
        place.left,
        said=place.said,
        again_every=SELDOM,
    )
    _, slowest = kill(command, numbers, times, chance)
    assert temporary(place) == [], "the last, which ended well, swept what was left"
    record(
        told(numbers, times, "test", chance),
        f"gone within {slowest:.1f} s; the same again succeeded",
        "the folders that pytest keeps of its last three runs",
    )
