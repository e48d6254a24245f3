"""A private wasm-opt for real: Debian's package, downloaded by apt-get and used by a build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest

import scaffold
from scaffold.toolchain import relink, wasm_opt
from scaffold.wasm.module import WasmModule

INSTALL = "from scaffold.toolchain.debian import binaryen; print(binaryen.install(yes=True))"


@pytest.fixture(autouse=True)
def debian():
    if not list(Path("/usr/share/keyrings").glob("debian-archive-keyring.*")) or not shutil.which("apt-get"):
        pytest.skip("only Debian and its kin have the package")


def test_it_is_installed_by_an_ordinary_user():
    """Whatever the folder's name; who runs the tests as root becomes another user."""
    python = sys.executable
    user = {}
    with tempfile.TemporaryDirectory(prefix="home of some one ") as home:
        if os.geteuid() == 0:
            python = "/usr/bin/python3"  # ours may be in a folder that others can't enter
            shutil.chown(home, "nobody", "nogroup")
            user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        source = Path(scaffold.__file__).parents[1]
        packages = str(Path(platformdirs.__file__).parents[1])
        env = {"HOME": home, "PATH": "/usr/bin:/bin", "TMPDIR": home, "PYTHONPATH": packages}
        ran = subprocess.run(
            [python, "-c", INSTALL], cwd=source, env=env, text=True, capture_output=True, **user
        )
        assert ran.returncode == 0, ran.stderr
        program = ran.stdout.strip()
        assert program.startswith(home)
        said = subprocess.run([program, "--version"], text=True, capture_output=True, check=True)
        assert said.stdout.startswith("wasm-opt version ")


def test_a_build_uses_it_and_it_goes_with_the_toolchain(copy, no_optimiser, run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = scaffold.build(copy)
    made = relink.made(plain.path)
    assert made and not made.optimised
    ran = run("scaffold", "doctor", "--root", copy)
    assert "wasm-opt" in ran.stdout and "scaffold setup --wasm-opt" in ran.stdout
    ran = run("scaffold", "setup", "--wasm-opt", "--yes", "--root", copy)
    assert ran.returncode == 0, ran.stderr
    assert "wasm-opt version " in ran.stderr
    program = wasm_opt.find()
    assert program and program.is_relative_to(tmp_path)
    assert f", {program}" in run("scaffold", "doctor", "--root", copy).stdout
    small = scaffold.build(copy)
    made = relink.made(small.path)
    assert made and made.optimised
    assert small.size < 0.9 * plain.size
    again = scaffold.build(copy)
    assert WasmModule.read(again.path).digest == small.digest
    ran = run("scaffold", "setup", "--remove")
    assert "removed " in ran.stderr and "-binaryen (" in ran.stderr
    assert wasm_opt.find() is None
    assert scaffold.build(copy).digest == plain.digest
