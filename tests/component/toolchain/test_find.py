"""Which toolchain is taken, and what is said when none is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from support import wasm_asm
from support.machines import HOST

from scaffold.commands.build import build
from scaffold.commands.setup import setup
from scaffold.errors import MachineError
from scaffold.toolchain import find as toolchain
from scaffold.toolchain.rustc import Unusable, answer

WASI = "wasm32-wasip1"


def refusal(**options) -> MachineError:
    with pytest.raises(MachineError) as caught:
        toolchain.find(WASI, **options)
    return caught.value


def elsewhere(machine, name="rustup-home"):
    return machine.folder / name / "bin"


def give_std(rustc) -> str:
    """What a stand-in for `rustup target add` runs to do its work."""
    return (
        f'd=$({rustc} --print target-libdir --target $triple); /bin/mkdir -p "$d"; echo > "$d/libstd-1.rlib"'
    )


def test_the_named_rustc_comes_first(machine):
    machine.rustc()
    machine.rustup(machine.rustc(elsewhere(machine)))
    mine = machine.rustc(elsewhere(machine, "mine"), version="1.90.0")
    found = toolchain.find(WASI, rustc=str(mine))
    assert (found.origin, found.rustc, found.version) == ("named by --rustc", mine, "1.90.0")
    assert found.cargo == mine.with_name("cargo")
    assert found.env["RUSTC"] == str(mine)


def test_a_name_on_path_and_the_environment_name_one_too(machine, monkeypatch):
    system = machine.rustc()
    monkeypatch.setenv("RUSTC", "rustc")
    found = toolchain.find(WASI)
    assert (found.origin, found.rustc) == ("named by $RUSTC", system)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda machine: "nowhere", "isn't there"),
        (lambda machine: machine.program("broken", "exit 1"), "doesn't run"),
        (lambda machine: machine.rustc(elsewhere(machine), version="1.77.2"), "older than 1.78"),
        (lambda machine: machine.rustc(elsewhere(machine), triples=()), f"has no std for {WASI}"),
    ],
)
def test_a_named_rustc_that_does_not_fit_is_an_error_whatever_else_there_is(machine, make, says):
    named = make(machine)
    machine.rustc()
    error = refusal(rustc=str(named))
    assert says in error.message
    assert "--rustc" in error.message
    assert error.hint
    assert error.exit_code == 4


def test_rustups_active_toolchain_comes_before_the_systems(machine):
    machine.rustc()
    rustc = machine.rustc(elsewhere(machine), version="1.95.0")
    machine.rustup(rustc)
    found = toolchain.find(WASI)
    assert (found.origin, found.rustc, found.version) == ("rustup's stable-here", rustc, "1.95.0")
    assert found.env["RUSTUP_TOOLCHAIN"] == "stable-here"


def test_the_folders_own_toolchain_file_counts(machine, tmp_path):
    machine.rustup(machine.rustc(elsewhere(machine)))
    (tmp_path / "rust-toolchain.toml").touch()
    assert toolchain.find(WASI, root=tmp_path).origin == "rustup's pinned"
    assert toolchain.find(WASI).origin == "rustup's stable-here"


def test_a_target_that_rustup_lacks_is_added(machine):
    rustc = machine.rustc(elsewhere(machine), triples=())
    machine.rustup(rustc, add=give_std(rustc))
    assert toolchain.find(WASI).rustc == rustc
    assert [event.title for event in machine.said if hasattr(event, "seconds")] == [
        "Adding wasm32-wasip1 to rustup's stable-here"
    ]


def test_a_target_is_not_added_unasked(machine):
    rustc = machine.rustc(elsewhere(machine), triples=())
    machine.rustup(rustc, add=give_std(rustc))
    error = refusal(install=False)
    assert "rustup: stable-here can't be used: rustc 1.85.1 has no std for wasm32-wasip1" in error.message
    assert "`rustup target add wasm32-wasip1`" in error.hint


def test_where_rustup_cannot_add_it_the_systems_is_taken(machine):
    system = machine.rustc()
    machine.rustup(machine.rustc(elsewhere(machine), triples=()), add="echo 'error: no network' >&2; exit 1")
    found = toolchain.find(WASI)
    assert (found.origin, found.rustc) == ("the system's", system)


def test_a_server_that_does_not_answer_is_not_waited_for_long(machine):
    machine.rustup(machine.rustc(elsewhere(machine), triples=()), add="/bin/sleep 60")
    begun = time.monotonic()
    found = toolchain.in_rustup(WASI, machine.folder, timeout=0.5)
    assert time.monotonic() - begun < 10
    assert isinstance(found, Unusable)
    assert "didn't answer within 0.5 s" in found.reason
    assert found.hint == "`rustup target add wasm32-wasip1`"


def test_a_toolchain_file_is_installed_as_rustup_itself_would(machine):
    rustc = machine.rustc(elsewhere(machine))
    machine.program(
        "rustup",
        f"""case "$*" in
        --version) echo "rustup 1.29.0" ;;
        "which rustc") [ -e here ] && echo "{rustc}" && exit
            echo "error: toolchain '1.90.0-here' is not installed" >&2; exit 1 ;;
        "toolchain install") echo > here ;;
        "show active-toolchain") echo "1.90.0-here" ;;
        esac""",
    )
    assert "`rustup toolchain install 1.90.0-here`" in refusal(install=False).hint
    assert toolchain.find(WASI).origin == "rustup's 1.90.0-here"


def test_a_toolchain_file_is_not_installed_where_rustup_may_not(machine, monkeypatch):
    monkeypatch.setenv("RUSTUP_AUTO_INSTALL", "0")
    machine.program(
        "rustup",
        """case "$*" in
        "toolchain install") echo > here ;;
        *) echo "error: toolchain '1.90.0-here' is not installed" >&2; exit 1 ;;
        esac""",
    )
    found = toolchain.in_rustup(WASI, machine.folder)
    assert isinstance(found, Unusable)
    assert found.hint == "`rustup toolchain install 1.90.0-here`"
    assert not (machine.folder / "here").exists()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_rustups_proxies_are_not_the_systems_rustc(machine, link):
    rustup_ = machine.program("rustup", "echo 'error: no active toolchain' >&2; exit 1")
    for name in ("rustc", "cargo"):
        link(rustup_, machine.bin / name)
    error = refusal(install=False)
    assert "rustup: `rustup which rustc`: no active toolchain" in error.message
    assert "`rustup default stable`" in error.hint
    assert "the system's rustc: none on PATH" in error.message


def test_a_broken_cargo_on_path_counts_as_absent(machine):
    machine.rustc()
    machine.program("cargo", "exit 1")
    assert "no working cargo beside it or on PATH" in refusal(install=False).message


def test_a_rustc_without_a_linker_of_its_own_takes_one_on_path(machine):
    machine.rustc()
    for linker in machine.folder.glob("sysroot-*/lib/rustlib/host/bin/rust-lld"):
        linker.unlink()
    assert "without a linker for wasm" in refusal(install=False).message
    linker = machine.program("wasm-ld-19", "exit 0")
    assert toolchain.find(WASI).env["CARGO_TARGET_WASM32_WASIP1_LINKER"] == str(linker)


def test_an_old_system_is_named_with_its_version(machine):
    machine.rustc(version="1.63.0")
    assert "rustc 1.63.0 is older than 1.78, the first with wasm32-wasip1" in refusal(install=False).message


def test_rustups_old_toolchain_is_to_be_updated(machine):
    machine.rustup(machine.rustc(elsewhere(machine), version="1.70.0"))
    error = refusal(install=False)
    assert "rustup: stable-here can't be used: rustc 1.70.0 is older than 1.78" in error.message
    assert "`rustup update`" in error.hint


@pytest.mark.parametrize("version", ["1.78.0", "1.78.0-beta.1"])
def test_the_oldest_rustc_that_will_do_does(machine, version):
    machine.rustc(version=version)
    assert toolchain.find(WASI).version == version


def test_no_question_makes_rustup_download(machine):
    """Not even a rustc that is a proxy of rustup's, which installs what rust-toolchain.toml asks for."""
    told = machine.folder / "told"
    rustc = machine.rustc(elsewhere(machine))
    rustup = machine.rustup(rustc)
    for program in (rustc, rustc.with_name("cargo"), rustup):
        line = f'echo "${{RUSTUP_AUTO_INSTALL-downloads}}" >> {told}'
        program.write_text(program.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{line}\n", 1))
    assert toolchain.find(WASI).rustc == rustc
    assert set(told.read_text().split()) == {"0"}


def test_a_newer_rustc_than_any_known_is_fine(machine):
    machine.rustc(version="3.1.0-nightly")
    assert toolchain.find(WASI).version == "3.1.0-nightly"


def test_one_message_tells_each_way_and_what_to_type(machine):
    error = refusal()
    lines = error.message.splitlines()
    assert lines[0] == "no Rust toolchain here compiles to wasm32-wasip1"
    assert lines[1:3] == ["  rustup: not on PATH", "  the system's rustc: none on PATH"]
    assert lines[3].startswith("  a private toolchain: ")
    assert len(lines) == 4
    assert "install rustup" in error.hint


def calls(machine, *programs):
    """A log of how these programs are called from now on."""
    log = machine.folder / "calls"
    for program in programs:
        line = f'echo "{program.name} $*" >> {log}'
        program.write_text(program.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{line}\n", 1))
    return log


ONCE = ["rustc -vV", f"rustc --print target-libdir --target {WASI}", "cargo --version"]


def test_each_program_is_asked_once(machine):
    rustc = machine.rustc()
    log = calls(machine, rustc, rustc.with_name("cargo"))
    found = toolchain.find(WASI)
    assert (found.cargo_version, found.host_triple) == ("cargo 1.85.1", HOST)
    assert log.read_text().splitlines() == ONCE


def test_a_build_asks_each_program_once(machine, tmp_path):
    rustc = machine.rustc()
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "x"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
    )
    (tmp_path / "x.wasm").write_bytes(wasm_asm.plugin())
    built = {"reason": "compiler-artifact", "manifest_path": str(tmp_path / "Cargo.toml")}
    (tmp_path / "built").write_text(json.dumps(built | {"filenames": [str(tmp_path / "x.wasm")]}) + "\n")
    cargo = machine.program("cargo", f'[ "$1" = build ] && exec /bin/cat {tmp_path}/built\necho cargo 1.85.1')
    log = calls(machine, rustc, cargo)
    assert build(tmp_path).path == tmp_path / "x.wasm"
    *asked, built = log.read_text().splitlines()
    assert asked == ONCE
    assert built.startswith("cargo build --lib ")


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_only_what_is_no_proxy_is_asked_once_for_all(machine, link):
    """A compiled program answers the same until it changes; a proxy runs another one at any time."""
    rustc, said = machine.bin / "rustc", machine.folder / "said"
    shutil.copy("/bin/sh", machine.bin / "rustup" if link else rustc)
    if link:
        link(machine.bin / "rustup", rustc)
    for text in ("first", "second"):
        said.write_text(f"echo {text}")
        assert answer([rustc, said]) == (text if link else "first")


def test_setup_takes_the_triple_of_the_project(machine, tmp_path):
    machine.rustc(triples=("wasm32-unknown-unknown",))
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "x"\n[lib]\ncrate-type = ["cdylib"]\n'
        '[package.metadata.proxy-wasm]\ntriple = "wasm32-unknown-unknown"\n'
    )
    found = setup(tmp_path)
    assert found and found.origin == "the system's"


@pytest.mark.parametrize("pattern", ["lld", "lld-[0-9]*"])
def test_an_entry_of_path_that_cannot_be_read_is_passed_over(open_folder, pattern):
    """Below a folder that this user may not enter, as for whoever inherits another user's PATH."""
    locked, listed, there = open_folder / "locked" / "bin", open_folder / "listed", open_folder / "there"
    for folder in (locked, listed, there):
        folder.mkdir(parents=True)
        (folder / "lld").symlink_to("/bin/sh")
        (folder / "lld-19").symlink_to("/bin/sh")
    code = (
        "import os, sys; from scaffold.toolchain.rustc import programs\n"
        "os.getuid() or os.setuid(65534)\n"
        "print(*programs(sys.argv[1]))"
    )
    locked.parent.chmod(0o000)
    listed.chmod(0o311)  # its programs can be run, but not listed
    env = os.environ | {"PATH": f"{locked}:/nowhere:{locked}/lld:{listed}:{there}"}
    try:
        ran = subprocess.run(
            [sys.executable, "-c", code, pattern], env=env, capture_output=True, text=True, timeout=30
        )
    finally:
        locked.parent.chmod(0o755)
        listed.chmod(0o755)
    found = {"lld": [listed / "lld", there / "lld"], "lld-[0-9]*": [there / "lld-19"]}[pattern]
    assert ran.stdout.split() == [str(path) for path in found], ran.stderr
