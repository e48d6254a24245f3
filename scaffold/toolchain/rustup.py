"""rustup's active toolchain for a folder, with the target added where it lacks it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.events import step
from scaffold.errors import MachineError
from scaffold.toolchain.rustc import (
    Toolchain,
    Unfit,
    cargo_for,
    env_for,
    probe,
    probing,
    programs,
    wasm_linker,
)

WAY = "rustup"
PATIENCE = 180.0  # seconds for a download: a target's std is some 20 MB


def find(triple: str, root: Path, *, install: bool = True, patience: float = PATIENCE) -> Toolchain | Unfit:
    """The toolchain that rustup would run in `root`, rust-toolchain.toml and all.

    With `install`, what it lacks is downloaded, for `patience` seconds at the most.
    """
    rustup = next(programs("rustup"), None)
    if rustup is None:
        return Unfit(WAY, "not on PATH", "install rustup")
    try:
        name, rustc = _active(rustup, root, install, patience)
        probed = probe(rustc, triple, root)
        if probed and not probed.too_old and not probed.libdir:
            if not install:
                return Unfit(WAY, f"{name} lacks {triple}", f"`rustup target add {triple}`")
            _add(rustup, triple, name, rustc, root, patience)
            probed = probe(rustc, triple, root)
    except MachineError as error:
        return Unfit(WAY, error.message, error.hint or f"`rustup target add {triple}`")
    if probed is None:
        return Unfit(WAY, f"the rustc of {name} doesn't run", "`rustup toolchain install stable`")
    if probed.too_old:
        return Unfit(WAY, f"{name} is too old: {probed.too_old}", "`rustup update`")
    linker = wasm_linker(rustc, probed.libdir, triple) if probed.libdir else None
    cargo = cargo_for(rustc, root)
    if probed.libdir is None or linker is None or cargo is None:
        lacked = "std" if probed.libdir is None else "cargo" if cargo is None else "a linker for wasm"
        return Unfit(WAY, f"{name} still lacks {lacked} for {triple}")
    env = env_for(rustc) | {"RUSTUP_TOOLCHAIN": name} | linker
    return Toolchain(f"rustup's {name}", rustc, cargo, probed.version, env)


def _active(rustup: Path, root: Path, install: bool, patience: float) -> tuple[str, Path]:
    """The name of the active toolchain and its rustc, installed first where rustup itself would do that."""
    try:
        rustc = Path(_ask(rustup, "which", "rustc", root=root))
    except MachineError as error:
        _install_wanted(rustup, root, install, patience, error)
        rustc = Path(_ask(rustup, "which", "rustc", root=root))
    if rustc.parents[2].name == "toolchains":  # else one that was linked from elsewhere
        return rustc.parents[1].name, rustc
    return _ask(rustup, "show", "active-toolchain", root=root).split()[0], rustc


def _install_wanted(rustup: Path, root: Path, install: bool, patience: float, error: MachineError) -> None:
    """Install what rust-toolchain.toml asks for, if `error` is that it isn't there."""
    wanted = re.search(r"toolchain '([^']+)' is not installed", error.message)
    if not wanted:
        raise MachineError(error.message, hint="`rustup default stable`") from error
    if not install or os.environ.get("RUSTUP_AUTO_INSTALL") == "0":
        raise MachineError(error.message, hint=f"`rustup toolchain install {wanted[1]}`") from error
    with step(f"Installing {wanted[1]}, which rust-toolchain.toml asks for"):
        _ask(rustup, "toolchain", "install", root=root, patience=patience * 4)


def _add(rustup: Path, triple: str, name: str, rustc: Path, root: Path, patience: float) -> None:
    with files.lock(files.cache_dir() / "rustup.lock", doing="adding a target to rustup"):
        probed = probe(rustc, triple, root)
        if probed and probed.libdir:  # the one we waited for added it
            return
        with step(f"Adding {triple} to rustup's {name}"):
            _ask(rustup, "target", "add", triple, "--toolchain", name, root=root, patience=patience)


def _ask(rustup: Path, *words: str, root: Path, patience: float = 30.0) -> str:
    """What rustup prints. Raises `MachineError` with its own words, of which the first line says it."""
    env = {"RUSTUP_MAX_RETRIES": "1", "RUSTUP_DOWNLOAD_TIMEOUT": "20"} | probing()
    ran = process.run([rustup, *words], cwd=root, env=env, timeout=patience, guarded=True)
    if ran.code == 0:
        return ran.stdout.strip()
    said = ran.stderr.strip().splitlines() or [f"exit code {ran.code}"]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    command = f"`rustup {' '.join(words)}`"
    raise MachineError(f"{command}: {(errors or said[-1:])[0]}", hint=command)
