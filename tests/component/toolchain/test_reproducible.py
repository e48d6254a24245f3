"""The script that rustc runs behind: what it adds for a module, and that it adds nothing elsewhere."""

from __future__ import annotations

import os
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from scaffold.project.crate import Project, Settings
from scaffold.project.projects import Projects
from scaffold.toolchain import find as toolchain
from scaffold.toolchain import reproducible as remap
from scaffold.toolchain.rustc import Toolchain

WASI = "wasm32-wasip1"
WORDS = ["--crate-name", "a_b", "--target", WASI, "-C", "metadata=0123", "src/lib.rs"]
SHOW = """printf '%s\\n' "$@" """


@pytest.fixture
def tools(machine, monkeypatch) -> Toolchain:
    """A toolchain whose rustc shows how it was called, when cargo calls it."""
    for name in ("RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER", "CARGO_HOME", "CARGO_CRATE_NAME", "OUT_DIR"):
        monkeypatch.delenv(name, raising=False)
    rustc = machine.rustc()
    rustc.write_text(rustc.read_text().replace("*) exit 1 ;;", f"*) {SHOW} ;;"))
    return toolchain.find(WASI)


@pytest.fixture
def place(tmp_path) -> Path:
    """A crate's folder, with all in its name that a path may have."""
    folder = tmp_path / "a =b' $c\\ é"
    folder.mkdir()
    return folder


def alone(place: Path) -> Projects:
    """The crate in `place`, whatever its Cargo.toml has, or none."""
    path = place / "Cargo.toml"
    manifest = tomllib.loads(path.read_text()) if path.exists() else {}
    return Projects((Project(place, "a-b", "1.0.0+x", Settings(), manifest),), place)


def called(tools: Toolchain, place: Path, *words: str, **env: str) -> list[str]:
    """The words that rustc gets in the end, when cargo compiles a crate in `place`."""
    ours = remap.env_for(tools, alone(place))
    wrapper = ours.get("RUSTC_WRAPPER") or ours["CARGO_BUILD_RUSTC_WRAPPER"]
    crate = {
        "CARGO_CRATE_NAME": "a_b",
        "CARGO_PKG_NAME": "a-b",
        "CARGO_PKG_VERSION": "1.0.0+x",
        "CARGO_MANIFEST_DIR": str(place),
    }
    ran = subprocess.run(
        [wrapper, tools.rustc, *words],
        cwd=place,
        env=os.environ | ours | crate | env,
        text=True,
        capture_output=True,
        timeout=20,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def added(tools: Toolchain, place: Path, *words: str, **env: str) -> list[str]:
    """What is remapped, as "from=to"."""
    got = called(tools, place, *(words or WORDS), **env)
    return [to for flag, to in pairwise(got) if flag == "--remap-path-prefix"]


def test_a_crate_is_told_by_name_and_version_and_not_by_its_place(tools, place):
    remapped = ["--remap-path-prefix", f"{place}=/a-b-1.0.0+x"] * 2
    assert called(tools, place, *WORDS) == [*WORDS, *remapped]


@pytest.mark.parametrize(
    ("manifest", "own"),
    [
        ('[dependencies]\nb = { path = "../b" }', True),
        ("[target.'cfg(unix)'.dependencies]\nb = { path = '/b' }", True),
        ('[dependencies]\nb = { path = "b" }\npath = "1"', False),
        ('[dependencies]\nb = "1"\npath = { path = true }', False),
    ],
)
def test_a_package_outside_takes_the_place_out_of_metadata(manifest, own, tools, place):
    (place / "Cargo.toml").write_text(manifest)
    renamed = [*WORDS[:5], "metadata=a-b-1.0.0+x", *WORDS[6:]]
    assert called(tools, place, *WORDS)[: len(WORDS)] == (renamed if own else WORDS)
    assert called(tools, place, *WORDS, "--cap-lints", "allow")[: len(WORDS)] == WORDS


def test_a_broken_workspace_is_for_cargo_to_explain(tools, place):
    (place / "Cargo.toml").write_text('[workspace]\nmembers = ["broken"]\n')
    (place / "broken").mkdir()
    (place / "broken" / "Cargo.toml").write_text("[dependencies")
    assert called(tools, place, *WORDS)[: len(WORDS)] == WORDS


def test_a_workspace_is_the_folder_rustc_is_in_and_not_the_crates(tools, place, tmp_path):
    assert added(tools, place, CARGO_MANIFEST_DIR=f"{tmp_path}/ws/member") == [
        f"{place}=/a-b-1.0.0+x",
        f"{tmp_path}/ws/member=/a-b-1.0.0+x",
    ]


def test_a_link_to_the_folder_is_not_where_rustc_is(tools, place, tmp_path):
    (tmp_path / "link").symlink_to(place)
    assert f"{place}=/a-b-1.0.0+x" in added(tools, tmp_path / "link", PWD=str(tmp_path / "link"))


def test_what_a_build_script_made_comes_last_where_it_counts_most(tools, place):
    assert added(tools, place, OUT_DIR=f"{place}/target/out")[-1] == f"{place}/target/out=/a-b-1.0.0+x/out"


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["-", "--target", WASI, "--print=cfg"], {"CARGO_CRATE_NAME": ""}),
        (["--crate-name", "build_script_build", "build.rs"], {}),
        (["--crate-name", "a_b", "--target", "x86_64-unknown-linux-gnu", "--test", "a b"], {}),
    ],
    ids=["a question", "a build script", "a native test"],
)
def test_what_goes_into_no_module_is_left_alone(words, env, tools, place):
    assert called(tools, place, *words, **env) == words


def test_a_damaged_script_is_replaced(tools, place):
    script = Path(remap.env_for(tools, alone(place))["CARGO_BUILD_RUSTC_WRAPPER"])
    script.write_text("#!/bin/sh\nexit 1\n")
    assert called(tools, place, *WORDS)[: len(WORDS)] == WORDS


def test_rustcs_exit_code_is_the_scripts(tools, place):
    script = remap.env_for(tools, alone(place))["CARGO_BUILD_RUSTC_WRAPPER"]
    assert subprocess.run([script, "/bin/sh", "-c", "exit 101"], timeout=20).returncode == 101


@pytest.mark.parametrize(
    ("version", "can"), [("1.85.1", False), ("1.95.0", True), ("1.95.0-nightly", False), ("2.0.0", True)]
)
def test_messages_keep_their_paths_where_rustc_can_do_that(version, can, tools, place):
    newer = Toolchain("", tools.rustc, tools.cargo, version)
    assert called(newer, place, *WORDS)[len(WORDS) + 4 :] == ["--remap-path-scope=object"] * can


def test_the_source_of_std_has_the_name_it_has_where_it_is_not_installed(tools, place, machine):
    home = machine.folder / "tools"
    rustc = machine.program("rustc", SHOW, home / "bin")
    library = home / "lib/rustlib/src/rust/library/std/src"
    found = Toolchain("", rustc, tools.cargo, "1.85.1", commit=tools.commit)
    assert len(added(found, place)) == 2
    library.mkdir(parents=True)
    (library / "lib.rs").touch()
    assert added(found, place)[2:] == [f"{home}/lib/rustlib/src/rust=/rustc/0ddba11"]


# --- a wrapper of the user's own

MINE = '#!/bin/sh\necho "by {name}"\nexec "$@"\n'


def by(tools: Toolchain, place: Path, **env: str) -> str | None:
    """Whose wrapper is called; with the words that it would be called with."""
    got = called(tools, place, *WORDS, **env)
    assert got[-1] == f"{place}=/a-b-1.0.0+x"
    return got[0].removeprefix("by ") if got[0].startswith("by ") else None


@pytest.mark.parametrize("name", ["RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"])
def test_a_wrapper_in_the_environment(name, tools, place, machine, monkeypatch):
    monkeypatch.setenv(name, str(machine.program("mine", MINE.format(name="path"))))
    assert by(tools, place) == "path"
    monkeypatch.setenv(name, "mine")
    assert by(tools, place) == "path"
    machine.program("mine", MINE.format(name="near"), place / "bin")
    monkeypatch.setenv(name, "bin/mine")
    assert by(tools, place) == "near"


@pytest.mark.parametrize(
    "where", ["{place}/.cargo", "{place}/../.cargo", "{home}/.cargo", "{home}/elsewhere"]
)
@pytest.mark.parametrize("file", ["config.toml", "config"])
def test_a_wrapper_in_a_file_of_cargos(where, file, tools, place, machine, monkeypatch):
    folder = Path(where.format(place=place, home=Path.home()))
    folder.mkdir()
    if folder.name == "elsewhere":
        monkeypatch.setenv("CARGO_HOME", str(folder))
    machine.program("mine", MINE.format(name="path"))
    machine.program("mine", MINE.format(name="near"), folder.parent / "own")
    (folder / file).write_text('[build]\nrustc-wrapper = "mine"\n')
    assert by(tools, place) == "path"
    (folder / file).write_text('[build]\nrustc-wrapper = "own/mine"\n')
    assert by(tools, place) == "near"
    monkeypatch.setenv("RUSTC_WRAPPER", "")  # cargo's way to have none
    assert by(tools, place) is None


@pytest.mark.parametrize("text", ["", "[build", "build = 3", "[build]\nrustc-wrapper = 3", "\0"])
def test_a_file_that_names_no_wrapper(text, tools, place):
    (place / ".cargo").mkdir()
    (place / ".cargo/config.toml").write_text(text)
    assert by(tools, place) is None


def test_the_nearest_file_that_names_one_counts(tools, place, machine):
    for name, folder in (("near", place), ("far", place.parent)):
        (folder / ".cargo").mkdir()
        (folder / ".cargo/config.toml").write_text(f'[build]\nrustc-wrapper = "{name}"\n')
        machine.program(name, MINE.format(name=name))
    assert by(tools, place) == "near"
    (place / ".cargo/config.toml").write_text("[build]\njobs = 1\n")
    assert by(tools, place) == "far"


def test_a_build_within_a_build_does_not_go_round_for_ever(tools, place, monkeypatch):
    monkeypatch.setenv("RUSTC_WRAPPER", remap.env_for(tools, alone(place))["CARGO_BUILD_RUSTC_WRAPPER"])
    assert by(tools, place) is None


def test_without_a_place_for_the_script_cargo_is_left_alone(tools, place, tmp_path, monkeypatch):
    assert remap.hindrance() is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remap.env_for(tools, alone(place)) == {}
    assert str(tmp_path / "file") in remap.hindrance()
