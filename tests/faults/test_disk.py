"""R5, R6, R8, R25: the disk is full, read-only, damaged, or keeps too much or too little."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from support import wasm_asm
from support.disks import FULL, SMALL_DISK, damages, fill, limited, one_line, read_only, writable
from support.foreign_templates import INSIDE, commit, template
from support.places import (
    Place,
    Ran,
    answers,
    copy_env,
    digest,
    envoys,
    get,
    in_this_process,
    inside,
    names,
    namespace,
    ordinary,
    supervisors,
    tree,
    until,
)

# --- R5: full


@pytest.mark.faults("R5")
@pytest.mark.parametrize("free", [0, 4, 8, 16, 24], ids=lambda kilobytes: f"{kilobytes} KiB")
def test_new_on_a_full_disk(place, record, free):
    """64 KiB, of which so much is left: the crate takes 28, its staging is on the same disk."""
    disk = place.project("disk")
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "64k")) as place.wrapper:
        seen = inside(place.wrapper, disk)
        fill(seen, free * 1024)
        words = ("new", "hello_world", "--no-input", "--output-dir", disk)
        for cache in (disk / "cache", place.folder / "c"):  # staged on the same disk, and beside the target
            ran = place.run(*words, XDG_CACHE_HOME=str(cache))
            assert ran.code == 4, ran.err
            said = one_line(ran.err)
            assert str(disk) in said, said
            assert set(names(seen)) <= {"filler", "cache"}
            assert not list(seen.rglob("Cargo.toml"))
            shutil.rmtree(seen / "cache", ignore_errors=True)
        (seen / "filler").unlink()
        place.well(*words)
    record(f"new: a tmpfs with {free} KiB free", f"exit code 4: {said.removeprefix('error: ')}")


@pytest.mark.faults("R5")
def test_new_with_a_limit_on_files(place, record):
    """Where no disk can be mounted: every write beyond 500 bytes fails."""
    out = place.project("out-of-it")
    ran = limited(place, 500, "new", "hello_world", "--no-input", "--output-dir", out)
    assert ran.code == 4, ran.err
    said = one_line(ran.err)
    assert names(out) == []
    assert names(place.cache / "staging") == []
    record("new: RLIMIT_FSIZE of 500 bytes", f"exit code 4: {said.removeprefix('error: ')}")


@pytest.mark.faults("R5")
@pytest.mark.parametrize(
    ("full", "free"),
    [
        *(("project", free) for free in (0, 32, 256)),
        *(("cache", free) for free in (8, 128, 500, 800)),
    ],
)
def test_update_on_a_full_disk(place, record, full, free):
    """A file of 300 KiB is new in the template: it is fetched, checked out, rendered, merged and written."""
    disk, source = place.folder / "disk", template(place.folder / "mine")
    disk.mkdir()
    commit(source)
    place.env["XDG_DATA_HOME"] = str(place.folder / "data")
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "2m")) as place.wrapper:
        seen = inside(place.wrapper, disk)
        words = ("new", "hello_world", "--no-input", "--template", f"file://{source}", "--trust")
        place.well(*words, "--output-dir", place.folder)
        root = place.folder / "hello_world"
        commit(root)
        if full == "project":
            shutil.copytree(root, seen / "hello_world")
            root = disk / "hello_world"
        (source / INSIDE / "large").write_bytes(random.Random(1).randbytes(300 * 1024))
        commit(source)
        fill(seen, free * 1024)
        env = {"XDG_CACHE_HOME": str(disk / "cache"), "TMPDIR": str(disk)} if full == "cache" else {}
        update = ("update", "--root", root, "--trust")
        ran = place.run(*update, **env)
        assert ran.code == 4, ran.err
        said = one_line(ran.err)
        assert str(disk) in said, said
        assert not list((seen if full == "project" else place.folder).rglob("hello_world/large"))
        (seen / "filler").unlink()
        place.well(*update, **env)
    record(f"update: {free} KiB free for the {full}", f"exit code 4: {said.removeprefix('error: ')}")


@pytest.mark.faults("R5")
@pytest.mark.parametrize("free", [0, 16, 100], ids=lambda kilobytes: f"{kilobytes} KiB")
def test_deploy_on_a_full_disk(place, probe, record, free):
    """The user's state is on a disk of 1 MiB, the module of 180 KiB elsewhere."""
    disk, root = place.folder / "s", place.project()
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "1m")) as place.wrapper:
        seen = inside(place.wrapper, disk)
        fill(seen, free * 1024)
        words = ("deploy", "envoy", probe.path, "--root", root, "--port=0")
        ran = place.run(*words)
        assert ran.code == 4, ran.err
        said = one_line(ran.err)
        assert str(disk) in said, said
        assert not [path for path in seen.rglob("*") if path.suffix in (".wasm", ".json")]
        place.nothing_left()
        (seen / "filler").unlink()
        place.well(*words)
        place.well("undeploy", "--root", root)
    record(
        f"deploy: {free} KiB free for the state",
        f"exit code 4, nothing started: {said.removeprefix('error: ')}",
    )


@pytest.mark.faults("R5")
def test_deploy_again_on_a_disk_that_has_filled_up(place, probe, hello, record):
    """What serves goes on, and its record and files are as they were."""
    disk, root = place.folder / "s", place.project()
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "2m")) as place.wrapper:
        seen = inside(place.wrapper, disk)
        url = place.deploy(root, "envoy", probe.path, "--config", '"old"')["url"]
        (folder,) = (seen / "proxy-wasm-scaffold/deployments").glob("*/")

        def kept() -> list[str | None]:
            files = [folder / "deployment.json", folder / "envoy/filters/ecds.json"]
            return [tree(folder / "envoy/modules"), *map(digest, files)]

        before = kept()
        filler = fill(seen)
        ran = place.run("deploy", "envoy", hello.path, "--root", root, "--config", '"new"')
        assert ran.code == 4, ran.err
        said = one_line(ran.err)
        assert kept() == before
        assert get(url)[1]["x-configuration"] == '"old"'
        assert place.run("status", "--root", root).code == 0
        filler.unlink()
        place.well("deploy", "envoy", hello.path, "--root", root)
        assert "x-configuration" not in get(url)[1]
        place.well("undeploy", "--root", root)
    seen = f"exit code 4, the old one serves on: {said.removeprefix('error: ')}"
    record("deploy again: the state's disk is full", seen)


@pytest.mark.faults("R5")
def test_build_on_a_full_disk(place, record):
    """cargo's words stand, exit code 5; where its linker died without one, the hint names the disk."""
    disk = place.project("disk")
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "2m")) as place.wrapper:
        seen = inside(place.wrapper, disk)
        shutil.copytree(place.tiny("model"), seen / "tiny")
        crate = disk / "tiny"
        place.well("build", "--root", crate)
        module = seen / "tiny/target/wasm32-wasip1/release/tiny.wasm"
        old = digest(module)
        source = seen / "tiny/src/lib.rs"
        source.write_text(source.read_text().replace("        0\n", "        1\n"))
        filler = fill(seen)
        ran = place.run("build", "--root", crate)
        assert ran.code == 5, ran.err
        assert f"are free on the disk of {crate}: make room" in ran.err
        assert "Traceback" not in ran.err
        assert digest(module) == old
        filler.unlink()
        place.well("build", "--root", crate)
        assert digest(module) not in (None, old)
    record(
        "build: the crate's disk is full",
        f"exit code {ran.code}, cargo's words, our hint names the disk; the old module stays",
    )


@pytest.mark.faults("R5")
@pytest.mark.parametrize(("command", "free"), [("run", 8), ("test", 0)], ids=["run", "test"])
def test_no_room_for_temporary_files(place, probe, record, command, free):
    """Where there is none at all, another folder is taken, as Python does; too little shows too late."""
    crate = place.tiny()
    place.well("build", "--root", crate)
    with namespace(
        "mount",
        first='for disk in "$1" "$2"; do mount -t tmpfs -o size=64k none "$disk"; done',
        arguments=(place.folder / "t", place.folder / "c"),
    ) as place.wrapper:
        disks = [inside(place.wrapper, place.folder / name) for name in "tc"]
        for disk in disks:
            fill(disk, free * 1024)
        words = ("run", probe.path, "--port=0") if command == "run" else ("test", "--module", probe.path)
        ran = place.run(*words, "--root", crate)
        assert ran.explained, ran.err
        # an older rustc wants room there itself, and says so
        assert ran.code in ((4,) if command == "run" else (0, 5)), ran.err
        assert ran.code == 0 or FULL[0] in ran.err
        left = [path for disk in disks for path in disk.rglob("*") if path.stat().st_size]
        assert {path.name for path in left if path.is_file()} <= {"filler", "answers.json"}, left
        place.nothing_left()
    seen = f"exit code {ran.code}: {ran.sentence or 'it works elsewhere'}"
    record(f"{command}: {free} KiB free for temporary files", seen)


# --- R6: read-only, as a user whom permissions bind


@pytest.fixture
def bound(place: Place) -> Place:
    """A place whose commands are bound by permissions, be it root who runs the tests."""
    place.wrapper = ordinary()
    return place


@pytest.mark.faults("R6")
def test_a_read_only_cache_is_done_without(bound, probe, record):
    root, crate = bound.project(), bound.tiny()
    read_only(bound.folder / "c")
    bound.well("new", "hello_world", "--no-input", "--output-dir", bound.project("out-of-it"))
    bound.well("build", "--root", crate)
    assert answers(bound.deploy(root, "envoy", probe.path)["url"])
    bound.well("undeploy", "--root", root)
    bound.well("test", "--root", crate)
    record("new, build, deploy, test: the cache is read-only", "work without it")


@pytest.mark.faults("R6")
def test_a_read_only_home_with_nothing_in_it(bound, probe, record):
    """All of the user's folders below a home that may not be written, as in many a container."""
    home = bound.project("home")
    read_only(home)
    env = {"HOME": str(home), "CARGO_HOME": str(bound.project("cargo"))}
    if rustup := Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup"):
        env |= {"RUSTUP_HOME": str(rustup)} if rustup.is_dir() else {}
    gone = dict.fromkeys(("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"))
    bound.env = copy_env(bound.env, **gone, **env)
    bound.well("new", "hello_world", "--no-input", "--output-dir", bound.project("out-of-it"))
    built = bound.run("build", "--root", bound.tiny())
    if "no Rust toolchain" in built.err:
        pytest.skip("the only toolchain here is in the user's own home")
    assert built.code == 0, built.err
    ran = bound.run("deploy", "envoy", probe.path, "--root", bound.project(), "--port=0")
    assert ran.code == 4, ran.err
    assert str(home) in ran.sentence, ran.err
    assert names(home) == []
    child = bound.start("run", probe.path, "--root", bound.project(), "--port=0")
    bound.until("Press Ctrl-C to stop", child)
    child.terminate()
    assert bound.end(child).code == 143
    record("new, build, run, deploy: a read-only HOME", "work, but deploy: exit code 4, names the folder")


@pytest.mark.faults("R6")
def test_a_read_only_project(bound, probe, record):
    """cargo wants its lock below target/, and says so; a module can be deployed and run all the same."""
    crate = bound.tiny()
    bound.well("build", "--root", crate)
    read_only(crate)
    before = tree(crate)
    try:
        for command in ("build", "test"):
            ran = bound.run(command, "--root", crate)
            assert (ran.code, ran.explained) == (5, True), ran.err
            assert "ermission denied" in ran.err and str(crate) in ran.err
        assert answers(bound.deploy(crate, "envoy", probe.path)["url"])
        bound.well("undeploy", "--root", crate)
        assert tree(crate) == before
        bound.well("build", "--root", crate, CARGO_TARGET_DIR=str(bound.project("elsewhere")))
    finally:
        writable(crate)
    record(
        "build, test, deploy: a read-only project",
        "build, test: exit code 5, cargo names the file; a module is deployed; "
        "with CARGO_TARGET_DIR elsewhere it builds",
    )


@pytest.mark.faults("R6")
def test_a_read_only_state(bound, probe, record):
    read_only(bound.folder / "s")
    ran = bound.run("deploy", "envoy", probe.path, "--root", bound.project(), "--port=0")
    assert ran.code == 4, ran.err
    assert str(bound.folder / "s") in ran.sentence
    assert "Permission denied" in ran.sentence
    for command in ("status", "undeploy"):
        assert bound.run(command, "--root", bound.project()).explained
    record("deploy, status, undeploy: the state is read-only", "deploy: exit code 4, names the folder")


@pytest.mark.faults("R6")
def test_a_state_that_may_not_be_read(bound, probe, record):
    """As after a `sudo scaffold deploy`."""
    root = bound.project()
    bound.deploy(root, "envoy", probe.path)
    bound.well("undeploy", "--root", root)
    home = bound.folder / "s/proxy-wasm-scaffold"
    (home / "deployments").chmod(0)
    codes = []
    try:
        for words in (("deploy", "envoy", probe.path, "--port=0"), ("status",), ("undeploy",), ("logs",)):
            ran = bound.run(*words, "--root", root)
            assert ran.explained, ran.err
            codes.append(ran.code)
            assert ran.code != 4 or str(home) in ran.sentence, ran.err
        assert codes[0] == 4
    finally:
        (home / "deployments").chmod(0o755)
    record("all commands: an unreadable state folder", f"exit codes {codes}, the folder is named")


@pytest.mark.faults("R6")
def test_setup_where_nothing_may_be_written(machine, debian, record, tmp_path):
    debian()
    place = Place(tmp_path, dict(os.environ), ordinary())
    data = Path(os.environ["XDG_DATA_HOME"])
    read_only(data)
    try:
        ran = place.run("setup", "--yes", "--root", tmp_path)
    finally:
        writable(data)
    assert ran.code == 4, ran.err
    assert str(data) in ran.err
    assert "Traceback" not in ran.err
    place.well("setup", "--yes", "--root", tmp_path)
    record("setup: XDG_DATA_HOME is read-only", "exit code 4, names the folder; then the same succeeds")


# --- R8: damaged


@pytest.mark.faults("R8")
def test_every_file_of_a_deployment_that_serves_is_damaged(here, probe, record, chance, capsys):
    """One after the other: no traceback, and `deploy`, or `undeploy` and `deploy`, mend it."""
    root = here.project()
    deploy = ("deploy", "envoy", probe.path, "--root", root, "--port=0", "--json")
    outcomes: Counter[str] = Counter()

    def asked(where: str, *words: object) -> Ran:
        ran = in_this_process(capsys, *words)
        assert ran.explained, f"{where}: {words[0]}: {ran.code} {ran.err}"
        return ran

    assert asked("", *deploy).code == 0
    (folder,) = here.deployments
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) > 6
    for name in files:
        told = damages(folder / name, chance)
        thorough = chance.randrange(len(told))
        for kind, (how, content) in enumerate(told):
            whole = (folder / name).read_bytes()
            (folder / name).write_bytes(content)
            where = f"{name} {how}"
            asked(where, "status", "--root", root)
            asked(where, "logs", "--root", root)
            if kind != thorough:
                (folder / name).write_bytes(whole)
                continue
            ran = asked(where, *deploy)
            if ran.code == 0:
                assert answers(json.loads(ran.out)["url"]), where
                consistent(here, where)
            outcomes["mended by deploy" if ran.code == 0 else "explained, mended by undeploy"] += 1
            assert len(supervisors(here)) <= 1, f"{where}: {supervisors(here)}"
            assert asked(where, "undeploy", "--root", root).code == 0
            until(lambda: not supervisors(here) and not envoys(here), 3, lambda: f"{where}: {here.left()}")  # noqa: B023
            assert asked(where, *deploy).code == 0
    asked("", "undeploy", "--root", root)
    found = ", ".join(f"{what} {often}" for what, often in sorted(outcomes.items()))
    record(
        f"{len(files)} files of a deployment that serves: emptied, cut, a bit turned",
        f"no traceback; {found}",
    )


@pytest.mark.faults("R8")
@pytest.mark.parametrize("how", [0, 1, 2], ids=["emptied", "cut", "a bit turned"])
def test_all_files_of_a_deployment_that_has_ended_are_damaged(place, probe, record, chance, how):
    root = place.project()
    place.deploy(root, "envoy", probe.path)
    for supervisor in supervisors(place):
        os.kill(int(supervisor.partition(":")[0]), signal.SIGKILL)
    until(lambda: not place.left(), 3)
    (folder,) = place.deployments
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes((damages(path, chance) * 3)[how][1])
    for command in ("status", "logs"):
        ran = place.run(command, "--root", root)
        assert ran.explained and ran.code in (0, 4, 9), ran.err
    assert answers(place.deploy(root, "envoy", probe.path)["url"])
    consistent(place, "ended")
    place.well("undeploy", "--root", root)
    what = ("emptied", "cut", "a bit turned")[how]
    record(f"{len(files)} files of a deployment that has ended: {what}", "no traceback; mended by deploy")


def consistent(place: Place, where: str) -> None:
    for module in place.folder.glob("s/**/modules/*.wasm"):
        assert digest(module) == f"sha256:{module.stem}", where


@pytest.mark.faults("R8")
def test_every_file_of_the_cache_is_damaged(here, record, chance, capsys):
    place, crate = here, here.tiny()
    place.well("build", "--root", crate)
    files = [path for path in place.cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        for kind in range(3):
            how, content = (damages(path, chance) * 3)[kind]
            path.write_bytes(content)
            ran = in_this_process(capsys, "build", "--root", crate)
            assert ran.code == 0, f"{path.name} {how}: {ran.err}"
    record(f"{len(files)} files of the cache, for build: emptied, cut, a bit turned", "no difference")


@pytest.mark.faults("R8")
def test_every_file_of_the_private_toolchain_is_damaged(machine, debian, record, chance, tmp_path, capsys):
    """Of stand-ins. What doesn't run is said, with how to get rid of it, and that works."""
    from scaffold.toolchain.debian import install as private

    debian()
    place = Place(tmp_path, dict(os.environ))
    place.well("setup", "--yes", "--root", tmp_path)
    root = private.folder()
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    whole = {path: path.read_bytes() for path in files}
    outcomes: Counter[str] = Counter()
    for path in files:
        for how, content in damages(path, chance)[:: 1 if "rustc" in path.name else 2]:
            path.write_bytes(content)
            ran = in_this_process(capsys, "setup", "--yes", "--root", tmp_path)
            assert ran.explained and ran.code in (0, 4), f"{path.name} {how}: {ran.err}"
            assert ran.code == 0 or "`scaffold setup --remove`" in ran.err, f"{path.name} {how}: {ran.err}"
            outcomes["said" if ran.code else "no difference to setup"] += 1
            path.write_bytes(whole[path])
    (root / "run/rustc").write_bytes(b"")
    place.well("setup", "--remove")
    place.well("setup", "--yes", "--root", tmp_path)
    found = ", ".join(f"{what} {often}" for what, often in sorted(outcomes.items()))
    record(
        f"{len(files)} files of the private toolchain: emptied, cut, a bit turned", f"no traceback; {found}"
    )


# --- R25: what is kept of the modules


def numbered(place: Place, number: int, *, good: bool = True) -> Path:
    """A module of its own digest; a bad one is refused by Envoy."""
    path = place.folder / f"{number}.wasm"
    missing = () if good else [("no_such_hostcall", wasm_asm.signature())]
    path.write_bytes(wasm_asm.plugin(hostcalls=missing) + wasm_asm.custom("number", b"%d" % number))
    return path


def modules(place: Place) -> dict[str, Path]:
    (folder,) = place.deployments
    return {f"sha256:{path.stem}": path for path in (folder / "envoy/modules").glob("*.wasm")}


@pytest.mark.faults("R25")
def test_modules_are_pruned_but_never_the_live_one_whatever_the_clock_says(place, record):
    """Every module that lies there gets a time in the future: to the files the clock has gone back."""
    root = place.project()
    url = place.deploy(root, "envoy", numbered(place, 0))["url"]
    for number in range(1, 8):
        for path in modules(place).values():
            os.utime(path, (4e9, 4e9))
        module = numbered(place, number)
        place.well("deploy", "envoy", module, "--root", root)
        assert digest(module) in modules(place), "the live one was pruned"
        assert len(modules(place)) <= 5
    envoys(place)[0].kill()  # the next one reads the file again
    until(lambda: answers(url), 10)
    record(
        "8 modules deployed, the clock back before each",
        f"the live one stays, {len(modules(place))} are kept; Envoy starts with it again",
    )


@pytest.mark.faults("R25")
def test_refused_modules_neither_pile_up_nor_push_out_the_live_one(place, record):
    root = place.project()
    live = numbered(place, 0)
    url = place.deploy(root, "envoy", live)["url"]
    for number in range(1, 8):
        ran = place.run("deploy", "envoy", numbered(place, number, good=False), "--root", root)
        assert ran.code == 6, ran.err
        assert "no_such_hostcall" in ran.err
    kept = modules(place)
    assert digest(live) in kept
    envoys(place)[0].kill()
    until(lambda: answers(url), 10)
    assert len(kept) <= 5, f"{len(kept)} modules are kept"
    record(
        "7 modules in a row that Envoy refuses",
        f"the live one stays, {len(kept)} are kept; Envoy starts with it again",
    )


@pytest.mark.faults("R25")
def test_two_deployments_keep_their_own(place, probe, record):
    """A live module of another project is nobody else's to prune."""
    first, second = place.project("first"), place.project("second")
    one = place.deploy(first, "envoy", probe.path)
    for number in range(6):
        place.deploy(second, "envoy", numbered(place, number))
    folder = json.loads(place.well("status", "--root", first, "--json").out)
    assert folder[0]["plugins"] == one["plugins"]
    live = one["plugins"][0]["module_digest"].removeprefix("sha256:")
    assert list(place.folder.glob(f"s/**/modules/{live}.wasm"))
    assert answers(one["url"])
    record("6 modules of another project", "the first project's stays")
