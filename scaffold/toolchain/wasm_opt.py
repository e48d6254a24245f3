"""binaryen's `wasm-opt`, which makes a module smaller still, where it is installed.

It is told every feature of wasm that the module may use: a stripped module doesn't say.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.foreign_files import read_bytes, read_text
from scaffold.errors import MachineError, ToolFailed
from scaffold.toolchain.debian import binaryen
from scaffold.toolchain.rustc import programs
from scaffold.wasm import source_map
from scaffold.wasm.module import SIZE_LIMIT

NAME = binaryen.NAME
SECONDS = 30.0  # and one more for each 50 kB
_LEVEL = "-Oz"
_FLAGS = {"nontrapping-fptoint": "nontrapping-float-to-int", "simd128": "simd", "atomics": "threads"}
_IMPLIED = ("bulk-memory-opt", "call-indirect-overlong")  # by features that are older than these names
_BASIC = (
    "bulk-memory",
    "multivalue",
    "mutable-globals",
    "nontrapping-fptoint",
    "reference-types",
    "sign-ext",
)


def find() -> Path | None:
    """The first on PATH, or else the private one."""
    return next(programs(NAME), None) or binaryen.find()


def version(program: Path) -> str:
    """What it says of itself, as "wasm-opt version 108". Raises `MachineError` if it doesn't run."""
    ran = process.run([program, "--version"], timeout=SECONDS)
    said = ran.stdout.strip().partition("\n")[0]
    if ran.code or not said:
        broken = ran.stderr.strip().partition("\n")[0] or f"exit code {ran.code}"
        ours = program == binaryen.find()
        hint = f"`scaffold setup --remove`, then `{binaryen.COMMAND}`" if ours else "take it off PATH"
        raise MachineError(f"{program} doesn't run: {broken}", hint=hint)
    return said


def stamp(program: Path | None) -> str:
    """What tells a wasm-opt from a later one at its path."""
    if program is None:
        return "none"
    stat = program.resolve().stat()
    return f"{program} {stat.st_mtime_ns} {stat.st_size}"


def optimise(program: Path, content: bytes, positions: str, features: Iterable[str]) -> tuple[bytes, str]:
    """Make a module smaller, names and all. `positions` says where each of its instructions came from.

    It is the `mappings` of a source map, and so is what is returned beside the module.
    Raises `ToolFailed`, or `MachineError` after a while that no module should take.
    """
    with files.scratch() as folder:
        given, made, given_map, made_map = (folder / name for name in ("a.wasm", "b.wasm", "a.map", "b.map"))
        given.write_bytes(content)
        given_map.write_text(
            json.dumps({"version": 3, "sources": ["module"], "names": [], "mappings": positions})
        )
        enabled = sorted({*_BASIC, *features} - {*_IMPLIED})
        flags = [f"--enable-{_FLAGS.get(each, each)}" for each in enabled]
        maps = ["--input-source-map", str(given_map), "--output-source-map", str(made_map)]
        argv = [str(program), _LEVEL, "--debuginfo", *flags, *maps, str(given), "-o", str(made)]
        ran = process.run(argv, cwd=folder, timeout=SECONDS + len(content) / 50_000, guarded=True)
        if ran.code:
            said = ran.stderr.strip().partition("\n")[0] or f"exit code {ran.code}"
            raise ToolFailed(f"{NAME} failed: {said}")
        try:
            mappings = str(json.loads(read_text(made_map))["mappings"])
            deque(source_map.read(mappings), maxlen=0)  # raises an error for what isn't one
            return read_bytes(made, SIZE_LIMIT), mappings
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ToolFailed(f"{NAME} wrote nothing that can be read") from error
