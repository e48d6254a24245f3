"""Globs in `members` match what cargo's do, and end: also in loops of links."""

from pathlib import Path

import pytest

from scaffold.errors import ProjectError
from scaffold.project import member_globs
from scaffold.project.workspace import Workspace

MANIFEST = Path("ws/Cargo.toml")


def folders(root, pattern, manifest):
    return member_globs.folders(root, pattern, manifest, member_globs.Budget())


@pytest.fixture
def root(tmp_path):
    for name in ("ws/a", "ws/p/b", "ws/p/.c", "ws/deep/1/2/x", "ws/deep/x", "outside/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ws/p/file").touch()
    (tmp_path / "ws/out").symlink_to("../outside")
    (tmp_path / "ws/deep/loop").symlink_to("..")
    (tmp_path / "ws/deep/itself").symlink_to("itself")
    return (tmp_path / "ws").resolve()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a", ["a"]),
        ("./a/", ["a"]),
        ("p//b", ["p/b"]),
        ("p/*", ["p/.c", "p/b"]),
        ("p/[!b]*", ["p/.c"]),
        ("?", ["a", "p"]),
        ("**/x", ["deep/1/2/x", "deep/x"]),
        ("deep/**/**/**/x", ["deep/1/2/x", "deep/x"]),
        ("deep/loop/a", ["a"]),
        ("**/d", ["../outside/d"]),
        ("out/*", ["../outside/d"]),
        ("../outside/*", ["../outside/d"]),
        (".", ["."]),
        ("", []),
        ("nothing/*", []),
        ("p/file/*", []),
        ("/nowhere/**", []),
        ("a\0b/*", []),
        ("[", []),
    ],
)
def test_what_a_pattern_matches(root, pattern, found):
    assert folders(root, pattern, MANIFEST) == sorted((root / name).resolve() for name in found)


def test_a_pattern_that_matches_nothing_may_be_a_name(root):
    (root / "br[x]").mkdir()
    assert folders(root, "br[x]", MANIFEST) == [root / "br[x]"]
    (root / "brx").mkdir()
    assert folders(root, "br[x]", MANIFEST) == [root / "brx"]


def test_the_patterns_of_a_manifest_share_one_limit(root, monkeypatch):
    monkeypatch.setattr(member_globs, "LIMIT", 8)
    patterns = [f"p/*{number}" for number in range(3)]  # three entries each
    assert Workspace(root, {"workspace": {"members": patterns[:2]}}).members() == []
    with pytest.raises(ProjectError, match="matches too much of the disk"):
        Workspace(root, {"workspace": {"members": patterns}}).members()


def test_an_absolute_pattern_begins_at_the_top(root):
    assert folders(Path("/"), f"{root}/p/*", MANIFEST) == [root / "p/.c", root / "p/b"]


@pytest.mark.parametrize("pattern", ["**/**/x", "*/*", "deep/**"])
def test_too_much_to_look_at_is_an_error(root, pattern, monkeypatch):
    monkeypatch.setattr(member_globs, "LIMIT", 5)
    with pytest.raises(ProjectError) as caught:
        folders(root, pattern, MANIFEST)
    why = f'the pattern "{pattern}" in `members` of ws/Cargo.toml matches too much of the disk'
    assert (caught.value.message, caught.value.hint) == (why, "name the folders that contain the members")
