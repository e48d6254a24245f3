"""`build`: compile a plugin, or every plugin of a workspace."""

from __future__ import annotations

from pathlib import Path

from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule


def build(root: Path = Path(), options: BuildOptions = BuildOptions()) -> WasmModule | list[WasmModule]:
    """Compile the plugin to a wasm module, or every plugin of a workspace with one call of cargo.

    cargo writes its output to the terminal. Raises `ToolFailed` if cargo fails.
    """
    projects = projects_at(root)
    modules = cargo.build(projects, options)
    return modules if projects.workspace else modules[0]
