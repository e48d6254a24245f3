"""A rustc and its cargo: their versions, and whether they compile to a triple."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scaffold.core import cached_output as memory
from scaffold.core import process
from scaffold.core.versions import Version
from scaffold.errors import MachineError

OLDEST = Version((1, 78))  # the first that knows a triple by the name wasm32-wasip1
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Toolchain:
    """A rustc that compiles to the triple it was looked for, and the cargo that drives it.

    `origin` says in words where it comes from. `version` is rustc's, as "1.85.1", `host_triple` the one it
    runs on, `commit` the hash it was built from, if it names one; `cargo_version` is what cargo prints, if it
    was asked. `env` is what to add to cargo's environment (RUSTC and the linkers), overriding what is there.
    """

    origin: str
    rustc: Path
    cargo: Path
    version: str
    env: Mapping[str, str] = field(default_factory=dict)
    host_triple: str = ""
    commit: str = ""
    cargo_version: str = ""

    def summary(self) -> str:
        """The version, the origin and the two paths."""
        return f"rustc {self.version}, {self.origin}\n  rustc  {self.rustc}\n  cargo  {self.cargo}"


@dataclass(frozen=True)
class Unusable:
    """Why a place has no toolchain for us; `hint` is the command that changes that, where there is one."""

    place: str
    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class Problem:
    """Why a rustc can't be used; `reason` is a clause of its own."""

    kind: Literal["broken", "old", "std", "linker", "cargo"]
    reason: str


@dataclass(frozen=True)
class Rustc:
    """What a rustc reports about itself; `libdir` is the folder of the triple's std, None without one."""

    version: str
    host_triple: str
    commit: str
    libdir: Path | None


def answer(argv: process.Argv, root: Path = Path()) -> str | None:
    """What a program prints when run in the folder `root`; None when it fails or isn't there.

    The answer of a compiled program is cached until its file changes: asking takes longer than a build
    with nothing to do. rustup's proxies and scripts are asked every time, as they may run another program.
    """
    question, program = " ".join(map(str, argv)), Path(argv[0])
    fixed = not is_proxy(program)
    known = memory.recall(question, program) if fixed else None
    if known is not None:
        return known
    try:
        ran = process.run(argv, cwd=root, env=no_downloads(), timeout=_ANSWER_SECONDS)
    except MachineError:
        return None
    printed = ran.stdout.strip()
    if ran.code == 0 and fixed:
        memory.remember(question, program, printed)
    return printed if ran.code == 0 else None


def no_downloads() -> dict[str, str]:
    """The environment in which rustup's proxies answer without starting a download."""
    return os.environ | {"RUSTUP_AUTO_INSTALL": "0", "RUST_BACKTRACE": "0"}


def probe(rustc: Path, triple: str, root: Path = Path()) -> Rustc | None:
    """Ask a rustc for its version and the triple's std; None when it doesn't run."""
    printed = answer([rustc, "-vV"], root) or ""
    version = re.match(r"rustc (\S+)", printed)
    fields = dict(re.findall(r"^([\w-]+): (\S+)", printed, re.MULTILINE))
    if not version or "host" not in fields:
        return None
    libdir = Path(answer([rustc, "--print", "target-libdir", "--target", triple], root) or "/nowhere")
    has_std = any(libdir.glob("libstd-*.rlib"))
    return Rustc(version[1], fields["host"], fields.get("commit-hash", ""), libdir if has_std else None)


def check(rustc: Path, triple: str, root: Path, origin: str) -> Toolchain | Problem:
    """The toolchain of a rustc, or the first reason why it can't compile plugins to the triple."""
    probed = probe(rustc, triple, root)
    if probed is None:
        return Problem("broken", "it doesn't run")
    name = f"rustc {probed.version}"
    if Version.find(probed.version) < OLDEST:
        return Problem("old", f"{name} is older than {OLDEST}, the first with wasm32-wasip1")
    if probed.libdir is None:
        return Problem("std", f"{name} has no std for {triple}")
    linker = _wasm_linker(rustc, probed.libdir, triple)
    if linker is None:
        return Problem("linker", f"{name} comes without a linker for wasm")
    for cargo in (rustc.with_name("cargo"), *programs("cargo")):
        if cargo_version := answer([cargo, "--version"], root):
            env = _env_for(rustc) | linker
            return Toolchain(
                origin, rustc, cargo, probed.version, env, probed.host_triple, probed.commit, cargo_version
            )
    return Problem("cargo", f"{name} has no working cargo beside it or on PATH")


def programs(pattern: str) -> Iterator[Path]:
    """Every program on PATH whose name matches a glob pattern, in PATH's order.

    Like a shell, it passes over entries that can't be read.
    """
    seen = set()
    for folder in os.get_exec_path():
        for name in _names(folder, pattern) if Path(folder).is_absolute() else ():
            path = Path(folder, name)
            # not Path.is_file, which raises an error below a folder that can't be entered
            if path not in seen and os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
                seen.add(path)
                yield path


def _names(folder: str, pattern: str) -> list[str]:
    """The names in a folder that match; a name itself may be there even if the folder can't be listed."""
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    try:
        return sorted(fnmatch.filter(os.listdir(folder), pattern))  # noqa: PTH208 - names, not paths
    except OSError:
        return []


def is_proxy(program: Path) -> bool:
    """Whether a program is rustup under another name, which runs the toolchain that rustup selects."""
    if program.resolve().name.startswith("rustup"):
        return True
    rustup = program.with_name("rustup")
    return rustup.exists() and program.samefile(rustup)  # a hard link


def linker_key(triple: str) -> str:
    """The environment variable that names a triple's linker to cargo."""
    return f"CARGO_TARGET_{triple.upper().replace('-', '_')}_LINKER"


def _wasm_linker(rustc: Path, libdir: Path, triple: str) -> dict[str, str] | None:
    """What names the linker for wasm to cargo: nothing where rustc has its own; None without any."""
    bundled = next(libdir.parents[1].glob("*/bin/rust-lld"), None) or next(programs("rust-lld"), None)
    if bundled or linker_key(triple) in os.environ:
        return {}
    beside = rustc.with_name("rust-lld")  # where a private toolchain has it
    if beside.exists():
        return {linker_key(triple): str(beside)}
    for name in ("wasm-ld", "wasm-ld-[0-9]*", "lld", "lld-[0-9]*"):
        for path in programs(name):
            return {linker_key(triple): str(path)}
    return None


def _env_for(rustc: Path) -> dict[str, str]:
    """The environment in which any cargo uses this rustc and the rustdoc beside it."""
    rustdoc = rustc.with_name("rustdoc")
    return {"RUSTC": str(rustc)} | ({"RUSTDOC": str(rustdoc)} if rustdoc.exists() else {})
