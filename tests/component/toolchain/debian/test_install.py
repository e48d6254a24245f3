"""The private toolchain, installed from stand-ins for apt-get and dpkg-deb."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from scaffold.commands.setup import setup
from scaffold.core import events, files
from scaffold.errors import MachineError
from scaffold.toolchain import find as toolchain
from scaffold.toolchain.debian import install as private
from scaffold.toolchain.debian import packages
from scaffold.toolchain.rustc import linker_key

WASI = "wasm32-wasip1"
INSTALL = f"from scaffold.toolchain import find as toolchain; print(toolchain.find({WASI!r}).origin)"


def home():
    return files.data_dir() / "toolchains"


def lying_about() -> list[str]:
    return sorted(path.name for path in home().iterdir())


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def refusal(**options) -> MachineError:
    with pytest.raises(MachineError) as caught:
        toolchain.find(WASI, **options)
    return caught.value


def test_it_is_installed_whole_and_found_again(machine, debian):
    log = debian()
    found = toolchain.find(WASI)
    assert found.origin == "private, Debian's rustc 1.85.1"
    assert found.rustc.is_relative_to(private.folder())
    assert found.env["CARGO_TARGET_WASM32_WASIP1_LINKER"] == str(found.rustc.with_name("rust-lld"))
    assert lying_about() == [".lock", private.folder().name]
    assert not (files.cache_dir() / "toolchains").exists()
    assert toolchain.find(WASI) == found
    assert log.read_text() == "downloaded\n"


def test_its_programs_run_from_wherever_it_lies(machine, debian):
    debian()
    found = toolchain.find(WASI)
    moved = private.folder().rename(machine.folder / "moved to")
    for name, says in (
        ("rustc", "rustc 1.85.1"),
        ("rustdoc", "stand-in"),
        ("cargo", "stand-in"),
        ("cc", "stand-in"),
    ):
        ran = subprocess.run([moved / "run" / name, "--version"], capture_output=True, text=True, check=True)
        assert ran.stdout.startswith(says)
    assert not found.rustc.exists()


def test_without_a_cc_it_brings_one(machine, debian):
    debian()
    key = linker_key(f"{os.uname().machine}-unknown-linux-gnu")
    found = toolchain.find(WASI)
    assert found.env[key] == str(found.rustc.with_name("cc"))
    assert found.env["PATH"].split(os.pathsep) == [str(machine.bin), str(found.rustc.parent)]
    machine.program("cc", "echo Scrt1.o")  # a gcc without the C library's objects says just the name
    assert key in toolchain.find(WASI).env
    machine.program("cc", "echo /usr/lib/Scrt1.o")
    assert not {key, "PATH"} & toolchain.find(WASI).env.keys()


def test_it_says_its_size_and_asks(machine, debian):
    debian()
    asked: list[str] = []

    def no(event):
        if isinstance(event, events.Question):
            asked.append(event.text)
            return False
        return None

    with events.listening(no):
        error = refusal()
        assert "a private toolchain: declined" in error.message
        assert "`scaffold setup`" in error.hint
        assert lying_about() == [".lock"]
        assert "download 3 MB, 7 MB on disk" in asked[0]
        assert toolchain.find(WASI, yes=True)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("free", "why"),
    [(50_000_000, "3 MB don't fit into "), (3_000_000 + 64_000_000, "10 MB don't fit into ")],
    ids=["not even the download", "not what is unpacked"],
)
def test_a_disk_that_is_too_small_is_said_before_the_download(machine, debian, monkeypatch, free, why):
    log = debian()
    monkeypatch.setattr(packages.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    error = refusal(yes=True)
    assert why in error.message
    assert "make room" in error.hint
    assert lying_about() == [".lock"]
    assert not log.exists()


def test_progress_is_in_bytes(machine, debian):
    debian()
    toolchain.find(WASI)
    seen = [event for event in machine.said if isinstance(event, events.Progressed)]
    assert [(event.title, event.done, event.total, event.unit) for event in seen] == [
        ("Downloading Rust", 1_500_000, 3_000_000, "B"),
        ("Unpacking Rust", 2_000_000, 3_000_000, "B"),
        ("Unpacking Rust", 3_000_000, 3_000_000, "B"),
    ]


def test_it_is_not_installed_unasked(machine, debian):
    debian()
    error = refusal(install=False)
    assert "a private toolchain: not installed" in error.message
    assert not home().exists()


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb"])
def test_without_debians_tools_it_says_so(machine, debian, missing):
    debian()
    (machine.bin / missing).unlink()
    assert f"a private toolchain: {missing} is not on PATH" in refusal().message


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (
            {"update": "echo 'W: x' >&2; echo 'E: no such suite' >&2; exit 100"},
            "apt-get failed: no such suite",
        ),
        ({"download": "echo 'E: Failed to fetch it' >&2; exit 100"}, "Failed to fetch it"),
        ({"unpack": "echo 'not a Debian archive' >&2; exit 2"}, "can't unpack rust_1%3a1.deb: not a Debian"),
    ],
)
def test_a_tool_that_fails_is_quoted_and_the_next_try_works(machine, debian, broken, says):
    debian(**broken)
    assert says in refusal().message
    assert lying_about() == [".lock"]
    debian()
    assert toolchain.find(WASI).rustc.exists()


def test_what_does_not_compile_is_not_kept(machine, debian):
    debian()
    rustc = machine.folder / "payload/usr/bin/rustc"
    rustc.write_text(
        rustc.read_text().replace('*" -o "*) exit 0', '*" -o "*) echo "error: no std" >&2; exit 1')
    )
    assert "doesn't compile: error: no std" in refusal().message
    assert lying_about() == [".lock"]


def test_a_broken_one_says_how_to_get_rid_of_it(machine, debian):
    debian()
    toolchain.find(WASI).rustc.unlink()
    error = refusal()
    assert "is broken" in error.message
    assert "`scaffold setup --remove`, then `scaffold setup`" in error.hint


def test_once_it_is_there_rustup_is_not_made_to_download(machine, debian):
    debian()
    toolchain.find(WASI)
    machine.rustup(machine.rustc(machine.folder / "rustup-home/bin", triples=()), add="/bin/sleep 60")
    assert toolchain.find(WASI).origin.startswith("private")


def test_it_is_removed_with_all_that_belongs_to_it(machine, debian):
    debian()
    toolchain.find(WASI)
    (home() / ".debian-half").mkdir()
    (home() / "mine").mkdir()  # not ours
    downloads = files.cache_dir() / "toolchains/archives"
    downloads.mkdir(parents=True)
    (downloads / "rust.deb").write_bytes(bytes(5000))
    assert setup(remove=True) is None
    assert lying_about() == [".lock", "mine"]
    assert not downloads.exists()
    assert any(note.startswith(f"removed {private.folder()} (") for note in machine.notes())
    assert "removed the remains of an unfinished installation (5 kB)" in machine.notes()
    setup(remove=True)
    assert machine.notes()[-1] == "there is no private toolchain to remove"


@pytest.mark.faults("R2", injected="set-up: killed in update, download, unpack", seen="the next completes it")
@pytest.mark.parametrize("moment", ["update", "download", "unpack"])
def test_killed_at_any_moment_it_can_be_run_again(machine, debian, moment):
    here = machine.folder / "here"
    debian(**{moment: f"echo > {here}; sleep 60"})
    with subprocess.Popen([sys.executable, "-c", INSTALL], start_new_session=True) as child:
        until(here.exists)
        os.kill(child.pid, signal.SIGKILL)
    assert not private.folder().exists()
    debian()
    assert toolchain.find(WASI).rustc.exists()
    assert lying_about() == [".lock", private.folder().name]


def test_of_two_at_once_the_second_finds_what_the_first_installed(machine, debian):
    log = debian(download="sleep 0.3")
    both = [
        subprocess.Popen([sys.executable, "-c", INSTALL], stdout=subprocess.PIPE, text=True) for _ in "12"
    ]
    said = [child.communicate(timeout=60)[0] for child in both]
    assert said == ["private, Debian's rustc 1.85.1\n"] * 2
    assert log.read_text() == "downloaded\n"
