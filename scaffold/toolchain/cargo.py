"""Run cargo: build modules, run native tests, clean."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaffold.core import process
from scaffold.core.events import Warned, emit, step
from scaffold.core.text import human
from scaffold.errors import MachineError, ToolFailed
from scaffold.project import budget
from scaffold.project.crate import Project
from scaffold.project.projects import Projects, called
from scaffold.toolchain import derive_schema, growth, relink, reproducible
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rebuild import MESSAGES, Messages, Rebuild
from scaffold.toolchain.rustc import Toolchain
from scaffold.toolchain.trim import Crate, crate_of
from scaffold.wasm import check
from scaffold.wasm.module import WasmModule

_ANSWER_SECONDS = 30.0
_MEASURED_PROFILE = "measured"
# then a function of the source is one of the module, and its instructions have the lines of the source
_MEASURED = {
    "opt-level": 0,
    "debug": "line-tables-only",
    "strip": "none",
    "lto": "off",
    "codegen-units": 16,
    "incremental": True,
}
_SPARE = 4_000_000  # bytes: with fewer free, the full disk is the likely cause of a failure


def build(
    projects: Projects,
    options: BuildOptions,
    toolchains: Mapping[str, Toolchain] | None = None,
    *,
    locked: bool = False,
    rebuild: Rebuild | None = None,
) -> list[WasmModule]:
    """Compile plugins, with one call of cargo for those of one triple and with the same default features.

    `toolchains` are those that the caller has found already, by triple. cargo's output goes to the terminal
    as cargo writes it; with `rebuild`, the compiler's first error alone, and cargo isn't called where rustc's
    command is known. Raises `ToolFailed` when cargo fails; with `locked`, it does if Cargo.lock isn't up to
    date. Raises `ModuleError` for a module that a host in the settings doesn't load.
    """
    made: dict[Path, WasmModule] = {}
    for some in projects.grouped(lambda each: (each.settings.triple, each.settings.default_features)):
        (triple,) = some.triples
        tools = (toolchains or {}).get(triple) or find(
            triple, root=projects.root, rustc=options.rustc, yes=options.yes
        )
        with step(f"Building {called(some.all)}"):
            known = rebuild.build(some) if rebuild and not is_release(options) else None
            paths = known or _cargo_build(some, tools, options, locked=locked, rebuild=rebuild)
        made |= {project.root: _module(project, paths) for project in some}
        for project in filter(derive_schema.is_due, some):
            derive_schema.derive(project, tools, _env(projects, tools))
    if rebuild:
        rebuild.saved.clear()
    modules = [made[project.root] for project in projects]
    for project, module in zip(projects, modules, strict=True):
        _warn_about(module, projects.top)
        if is_release(options):
            growth.watch(project, module, options)
        project.require_hosts(module.file)
    return modules


def build_to_measure(projects: Projects, options: BuildOptions, tools: Toolchain) -> list[WasmModule]:
    """Compile plugins as their sources have them: not optimised, with names and lines.

    They go to a folder of their own, and their lines have the paths of this machine. `tools` compile to the
    first triple. Raises `ToolFailed` when cargo fails.
    """
    made: dict[Path, WasmModule] = {}
    for some in projects.grouped(lambda each: (each.settings.triple, each.settings.default_features)):
        (triple,) = some.triples
        first = triple == projects.triples[0]
        own = tools if first else find(triple, root=projects.root, rustc=options.rustc, yes=options.yes)
        with step(f"Building {called(some.all)} to be measured"):
            paths, _ = _call_cargo(some, own, options, locked=False, measured=True)
        made |= {project.root: _module(project, paths) for project in some}
    return [made[project.root] for project in projects]


def clean(projects: Projects) -> None:
    """Remove the target folder, which a workspace's crates share."""
    try:
        tools = find(projects.triples[0], root=projects.root, install=False)
    except MachineError:  # no cargo to ask: assume the default target folder
        shutil.rmtree(projects.top / "target", ignore_errors=True)
        return
    _cargo(["clean"], projects, tools, _env(projects, tools))


def run_tests(
    projects: Projects,
    tools: Toolchain,
    options: BuildOptions,
    *,
    compile_only: bool = False,
    locked: bool = False,
) -> int:
    """Run the native tests of plugins, or only compile them; returns cargo's exit code.

    With `locked`, cargo fails if Cargo.lock isn't up to date.
    """
    last = ["--no-run"] if compile_only else ["--no-fail-fast"] if len(projects) > 1 else []
    return _natively("test", projects, tools, options, [*["--locked"] * locked, *last])


def check_lints(projects: Projects, tools: Toolchain, options: BuildOptions) -> int:
    """Run clippy over the plugins and their tests, natively; a warning is an error. Returns its exit code."""
    last = ["--locked", "--all-targets", "--", "--deny", "warnings"]
    return _natively("clippy", projects, tools, options, last)


def check_format(projects: Projects, tools: Toolchain) -> int:
    """Have rustfmt say what it would change; returns its exit code."""
    # rustfmt knows packages by their names alone
    packages = [word for project in projects for word in ("-p", project.name)] if projects.workspace else []
    argv = ["fmt", "--check", *packages]
    return process.show([tools.cargo, *argv], cwd=projects.root, env=_env(projects, tools))


def require_subcommands(tools: Toolchain, projects: Projects, names: Sequence[str]) -> None:
    """Raise `MachineError` for a subcommand that this cargo lacks, such as `clippy`."""
    for name in names:
        env = _env(projects, tools)
        asked = process.run(
            [tools.cargo, name, "--version"], cwd=projects.root, env=env, timeout=_ANSWER_SECONDS
        )
        if asked.code:
            package = {"fmt": "rustfmt", "clippy": "clippy"}[name]
            hint = f"`rustup component add {package}`, or install the package that has `cargo-{name}`"
            raise MachineError(f"this cargo has no `cargo {name}`: {tools.cargo}", hint=hint)


def _natively(
    command: str, projects: Projects, tools: Toolchain, options: BuildOptions, last: Sequence[str]
) -> int:
    """Run a command of cargo over plugins for this machine; returns the first exit code that isn't 0."""
    codes = []
    for some in projects.grouped(lambda each: each.settings.default_features):
        # natively by name: a crate's own .cargo/config.toml may make wasm the default, which can't run here
        argv = [command, *_packages(some), *_features(some, options), "--target", tools.host_triple, *last]
        codes.append(process.show([tools.cargo, *argv], cwd=projects.root, env=_env(projects, tools)))
    return next(filter(None, codes), 0)


def is_release(options: BuildOptions) -> bool:
    """Whether modules are built for others to run, not for an edit to be tried out soon."""
    return options.profile not in ("dev", "test")


def hold_budgets(built: Iterable[tuple[Project, WasmModule]], options: BuildOptions) -> None:
    """Raise `BudgetExceeded` unless the modules of a release hold the budgets of their projects."""
    if is_release(options):
        budget.refuse(
            {each.name: budget.of_module(each.settings.budget, module.file) for each, module in built}
        )


def _packages(projects: Projects) -> list[str]:
    """The arguments that select these projects' packages in a workspace."""
    if projects.workspace is None:
        return []
    # with the version: a dependency may have the same name
    return [word for project in projects for word in ("-p", f"{project.name}@{project.version}")]


def _features(projects: Projects, options: BuildOptions) -> list[str]:
    """The arguments for the features of the settings and the options; `projects` agree about the defaults."""
    several = projects.workspace is not None  # then each feature needs its package's name
    own = [
        f"{project.name}/{feature}" if several else feature
        for project in projects
        for feature in project.settings.features
    ]
    features = [*own, *options.features]
    without = options.no_default_features or not all(each.settings.default_features for each in projects)
    chosen = ["--features", ",".join(features)] if features else []
    return [*chosen, "--no-default-features"] if without else chosen


def _module(project: Project, paths: Mapping[Path, Path]) -> WasmModule:
    if project.root not in paths:
        hint = 'set `crate-type = ["cdylib"]` in [lib] of Cargo.toml'
        raise ToolFailed(f"cargo built no module for {project.name}", hint=hint)
    return WasmModule.read(paths[project.root])


def _warn_about(module: WasmModule, root: Path) -> None:
    """Warn about a module that Envoy doesn't load, or that contains paths of this machine."""
    check.warn_about(module)
    name = module.path.name
    path = reproducible.left_in(module.content, root)
    if path:
        rebuild = "if a plain `cargo build` made it, `scaffold clean`, then build again"
        why = reproducible.hindrance() or rebuild
        emit(Warned(f"{name} contains the path {path}, so another machine builds a different one: {why}"))


def _cargo_build(
    projects: Projects,
    tools: Toolchain,
    options: BuildOptions,
    *,
    locked: bool,
    rebuild: Rebuild | None,
) -> dict[Path, Path]:
    """Build, and return each crate's module by the crate's folder, as cargo's messages name them."""
    paths, crates = _call_cargo(projects, tools, options, locked=locked, rebuild=rebuild)
    if is_release(options) and not reproducible.hindrance():
        foreign = _not_finished(projects, paths, crates, options)
        for path in foreign:  # then cargo compiles these again, with our wrapper
            (path.parent / "deps" / path.name).unlink(missing_ok=True)
        if foreign:
            paths, crates = _call_cargo(projects, tools, options, locked=locked, rebuild=rebuild)
            for path in _not_finished(projects, paths, crates, options):
                relink.give_up(path)
    return paths


def _not_finished(
    projects: Projects, paths: Mapping[Path, Path], crates: Sequence[Crate], options: BuildOptions
) -> list[Path]:
    """Finish modules; those are left that a plain cargo has made."""
    left = []
    for project in projects:
        wanted = project.settings.trim and not options.no_trim
        lock = projects.top / "Cargo.lock"
        build = relink.Build((project.name, project.version), crates, lock, wanted)
        path = paths.get(project.root)
        if path and not relink.finish(path, build):
            left.append(path)
    return left


def _call_cargo(
    projects: Projects,
    tools: Toolchain,
    options: BuildOptions,
    *,
    locked: bool,
    measured: bool = False,
    rebuild: Rebuild | None = None,
) -> tuple[dict[Path, Path], list[Crate]]:
    """What cargo's messages name: each crate's module by the crate's folder, and the libraries."""
    made: dict[Path, Path] = {}
    crates: list[Crate] = []
    messages = Messages()

    def on_line(line: str) -> None:
        try:
            message: Any = json.loads(line)
        except ValueError:
            return
        if not isinstance(message, dict):  # printed by a procedural macro
            return
        if message.get("reason") == "compiler-message":
            messages.add(message["message"])
        if message.get("reason") != "compiler-artifact":
            return
        folder = Path(message["manifest_path"]).parent.resolve()
        made.update((folder, Path(name)) for name in message["filenames"] if name.endswith(".wasm"))
        crates.extend(filter(None, [crate_of(message)]))

    argv = ["build", "--lib", *["--locked"] * locked, *_packages(projects), *_features(projects, options)]
    argv += ["--target", projects.triples[0]]
    argv += ["--message-format", MESSAGES if rebuild else "json-render-diagnostics"]
    argv += _profile(options, measured=measured)
    if measured:
        env = {**os.environ, **tools.env}
    else:
        env = _env(projects, tools) | (relink.env() if is_release(options) else {})
    if rebuild:
        rebuild.forget(projects)
        env |= rebuild.env()
    try:
        _cargo(argv, projects, tools, env, on_line)
    finally:
        messages.end()
    if rebuild:
        rebuild.learn(projects, made)
    return made, crates


def _profile(options: BuildOptions, *, measured: bool) -> list[str]:
    """The arguments for the profile; a `measured` build has one of our own, which inherits from it."""
    if not measured:
        return ["--profile", options.profile]
    settings = {"inherits": options.profile} | _MEASURED
    words = [f"profile.{_MEASURED_PROFILE}.{key}={json.dumps(value)}" for key, value in settings.items()]
    return ["--profile", _MEASURED_PROFILE, *(part for word in words for part in ("--config", word))]


def _cargo(
    argv: list[str],
    projects: Projects,
    tools: Toolchain,
    env: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
) -> None:
    code = process.show([tools.cargo, *argv], cwd=projects.root, env=env, on_line=on_line)
    if code:
        raise ToolFailed(f"cargo {argv[0]} failed (exit code {code})", hint=_full_disk(projects.root))


def _env(projects: Projects, tools: Toolchain) -> dict[str, str]:
    """cargo's environment, the same for every call: a changed wrapper makes it query rustc again (70 ms)."""
    return {**os.environ, **tools.env, **reproducible.env_for(tools, projects)}


def _full_disk(place: Path) -> str | None:
    """A hint when the disk is full: the linker is then killed by a signal, without a message."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or place)
    free = shutil.disk_usage(folder if folder.is_dir() else place).free
    return f"only {human(free)} are free on the disk of {folder}: make room" if free < _SPARE else None
