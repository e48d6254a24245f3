"""A crate that builds no cdylib, and what its hint says to move where: done so, it is a project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from scaffold.errors import ProjectError
from scaffold.project import cdylib_hint
from scaffold.project.crate import Project

PACKAGE = '[package]\nname = "filters"\nversion = "0.1.0"\n[dependencies]\nproxy-wasm = "0.2.5"\n'
PLUGIN = "proxy_wasm::main! {{\n}}\n"
EXAMPLE = '[[example]]\nname = "%s"\ncrate-type = ["cdylib"]\n'


@pytest.fixture
def crate(tmp_path):
    """Writes a crate; its folder."""

    def write(manifest, **sources):
        (tmp_path / "Cargo.toml").write_text(PACKAGE + manifest)
        for name, text in sources.items():
            path = tmp_path / name.replace("__", "/").replace("_rs", ".rs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def hint(root):
    with pytest.raises(ProjectError) as caught:
        Project.load(root)
    return caught.value.hint or ""


@pytest.mark.parametrize(
    ("manifest", "sources", "what"),
    [
        (EXAMPLE % "one", {"src__lib_rs": "", "examples__one_rs": PLUGIN}, "the plugin is the example `one`"),
        ("", {"examples__one__main_rs": PLUGIN}, "the plugin is the example `one`"),
        ('[[example]]\nname = "x"\npath = "deep/x.rs"\n', {"deep__x_rs": PLUGIN}, "the example `x`"),
        ("", {"src__main_rs": PLUGIN + "fn main() {}"}, "the plugin is a binary"),
        ("", {"src__bin__tool_rs": PLUGIN}, "the plugin is a binary"),
        ("", {"src__main_rs": "fn main() {}"}, "a plugin is a library"),
    ],
)
def test_what_the_hint_says_to_move_makes_a_project(crate, manifest, sources, what):
    root = crate(manifest, **sources)
    told = hint(root)
    assert what in told
    source = re.search(r"move (\S+) to src/lib\.rs", told)[1]
    (root / "src").mkdir(exist_ok=True)
    (root / source).rename(root / "src/lib.rs")
    table, value = re.search(r"add `(\[lib\])` with `(.*?)`", told).groups()
    (root / "Cargo.toml").write_text(f"{PACKAGE}{table}\n{value}\n")
    assert Project.load(root).name == "filters"


def test_several_examples_are_named(crate, tmp_path):
    sources = {f"examples__{name}_rs": PLUGIN for name in ("one", "two")}
    told = hint(crate(EXAMPLE % "one" + EXAMPLE % "two", src__lib_rs="", **sources))
    assert "its examples are plugins (one, two)" in told
    command = re.search("`scaffold adopt (.*?)`", told)[1]
    assert Path(command).resolve() == (tmp_path / "examples/one.rs").resolve()


def test_an_example_without_a_plugin_is_passed_over(crate):
    assert hint(crate("", examples__one_rs="fn main() {}")).startswith("add `[lib]`")
    assert hint(crate("", src__lib_rs=PLUGIN, examples__one_rs=PLUGIN)).startswith("add `[lib]`")


@pytest.mark.parametrize("odd", ["example = 3", "example = [3]", '[[example]]\npath = "../../etc/passwd"'])
def test_an_odd_manifest(tmp_path, odd):
    assert cdylib_hint.hint(tmp_path, tomllib.loads(odd)).startswith("add `[lib]`")
