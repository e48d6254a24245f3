"""`setup`: find or install a Rust toolchain, or remove the private one."""

from __future__ import annotations

from pathlib import Path

from scaffold.core.option_fields import refuse
from scaffold.project.projects import triples_at
from scaffold.toolchain.debian import install
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain


def setup(
    root: Path = Path(), options: BuildOptions = BuildOptions(), *, remove: bool = False
) -> Toolchain | None:
    """Find or install the toolchain for the project in `root`, or for the default triple if there is none.

    With `remove`, delete the private toolchain and its downloads instead, and return None.
    """
    refuse(options, "setup", supported=("rustc", "yes"))
    if remove:
        install.remove()
        return None
    tools = [find(triple, root=root, rustc=options.rustc, yes=options.yes) for triple in triples_at(root)]
    return tools[0]
