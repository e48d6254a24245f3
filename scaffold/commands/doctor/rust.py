"""Rust: the toolchain that a build would take, its cargo, a linker, and where one of ours would go."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from scaffold.commands.doctor import folders
from scaffold.commands.doctor.finding import Finding, Patient, State
from scaffold.commands.doctor.packages import install_line
from scaffold.commands.setup import setup
from scaffold.core import files, process
from scaffold.errors import MachineError
from scaffold.toolchain.find import find
from scaffold.toolchain.rustc import Toolchain, answer, linker_key, programs

PRIVATE_BYTES = 1_400_000_000  # of a private toolchain: its packages, and what they unpack to
_LINK_SECONDS = 20.0


def look(patient: Patient) -> list[Finding]:
    """The data folder, where a toolchain of ours goes; rust, cargo and the linker."""
    try:
        found = find(patient.triple, root=patient.root, rustc=patient.rustc, install=False)
    except MachineError as error:
        return [_data_folder(missing=True), *_without(patient, error)]
    rust = f"{found.version} for {patient.triple}, {found.origin}\n{found.rustc}"
    cargo = answer([found.cargo, "--version"], patient.root) or f"{found.cargo} gives no answer"
    version = re.match(r"cargo (\S+)", cargo)
    return [
        _data_folder(missing=False),
        Finding("rust", "ok", rust),
        Finding("cargo", "ok", f"{version[1] if version else cargo}, {found.cargo}"),
        _linker(found),
    ]


def install(patient: Patient) -> None:
    """Install the toolchain that is missing."""
    setup(patient.root, rustc=patient.rustc)


def _data_folder(*, missing: bool) -> Finding:
    """The folder of the toolchains we install: only where one is missing must it take one."""
    why = "a toolchain of our own would be installed there"
    needed = PRIVATE_BYTES if missing else folders.SPARE
    bad: State = "failed" if missing else "warning"
    return folders.examine("data", files.data_dir(), "XDG_DATA_HOME", why, needed=needed, bad=bad)


def _without(patient: Patient, error: MachineError) -> list[Finding]:
    """No toolchain fits: why each way leads nowhere. Another than the one that was named isn't tried."""
    named = patient.rustc or os.environ.get("RUSTC")
    why = "filters can't be built"
    rust = Finding("rust", "failed", error.message, why, error.hint, fixable=not named)
    cargo = next(programs("cargo"), None)
    return [
        rust,
        Finding("cargo", "failed", str(cargo or "none on PATH")).after("rust"),
        Finding("linker", "failed", "which one is needed depends on the toolchain").after("rust"),
    ]


def _linker(found: Toolchain) -> Finding:
    """What links build scripts and native tests: cargo's setting for the host, or else cc."""
    key = linker_key(found.host_triple)
    linker = found.env.get(key) or os.environ.get(key)
    if linker and key in found.env:
        return Finding("linker", "ok", f"the toolchain's own, {linker}")
    path = Path(linker) if linker else next(programs("cc"), None)
    why = "cargo links build scripts with it, proxy-wasm's among them, and native tests"
    if path is None:
        return Finding("linker", "failed", "no cc on PATH", why, install_line("cc"))
    words = _words_of(path)
    if words is None:
        return Finding("linker", "ok", str(path))
    return Finding("linker", "failed", f"{path} links no program: {words}", why, install_line("cc"))


def _words_of(cc: Path) -> str | None:
    """Link a program with a C compiler; what it says when it can't."""
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


def project(patient: Patient) -> list[Finding]:
    """The project's folder, where cargo writes; nothing where there is no project."""
    if not (patient.root / "Cargo.toml").exists():
        return []
    folder = (patient.root / os.environ.get("CARGO_TARGET_DIR", "")).resolve()
    found = folders.examine("project", folder, "CARGO_TARGET_DIR", "cargo builds there")
    return [replace(found, name="project", fixable=False)]
