"""The same source gives the same module, wherever it is built, and leaves a plain cargo nothing to redo."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain import find as toolchain
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule

SCAFFOLD = (sys.executable, "-m", "scaffold")
PLACE = "pub fn place() -> &'static str { file!() }\npub fn at(v: &[u8], i: usize) -> u8 { v[i] }\n"
PACKAGE = '[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n'
SOURCES = {
    "outside/Cargo.toml": PACKAGE.format(name="outside") + "[workspace]\n",
    "outside/src/lib.rs": f"fn unused() {{}}\n{PLACE}",
    "filter/inside/Cargo.toml": PACKAGE.format(name="inside"),
    "filter/inside/src/lib.rs": PLACE,
    "filter/Cargo.toml": PACKAGE.format(name="filter")
    + """[lib]
crate-type = ["cdylib"]
[dependencies]
serde_json = "1"
inside = { path = "inside" }
outside = { path = "../outside" }
[profile.dev]
debug = true
""",
    # as a build script does that compiles C: it asks cargo to be run again when the wrapper changes
    "filter/build.rs": r"""fn main() {
    println!("cargo:rerun-if-env-changed=RUSTC_WRAPPER");
    let made = "pub fn at(v: &[u8], i: usize) -> u8 { v[i] }\n";
    std::fs::write(format!("{}/made.rs", std::env::var("OUT_DIR").unwrap()), made).unwrap();
}
""",
    "filter/src/lib.rs": """mod made { include!(concat!(env!("OUT_DIR"), "/made.rs")); }
#[no_mangle]
pub extern "C" fn _initialize() {}
#[no_mangle]
pub extern "C" fn proxy_abi_version_0_2_1() {
    let line = std::env::args().next().unwrap();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let (v, i) = (line.as_bytes(), line.len() / 2);
    println!("{} {} {} {}", value["a"], made::at(v, i), inside::at(v, i), outside::at(v, i));
    println!("{} {}", inside::place(), outside::place());
}
#[test]
fn a_native_tests_paths_are_real() { assert!(std::path::Path::new(outside::place()).is_file()) }
""",
}


@dataclass
class User:
    """Who builds: `root` is the project, `env` what makes this user another one."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def scaffold(self, *words: str, **env: str) -> str:
        """What a command of ours says on the way."""
        return self._run(*SCAFFOLD, *words, "--root", str(self.root), **env)

    def cargo(self, *words: str) -> str:
        """What a plain cargo says that builds the module."""
        found = toolchain.find("wasm32-wasip1", install=False)
        build = [str(found.cargo), "build", "--lib", "--target", "wasm32-wasip1", *words]
        return self._run(*build, **found.env)

    def module(self, profile: str = "release") -> WasmModule:
        """What was built."""
        target = Path(self.env.get("CARGO_TARGET_DIR", self.root / "target"))
        return WasmModule.read(target / "wasm32-wasip1" / profile / "filter.wasm")

    def _run(self, *argv: str, **env: str) -> str:
        base = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
        ran = subprocess.run(
            argv, cwd=self.root, env=base | self.env | env, text=True, capture_output=True, timeout=600
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stderr


@pytest.fixture(scope="session")
def someone(tmp_path_factory, state) -> User:
    """A user who has built a release."""
    folder = tmp_path_factory.mktemp("someone")
    for name, text in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    user = User(folder / "filter")
    assert "Compiling serde_json" in user.scaffold("build", "--yes")
    return user


@pytest.fixture
def copy(someone, tmp_path) -> User:
    """One with the same sources and their Cargo.lock, who has built nothing."""
    shutil.copytree(someone.root.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("target"))
    return User(tmp_path / "copy" / "filter")


@pytest.fixture
def other(someone, tmp_path) -> User:
    """One with another home, cargo's too, whose project and target folder have other names, and odd ones."""
    home = Path.home()
    cargo_home = tmp_path / "car =go"
    theirs = Path(os.environ.get("CARGO_HOME", home / ".cargo"))
    for name in ("registry/index", "registry/cache"):
        shutil.copytree(theirs / name, cargo_home / name)
    for config in theirs.glob("config*"):
        shutil.copy(config, cargo_home)
    project = tmp_path / "pro ject's é" / "deeper"
    shutil.copytree(someone.root.parent, project, ignore=shutil.ignore_patterns("target"))
    env = {
        "HOME": str(tmp_path / "home"),
        "CARGO_HOME": str(cargo_home),
        "CARGO_TARGET_DIR": str(tmp_path / "tar get"),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(home / ".rustup")),
        "XDG_DATA_HOME": os.environ.get("XDG_DATA_HOME", str(home / ".local/share")),
        "XDG_CACHE_HOME": str(tmp_path / "home/cache"),
    }
    return User(project / "filter", env)


@pytest.mark.parametrize(("profile", "folder"), [("release", "release"), ("dev", "debug")])
def test_two_users_build_the_same_module(profile, folder, someone, other):
    for user in (someone, other):
        assert "warning: filter.wasm" not in user.scaffold("build", "--profile", profile)
    mine, theirs = someone.module(folder), other.module(folder)
    assert mine.digest == theirs.digest
    content = mine.content
    assert b"/outside-0.1.0/src/lib.rs" in content  # its places are still told
    for place in (someone.root.parent, other.root, *map(Path, other.env.values()), Path.home()):
        assert os.fsencode(place) + b"/" not in content


def test_a_plain_cargo_finds_all_of_it_fresh(someone):
    before = someone.module()
    for _ in range(2):
        assert "Compiling" not in someone.cargo("--release")
        assert "Compiling" not in someone.scaffold("build")
    assert someone.module() == before


def test_an_edit_that_a_plain_cargo_built_makes_no_difference(copy):
    """The module is made again by way of us, and the other packages are still as we had them compiled."""
    manifest, source = copy.root / "Cargo.toml", copy.root / "src/lib.rs"
    manifest.write_text(manifest.read_text().replace('outside = { path = "../outside" }\n', ""))
    source.write_text(re.sub("outside::(at|place)", r"inside::\1", source.read_text()))
    (copy.root / "build.rs").unlink()
    source.write_text(
        source.read_text().replace('include!(concat!(env!("OUT_DIR"), "/made.rs"));', "pub use inside::at;")
    )
    copy.scaffold("build")
    ours = copy.module().digest
    source.write_text(source.read_text() + "\n")
    assert "Compiling filter" in copy.cargo("--release")
    copy.scaffold("build")
    assert copy.module().digest == ours


def test_of_what_a_plain_cargo_built_only_the_module_is_made_again_and_that_is_said(copy, someone):
    assert "Compiling serde_json" in copy.cargo("--release")
    said = copy.scaffold("build")
    assert re.findall(r"Compiling (\S+)", said) == ["filter"]
    assert "Compiling" not in copy.scaffold("build")
    assert copy.module().digest != someone.module().digest
    assert "warning: filter.wasm contains the path /" in said
    assert "`scaffold clean`, then build again" in said
    copy.scaffold("clean")
    assert "warning: filter.wasm" not in copy.scaffold("build")
    assert copy.module().digest == someone.module().digest


def test_without_a_place_for_the_script_it_is_built_and_said(copy, someone, tmp_path):
    (tmp_path / "file").touch()
    said = copy.scaffold("build", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert f"can't be run in {tmp_path}/file/" in said
    assert said.count("Compiling filter") == 1
    assert copy.module().digest != someone.module().digest


@pytest.mark.parametrize("way", ["environment", "file"])
def test_a_wrapper_of_the_users_own_goes_on_working(way, copy, someone, tmp_path):
    log, wrapper = tmp_path / "log", tmp_path / "my wrapper"
    wrapper.write_text(f'#!/bin/sh\necho "$CARGO_CRATE_NAME: $*" >> "{log}"\nexec "$@"\n')
    wrapper.chmod(0o755)
    if way == "environment":
        copy.scaffold("build", RUSTC_WRAPPER=str(wrapper))
    else:
        (copy.root / ".cargo").mkdir()
        (copy.root / ".cargo/config.toml").write_text(f'[build]\nrustc-wrapper = "{wrapper}"\n')
        copy.scaffold("build")
    compiled = {line.partition(":")[0]: line for line in log.read_text().splitlines()}
    assert {"serde_json", "inside", "outside", "filter", "build_script_build"} <= compiled.keys()
    assert "--remap-path-prefix" in compiled["filter"]  # so that a cache knows the one from the other
    assert "--remap-path-prefix" not in compiled["build_script_build"]
    assert copy.module().digest == someone.module().digest


def test_native_tests_keep_their_paths(someone):
    tools = toolchain.find("wasm32-wasip1", install=False)
    assert cargo.run_tests(projects_at(someone.root), tools, BuildOptions()) == 0
