"""A Rust toolchain that compiles plugins: find it, install it, explain what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from scaffold.errors import MachineError
from scaffold.toolchain import named, rustup, system
from scaffold.toolchain.rustc import Toolchain, Unfit

__all__ = ["Toolchain", "find"]


def find(
    triple: str, *, root: Path = Path(), rustc: str | None = None, yes: bool = False, install: bool = True
) -> Toolchain:
    """The first toolchain that compiles to `triple`.

    Asked in this order: the rustc named by `rustc` or $RUSTC, and then no other; rustup's active
    toolchain for the folder `root`; the system's rustc; a private one. With `install`, rustup's target
    is added and the private one installed where it takes that; `yes` answers the question beforehand.

    Raises `MachineError` when there is none, with the reason of each.
    """
    for name, by in ((rustc, "--rustc"), (os.environ.get("RUSTC"), "$RUSTC")):
        if name:
            return named.take(name, by, triple, root)
    refused: list[Unfit] = []
    for found in _ways(triple, root, yes, install):
        if isinstance(found, Toolchain):
            return found
        refused.append(found)
    raise _nothing(triple, refused)


def _ways(triple: str, root: Path, yes: bool, install: bool) -> Iterator[Toolchain | Unfit]:
    found = rustup.find(triple, root, install=False)
    if isinstance(found, Unfit) and install:
        from scaffold.toolchain.debian import install as private

        # once there is a private one, rustup isn't made to reach for its server at every build
        found = found if private.folder().is_dir() else rustup.find(triple, root)
    yield found
    yield system.find(triple, root)
    from scaffold.toolchain.debian import install as private

    yield private.find(triple, yes=yes, install=install)


def _nothing(triple: str, refused: list[Unfit]) -> MachineError:
    reasons = "".join(f"\n  {unfit.way}: {unfit.reason}" for unfit in refused)
    remedies = [unfit.remedy for unfit in refused if unfit.remedy]
    hint = ", or ".join(remedies) or None
    return MachineError(f"no Rust toolchain here compiles to {triple}{reasons}", hint=hint)
