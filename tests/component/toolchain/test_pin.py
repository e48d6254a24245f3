"""A rust-toolchain.toml that the chosen toolchain isn't: a warning, and its remedy."""

from __future__ import annotations

import re

import pytest
from support.machines import WASI

from scaffold.commands.doctor import rust
from scaffold.commands.doctor.finding import Scope
from scaffold.core import events
from scaffold.toolchain import find as toolchain


def warnings(machine):
    return [event.text for event in machine.said if isinstance(event, events.Warned)]


@pytest.fixture
def project(tmp_path):
    """A folder below one with a file that names a toolchain."""

    def write(text, name="rust-toolchain.toml"):
        root = tmp_path / "project" / "crate"
        root.mkdir(parents=True)
        (root.parent / name).write_text(text)
        return root

    return write


def channel(name):
    return f'[toolchain]\nchannel = "{name}"\n'


def test_both_versions_and_the_remedy_are_named(machine, project):
    machine.rustc()
    root = project(channel("1.90.0"))
    toolchain.find(WASI, root=root)
    (warning,) = warnings(machine)
    file = root.parent / "rust-toolchain.toml"
    assert warning.startswith(f"{file} asks for Rust 1.90.0, but Rust 1.85.1 builds (the system's): ")
    assert f"install rustup, then `rustup toolchain install 1.90.0 --target {WASI}`" in warning
    found = {finding.name: finding for finding in rust.check(Scope(root, WASI))}["rust"]
    assert (found.state, found.why) == ("warning", warning.partition(": ")[0])
    assert f"`rustup toolchain install 1.90.0 --target {WASI}`" in (found.remedy or "")


def test_what_the_remedy_installs_is_used_without_a_warning(machine, project):
    """rustup follows the file by itself."""
    machine.rustc()
    other = machine.rustc(machine.folder / "toolchains/1.90.0/bin", version="1.90.0")
    root = project(channel("1.90.0"))
    toolchain.find(WASI, root=root)
    command = re.search(r"`rustup (.*?)`", warnings(machine)[0])[1].split()
    assert command == ["toolchain", "install", "1.90.0", "--target", WASI]
    machine.said.clear()
    machine.rustup(other)
    assert toolchain.find(WASI, root=root).version == "1.90.0"
    assert warnings(machine) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (channel("1.85"), "rust-toolchain.toml"),
        (channel("1.85.1"), "rust-toolchain.toml"),
        (channel("1.85.1-x86_64-unknown-linux-gnu"), "rust-toolchain.toml"),
        (channel("stable"), "rust-toolchain.toml"),
        ("1.85.1\n", "rust-toolchain"),
        ('[toolchain]\npath = "/opt/rust"\n', "rust-toolchain.toml"),
        ("[toolchain]\nchannel = 3\n", "rust-toolchain.toml"),
        ("toolchain = 3\n", "rust-toolchain.toml"),
        ("", "rust-toolchain"),
    ],
)
def test_a_file_that_is_met_or_names_no_version(machine, project, text, name):
    machine.rustc()
    toolchain.find(WASI, root=project(text, name))
    assert warnings(machine) == []


@pytest.mark.parametrize(
    ("text", "name", "asked"),
    [
        (channel("1.8"), "rust-toolchain.toml", "Rust 1.8,"),
        (channel("nightly-2025-01-01"), "rust-toolchain.toml", "Rust nightly-2025-01-01,"),
        (channel("beta"), "rust-toolchain.toml", "Rust beta,"),
        (channel("esp"), "rust-toolchain.toml", "Rust esp,"),
        ("nightly\n", "rust-toolchain", "Rust nightly,"),
        (channel("a b`"), "rust-toolchain.toml", "\"a b`\", which isn't a toolchain's name"),
    ],
)
def test_a_file_that_is_not_met(machine, project, text, name, asked):
    machine.rustc()
    toolchain.find(WASI, root=project(text, name))
    (warning,) = warnings(machine)
    assert f"asks for {asked}" in warning


def test_who_names_a_rustc_is_followed(machine, project):
    rustc = machine.rustc()
    root = project(channel("1.90.0"))
    toolchain.find(WASI, root=root, rustc=str(rustc))
    assert warnings(machine) == []
    assert {each.name: each.state for each in rust.check(Scope(root, WASI, str(rustc)))}["rust"] == "ok"
