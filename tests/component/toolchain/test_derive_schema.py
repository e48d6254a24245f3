"""When a schema is derived, what becomes of what the example prints, and of what hinders.

A script stands in for cargo: it prints what the test says. The real one is in e2e/test_configuration.py.
"""

import json
import os
from dataclasses import replace

import pytest

from scaffold.core import events
from scaffold.core.events import Failed, Finished, Warned
from scaffold.project import config_validation as schema
from scaffold.project.crate import Project
from scaffold.toolchain import derive_schema as derivation
from scaffold.toolchain.rustc import Toolchain

CARGO_TOML = '[package]\nname = "gate"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
PRINTED = {"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {"ü": {"type": "string"}}}
README = "# gate\n<!-- options -->\n<!-- /options -->\n"


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "gate"
    for folder in ("src", "examples"):
        (root / folder).mkdir(parents=True)
    (root / "Cargo.toml").write_text(CARGO_TOML)
    (root / "src/config.rs").write_text("pub struct Config;")
    (root / "examples/config_schema.rs").write_text("fn main() {}")
    (root / "README.md").write_text(README)
    return Project.load(root)


@pytest.fixture
def derive(project, tmp_path):
    """Derives with a cargo that prints this and ends so; the events of it."""

    def derive(printed, code=0, of=project):
        said = tmp_path / "said"
        said.write_bytes(printed if isinstance(printed, bytes) else json.dumps(printed).encode())
        cargo, rustc = tmp_path / "cargo", tmp_path / "rustc"
        cargo.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\ncat {said}\nexit {code}\n')
        rustc.write_text("#!/bin/sh\nexit 1\n")
        for script in (cargo, rustc):
            script.chmod(0o755)
        heard = []
        with events.listening(lambda event: heard.append(event)):
            tools = Toolchain("a test's", rustc, cargo, "1.85.0", host_triple="here-is-linux")
            derivation.derive(of, tools, os.environ)
        return heard

    return derive


def test_what_the_example_prints_is_the_schema_and_says_of_what(project, derive, tmp_path):
    assert derivation.is_due(project)
    assert isinstance(derive(PRINTED)[-1], Finished)
    assert not derivation.is_due(project)
    text = (project.root / "config.schema.json").read_text()
    comment = schema.comment(project.root)
    assert comment.startswith("derived from src/config.rs, digest sha256:")
    assert list(json.loads(text).items()) == [
        ("$schema", PRINTED["$schema"]),
        ("$comment", comment),
        ("properties", {"ü": {"type": "string"}}),
    ]
    assert text.startswith('{\n  "$schema"') and "ü" in text and text.endswith("}\n")
    asked = (tmp_path / "asked").read_text().split()
    assert asked == "run --example config_schema --features schema --target here-is-linux".split()


def test_the_example_is_compiled_with_the_features_of_the_settings(project, derive, tmp_path):
    chosen = replace(project.settings, features=("a", "b"), default_features=False)
    derive(PRINTED, of=replace(project, settings=chosen))
    asked = (tmp_path / "asked").read_text()
    assert "--features schema,a,b --target here-is-linux --no-default-features" in asked


def test_the_table_goes_into_the_readme_which_keeps_its_mode(project, derive):
    readme = project.root / "README.md"
    readme.chmod(0o600)
    derive(PRINTED)
    assert "| `ü` | string |" in readme.read_text()
    assert readme.stat().st_mode & 0o777 == 0o600


def test_a_readme_that_is_a_link_stays_one(project, derive):
    readme = project.root / "README.md"
    readme.rename(project.root / "about.md")
    readme.symlink_to("about.md")
    derive(PRINTED)
    assert readme.is_symlink()
    assert "| `ü` | string |" in (project.root / "about.md").read_text()


def test_a_project_without_a_readme_gets_none(project, derive):
    (project.root / "README.md").unlink()
    assert isinstance(derive(PRINTED)[-1], Finished)
    assert not (project.root / "README.md").exists()


def test_a_schema_is_due_once_its_source_is_another(project, derive):
    derive(PRINTED)
    source = project.root / "src/config.rs"
    os.utime(source, (0, 0))
    assert not derivation.is_due(project)
    source.write_text("pub struct Other;")
    assert derivation.is_due(project)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"$comment": "by hand"}', '{"$comment": 3}'])
def test_a_schema_that_says_nothing_of_its_source_is_due(project, content):
    (project.root / "config.schema.json").write_text(content)
    assert derivation.is_due(project)


@pytest.mark.parametrize("missing", ["src/config.rs", "examples/config_schema.rs"])
def test_a_crate_that_derives_none_is_left_alone(project, missing):
    (project.root / missing).unlink()
    assert not derivation.is_due(project)


@pytest.mark.parametrize(
    ("printed", "code", "why"),
    [
        (PRINTED, 101, "`cargo run --example config_schema --features schema` failed (exit code 101)"),
        (b"", 0, "examples/config_schema.rs doesn't print JSON: Expecting value"),
        (b"debug!\n{}", 0, "examples/config_schema.rs doesn't print JSON: Expecting value"),
        (b"{}{}", 0, "examples/config_schema.rs doesn't print JSON: Extra data"),
        (b"true", 0, "examples/config_schema.rs doesn't print a JSON object"),
        (PRINTED | {"type": 3}, 0, "{root}/config.schema.json isn't a JSON Schema: type: 3 "),
    ],
    ids=["cargo fails", "nothing", "more", "twice", "no object", "no schema"],
)
def test_what_hinders_is_a_warning_and_changes_nothing(project, derive, printed, code, why):
    (project.root / "config.schema.json").write_text('{"old": 1}')
    *_, failed, warned = derive(printed, code)
    assert isinstance(failed, Failed) and isinstance(warned, Warned)
    said = "configurations aren't checked, because config.schema.json couldn't be derived from src/config.rs"
    assert warned.text.startswith(f"{said}: " + why.format(root=project.root))
    assert (project.root / "config.schema.json").read_text() == '{"old": 1}'
    assert (project.root / "README.md").read_text() == README


def test_a_schema_that_cannot_be_written_is_a_warning(project, derive):
    (project.root / "config.schema.json").mkdir()
    *_, warned = derive(PRINTED)
    assert isinstance(warned, Warned)
    assert warned.text.endswith(": Is a directory")
    assert not any((project.root / "config.schema.json").iterdir())
