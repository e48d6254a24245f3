"""The private toolchain for real: Debian's packages, downloaded at most once a run.

Where the user who runs the tests has one already, it is used and none is installed, unless
SCAFFOLD_TEST_INSTALL is set.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaffold.toolchain import find as toolchain
from scaffold.toolchain.debian import install as private
from scaffold.wasm.module import WasmModule

TRIPLES = ("wasm32-wasip1", "wasm32-unknown-unknown")
INSTALL = """
import sys
from scaffold.core import events; from scaffold.toolchain import find as toolchain
def hear(event):
    if isinstance(event, events.Progressed):
        print(event.title, int(event.done), flush=True)
    elif hasattr(event, "text"):
        print("said", event.text, flush=True)
with events.listening(hear):
    print("found", toolchain.find("wasm32-wasip1").origin, flush=True)
"""
MEMBER = '[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n[lib]\n{lib}\n'
SOURCES = {
    "Cargo.toml": MEMBER.format(name="tiny", lib='crate-type = ["cdylib", "rlib"]')
    + '[dependencies]\nmacros = { path = "macros" }\n',
    "build.rs": 'fn main() { println!("cargo:rustc-env=BUILT=by a build script"); }\n',
    "src/lib.rs": """//! ```
//! assert_eq!(tiny::answer(), 42);
//! ```
pub fn answer() -> u32 { macros::forty_two!() }
#[no_mangle]
pub extern "C" fn proxy_abi_version_0_2_1() { println!("{} {}", env!("BUILT"), answer()) }
#[test]
fn the_answer() { assert_eq!(answer(), 42) }
""",
    "tests/outside.rs": "#[test]\nfn the_answer() { assert_eq!(tiny::answer(), 42) }\n",
    "macros/Cargo.toml": MEMBER.format(name="macros", lib="proc-macro = true"),
    "macros/src/lib.rs": "use proc_macro::TokenStream;\n#[proc_macro]\n"
    'pub fn forty_two(_: TokenStream) -> TokenStream { "42".parse().unwrap() }\n',
}


@dataclass
class Installed:
    """`env` is one in which the private toolchain is the only one; `said` what two at once printed."""

    env: dict[str, str]
    said: list[str]


def run(env, until="") -> str:
    """Install in a process of its own, killed as soon as a line begins with `until`; what it printed."""
    said = ""
    with subprocess.Popen(
        [sys.executable, "-c", INSTALL], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        for line in child.stdout:
            said += line
            if until and line.startswith(until) and not line.endswith(" 0\n"):
                os.kill(child.pid, signal.SIGKILL)
                break
    return said


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A private toolchain: the user's own, or one that was killed twice on the way, then run as two."""
    if not list(Path("/usr/share/keyrings").glob("debian-archive-keyring.*")) or not shutil.which("apt-get"):
        pytest.skip("only Debian and its kin install a private toolchain")
    tools = tmp_path_factory.mktemp("bin")
    for program in Path("/usr/bin").iterdir():
        if not re.search(r"rust|cargo|cc|gcc|clang|ld|lld", program.name):
            (tools / program.name).symlink_to(program)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RUST", "CARGO"))}
    env |= {"PATH": str(tools)}
    if private.folder().is_dir() and not os.environ.get("SCAFFOLD_TEST_INSTALL"):
        yield Installed(env | {"XDG_DATA_HOME": str(private.folder().parents[2])}, [])
        return
    home = tmp_path_factory.mktemp("home of some one")  # blanks, too
    env |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}
    assert "found" not in run(env, until="Downloading Rust")
    assert "found" not in run(env, until="Unpacking Rust")
    with subprocess.Popen(
        [sys.executable, "-c", INSTALL], env=env, stdout=subprocess.PIPE, text=True
    ) as first:
        time.sleep(1)
        said = [run(env), first.communicate()[0]]
    yield Installed(env, said)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def alone(installed, monkeypatch):
    """This process in the environment where the private toolchain is the only one."""
    for name in os.environ:
        if name not in installed.env:
            monkeypatch.delenv(name)
    for name, value in installed.env.items():
        monkeypatch.setenv(name, value)
    return installed


@pytest.fixture(scope="session")
def crate(tmp_path_factory):
    root = tmp_path_factory.mktemp("crate")
    for name, text in SOURCES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cargo(found, root, *words):
    env = os.environ | dict(found.env)
    ran = subprocess.run(
        [found.cargo, *words], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.faults("R2", injected="set-up, the real one: killed twice, then run as two", seen="there once")
def test_killed_twice_and_run_as_two_it_is_there_once(installed):
    if not installed.said:
        pytest.skip("the user's own toolchain is used")
    found = [line for said in installed.said for line in said.splitlines() if line.startswith("found")]
    assert len(found) == 2 and len(set(found)) == 1
    assert found[0].startswith("found private, Debian's rustc 1.")
    home = Path(installed.env["XDG_DATA_HOME"]) / "proxy-wasm-scaffold/toolchains"
    assert sorted(path.name for path in home.iterdir()) == [".lock", private.folder().name]
    assert sum("waiting for another scaffold" in said for said in installed.said) == 1
    # the archives that the killed ones had downloaded weren't downloaded again
    assert any("download 0 kB" in said for said in installed.said)


@pytest.mark.parametrize("triple", TRIPLES)
def test_it_compiles_macros_and_build_scripts_without_a_cc(alone, crate, triple):
    found = toolchain.find(triple, install=False)
    assert found.origin == f"private, Debian's rustc {found.version}"
    cargo(found, crate, "build", "--release", "--target", triple)
    module = WasmModule.read(crate / "target" / triple / "release" / "tiny.wasm")
    assert module.abi_version == "0.2.1"


def test_native_tests_run_without_a_cc(alone, crate):
    said = cargo(toolchain.find(TRIPLES[0], install=False), crate, "test")
    assert said.count("1 passed") == 3  # a unit test, an integration test, a documentation test


def test_it_works_beside_the_machines_own_cc(alone, crate, monkeypatch, tmp_path):
    if not shutil.which("cc", path="/usr/bin"):
        pytest.skip("this machine has no cc")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = private.find(TRIPLES[0], install=False)
    assert "PATH" not in found.env
    cargo(found, crate, "test", "--target-dir", str(tmp_path))
