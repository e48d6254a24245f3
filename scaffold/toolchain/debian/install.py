"""A toolchain of ours: Debian's own packages, unpacked into a folder that all the user's projects share.

It asks for no root and installs nothing into the system.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.events import Noted, ask, emit, step
from scaffold.core.files import human
from scaffold.errors import MachineError
from scaffold.toolchain.debian import sources, wrappers
from scaffold.toolchain.debian.apt import Apt, Plan
from scaffold.toolchain.rustc import Toolchain, Unfit, linker_key, probe, programs

WAY = "a private toolchain"
SUITE = "trixie"  # the first stable Debian with the std of wasm32-wasip1
PACKAGES = ("rustc", "libstd-rust-dev-wasm32", "lld", "cargo")
MIRROR = "SCAFFOLD_DEBIAN_MIRROR"
_SETUP = "`scaffold setup`"
_KEYRINGS = Path("/usr/share/keyrings")
_MACHINES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64"), "arm64": ("arm64", "aarch64")}
_SPARE = 64_000_000  # bytes that a disk should keep free
_TRIAL = '#[no_mangle]\npub extern "C" fn proxy_abi_version_0_2_1() { println!("{:?}", std::env::args()) }\n'


def find(triple: str, *, yes: bool = False, install: bool = True) -> Toolchain | Unfit:
    """The private toolchain; with `install`, downloaded first where it isn't there yet.

    How much that takes is asked first (`events.ask`), unless `yes`.
    """
    root = folder()
    if not root.is_dir():
        try:
            made = _made()
            if not install:
                return Unfit(WAY, "not installed", _SETUP)
            _install(root, triple, *made, yes=yes)
        except MachineError as error:
            return Unfit(WAY, error.message, error.hint)
        except OSError as error:
            return Unfit(WAY, f"cannot write {error.filename or root}: {error.strerror}")
    rustc = wrappers.program(root, "rustc")
    probed = probe(rustc, triple)
    if probed is None or probed.libdir is None:
        return Unfit(WAY, f"the one in {root} is broken", "`scaffold setup --remove`, then `scaffold setup`")
    origin = f"private, Debian's rustc {probed.version}"
    return Toolchain(origin, rustc, wrappers.program(root, "cargo"), probed.version, _env(root, triple))


def folder() -> Path:
    """Where the private toolchain is, or would be."""
    arch = _MACHINES.get(platform.machine(), ("unknown",))[0]
    return files.data_dir() / "toolchains" / f"debian-{SUITE}-{arch}"


def remove() -> None:
    """Remove every private toolchain and what was downloaded for one, and note how much that was."""
    home = files.data_dir() / "toolchains"
    if not home.is_dir() and not _downloads().is_dir():
        emit(Noted("there is no private toolchain to remove"))
        return
    with _lock():
        toolchains = [path for path in home.glob("debian-*") if path.is_dir()]
        for path in toolchains:
            size = files.size(path)
            hidden = Path(tempfile.mkdtemp(prefix=".removed-", dir=home))
            path.rename(hidden / path.name)  # out of use at once: removing takes a while
            shutil.rmtree(hidden)
            emit(Noted(f"removed {path} ({human(size)})"))
        for path in (*_leftovers(home), _downloads()):
            if path.is_dir():
                size = files.size(path)
                shutil.rmtree(path)
                emit(Noted(f"removed what an unfinished installation left ({human(size)})"))
                toolchains.append(path)
        if not toolchains:
            emit(Noted("there is no private toolchain to remove"))


def _made() -> tuple[str, str, Path]:
    """The mirror, Debian's name of the architecture, and the keyring; raises with what is missing."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise MachineError(f"made for Linux on x86-64 and arm64, not {sys.platform} on {platform.machine()}")
    for tool in ("apt-get", "dpkg-deb"):
        if not any(programs(tool)):
            raise MachineError(f"{tool} is not on PATH: only Debian and its kin have it")
    names = (_KEYRINGS / f"debian-archive-keyring.{suffix}" for suffix in ("pgp", "gpg"))
    keyring = next((path for path in names if path.is_file()), None)
    if keyring is None:
        raise MachineError("Debian's keyring is missing", hint="`sudo apt install debian-archive-keyring`")
    mirror = os.environ.get(MIRROR) or sources.mirror()
    if mirror is None:
        raise MachineError("apt's source files name no Debian mirror", hint=f"set {MIRROR} to one's URI")
    return mirror, _MACHINES[platform.machine()][0], keyring


def _install(root: Path, triple: str, mirror: str, arch: str, keyring: Path, *, yes: bool) -> None:
    with _lock():
        if root.is_dir():  # by the one we waited for
            return
        for stale in _leftovers(root.parent):
            shutil.rmtree(stale, ignore_errors=True)
        with step(f"Asking Debian {SUITE} for Rust"):
            apt = Apt.prepare(_downloads(), mirror=mirror, suite=SUITE, arch=arch, keyring=keyring)
            try:
                apt.update()
            except MachineError as error:
                hint = f"set {MIRROR} to the URI of a Debian mirror that answers"
                raise MachineError(error.message, hint=hint) from error
            plan = apt.plan(PACKAGES)
        _permit(root, apt, plan, yes)
        with step(title := "Downloading Rust"):
            apt.download(PACKAGES, plan, title)
        staging = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            staging.chmod(0o755)
            with step(title := "Unpacking Rust"):
                wrappers.lay_out(staging)
                apt.unpack(plan, staging, title)
                wrappers.write(staging, _gnu())
            with step("Trying it"):
                _try(staging, triple)
            staging.rename(root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(_downloads(), ignore_errors=True)


def _permit(root: Path, apt: Apt, plan: Plan, yes: bool) -> None:
    """See that there is room, say the size, and ask."""
    rest = apt.missing(plan)
    for place, needed in ((apt.folder, rest), (root.parent, rest + plan.unpacked)):
        free = shutil.disk_usage(place).free
        if free < needed + _SPARE:
            raise MachineError(
                f"{human(needed)} don't fit into {place}: {human(free)} are free", hint="make room"
            )
    size = f"download {human(rest)}, {human(plan.unpacked)} on disk"
    if yes:
        emit(Noted(f"a private Rust from Debian {SUITE}: {size} in {root}"))
    elif not ask(f"Install a private Rust from Debian {SUITE} in {root}: {size}?"):
        raise MachineError("declined", hint=_SETUP)


def _try(root: Path, triple: str) -> None:
    """Compile a tiny module, and, where the machine has no cc, a program; raises with rustc's words."""
    trials = [["--crate-type=cdylib", f"--target={triple}", f"-Clinker={wrappers.program(root, 'rust-lld')}"]]
    if not _has_cc():
        trials.append(["--crate-type=cdylib", f"-Clinker={wrappers.program(root, 'cc')}"])
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "trial.rs")
        source.write_text(_TRIAL)
        for words in trials:
            argv: process.Argv = [wrappers.program(root, "rustc"), *words, "-o", f"{scratch}/out", source]
            ran = process.run(argv, cwd=Path(scratch))
            if ran.code != 0:
                raise MachineError(
                    f"what was unpacked doesn't compile: {ran.stderr.strip().partition(chr(10))[0]}"
                )


def _env(root: Path, triple: str) -> dict[str, str]:
    env = {name.upper(): str(wrappers.program(root, name)) for name in ("rustc", "rustdoc")}
    env[linker_key(triple)] = str(wrappers.program(root, "rust-lld"))
    if not _has_cc():
        cc = wrappers.program(root, "cc")
        env[linker_key(_gnu().replace("-linux", "-unknown-linux"))] = str(cc)
        # rustdoc and C in build scripts look for a cc there
        env["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(cc.parent)])
    return {key: value for key, value in env.items() if key in ("PATH", "RUSTC") or key not in os.environ}


def _has_cc() -> bool:
    """Whether the machine's cc links programs: it needs the C library's objects, which come separately."""
    for cc in programs("cc"):
        try:
            ran = process.run([cc, "-print-file-name=Scrt1.o"], timeout=20)
        except MachineError:
            continue
        if ran.code == 0:
            return Path(ran.stdout.strip()).is_absolute()
    return False


def _gnu() -> str:
    return f"{_MACHINES[platform.machine()][1]}-linux-gnu"


def _downloads() -> Path:
    return files.cache_dir() / "toolchains"


def _lock() -> contextlib.AbstractContextManager[None]:
    return files.lock(files.data_dir() / "toolchains" / ".lock", doing="installing a Rust toolchain")


def _leftovers(home: Path) -> Iterator[Path]:
    """What a kill -9 left: unpacked by half, or removed by half. Only under the lock."""
    yield from home.glob(".debian-*")
    yield from home.glob(".removed-*")
