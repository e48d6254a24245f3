"""`setup`: find or install a Rust toolchain, or remove the private one."""

from __future__ import annotations

from pathlib import Path

from scaffold.project.plugins import triples
from scaffold.toolchain.debian import install
from scaffold.toolchain.find import find
from scaffold.toolchain.rustc import Toolchain


def setup(
    root: Path = Path(), *, rustc: str | None = None, yes: bool = False, remove: bool = False
) -> Toolchain | None:
    """Find or install the toolchain for the project in `root`, or for the default triple without one.

    With `remove`, remove the private toolchain and its downloads instead, and return None.
    """
    if remove:
        install.remove()
        return None
    found = [find(triple, root=root, rustc=rustc, yes=yes) for triple in triples(root)]
    return found[0]
