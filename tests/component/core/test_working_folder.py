"""A project may contain folders called like what we run: ours is run, and never theirs."""

from __future__ import annotations

import json

import pytest
from support.commands import entered
from support.foreign_templates import template

from scaffold.core import package_index
from scaffold.errors import MachineError
from scaffold.oci.plugin_info import PluginInfo


@pytest.fixture
def theirs(tmp_path, monkeypatch, users_folders):
    """The mark that a module of the working folder makes when somebody imports it."""
    folder, mark = tmp_path / "project", tmp_path / "mark"
    for name in ("pip", "scaffold", "cookiecutter", "jsonschema"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"open({str(mark)!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(folder)
    yield mark
    assert not mark.exists(), mark.read_text()


def test_pip_is_ours(theirs, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(MachineError):
        package_index.Package("a-package", "A", "do without").fetch("1.0", tmp_path / "made")


def test_a_foreign_template_is_rendered_by_ours(theirs, tmp_path, capsys):
    mine = template(tmp_path / "mine")
    words = ("new", "a_filter", "--template", mine, "--output-dir", tmp_path / "out", "--no-input", "--trust")
    ran = entered(capsys, *words)
    assert ran.code == 0, ran.err


def test_the_schema_of_an_image_is_checked_by_ours(theirs):
    info = PluginInfo("a", schema=json.dumps({"type": "object"}))
    assert info.configured(b"{}") == b"{}"
