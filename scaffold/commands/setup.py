"""`setup`: find or install a Rust toolchain and `wasm-opt`, or remove the private ones."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from scaffold.core.events import Noted, emit
from scaffold.core.option_fields import refuse
from scaffold.errors import MachineError, UsageError
from scaffold.project.projects import triples_at
from scaffold.toolchain import wasm_opt as optimiser
from scaffold.toolchain.debian import binaryen, packages
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rustc import Toolchain


def setup(
    root: Path = Path(),
    options: BuildOptions = BuildOptions(),
    *,
    wasm_opt: bool = False,
    remove: bool = False,
) -> Toolchain | None:
    """Find or install the toolchain for the project in `root`, or for the default triple if there is none.

    With `wasm_opt`, find or install binaryen's `wasm-opt`, too. With `remove`, delete the private toolchain,
    the private binaryen and their downloads instead, and return None.
    """
    refuse(options, "setup", supported=("rustc", "yes"))
    if remove:
        if wasm_opt:
            raise UsageError("--wasm-opt and --remove exclude each other", hint="pass one of them")
        packages.remove()
        return None
    tools = [find(triple, root=root, rustc=options.rustc, yes=options.yes) for triple in triples_at(root)]
    program = optimiser.find()
    if wasm_opt:
        program = program or binaryen.install(yes=options.yes)
        emit(Noted(f"{optimiser.version(program)}, {program}"))
    elif program is None:
        with suppress(MachineError):  # where it can't be installed, nothing is offered
            packages.Origin.find()
            emit(Noted(f"`{binaryen.COMMAND}` installs wasm-opt, which makes modules a tenth smaller"))
    return tools[0]
