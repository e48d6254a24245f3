"""`build`: compile a plugin, or every plugin of a workspace."""

from __future__ import annotations

from pathlib import Path

from scaffold.core.events import Noted, emit
from scaffold.project import source_warnings
from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo, relink
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule


def build(
    root: Path = Path(), options: BuildOptions = BuildOptions(), *, verbose: bool = False
) -> WasmModule | list[WasmModule]:
    """Compile the plugin to a wasm module, or every plugin of a workspace with one call of cargo.

    cargo writes its output to the terminal. With `verbose`, say which callbacks a release has, and why.
    Raises `ToolFailed` if cargo fails, `ProjectError` if a file that the settings name can't be read,
    `BudgetExceeded` if a release is larger than its budget allows.
    """
    projects = projects_at(root)
    for project in projects:
        _ = project.configuration(), project.vm_configuration()  # files that aren't there would be seen late
        source_warnings.warn_of_type(project)
    modules = cargo.build(projects, options)
    for module in modules if verbose and cargo.is_release(options) else ():
        for line in relink.explained(module.path):
            emit(Noted(line))
    cargo.hold_budgets(zip(projects, modules, strict=True), options)
    return modules if projects.workspace else modules[0]
