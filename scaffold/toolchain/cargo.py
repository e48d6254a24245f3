"""From a crate to a module: cargo, driven so that it says where the module is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaffold.core import files, process
from scaffold.core.events import Warned, emit, step
from scaffold.errors import MachineError, ToolFailed
from scaffold.project.model import Project
from scaffold.project.plugins import called
from scaffold.project.workspace import top
from scaffold.toolchain import config_schema as derivation
from scaffold.toolchain import find as toolchain
from scaffold.toolchain import reproducible as remap
from scaffold.wasm.module import WasmModule

_SPARE = 4_000_000  # bytes: with fewer free, that is likely why cargo failed


def build_one(
    root: Path, *, profile: str = "release", rustc: str | None = None, yes: bool = False
) -> WasmModule:
    """Compile the plugin whose crate is in `root`."""
    project = Project.load(root)
    (module,) = build_all([project], project.root, profile=profile, rustc=rustc, yes=yes)
    return module


def build_all(
    projects: Sequence[Project],
    place: Path,
    *,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> list[WasmModule]:
    """Compile plugins by one call of cargo for each triple, in `place`: a crate, or its workspace's root."""
    made: dict[Path, WasmModule] = {}
    for triple in dict.fromkeys(project.settings.triple for project in projects):
        some = [project for project in projects if project.settings.triple == triple]
        tools = toolchain.find(triple, root=place, rustc=rustc, yes=yes)
        with step(f"Building {called(some)}"):
            paths = _cargo_build(some, place, tools, profile)
        made |= {project.root: _module(project, paths) for project in some}
        for project in filter(derivation.is_due, some):
            derivation.derive(project, tools, _env(project.root, tools))
    outermost = top(place)
    for module in made.values():
        _warn_of(module, outermost)
    return [made[project.root] for project in projects]


def clean(project: Project) -> None:
    """Remove what cargo built: of the whole workspace, where the crate is in one."""
    try:
        tools = toolchain.find(project.settings.triple, root=project.root, install=False)
    except MachineError:  # nothing here can build: then nothing needs cargo to say where its folder is
        shutil.rmtree(top(project.root) / "target", ignore_errors=True)
        return
    _cargo(["clean"], project.root, tools)


def run_tests(
    projects: Sequence[Project], place: Path, tools: toolchain.Toolchain, *, compile_only: bool = False
) -> int:
    """Run the native tests of plugins, or only compile them, in `place` as above; cargo's exit code."""
    # said, since a crate's own .cargo/config.toml may make wasm the default, which runs nowhere here
    argv = ["test", *_packages(projects, place), "--target", tools.host]
    argv += ["--no-run"] if compile_only else ["--no-fail-fast"] if len(projects) > 1 else []
    return process.show([tools.cargo, *argv], cwd=place, env=_env(place, tools))


def _packages(projects: Sequence[Project], place: Path) -> list[str]:
    """How cargo is told in `place` which packages are meant."""
    if [place] == [project.root for project in projects]:
        return []
    # by version, too: a dependency may have the name of a plugin
    return [word for project in projects for word in ("-p", f"{project.name}@{project.version}")]


def _module(project: Project, paths: Mapping[Path, Path]) -> WasmModule:
    if project.root not in paths:
        hint = "is the library's crate-type cdylib?"
        raise ToolFailed(f"cargo built no module of {project.name}", hint=hint)
    return WasmModule.read(paths[project.root])


def _warn_of(module: WasmModule, root: Path) -> None:
    """Say what is odd about what was built."""
    name = module.path.name
    if not {"_initialize", "_start"} & module.exports.keys():
        emit(Warned(f"{name} sets nothing up: has src/lib.rs a `proxy_wasm::main!`?"))
    named = remap.left_in(module.content(), root)
    if named:
        why = remap.hindrance() or "if a plain `cargo build` made it, `scaffold clean`, then build again"
        emit(Warned(f"{name} names {named}, so another machine builds a different one: {why}"))


def _cargo_build(
    projects: Sequence[Project], place: Path, tools: toolchain.Toolchain, profile: str
) -> dict[Path, Path]:
    """The modules by their crates' folders, as cargo's messages say: profiles and target folders differ."""
    made: dict[Path, Path] = {}

    def on_line(line: str) -> None:
        try:
            message: Any = json.loads(line)
        except ValueError:
            return
        if not isinstance(message, dict):  # what a procedural macro printed
            return
        if message.get("reason") != "compiler-artifact":
            return
        folder = Path(message["manifest_path"]).parent.resolve()
        made.update((folder, Path(name)) for name in message["filenames"] if name.endswith(".wasm"))

    argv = ["build", "--lib", *_packages(projects, place), "--target", projects[0].settings.triple]
    argv += ["--profile", profile, "--message-format", "json-render-diagnostics"]
    _cargo(argv, place, tools, on_line)
    return made


def _cargo(argv: list[str], place: Path, tools: toolchain.Toolchain, on_line: Any = None) -> None:
    code = process.show([tools.cargo, *argv], cwd=place, env=_env(place, tools), on_line=on_line)
    if code:
        raise ToolFailed(f"cargo {argv[0]} failed (exit code {code})", hint=_no_room(place))


def _env(place: Path, tools: toolchain.Toolchain) -> dict[str, str]:
    """The same for all that cargo does: with another wrapper it asks rustc everything again (70 ms)."""
    return {**os.environ, **tools.env, **remap.env_for(tools, place)}


def _no_room(place: Path) -> str | None:
    """Say that a disk is full: the linker dies by a signal then, without a word."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or place)
    free = shutil.disk_usage(folder if folder.is_dir() else place).free
    return f"{files.human(free)} are free on the disk of {folder}: make room" if free < _SPARE else None
