"""Typed configuration with real cargo and Envoy: derived from src/config.rs, and what is held against it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from support.commands import SCAFFOLD

import scaffold
from scaffold.project.config_validation import FILE, Schema
from scaffold.project.crate import Project
from scaffold.project.templates import render as rendering
from scaffold.toolchain import derive_schema as derivation
from scaffold.toolchain import find as toolchain

CONFIGURED = [
    name
    for name, folder in sorted(rendering.bundled("cookiecutters").items())
    if list(folder.glob(f"*/examples/{derivation.EXAMPLE}.rs"))
]
TESTS = """
import pytest
from scaffold.errors import ModuleError, UsageError


def test_a_bad_one_never_reaches_the_plugin(proxy):
    with pytest.raises(UsageError, match=r"does not match config\\.schema\\.json: no_such: "):
        proxy.configure({"no_such": 1})
    assert "no_such" not in proxy.get("/").logs


def test_the_plugin_itself_refuses_it_too(proxy):
    with pytest.raises(ModuleError, match="no_such"):
        proxy.configure({"no_such": 1}, check=False)


def test_text_is_checked_as_well(proxy):
    with pytest.raises(UsageError, match="it is not JSON"):
        proxy.configure("no_such: 1")


def test_an_empty_one_is_taken(proxy):
    proxy.configure(b"")
"""


@pytest.fixture(scope="module")
def auth(tmp_path_factory, state):
    """A filter that has a configuration; don't change it: `gate` is a copy."""
    return scaffold.new(
        "gate", template="auth", output_dir=tmp_path_factory.mktemp("auth"), no_input=True
    ).root


@pytest.fixture
def gate(auth: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(auth, tmp_path / "gate"))


def forget_schemars(root: Path) -> None:
    """Make it the crate that it would be if nothing were ever derived from it."""
    shutil.rmtree(root / "examples")
    (root / FILE).unlink()
    text = (root / "Cargo.toml").read_text()
    for table in ("features", r"\[example\]"):
        text = re.sub(rf"^\[{table}\]\n(.+\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^schemars = .*\n", "", text, flags=re.MULTILINE)
    assert "[profile.release]" in text
    (root / "Cargo.toml").write_text(text)
    (root / "src/config.rs").touch()


@pytest.mark.parametrize("template", CONFIGURED)
def test_a_template_brings_what_its_source_gives(template, tmp_path, state):
    root = scaffold.new("gate", template=template, output_dir=tmp_path, no_input=True).root
    committed = {name: (root / name).read_text() for name in (FILE, "README.md")}
    (root / FILE).unlink()
    project = Project.load(root)
    tools = toolchain.find(project.settings.triple, root=root, yes=True)
    derivation.derive(project, tools, {**os.environ, **tools.env})
    assert {name: (root / name).read_text() for name in committed} == committed
    assert Schema.of(root)
    assert project.configured()


def test_a_new_project_derives_nothing_at_its_first_build(gate, run):
    built = run(*SCAFFOLD, "build", "--yes", cwd=gate)
    assert built.returncode == 0, built.stderr
    assert "Deriving" not in built.stderr


def test_it_is_derived_once_its_source_changed_and_no_byte_is_in_the_module(gate, run):
    table = (gate / "README.md").read_text()
    source = gate / "src/config.rs"
    source.write_text(source.read_text().replace("    pub realm:", "    /// It is said.\n    pub realm:"))
    (gate / "README.md").write_text(table.replace("| `realm` |", "| `old` |"))
    derived = run(*SCAFFOLD, "build", cwd=gate)
    assert derived.returncode == 0, derived.stderr
    assert "\nDeriving config.schema.json" in derived.stderr
    assert "It is said." in json.loads((gate / FILE).read_text())["properties"]["realm"]["description"]
    assert "It is said. |" in (gate / "README.md").read_text()
    again = run(*SCAFFOLD, "build", "--json", cwd=gate)
    assert "Deriving" not in again.stderr and "Compiling" not in again.stderr
    forget_schemars(gate)
    assert scaffold.build(gate).digest == json.loads(again.stdout)["digest"]


def test_a_schema_that_cannot_be_derived_leaves_the_module_and_hinders_nobody(gate, run):
    source = gate / "src/config.rs"
    good = source.read_text()
    schema = (gate / FILE).read_text()
    source.write_text(f'{good}#[cfg(feature = "schema")]\ncompile_error!("not today");\n')
    built = run(*SCAFFOLD, "package", cwd=gate)
    assert built.returncode == 0, built.stderr
    assert "not today" in built.stderr
    assert (
        "warning: configurations aren't checked, because config.schema.json couldn't be derived"
        in built.stderr
    )
    assert (gate / FILE).read_text() == schema
    (gate / "config.json").write_text('{"no_such": 1}')
    assert scaffold.package(gate).module_digest
    source.write_text(good)
    refused = run(*SCAFFOLD, "package", cwd=gate)
    assert refused.returncode == 3
    assert "error: config.json does not match config.schema.json: no_such: there is no" in refused.stderr


def test_a_test_sees_the_schema_and_the_plugin_refuse(gate, run):
    (gate / "tests/test_plugin.py").write_text(TESTS)
    tested = run(*SCAFFOLD, "test", cwd=gate)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "4 passed" in tested.stderr


def test_no_test_begins_with_a_configuration_that_does_not_fit(gate, run):
    """Not the native ones either, which read it, and would panic."""
    (gate / "config.json").write_text('{"no_such": 1}')
    tested = run(*SCAFFOLD, "test", cwd=gate)
    assert tested.returncode == 3
    assert "config.json does not match config.schema.json: no_such: " in tested.stderr
    assert "panicked" not in tested.stdout + tested.stderr


def test_a_configuration_that_does_not_fit_starts_no_host(gate, run):
    (gate / "config.json").write_text('{"no_such": 1}')
    for words in (["run", "--port=0"], ["deploy", "--port=0"]):
        refused = run(*SCAFFOLD, *words, cwd=gate)
        assert refused.returncode == 3
        assert "Starting" not in refused.stderr
    assert "nothing is deployed" in run(*SCAFFOLD, "status", cwd=gate).stderr
