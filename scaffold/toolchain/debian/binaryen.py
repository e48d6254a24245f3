"""A private binaryen: Debian's package, unpacked beside the private toolchain."""

from __future__ import annotations

import tempfile
from pathlib import Path

from scaffold.core import process
from scaffold.errors import MachineError
from scaffold.toolchain.debian import packages
from scaffold.toolchain.debian.packages import Bundle, Origin

NAME = "wasm-opt"
COMMAND = "scaffold setup --wasm-opt"
_BUNDLE = Bundle("binaryen", ("binaryen",), f"`{COMMAND}`", "-binaryen")
_SECONDS = 30.0


def find() -> Path | None:
    """Its `wasm-opt`; None where it isn't installed."""
    program = _BUNDLE.program(NAME)
    return program if program.is_file() else None


def install(*, yes: bool) -> Path:
    """Install it, once the user agrees, and return its `wasm-opt`; `yes` agrees in advance.

    Raises `MachineError` where it can't be had, or doesn't run.
    """
    _BUNDLE.install(Origin.find(), _finish, yes=yes)
    return _BUNDLE.program(NAME)


def _finish(root: Path) -> None:
    script = f"run/{NAME}"
    packages.write_script(root, script, packages.one(root, f"usr/bin/{NAME}"))
    _try(root / script)


def _try(program: Path) -> None:
    """Have it write an empty module. Raises `MachineError` with its first line if it doesn't."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "a.wasm"), Path(folder, "b.wasm")
        given.write_bytes(b"\0asm\1\0\0\0")
        ran = process.run([program, "-Oz", given, "-o", made], timeout=_SECONDS, guarded=True)
        if ran.code or not made.is_file():
            said = ran.stderr.strip().partition("\n")[0] or f"exit code {ran.code}"
            raise MachineError(f"the unpacked {NAME} doesn't work: {said}")
