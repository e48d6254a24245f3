"""What is said of a plugin whose source and Cargo.toml disagree."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaffold.core.events import Warned, listening
from scaffold.project.crate import Project
from scaffold.project.source_warnings import contexts, warn_of_type

MANIFEST = """\
[package]
name = "gate"
[lib]
crate-type = ["cdylib"]
[package.metadata.proxy-wasm]
type = "{}"
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("proxy_wasm::set_http_context(|_, _| x)", ["http"]),
        ("fn create_stream_context(&self, _: u32)", ["network"]),
        ("Some(ContextType::StreamContext); set_http_context(", ["http", "network"]),
        ("proxy_wasm::set_root_context(|_| x)", []),
        ('// set_http_context\nlet a = "ContextType::HttpContext";', []),
        ("offset_http_contexts(", []),
    ],
)
def test_the_contexts_that_a_source_makes(text, found):
    assert contexts(["", text]) == found


def warnings(root: Path, kind: str, text: str) -> list[str]:
    (root / "src/inner").mkdir(parents=True)
    (root / "Cargo.toml").write_text(MANIFEST.format(kind))
    (root / "src/lib.rs").write_bytes(b"\xff")  # not ours to report
    (root / "src/inner/a.rs").write_text(text)
    heard: list[str] = []
    with listening(lambda event: heard.append(event.text) if isinstance(event, Warned) else None):
        warn_of_type(Project.load(root))
    return heard


def test_a_service_that_makes_contexts_is_named_with_what_to_write(tmp_path):
    (warning,) = warnings(tmp_path, "service", "set_stream_context(|_, _| x)")
    assert warning.startswith('gate has `type = "service"`, which no traffic passes')
    assert warning.endswith(
        f'in {tmp_path / "Cargo.toml"}, write `type = "network"` into [package.metadata.proxy-wasm]'
    )


@pytest.mark.parametrize(
    ("kind", "text"), [("service", "set_root_context(|_| x)"), ("http", "set_http_context(|_, _| x)")]
)
def test_nothing_is_said_of_what_agrees(kind, text, tmp_path):
    assert warnings(tmp_path, kind, text) == []
