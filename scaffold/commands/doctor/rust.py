"""Rust: the toolchain that a build uses, its cargo, a linker, and the folder of private toolchains."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from scaffold.commands.doctor import folders
from scaffold.commands.doctor.finding import Finding, Scope, State
from scaffold.commands.doctor.programs import install_line
from scaffold.commands.setup import setup
from scaffold.core import files, process
from scaffold.errors import MachineError
from scaffold.toolchain import pin, wasm_opt
from scaffold.toolchain.debian import binaryen
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain, answer, linker_key, programs

PRIVATE_BYTES = 1_400_000_000  # for a private toolchain: the packages and their content
_LINK_SECONDS = 20.0


def check(scope: Scope) -> list[Finding]:
    """The data folder, which has the private toolchains; rust, cargo and the linker."""
    try:
        tools = find(scope.triple, root=scope.root, rustc=scope.rustc, install=False)
    except MachineError as error:
        return [_data_folder(missing=True), *_without(scope, error)]
    rust = f"{tools.version} for {scope.triple}, {tools.origin}\n{tools.rustc}"
    cargo = tools.cargo_version or answer([tools.cargo, "--version"]) or f"{tools.cargo} doesn't answer"
    version = re.match(r"cargo (\S+)", cargo)
    return [
        _data_folder(missing=False),
        _rust(scope, tools, rust),
        Finding("cargo", "ok", f"{version[1] if version else cargo}, {tools.cargo}"),
        _linker(tools),
    ]


def _rust(scope: Scope, tools: Toolchain, detail: str) -> Finding:
    """The toolchain, and whether it is the one that the project asks for; who names another is followed."""
    named = scope.rustc or os.environ.get("RUSTC")
    unmet = None if named else pin.unmet(scope.root, tools, scope.triple)
    if unmet is None:
        return Finding("rust", "ok", detail)
    return Finding("rust", "warning", detail, unmet.sentence, unmet.remedy)


def install(scope: Scope) -> None:
    """Install the missing toolchain."""
    setup(scope.root, BuildOptions(rustc=scope.rustc))


def optimiser(_scope: Scope) -> list[Finding]:
    """Whether there is a `wasm-opt`, which no build needs."""
    why, program = "modules are a tenth smaller with it", wasm_opt.find()
    if program is None:
        return [Finding(wasm_opt.NAME, "warning", "not on PATH, nor installed by us", why, binaryen.COMMAND)]
    version = wasm_opt.version(program).removeprefix(f"{wasm_opt.NAME} version ")
    return [Finding(wasm_opt.NAME, "ok", f"{version}, {program}")]


def _data_folder(*, missing: bool) -> Finding:
    """The folder of private toolchains, which must have room for one when no other is usable."""
    why = "private toolchains are installed there"
    needed = PRIVATE_BYTES if missing else folders.SPARE
    bad: State = "failed" if missing else "warning"
    return folders.examine("data", files.data_dir(), "XDG_DATA_HOME", why, needed=needed, bad=bad)


def _without(scope: Scope, error: MachineError) -> list[Finding]:
    """The findings without a usable toolchain, which `--fix` installs unless the user names one."""
    named = scope.rustc or os.environ.get("RUSTC")
    why = "plugins can't be built"
    rust = Finding("rust", "failed", error.message, why, error.hint, fixable=not named)
    cargo = next(programs("cargo"), None)
    return [
        rust,
        Finding("cargo", "failed", str(cargo or "none on PATH")).after("rust"),
        Finding("linker", "failed", "depends on the toolchain").after("rust"),
    ]


def _linker(tools: Toolchain) -> Finding:
    """What links build scripts and native tests: cargo's setting for this machine's triple, or else cc."""
    key = linker_key(tools.host_triple)
    linker = tools.env.get(key) or os.environ.get(key)
    if linker and key in tools.env:
        return Finding("linker", "ok", f"the toolchain's own, {linker}")
    path = Path(linker) if linker else next(programs("cc"), None)
    why = "cargo links build scripts (proxy-wasm has one) and native tests with it"
    if path is None:
        return Finding("linker", "failed", "no cc on PATH", why, install_line("cc"))
    error = _link_error(path)
    if error is None:
        return Finding("linker", "ok", str(path))
    return Finding("linker", "failed", f"{path} can't link a program: {error}", why, install_line("cc"))


def _link_error(cc: Path) -> str | None:
    """Link a program with a C compiler; its first line of output when it fails."""
    try:
        with tempfile.TemporaryDirectory(prefix="scaffold-doctor-") as folder:
            source = Path(folder, "trial.c")
            source.write_text("int main(void) { return 0; }\n")
            ran = process.run([cc, "-o", f"{folder}/trial", source], timeout=_LINK_SECONDS)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except MachineError as error:
        return error.message
    lines = ran.stderr.strip().splitlines() or [f"exit code {ran.code}"]
    return lines[0] if ran.code else None


def project(scope: Scope) -> list[Finding]:
    """The folder that cargo writes to; nothing without a project."""
    if not (scope.root / "Cargo.toml").exists():
        return []
    folder = (scope.root / os.environ.get("CARGO_TARGET_DIR", "")).resolve()
    finding = folders.examine("project", folder, "CARGO_TARGET_DIR", "cargo builds there")
    return [replace(finding, name="project", fixable=False)]
