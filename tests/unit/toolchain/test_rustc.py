"""Which programs on PATH count."""

from __future__ import annotations

import pytest

from scaffold.toolchain.rustc import programs


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program in a folder, which is the working folder."""
    path = tmp_path / "bin" / "rustc"
    path.parent.mkdir()
    path.touch(0o755)
    monkeypatch.chdir(path.parent)
    return path


@pytest.mark.parametrize("entry", [".", "", "../bin"])
def test_the_working_folder_is_no_place_for_programs(program, monkeypatch, entry):
    """What is in a project that somebody else wrote isn't run, even if PATH says so."""
    monkeypatch.setenv("PATH", f"{entry}:/nowhere")
    assert list(programs("rustc")) == []
    monkeypatch.setenv("PATH", f"{entry}:{program.parent}")
    assert list(programs("rustc")) == [program]


def test_a_file_that_cannot_be_run_is_passed_over(program, monkeypatch, tmp_path):
    text = tmp_path / "text" / "rustc"
    text.parent.mkdir()
    text.touch(0o644)
    monkeypatch.setenv("PATH", f"{text.parent}:{program.parent}")
    assert list(programs("rustc")) == list(programs("rust*")) == [program]
