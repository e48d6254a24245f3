"""A command reads a project once: nobody below it opens a Cargo.toml, or the module, again."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import scaffold
from scaffold.oci.plugin_info import PluginInfo
from scaffold.project.crate import Project

_opened: list[Path] | None = None  # while a test counts


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes | Path):
        _opened.append(Path(str(arguments[0])))


sys.addaudithook(_hook)  # which can't be taken away again


@contextmanager
def opened() -> Iterator[list[Path]]:
    """The files that this process opens while the block runs."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def manifests(paths: list[Path]) -> Counter[Path]:
    return Counter(path.resolve() for path in paths if path.name == "Cargo.toml")


@pytest.fixture
def workspace(copy, tmp_path) -> Iterator[Path]:
    """A workspace of three plugins, which share what `copy` has built."""
    root = tmp_path / "ws"
    root.mkdir()
    (root / "Cargo.toml").write_text('[workspace]\nmembers = ["a", "b", "c"]\nresolver = "2"\n')
    shutil.copy(copy / "Cargo.lock", root)
    for name in ("a", "b", "c"):
        scaffold.new(name, output_dir=root, no_input=True)
    yield root
    scaffold.undeploy(root)


COMMANDS = {
    "build": lambda root: scaffold.build(root),
    "package": lambda root: scaffold.package(root),
    "deploy": lambda root: scaffold.deploy(root, run=scaffold.RunOptions(port=0)),
    "deploy again": lambda root: scaffold.deploy(root),
    "bootstrap": lambda root: scaffold.bootstrap(root),
    "test": lambda root: scaffold.test(root),
    "undeploy": lambda root: scaffold.undeploy(root),
}


def test_a_crates_manifest_is_read_once(copy):
    for name, command in COMMANDS.items():
        with opened() as paths:
            command(copy)
        expected = {} if name == "undeploy" else {copy / "Cargo.toml": 1}
        assert manifests(paths) in (expected, {copy / "Cargo.toml": 1}), name


def test_a_workspaces_manifests_are_read_once_each(workspace):
    each = {workspace / folder / "Cargo.toml": 1 for folder in (".", "a", "b", "c")}
    for name, command in COMMANDS.items():
        with opened() as paths:
            command(workspace)
        assert set(manifests(paths)) <= set(each), name
        assert max(manifests(paths).values()) == 1, name


def test_a_module_is_read_once_after_its_build(copy):
    """What needs its bytes, or their digest, later gets them from the one who read it.

    The build has read it to see whether it is trimmed already. The copy of a deployment is another file:
    before it is used again, it is checked for damage.
    """
    for name in ("build", "package", "deploy", "deploy again"):
        with opened() as paths:
            COMMANDS[name](copy)
        modules = [path for path in paths if path.suffix == ".wasm" and "deps" not in path.parts]
        built = [path for path in modules if "deployments" not in path.parts]
        assert (len(built), len(modules) - len(built)) == (2, name == "deploy again"), name
    scaffold.undeploy(copy)


def test_a_schema_is_read_once_for_an_image(copy):
    module = scaffold.build(copy)
    (copy / "config.schema.json").write_text("{}")
    with opened() as paths:
        PluginInfo.of_project(Project.load(copy), module)
    assert [path.name for path in paths].count("config.schema.json") == 1
