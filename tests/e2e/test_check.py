"""`scaffold check`: what CI's first job does, part by part, with a real cargo."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.places import TINY

import scaffold
from scaffold.errors import MachineError, ModuleError, ProjectError, TestsFailed, ToolFailed
from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.find import find

TEST = """
#[cfg(test)]
mod tests {
    #[test]
    fn adds_up() {
        assert_eq!(1 + 1, 2);
    }
}
"""
ODD = """
/// An odd function.
pub fn odd(value: u32) -> bool {
    value % 2 == 1
}
"""


@pytest.fixture
def crate(tmp_path: Path) -> Path:
    """A crate without dependencies that passes."""
    root = tmp_path / "tiny"
    for path, text in TINY.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    append(root, TEST)
    subprocess.run(["cargo", "generate-lockfile", "--quiet"], cwd=root, check=True)
    return root


def append(root: Path, text: str) -> None:
    path = root / "src/lib.rs"
    path.write_text(path.read_text() + text)


def settings(root: Path, text: str) -> None:
    path = root / "Cargo.toml"
    path.write_text(f"{path.read_text()}\n[package.metadata.proxy-wasm]\n{text}\n")


def test_all_parts_pass(crate, run):
    ran = run("scaffold", "check", "--root", crate, "--json")
    parts = ["format", "lints", "native tests", "configuration", "module", "tests on the emulator"]
    assert json.loads(ran.stdout) == {"parts": parts}, ran.stderr


@pytest.mark.parametrize(
    ("spoil", "error", "part"),
    [
        (lambda root: append(root, "fn  odd( ) {}\n"), ProjectError, "format, lints failed"),
        (
            lambda root: append(root, ODD.replace("value % 2 == 1", "return value % 2 == 1;")),
            ToolFailed,
            "clippy",
        ),
        (
            lambda root: append(root, TEST.replace("2);", "3);").replace("tests", "more")),
            TestsFailed,
            "native tests",
        ),
        (lambda root: settings(root, 'configuration = "missing.json"'), ProjectError, "missing.json"),
        (
            lambda root: rename(root, "proxy_abi_version_0_2_1", "proxy_abi_version_9"),
            ModuleError,
            "no proxy-wasm ABI marker",
        ),
        (lambda root: (root / "Cargo.lock").unlink(), ProjectError, "no Cargo.lock in"),
    ],
    ids=["format", "lints", "tests", "configuration", "module", "lock"],
)
def test_each_part_that_fails_has_its_error(spoil, error, part, crate):
    spoil(crate)
    with pytest.raises(error, match=part) as caught:
        scaffold.check(crate)
    assert caught.value.exit_code == error.exit_code


def rename(root: Path, old: str, new: str) -> None:
    path = root / "src/lib.rs"
    path.write_text(path.read_text().replace(old, new))


def test_a_lock_file_that_is_out_of_date_is_refused_and_stays(crate):
    path = crate / "Cargo.toml"
    path.write_text(path.read_text().replace('version = "0.1.0"', 'version = "0.2.0"'))
    before = (crate / "Cargo.lock").read_bytes()
    with pytest.raises(ToolFailed, match="lints, native tests, module failed"):
        scaffold.check(crate)
    assert (crate / "Cargo.lock").read_bytes() == before


def test_a_cargo_without_clippy_is_told_apart(crate, tmp_path):
    projects = projects_at(crate)
    tools = find(projects.triples[0], root=crate)
    own = tmp_path / "cargo"
    own.write_text(f'#!/bin/sh\ntest "$1" != clippy && exec {tools.cargo} "$@"\n')
    own.chmod(0o755)
    cargo.require_subcommands(tools, projects, ("fmt", "clippy"))
    with pytest.raises(MachineError, match="has no `cargo clippy`") as caught:
        cargo.require_subcommands(replace(tools, cargo=own), projects, ("fmt", "clippy"))
    assert "rustup component add clippy" in (caught.value.hint or "")
