"""What a terminal of 80 columns shows, without a word broken; and what a pipe gets."""

from __future__ import annotations

import pytest
from support import wasm_asm
from support.commands import SCAFFOLD, run, terminal

from scaffold.core.files import digest
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import compat

LONG = "registry.example.com:5000/a-team/with-a-long-name/hello_world_of_filters"
MODULE = wasm_asm.plugin()


@pytest.fixture
def images(tmp_path, monkeypatch):
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    for name in (f"{LONG}:1", "short:a-tag-that-is-rather-long-too-as-branches-are"):
        Store().add(compat(MODULE, PluginInfo("hello")), Reference.parse(name))
    return tmp_path


def shown(*words, cwd):
    """What 80 columns show of a command, and what a pipe gets."""
    with terminal(*SCAFFOLD, *words, cwd=cwd) as seen:
        assert seen.end() == 0
    piped = run(*SCAFFOLD, *words, cwd=cwd)
    assert piped.code == 0
    return seen.seen.replace("\r\n", "\n").splitlines(), piped.out


def test_the_table_of_images_has_a_line_each_in_a_terminal_and_all_in_a_pipe(images):
    lines, piped = shown("images", cwd=images)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("regist") and "…" in lines[1]
    assert lines[2].startswith("short  ") and "…" in lines[2]
    assert LONG in piped and "…" not in piped


def test_a_report_on_an_image_breaks_no_digest(images):
    lines, piped = shown("inspect", f"{LONG}:1", cwd=images)
    assert f"    {digest(MODULE)}" in lines
    assert not [line for line in lines if len(line) > 80 and LONG not in line]
    assert f"  module digest    {digest(MODULE)}\n" in piped
