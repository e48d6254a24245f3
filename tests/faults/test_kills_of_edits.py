"""R2: `update` and `adopt` are killed at a random moment; every file of the project is whole, old or new."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.documents import ROOT
from support.kills import SIGNALS, Command, kill, seen, told
from support.places import Place
from support.repositories import commit, git, own

OLDER = "0.0.9"
CHANGED = ("README.md", "src/lib.rs", "tests/test_plugin.py")  # that the later release has otherwise


def killed(place: Place, root: Path, words: tuple[object, ...], numbers, times, chance):
    """Kill a command that changes the committed project in `root`; see `kills.kill`."""
    old = own(root)

    def reset() -> None:
        git(root, "reset", "-q", "--hard")
        git(root, "clean", "-qfdx")

    place.well(*words)
    new = own(root)
    assert old != new
    reset()

    def look() -> str:
        now = own(root)
        assert now.keys() <= old.keys() | new.keys(), "nothing is left beside them"
        for path, found in now.items():
            assert found in (old.get(path), new.get(path)), path
        assert old.keys() & new.keys() <= now.keys()
        git(root, "status")
        return "new" if now == new else "old" if now == old else "in between"

    command = Command(lambda: place.start(*words), look, place.left, reset, said=place.said)
    return kill(command, numbers, times, chance)


@pytest.mark.faults("R2")
@SIGNALS
def test_update(place, record, chance, numbers, times):
    place.well("new", "hello", "--no-input", "--output-dir", place.folder)
    root, release = place.folder / "hello", place.cache / "releases" / OLDER
    for kind in ("cookiecutters", "ci"):
        shutil.copytree(ROOT / kind, release / kind)
    for name in CHANGED:
        for path in (root / name, release / "cookiecutters/http/{{cookiecutter.name}}" / name):
            path.write_text(f"{path.read_text()}\n{'#' if name.endswith('.py') else '//'} of {OLDER}\n")
    manifest = root / "Cargo.toml"
    text = manifest.read_text()
    assert 'version = "0.1.0"' in text.partition("template]")[2]
    head, table, tail = text.partition("template]")
    manifest.write_text(head + table + tail.replace('version = "0.1.0"', f'version = "{OLDER}"', 1))
    commit(root)
    outcomes, slowest = killed(place, root, ("update", "--root", root), numbers, times, chance)
    record(told(numbers, times, "update", chance), seen(outcomes, slowest))


@pytest.mark.faults("R2")
@pytest.mark.parametrize("options", [(), ("--no-check",)], ids=["checked", "unchecked"])
@SIGNALS
def test_adopt(place, record, chance, numbers, times, options):
    root = place.tiny()
    manifest = root / "Cargo.toml"
    manifest.write_text(f"{manifest.read_text()}\n# compiles in no time, without proxy-wasm\n")
    shutil.rmtree(root / "tests")
    commit(root)
    words = ("adopt", "--root", root, *options)
    outcomes, slowest = killed(place, root, words, numbers, times, chance)
    record(told(numbers, times, " ".join(["adopt", *options]), chance), seen(outcomes, slowest))
