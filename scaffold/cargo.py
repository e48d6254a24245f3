"""From a crate to a module: cargo, driven so that it says where the module is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from scaffold import files, process, toolchain
from scaffold.errors import MachineError, ToolFailed
from scaffold.events import Warned, emit, step
from scaffold.project import Project
from scaffold.toolchain import remap
from scaffold.wasm import WasmModule

_SPARE = 4_000_000  # bytes: with fewer free, that is likely why cargo failed


def build(
    root: Path = Path(), *, profile: str = "release", rustc: str | None = None, yes: bool = False
) -> WasmModule:
    """Compile the plugin to a wasm module.

    cargo's own words go to the terminal as it writes them. `rustc` names a compiler, `yes` answers
    the question whether one may be installed. Raises `ToolFailed` when cargo says no.
    """
    project = Project.load(root)
    tools = toolchain.find(project.settings.triple, root=project.root, rustc=rustc, yes=yes)
    with step(f"Building {project.name}"):
        path = _cargo_build(project, tools, profile)
    module = WasmModule.read(path)
    if not {"_initialize", "_start"} & module.exports.keys():
        emit(Warned(f"{path.name} sets nothing up: has src/lib.rs a `proxy_wasm::main!`?"))
    named = remap.left_in(module.content(), project.root)
    if named:
        why = remap.hindrance() or "if a plain `cargo build` made it, `scaffold clean`, then build again"
        emit(Warned(f"{path.name} names {named}, so another machine builds a different one: {why}"))
    return module


def clean(root: Path = Path()) -> None:
    """Remove what cargo built."""
    project = Project.load(root)
    try:
        tools = toolchain.find(project.settings.triple, root=project.root, install=False)
    except MachineError:  # nothing here can build: then nothing needs cargo to say where its folder is
        shutil.rmtree(project.root / "target", ignore_errors=True)
        return
    _cargo(["clean"], project, tools)


def run_tests(project: Project, tools: toolchain.Toolchain, *, compile_only: bool = False) -> int:
    """Run the crate's native tests, or only compile them; cargo's exit code."""
    # said, since a crate's own .cargo/config.toml may make wasm the default, which runs nowhere here
    argv = ["test", "--target", tools.host] + (["--no-run"] if compile_only else [])
    return process.show([tools.cargo, *argv], cwd=project.root, env=_env(project, tools))


def _cargo_build(project: Project, tools: toolchain.Toolchain, profile: str) -> Path:
    """Where the module is, cargo's messages say: profiles, target folders and workspaces differ."""
    made: list[Path] = []

    def on_line(line: str) -> None:
        try:
            message: Any = json.loads(line)
        except ValueError:
            return
        if not isinstance(message, dict):  # what a procedural macro printed
            return
        ours = Path(message.get("manifest_path", "")) == project.root / "Cargo.toml"
        if message.get("reason") == "compiler-artifact" and ours:
            made.extend(Path(name) for name in message["filenames"] if name.endswith(".wasm"))

    argv = ["build", "--lib", "--target", project.settings.triple, "--profile", profile]
    _cargo([*argv, "--message-format", "json-render-diagnostics"], project, tools, on_line)
    if not made:
        raise ToolFailed("cargo built no module", hint="is the library's crate-type cdylib?")
    return made[-1]


def _cargo(argv: list[str], project: Project, tools: toolchain.Toolchain, on_line: Any = None) -> None:
    code = process.show([tools.cargo, *argv], cwd=project.root, env=_env(project, tools), on_line=on_line)
    if code:
        raise ToolFailed(f"cargo {argv[0]} failed (exit code {code})", hint=_no_room(project))


def _env(project: Project, tools: toolchain.Toolchain) -> dict[str, str]:
    """The same for all that cargo does: with another wrapper it asks rustc everything again (70 ms)."""
    return {**os.environ, **tools.env, **remap.env_for(tools, project.root)}


def _no_room(project: Project) -> str | None:
    """Say that a disk is full: the linker dies by a signal then, without a word."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or project.root)
    free = shutil.disk_usage(folder if folder.is_dir() else project.root).free
    return f"{files.human(free)} are free on the disk of {folder}: make room" if free < _SPARE else None
