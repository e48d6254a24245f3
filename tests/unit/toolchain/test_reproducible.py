"""The script that rustc runs behind: what it adds for a module, and that it adds nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaffold.toolchain import reproducible as remap

# --- what is left in a module


def test_a_source_of_this_machine_is_found_in_a_module(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    for name in ("project/src/é b.rs", "cargo/registry/a-1.0.0/src/lib.rs", "home/u/common/lib.rs"):
        source = tmp_path / name
        source.parent.mkdir(parents=True)
        source.touch()
        # as strings lie in a module: end to end, after one that looks as if it were a path
        content = f"\0{tmp_path}/home/path/login{source}called".encode() + b"\xff\0"
        assert remap.left_in(content, tmp_path / "project") == source
        assert remap.left_in(content.replace(b".rs", b".xy"), tmp_path / "project") is None
    (tmp_path / "home/h3.rs").mkdir()
    assert remap.left_in(b"%b/home/h3.rs/src/lib.rs" % bytes(tmp_path), tmp_path / "project")


@pytest.mark.parametrize("home", ["/", ""])
def test_a_route_is_no_source(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("CARGO_HOME", home)
    content = b"/app/loginsrc/lib.rs/rustc/0ddba11/library/std/src/lib.rs/"
    assert remap.left_in(content, Path("/app")) is None
    assert remap.left_in(b"/app/", Path("/app")) is None
