"""`build`: compile a crate, or all plugins of a workspace."""

from __future__ import annotations

from pathlib import Path

from scaffold.project.plugins import plugins_at
from scaffold.project.workspace import top
from scaffold.toolchain import cargo
from scaffold.wasm.module import WasmModule


def build(
    root: Path = Path(), *, profile: str = "release", rustc: str | None = None, yes: bool = False
) -> WasmModule | list[WasmModule]:
    """Compile the plugin to a wasm module; at a workspace's root, all its plugins with one call of cargo.

    cargo's output goes to the terminal as cargo writes it. `rustc` names a compiler, `yes` agrees in
    advance to install a toolchain. Raises `ToolFailed` when cargo fails.
    """
    projects = plugins_at(root)
    if projects is None:
        return cargo.build_one(root, profile=profile, rustc=rustc, yes=yes)
    return cargo.build_all(projects, top(projects[0].root), profile=profile, rustc=rustc, yes=yes)
