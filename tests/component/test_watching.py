"""What `dev` watches, with real files."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from scaffold.commands.dev import watching
from scaffold.project.projects import projects_at

CARGO = """[package]
name = "hello"
version = "0.1.0"
[dependencies]
helper = { path = "../helper" }
proxy-wasm = "0.2.5"
[lib]
crate-type = ["cdylib"]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "hello"
    for folder in ("hello/src/deep", "hello/tests", "hello/target/release", "hello/out", "helper/src"):
        (tmp_path / folder).mkdir(parents=True)
    (root / "out/CACHEDIR.TAG").write_text("")
    (root / "Cargo.toml").write_text(CARGO)
    (tmp_path / "helper/Cargo.toml").write_text('[package]\nname = "helper"\nversion = "0.1.0"\n')
    for name in ("src/lib.rs", "config.json", "Cargo.lock"):
        (root / name).write_text("1")
    return root


def seen(watch: watching.Watch, wanted: int = 1) -> set[str]:
    """The names of what is saved, once there are so many."""
    found: set[Path] = set()
    deadline = time.monotonic() + 20
    while len(found) < wanted and time.monotonic() < deadline:
        found |= watch.changes(0.1)
    return {path.name for path in found}


def test_what_is_saved_is_seen_however_an_editor_does_it(root):
    with watching.watching(projects_at(root)) as watch:
        (root / "src/lib.rs.new").write_text("2")
        (root / "src/lib.rs.new").replace(root / "src/lib.rs")
        assert "lib.rs" in seen(watch)
        for number in range(10):
            (root / f"src/deep/m{number}.rs").write_text("")
        assert {f"m{number}.rs" for number in range(10)} <= seen(watch, 10)
        (root.parent / "helper/src/lib.rs").write_text("")
        assert seen(watch) == {"lib.rs"}
        (root / "benches").mkdir()
        (root / "benches/a.rs").write_text("")
        assert seen(watch) == {"a.rs"}
        (root / "benches/b.rs").write_text("")
        assert seen(watch) == {"b.rs"}
        (root / "config.json").write_text("2")
        assert seen(watch) == {"config.json"}
        (root / "Cargo.toml").write_text(CARGO + "\n")
        assert seen(watch) == {"Cargo.toml"}


def test_what_a_build_writes_is_no_save(root):
    with watching.watching(projects_at(root)) as watch:
        (root / "target/release/a.wasm").write_text("")
        (root / "out/a.wasm").write_text("")
        (root / "Cargo.lock").write_text("2")
        watch.follow(projects_at(root))  # as after a build
        (root / "tests/test_a.py").write_text("")
        assert seen(watch) == {"test_a.py"}
        (root / "Cargo.lock").write_text("3")
        assert seen(watch) == {"Cargo.lock"}


def test_where_the_system_does_not_tell_files_are_looked_at(root, monkeypatch, said):
    real = watching.watch

    def limited(*folders, **options):
        if not options.get("force_polling"):
            raise OSError("OS file watch limit reached")
        yield from real(*folders, **options)

    monkeypatch.setattr(watching, "watch", limited)
    with watching.watching(projects_at(root)) as watch:
        time.sleep(1.5)  # it knows the files by then, and times are in whole seconds there
        (root / "src/lib.rs").write_text("22")
        assert "lib.rs" in seen(watch)
    (told,) = said
    assert told.endswith("they are looked at every 300 ms")


def test_a_damaged_manifest_or_a_folder_that_is_gone_ends_nothing(root):
    with watching.watching(projects_at(root)) as watch:
        projects = projects_at(root)
        (root / "Cargo.toml").write_text("[package\n")
        assert seen(watch) == {"Cargo.toml"}
        (root / "benches").mkdir()  # it would be watched if the manifest could be read
        watch.changes(0.3)
        watch.follow(projects)
        (root / "src/lib.rs").write_text("2")
        assert "lib.rs" in seen(watch)
        (root / "Cargo.toml").write_text(CARGO)
        assert "Cargo.toml" in seen(watch)
        watch.follow(projects)
        (root / "benches/a.rs").write_text("")
        assert "a.rs" in seen(watch)


def test_of_folders_to_be_watched_one_may_be_gone_by_then(root, monkeypatch):
    real = watching._below
    monkeypatch.setattr(watching, "_below", lambda folder: [*real(folder), folder / "gone"])
    with watching.watching(projects_at(root)) as watch:
        (root / "src/lib.rs").write_text("2")
        assert "lib.rs" in seen(watch)


def test_what_a_tool_makes_and_renames_is_no_save(root):
    with watching.watching(projects_at(root)) as watch:
        (root / "target5X").mkdir()
        (root / "target5X").rename(root / "target2")
        (root / "4913").write_text("")
        (root / "4913").unlink()
        (root / "config.json").unlink()
        assert seen(watch) == {"config.json"}


@pytest.mark.parametrize(
    "says",
    [
        '[target."cfg(all())".dependencies]\nother = { path = "../other" }',
        '[patch.crates-io]\nother = { path = "../other" }',
        '[workspace]\nmembers = ["."]\n[workspace.dependencies]\nother = { path = "../other" }',
        '[build-dependencies]\nother = { path = "../other" }',
    ],
)
def test_a_crate_by_path_is_watched_wherever_it_is_named(root, says):
    other = root.parent / "other"
    (other / "src").mkdir(parents=True)
    (other / "Cargo.toml").write_text('[package]\nname = "other"\nversion = "0.1.0"\n')
    (root / "Cargo.toml").write_text(f"{CARGO}\n{says}\n")
    with watching.watching(projects_at(root)) as watch:
        (other / "src/lib.rs").write_text("")
        assert seen(watch) == {"lib.rs"}


@pytest.mark.parametrize("pause", [0, 1.2], ids=["at once", "later"])
@pytest.mark.parametrize("folder", ["src", "."])
def test_a_folder_that_is_replaced_is_watched_again(root, tmp_path, folder, pause):
    with watching.watching(projects_at(root)) as watch:
        for number in range(2):
            kept = tmp_path / f"kept{number}"
            shutil.copytree(root / folder, kept)
            shutil.rmtree(root / folder)
            watch.changes(pause)
            shutil.move(kept, (root / folder).resolve())
            found: set[str] = set()
            while "lib.rs" not in found:  # pytest's time-out ends it
                found |= seen(watch)
            time.sleep(0.7)
            watch.changes(0.1)
            (root / "src/lib.rs").write_text(f"after {number}")
            assert seen(watch) == {"lib.rs"}
