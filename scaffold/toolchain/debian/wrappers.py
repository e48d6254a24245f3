"""What makes Debian's programs run from a folder of ours: shell scripts that hand them its own libraries.

A newer suite's programs need a newer glibc than the machine's, so each is run by the loader that came
along. The scripts find everything from where they lie, and fork nothing.
"""

from __future__ import annotations

from pathlib import Path

from scaffold.core import files
from scaffold.errors import MachineError

_FOLDER = "run"
_LINKS = {"lib": "usr/lib", "lib64": "usr/lib64", "bin": "usr/bin", "sbin": "usr/sbin"}
_SCRIPT = """#!/bin/sh
root="${{0%/*}}/{up}"
{before}exec "$root/{loader}" --library-path "$root/usr/lib/{gnu}" --argv0 {argv0} \\
    "$root/{program}" {words}"$@"
"""
# What it links runs by the loader and the libraries it was linked with, wherever the machine's are.
_CC_WORDS = """--sysroot="$root" -B "$root/run" -fuse-ld=lld \\
    -Xlinker -dynamic-linker -Xlinker "$root/{loader}" -Xlinker -rpath -Xlinker "$root/usr/lib/{gnu}" """


def lay_out(root: Path) -> None:
    """Make the links that a merged /usr has, so that packages of either layout fall into the same place."""
    for link, target in _LINKS.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)


def write(root: Path, gnu: str) -> None:
    """Put the scripts into an unpacked root; `gnu` is its library folder, such as x86_64-linux-gnu.

    Raises `MachineError` when a program they call isn't in it.
    """
    loader = _one(root, "usr/lib*/ld-linux-*.so.[0-9]")
    lld = _one(root, "usr/lib/llvm-*/bin/lld")

    def script(name: str, program: str, *, argv0: str = '"$0"', up: str = "..", **more: str) -> None:
        blanks = {"before": "", "words": ""} | more
        text = _SCRIPT.format(program=program, argv0=argv0, up=up, loader=loader, gnu=gnu, **blanks)
        files.write(root / name, text, mode=0o755)

    (root / _FOLDER).mkdir()
    # rustdoc runs documentation tests by the rustc of the sysroot: that one is a script, too.
    (root / "usr/bin/rustc").rename(root / "usr/bin/rustc.real")
    script("usr/bin/rustc", "usr/bin/rustc.real", up="../..")
    script("run/rustc", "usr/bin/rustc.real")
    script("run/rustdoc", _one(root, "usr/bin/rustdoc"))
    # cargo cannot know its own name when a loader runs it, and asks CARGO.
    script("run/cargo", _one(root, "usr/bin/cargo"), before='export CARGO="$0"\n')
    for name in ("rust-lld", "ld.lld"):
        script(f"run/{name}", lld, argv0=name)
    # cc looks beside itself for the programs it runs, by -B.
    for name in ("cc1", "collect2"):
        script(f"run/{name}", _one(root, f"usr/libexec/gcc/{gnu}/*/{name}"))
    for name in ("as", "ar"):
        script(f"run/{name}", _one(root, f"usr/bin/{gnu}-{name}"))
    gcc = _one(root, f"usr/bin/{gnu}-gcc-[0-9]*")
    script("run/cc", gcc, argv0=f'"$root/{gcc}"', words=_CC_WORDS.format(loader=loader, gnu=gnu))


def program(root: Path, name: str) -> Path:
    """Where a program is called: rustc, rustdoc, cargo, rust-lld (for wasm), cc and ar (for the machine)."""
    return root / _FOLDER / name


def _one(root: Path, pattern: str) -> str:
    found = sorted(root.glob(pattern))
    if not found:
        raise MachineError(f"the unpacked packages hold no {pattern}")
    return str(found[-1].relative_to(root))
