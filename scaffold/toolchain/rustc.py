"""A rustc and its cargo: what they are, and whether they compile to a triple."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.core import cache as memory
from scaffold.core import process
from scaffold.errors import MachineError

OLDEST = (1, 78)  # the first that knows a triple by the name wasm32-wasip1
_PROBE_SECONDS = 30.0


@dataclass(frozen=True)
class Toolchain:
    """A rustc that compiles to the triple it was found for, and the cargo to drive it.

    `origin` says in words where it comes from; `version` is rustc's, as "1.85.1"; `env` is what to add
    to cargo's environment (RUSTC and the linkers), whatever the environment already says.
    """

    origin: str
    rustc: Path
    cargo: Path
    version: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The triple that this rustc itself runs on."""
        said = answer([self.rustc, "-vV"]) or ""
        found = re.search(r"^host: (\S+)", said, re.MULTILINE)
        if not found:
            raise MachineError(f"{self.rustc} doesn't say what it runs on")
        return found[1]

    def summary(self) -> str:
        """What it is, and where."""
        return f"rustc {self.version}, {self.origin}\n  rustc  {self.rustc}\n  cargo  {self.cargo}"


@dataclass(frozen=True)
class Unfit:
    """Why a way leads to no toolchain; `remedy` is what to type to change that, where something does."""

    way: str
    reason: str
    remedy: str | None = None


@dataclass(frozen=True)
class Probe:
    """What a rustc says of itself: its version, and the folder of the triple's std where it has that."""

    version: str
    libdir: Path | None

    @property
    def too_old(self) -> str | None:
        """The sentence that says so, when it is."""
        numbers = tuple(int(number) for number in re.findall(r"\d+", self.version)[:2])
        if numbers >= OLDEST:
            return None
        return (
            f"rustc {self.version} is older than {'.'.join(map(str, OLDEST))}, the first with wasm32-wasip1"
        )


def answer(argv: process.Argv, root: Path = Path()) -> str | None:
    """What a program prints when it runs well in the folder `root`; None when it doesn't, or isn't there.

    What a compiled program said is remembered in the cache as long as its file is the same: to ask
    takes longer than a build with nothing to do. A proxy or a script may become another one any time.
    """
    question, program = " ".join(map(str, argv)), Path(argv[0])
    fixed = not is_proxy(program)
    known = memory.recall(question, program) if fixed else None
    if known is not None:
        return known
    try:
        ran = process.run(argv, cwd=root, env=probing(), timeout=_PROBE_SECONDS)
    except MachineError:
        return None
    said = ran.stdout.strip()
    if ran.code == 0 and fixed:
        memory.remember(question, program, said)
    return said if ran.code == 0 else None


def probing() -> dict[str, str]:
    """The environment for a question to rustup's proxies: it must not start a download."""
    return os.environ | {"RUSTUP_AUTO_INSTALL": "0", "RUST_BACKTRACE": "0"}


def probe(rustc: Path, triple: str, root: Path = Path()) -> Probe | None:
    """Ask a rustc for its version and the triple's std; None when it doesn't run at all."""
    said = answer([rustc, "--version"], root)
    found = re.match(r"rustc (\S+)", said or "")
    if not found:
        return None
    libdir = Path(answer([rustc, "--print", "target-libdir", "--target", triple], root) or "/nowhere")
    return Probe(found[1], libdir if any(libdir.glob("libstd-*.rlib")) else None)


def programs(pattern: str) -> Iterator[Path]:
    """Every program on PATH whose name fits a glob pattern, in PATH's order."""
    seen = set()
    for folder in os.get_exec_path():
        for path in sorted(Path(folder).glob(pattern)) if Path(folder).is_absolute() else ():
            if path not in seen and path.is_file() and os.access(path, os.X_OK):
                seen.add(path)
                yield path


def is_proxy(program: Path) -> bool:
    """Whether a program is rustup under another name, which runs the toolchain that rustup chooses."""
    if program.resolve().name.startswith("rustup"):
        return True
    rustup = program.with_name("rustup")
    return rustup.exists() and program.samefile(rustup)  # a hard link


def cargo_for(rustc: Path, root: Path = Path()) -> Path | None:
    """The cargo beside a rustc, or else the first on PATH that runs."""
    for cargo in (rustc.with_name("cargo"), *programs("cargo")):
        if answer([cargo, "--version"], root) is not None:
            return cargo
    return None


def linker_key(triple: str) -> str:
    """The environment variable by which cargo takes a triple's linker."""
    return f"CARGO_TARGET_{triple.upper().replace('-', '_')}_LINKER"


def wasm_linker(rustc: Path, libdir: Path, triple: str) -> dict[str, str] | None:
    """What cargo must be told of the linker for wasm: nothing where rustc has its own; None without any."""
    bundled = next(libdir.parents[1].glob("*/bin/rust-lld"), None) or next(programs("rust-lld"), None)
    if bundled or linker_key(triple) in os.environ:
        return {}
    beside = rustc.with_name("rust-lld")  # as a private toolchain has it
    if beside.exists():
        return {linker_key(triple): str(beside)}
    for name in ("wasm-ld", "wasm-ld-[0-9]*", "lld", "lld-[0-9]*"):
        for path in programs(name):
            return {linker_key(triple): str(path)}
    return None


def env_for(rustc: Path) -> dict[str, str]:
    """The environment that makes any cargo use this rustc and the rustdoc beside it."""
    rustdoc = rustc.with_name("rustdoc")
    return {"RUSTC": str(rustc)} | ({"RUSTDOC": str(rustdoc)} if rustdoc.exists() else {})
