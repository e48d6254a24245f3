"""The private toolchain: rustc, cargo and a linker of Debian's packages."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

from scaffold.core import process
from scaffold.errors import MachineError
from scaffold.toolchain.debian import packages
from scaffold.toolchain.debian.packages import Bundle, Origin
from scaffold.toolchain.rustc import Toolchain, Unusable, linker_key, probe, programs

PLACE = "a private toolchain"
_BUNDLE = Bundle("Rust", ("rustc", "libstd-rust-dev-wasm32", "lld", "cargo"), "`scaffold setup`")
_TRIAL = '#[no_mangle]\npub extern "C" fn proxy_abi_version_0_2_1() { println!("{:?}", std::env::args()) }\n'
# A program that this cc links uses the loader and the libraries it was linked with, not the machine's.
_CC_WORDS = """--sysroot="$root" -B "$root/run" -fuse-ld=lld \\
    -Xlinker -dynamic-linker -Xlinker "$root/{loader}" -Xlinker -rpath -Xlinker "$root/usr/lib/{gnu}" """


def find(triple: str, *, yes: bool = False, install: bool = True) -> Toolchain | Unusable:
    """The private toolchain; with `install`, a missing one is installed.

    The user is asked first (`events.ask`), and told the size, unless `yes`.
    """
    root = folder()
    if not root.is_dir():
        try:
            origin = Origin.find()
            if not install:
                return Unusable(PLACE, "not installed", _BUNDLE.command)
            _BUNDLE.install(origin, lambda staging: _finish(staging, triple), yes=yes)
        except MachineError as error:
            return Unusable(PLACE, error.message, error.hint)
        except OSError as error:
            return Unusable(PLACE, f"can't write {error.filename or root}: {error.strerror}")
    rustc = program(root, "rustc")
    probed = probe(rustc, triple)
    if probed is None or probed.libdir is None:
        reinstall = "`scaffold setup --remove`, then `scaffold setup`"
        return Unusable(PLACE, f"the one in {root} is broken", reinstall)
    return Toolchain(
        f"private, Debian's rustc {probed.version}",
        rustc,
        program(root, "cargo"),
        probed.version,
        _env(root, triple),
        probed.host_triple,
        probed.commit,
    )


def folder() -> Path:
    """Where the private toolchain is, or would be."""
    return _BUNDLE.folder


def program(root: Path, name: str) -> Path:
    """The script that runs rustc, rustdoc, cargo, rust-lld (for wasm), or cc and ar (for the machine)."""
    return root / "run" / name


def _finish(root: Path, triple: str) -> None:
    _write_scripts(root)
    _try(root, triple)


def _try(root: Path, triple: str) -> None:
    """Compile a tiny module and, where the machine has no cc, a native library.

    Raises `MachineError` with rustc's first line.
    """
    trials = [["--crate-type=cdylib", f"--target={triple}", f"-Clinker={program(root, 'rust-lld')}"]]
    if not _has_cc():
        trials.append(["--crate-type=cdylib", f"-Clinker={program(root, 'cc')}"])
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "trial.rs")
        source.write_text(_TRIAL)
        for words in trials:
            argv: process.Argv = [program(root, "rustc"), *words, "-o", f"{scratch}/out", source]
            ran = process.run(argv, cwd=Path(scratch), guarded=True)
            if ran.code != 0:
                raise MachineError(
                    f"the unpacked toolchain doesn't compile: {ran.stderr.strip().partition(chr(10))[0]}"
                )


def _env(root: Path, triple: str) -> dict[str, str]:
    env = {name.upper(): str(program(root, name)) for name in ("rustc", "rustdoc")}
    env[linker_key(triple)] = str(program(root, "rust-lld"))
    if not _has_cc():
        cc = program(root, "cc")
        env[linker_key(packages.gnu().replace("-linux", "-unknown-linux"))] = str(cc)
        # rustdoc and C in build scripts look for a cc there
        env["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(cc.parent)])
    return {key: value for key, value in env.items() if key in ("PATH", "RUSTC") or key not in os.environ}


def _has_cc() -> bool:
    """Whether the machine's cc can link programs: the C library's objects are a package of their own."""
    for cc in programs("cc"):
        try:
            ran = process.run([cc, "-print-file-name=Scrt1.o"], timeout=20)
        except MachineError:
            continue
        if ran.code == 0:
            return Path(ran.stdout.strip()).is_absolute()
    return False


def _write_scripts(root: Path) -> None:
    """Write the scripts that run the unpacked programs. Raises `MachineError` when one is missing."""
    gnu, one = packages.gnu(), partial(packages.one, root)
    script = partial(packages.write_script, root)
    lld = one("usr/lib/llvm-*/bin/lld")
    # rustdoc runs documentation tests with the rustc of the sysroot, so that must be a script, too
    (root / "usr/bin/rustc").rename(root / "usr/bin/rustc.real")
    script("usr/bin/rustc", "usr/bin/rustc.real", up="../..")
    script("run/rustc", "usr/bin/rustc.real")
    script("run/rustdoc", one("usr/bin/rustdoc"))
    # a cargo that a loader runs doesn't know its own path, and reads CARGO
    script("run/cargo", one("usr/bin/cargo"), before='export CARGO="$0"\n')
    for name in ("rust-lld", "ld.lld"):
        script(f"run/{name}", lld, argv0=name)
    # -B tells cc to look for these programs here
    for name in ("cc1", "collect2"):
        script(f"run/{name}", one(f"usr/libexec/gcc/{gnu}/*/{name}"))
    for name in ("as", "ar"):
        script(f"run/{name}", one(f"usr/bin/{gnu}-{name}"))
    gcc = one(f"usr/bin/{gnu}-gcc-[0-9]*")
    words = _CC_WORDS.format(loader=packages.loader(root), gnu=gnu)
    script("run/cc", gcc, argv0=f'"$root/{gcc}"', words=words)
