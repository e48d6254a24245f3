"""The rustc that the user named."""

from __future__ import annotations

import shutil
from pathlib import Path

from scaffold.errors import MachineError
from scaffold.toolchain.rustc import Toolchain, cargo_for, env_for, probe, wasm_linker


def take(name: str, by: str, triple: str, root: Path) -> Toolchain:
    """The toolchain of a rustc given as a path or a name on PATH; `by` says where it was named.

    Raises `MachineError` when it doesn't run, is too old or can't compile to the triple: who names one
    wants that one.
    """
    named = f"the rustc named by {by}, {name},"
    path = shutil.which(name)
    rustc = Path(path).absolute() if path else None
    probed = probe(rustc, triple, root) if rustc else None
    if rustc is None or probed is None:
        why = "doesn't run" if rustc else "isn't there"
        raise MachineError(
            f"{named} {why}", hint=f"name one that runs, or none: without {by} one is looked for"
        )
    if probed.too_old:
        raise MachineError(f"{named} can't be used: {probed.too_old}", hint="name a newer one")
    if probed.libdir is None:
        raise MachineError(
            f"{named} has no std for {triple}",
            hint=f"`rustup target add {triple}` if it is rustup's, or name another",
        )
    linker = wasm_linker(rustc, probed.libdir, triple)
    if linker is None:
        raise MachineError(f"{named} comes without a linker for wasm", hint="install lld, or name another")
    cargo = cargo_for(rustc, root)
    if cargo is None:
        raise MachineError(f"no cargo that runs is beside {rustc} or on PATH", hint="put one on PATH")
    return Toolchain(f"named by {by}", rustc, cargo, probed.version, env_for(rustc) | linker)
