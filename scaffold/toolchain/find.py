"""Find a Rust toolchain that compiles plugins, or install one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from scaffold.core import files, locks, process
from scaffold.core.events import Warned, emit, step
from scaffold.core.versions import Version
from scaffold.errors import MachineError
from scaffold.toolchain import pin
from scaffold.toolchain.debian import install as private
from scaffold.toolchain.rustc import (
    Problem,
    Toolchain,
    Unusable,
    check,
    is_proxy,
    no_downloads,
    probe,
    programs,
)

DOWNLOAD_SECONDS = 180.0  # for the std of one triple, some 20 MB
OS_RELEASE = Path("/etc/os-release")
_NEW_ENOUGH = {"debian": (13,), "ubuntu": (25, 4)}  # the first with a rustc of 1.78 or later


def find(
    triple: str, *, root: Path = Path(), rustc: str | None = None, yes: bool = False, install: bool = True
) -> Toolchain:
    """The first toolchain that compiles to `triple`.

    The order: the rustc that `rustc` or $RUSTC names, and then no other; rustup's active toolchain for
    the folder `root`; the system's rustc; a private one. With `install`, a triple that rustup lacks is
    added, and a missing private toolchain installed, once the user agrees; `yes` agrees in advance.

    Warns, if it may install, of one that isn't what the project's rust-toolchain.toml asks for.
    Raises `MachineError` when there is none, with the reason for each.
    """
    for name, source in ((rustc, "--rustc"), (os.environ.get("RUSTC"), "$RUSTC")):
        if name:
            return _named(name, source, triple, root)
    unusable: list[Unusable] = []
    for candidate in _candidates(triple, root, yes, install):
        if isinstance(candidate, Toolchain):
            if install and (unmet := pin.unmet(root, candidate, triple)):
                emit(Warned(f"{unmet.sentence}: {unmet.remedy}"))
            return candidate
        unusable.append(candidate)
    reasons = "".join(f"\n  {each.place}: {each.reason}" for each in unusable)
    hint = ", or ".join(each.hint for each in unusable if each.hint) or None
    raise MachineError(f"no Rust toolchain here compiles to {triple}{reasons}", hint=hint)


def _candidates(triple: str, root: Path, yes: bool, install: bool) -> Iterator[Toolchain | Unusable]:
    # once there is a private toolchain, builds don't make rustup contact its server
    yield in_rustup(triple, root, install=install and not private.folder().is_dir())
    yield _on_path(triple, root)
    yield private.find(triple, yes=yes, install=install)


def _named(name: str, source: str, triple: str, root: Path) -> Toolchain:
    """The toolchain of the rustc that `source` names, by its path or its name on PATH.

    Raises `MachineError` when it can't be used: who names one doesn't want another.
    """
    path = shutil.which(name)
    if path is None:
        raise MachineError(
            f"the rustc named by {source}, {name}, isn't there",
            hint=f"name one that is, or leave {source} out to use the first that fits",
        )
    candidate = check(Path(path).absolute(), triple, root, f"named by {source}")
    if isinstance(candidate, Toolchain):
        return candidate
    hint = {
        "old": "name a newer one",
        "std": f"`rustup target add {triple}` if it is rustup's, or name another",
        "linker": "install lld, or name another",
        "cargo": "put a cargo on PATH",
    }.get(candidate.kind, f"name one that runs, or leave {source} out to use the first that fits")
    raise MachineError(f"the rustc named by {source}, {name}, can't be used: {candidate.reason}", hint=hint)


def in_rustup(
    triple: str, root: Path, *, install: bool = True, timeout: float = DOWNLOAD_SECONDS
) -> Toolchain | Unusable:
    """The toolchain that rustup runs in `root`, following rust-toolchain.toml.

    With `install`, what it lacks is downloaded, for `timeout` seconds at most.
    """
    rustup = next(programs("rustup"), None)
    if rustup is None:
        return Unusable("rustup", "not on PATH", "install rustup")
    add_target = f"`rustup target add {triple}`"
    try:
        name, rustc = _active(rustup, root, install, timeout)
        candidate = check(rustc, triple, root, f"rustup's {name}")
        if install and isinstance(candidate, Problem) and candidate.kind == "std":
            _add_target(rustup, triple, name, rustc, root, timeout)
            candidate = check(rustc, triple, root, f"rustup's {name}")
    except MachineError as error:
        return Unusable("rustup", error.message, error.hint or add_target)
    if isinstance(candidate, Problem):
        hints = {"broken": "`rustup toolchain install stable`", "old": "`rustup update`", "std": add_target}
        return Unusable("rustup", f"{name} can't be used: {candidate.reason}", hints.get(candidate.kind))
    return replace(candidate, env={**candidate.env, "RUSTUP_TOOLCHAIN": name})


def _active(rustup: Path, root: Path, install: bool, timeout: float) -> tuple[str, Path]:
    """The name of the active toolchain and its rustc, installed first where rustup itself would do so."""
    try:
        rustc = Path(_rustup(rustup, "which", "rustc", root=root))
    except MachineError as error:
        _install_toolchain(rustup, root, install, timeout, error)
        rustc = Path(_rustup(rustup, "which", "rustc", root=root))
    if rustc.parents[2].name == "toolchains":  # not one linked from elsewhere
        return rustc.parents[1].name, rustc
    return _rustup(rustup, "show", "active-toolchain", root=root).split()[0], rustc


def _install_toolchain(rustup: Path, root: Path, install: bool, timeout: float, error: MachineError) -> None:
    """Install the toolchain of rust-toolchain.toml, if `error` says that it is missing."""
    missing = re.search(r"toolchain '([^']+)' is not installed", error.message)
    if not missing:
        raise MachineError(error.message, hint="`rustup default stable`") from error
    if not install or os.environ.get("RUSTUP_AUTO_INSTALL") == "0":
        raise MachineError(error.message, hint=f"`rustup toolchain install {missing[1]}`") from error
    with step(f"Installing {missing[1]}, which rust-toolchain.toml asks for"):
        _rustup(rustup, "toolchain", "install", root=root, timeout=timeout * 4)


def _add_target(rustup: Path, triple: str, name: str, rustc: Path, root: Path, timeout: float) -> None:
    with locks.lock(files.cache_dir() / "rustup.lock", doing="adding a target to rustup"):
        probed = probe(rustc, triple, root)
        if probed and probed.libdir:  # another process added it while we waited
            return
        with step(f"Adding {triple} to rustup's {name}"):
            _rustup(rustup, "target", "add", triple, "--toolchain", name, root=root, timeout=timeout)


def _rustup(rustup: Path, *words: str, root: Path, timeout: float = 30.0) -> str:
    """What rustup prints. Raises `MachineError` with the first of its own error messages."""
    env = {"RUSTUP_MAX_RETRIES": "1", "RUSTUP_DOWNLOAD_TIMEOUT": "20"} | no_downloads()
    ran = process.run([rustup, *words], cwd=root, env=env, timeout=timeout, guarded=True)
    if ran.code == 0:
        return ran.stdout.strip()
    lines = ran.stderr.strip().splitlines() or [f"exit code {ran.code}"]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    command = f"`rustup {' '.join(words)}`"
    raise MachineError(f"{command}: {(errors or lines[-1:])[0]}", hint=command)


def _on_path(triple: str, root: Path) -> Toolchain | Unusable:
    """The first rustc on PATH that can be used, rustup's proxies aside: `in_rustup` has tried those."""
    problems = []
    for rustc in programs("rustc"):
        if not is_proxy(rustc):
            candidate = check(rustc, triple, root, "the system's")
            if isinstance(candidate, Toolchain):
                return candidate
            problems.append(f"{rustc} can't be used: {candidate.reason}")
    return Unusable("the system's rustc", (problems or ["none on PATH"])[0], _install_hint(triple))


def _install_hint(triple: str) -> str | None:
    try:
        line = install_line(OS_RELEASE.read_text(), triple)
    except OSError:
        return None
    return f"`{line}`" if line else None


def system_names(os_release: str) -> list[str]:
    """The ID of the system that an os-release(5) describes, then the IDs of those it derives from."""
    fields = dict(re.findall(r"""^(ID|ID_LIKE)=["']?([^"'\n]*)""", os_release, re.MULTILINE))
    return [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]


def install_line(os_release: str, triple: str) -> str | None:
    """The command that installs rustc with the triple's std on the system that an os-release(5) describes.

    None where the system's packages are too old or the system isn't known.
    """
    own, *related = system_names(os_release)
    version_id = re.search(r"^VERSION_ID=(.*)", os_release, re.MULTILINE)
    version = Version.find(version_id[1] if version_id else "")
    for name in (own, *related):
        if name in _NEW_ENOUGH:  # a derivative has version numbers of its own; Debian's testing has none
            new = own == name and (not version or version >= _NEW_ENOUGH[name])
            return "sudo apt install rustc cargo libstd-rust-dev-wasm32 lld" if new else None
        if name == "fedora":
            return f"sudo dnf install rust cargo rust-std-static-{triple}"
        if name == "alpine":
            return "sudo apk add rust cargo rust-wasm lld"
        if name == "arch":
            return "sudo pacman -S rust rust-wasm lld"
    return None
