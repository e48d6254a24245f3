"""The rustc of the system's own packages, or any other on PATH that isn't rustup's."""

from __future__ import annotations

import re
from pathlib import Path

from scaffold.toolchain.rustc import (
    Toolchain,
    Unfit,
    cargo_for,
    env_for,
    is_proxy,
    probe,
    programs,
    wasm_linker,
)

WAY = "the system's rustc"
_OS_RELEASE = Path("/etc/os-release")
_NEW_ENOUGH = {"debian": (13,), "ubuntu": (25, 4)}  # the first with a rustc of 1.78 or later


def find(triple: str, root: Path) -> Toolchain | Unfit:
    """The first rustc on PATH, rustup's proxies aside, that has std for the triple and a linker."""
    refused: list[Unfit] = []
    for rustc in programs("rustc"):
        if is_proxy(rustc):  # it runs what rustup.py has judged already, or nothing
            continue
        found = _fit(rustc, triple, root)
        if isinstance(found, Toolchain):
            return found
        refused.append(found)
    return refused[0] if refused else Unfit(WAY, "none on PATH", _remedy(triple))


def _fit(rustc: Path, triple: str, root: Path) -> Toolchain | Unfit:
    probed = probe(rustc, triple, root)
    if probed is None:
        return Unfit(WAY, f"{rustc} doesn't run", _remedy(triple))
    if probed.too_old:
        return Unfit(WAY, f"{rustc}: {probed.too_old}", _remedy(triple))
    if probed.libdir is None:
        return Unfit(WAY, f"{rustc} ({probed.version}) has no std for {triple}", _remedy(triple))
    linker = wasm_linker(rustc, probed.libdir, triple)
    if linker is None:
        return Unfit(WAY, f"{rustc} ({probed.version}) comes without a linker for wasm", _remedy(triple))
    cargo = cargo_for(rustc, root)
    if cargo is None:
        return Unfit(WAY, f"no cargo that runs goes with {rustc} ({probed.version})", _remedy(triple))
    return Toolchain("the system's", rustc, cargo, probed.version, env_for(rustc) | linker)


def _remedy(triple: str) -> str | None:
    try:
        line = install_line(_OS_RELEASE.read_text(), triple)
    except OSError:
        return None
    return f"`{line}`" if line else None


def install_line(os_release: str, triple: str) -> str | None:
    """The command that installs rustc with the triple's std, for a system told by its os-release(5).

    None where its packages are too old or it isn't known.
    """
    said = dict(re.findall(r"""^([A-Z_]+)=["']?([^"'\n]*)""", os_release, re.MULTILINE))
    own = said.get("ID", "")
    version = tuple(int(part) for part in re.findall(r"\d+", said.get("VERSION_ID", "")))
    for name in (own, *said.get("ID_LIKE", "").split()):
        if name in _NEW_ENOUGH:  # a derivative numbers its own way; Debian's testing has no number
            new = own == name and (not version or version >= _NEW_ENOUGH[name])
            return "sudo apt install rustc cargo libstd-rust-dev-wasm32 lld" if new else None
        if name == "fedora":
            return f"sudo dnf install rust cargo rust-std-static-{triple}"
        if name == "alpine":
            return "sudo apk add rust cargo rust-wasm lld"
        if name == "arch":
            return "sudo pacman -S rust rust-wasm lld"
    return None
