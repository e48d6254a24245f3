"""The private toolchain: Debian's packages, unpacked into a folder that all the user's projects share.

This needs no root, and installs nothing into the system. A newer suite's programs need a newer glibc than
the machine's, so shell scripts run each by the loader and with the libraries that were unpacked with it.
The scripts find everything relative to themselves, and start no other process.
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

from scaffold.core import files, locks, process
from scaffold.core.events import Noted, ask, emit, step
from scaffold.core.text import human
from scaffold.errors import MachineError
from scaffold.toolchain.debian.apt import Apt, Plan, mirror
from scaffold.toolchain.rustc import Toolchain, Unusable, linker_key, probe, programs

PLACE = "a private toolchain"
SUITE = "trixie"  # the first stable Debian with the std of wasm32-wasip1
PACKAGES = ("rustc", "libstd-rust-dev-wasm32", "lld", "cargo")
MIRROR = "SCAFFOLD_DEBIAN_MIRROR"
_SETUP = "`scaffold setup`"
_KEYRINGS = Path("/usr/share/keyrings")
_MACHINES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64"), "arm64": ("arm64", "aarch64")}
_SPARE = 64_000_000  # bytes that a disk should keep free
_TRIAL = '#[no_mangle]\npub extern "C" fn proxy_abi_version_0_2_1() { println!("{:?}", std::env::args()) }\n'
_SCRIPTS = "run"
_MERGED_USR = {"lib": "usr/lib", "lib64": "usr/lib64", "bin": "usr/bin", "sbin": "usr/sbin"}
_SCRIPT = """#!/bin/sh
root="${{0%/*}}/{up}"
{before}exec "$root/{loader}" --library-path "$root/usr/lib/{gnu}" --argv0 {argv0} \\
    "$root/{program}" {words}"$@"
"""
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
            requirements = _requirements()
            if not install:
                return Unusable(PLACE, "not installed", _SETUP)
            _install(root, triple, *requirements, yes=yes)
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
    arch = _MACHINES.get(platform.machine(), ("unknown",))[0]
    return files.data_dir() / "toolchains" / f"debian-{SUITE}-{arch}"


def program(root: Path, name: str) -> Path:
    """The script that runs rustc, rustdoc, cargo, rust-lld (for wasm), or cc and ar (for the machine)."""
    return root / _SCRIPTS / name


def remove() -> None:
    """Remove every private toolchain and all downloads for one, and announce how much that frees."""
    home = files.data_dir() / "toolchains"
    if not home.is_dir() and not _downloads().is_dir():
        emit(Noted("there is no private toolchain to remove"))
        return
    with _lock():
        toolchains = [path for path in home.glob("debian-*") if path.is_dir()]
        for path in toolchains:
            size = files.size(path)
            hidden = Path(tempfile.mkdtemp(prefix=".removed-", dir=home))
            path.rename(hidden / path.name)  # so that no build uses it meanwhile
            shutil.rmtree(hidden)
            emit(Noted(f"removed {path} ({human(size)})"))
        for path in (*_leftovers(home), _downloads()):
            if path.is_dir():
                size = files.size(path)
                shutil.rmtree(path)
                emit(Noted(f"removed the remains of an unfinished installation ({human(size)})"))
                toolchains.append(path)
        if not toolchains:
            emit(Noted("there is no private toolchain to remove"))


def _requirements() -> tuple[str, str, Path]:
    """The mirror, Debian's name for the architecture, and the keyring. Raises `MachineError` without them."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise MachineError(f"only for Linux on x86-64 and arm64, not {sys.platform} on {platform.machine()}")
    for tool in ("apt-get", "dpkg-deb"):
        if not any(programs(tool)):
            raise MachineError(f"{tool} is not on PATH: only Debian and its derivatives have it")
    names = (_KEYRINGS / f"debian-archive-keyring.{suffix}" for suffix in ("pgp", "gpg"))
    keyring = next((path for path in names if path.is_file()), None)
    if keyring is None:
        raise MachineError("Debian's keyring is missing", hint="`sudo apt install debian-archive-keyring`")
    uri = os.environ.get(MIRROR) or mirror()
    if uri is None:
        raise MachineError("apt's source files name no Debian mirror", hint=f"set {MIRROR} to the URI of one")
    return uri, _MACHINES[platform.machine()][0], keyring


def _install(root: Path, triple: str, uri: str, arch: str, keyring: Path, *, yes: bool) -> None:
    with _lock():
        if root.is_dir():  # another process installed it while we waited
            return
        for stale in _leftovers(root.parent):
            shutil.rmtree(stale, ignore_errors=True)
        with step(f"Asking Debian {SUITE} for Rust"):
            apt = Apt.prepare(_downloads(), mirror=uri, suite=SUITE, arch=arch, keyring=keyring)
            try:
                apt.update()
            except MachineError as error:
                hint = f"set {MIRROR} to the URI of a Debian mirror that answers"
                raise MachineError(error.message, hint=hint) from error
            plan = apt.plan(PACKAGES)
        _ask_permission(root, apt, plan, yes)
        with step(title := "Downloading Rust"):
            apt.download(PACKAGES, plan, title)
        staging = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            staging.chmod(0o755)
            with step(title := "Unpacking Rust"):
                _link_folders(staging)
                apt.unpack(plan, staging, title)
                _write_scripts(staging, _gnu())
            with step("Trying out Rust"):
                _try(staging, triple)
            staging.rename(root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(_downloads(), ignore_errors=True)


def _ask_permission(root: Path, apt: Apt, plan: Plan, yes: bool) -> None:
    """Ask the user, and tell the size. Raises `MachineError` when the disk has no room, or on a no."""
    rest = apt.missing(plan)
    for place, needed in ((apt.folder, rest), (root.parent, rest + plan.unpacked)):
        free = shutil.disk_usage(place).free
        if free < needed + _SPARE:
            raise MachineError(
                f"{human(needed)} don't fit into {place}: only {human(free)} are free", hint="make room"
            )
    size = f"download {human(rest)}, {human(plan.unpacked)} on disk"
    if yes:
        emit(Noted(f"a private Rust from Debian {SUITE}: {size} in {root}"))
    elif not ask(f"Install a private Rust from Debian {SUITE} in {root}: {size}?"):
        raise MachineError("declined", hint=_SETUP)


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
        env[linker_key(_gnu().replace("-linux", "-unknown-linux"))] = str(cc)
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


def _gnu() -> str:
    return f"{_MACHINES[platform.machine()][1]}-linux-gnu"


def _downloads() -> Path:
    return files.cache_dir() / "toolchains"


def _lock() -> contextlib.AbstractContextManager[None]:
    return locks.lock(files.data_dir() / "toolchains" / ".lock", doing="installing a Rust toolchain")


def _leftovers(home: Path) -> Iterator[Path]:
    """Toolchains that a kill -9 left partly unpacked or partly removed. Call it only under the lock."""
    yield from home.glob(".debian-*")
    yield from home.glob(".removed-*")


def _link_folders(root: Path) -> None:
    """Make the links of a merged /usr, so that packages of either layout end up in the same place."""
    for link, target in _MERGED_USR.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)


def _write_scripts(root: Path, gnu: str) -> None:
    """Write the scripts that run the unpacked programs; `gnu` is the library folder, as x86_64-linux-gnu.

    Raises `MachineError` when a program is missing.
    """
    loader = _one(root, "usr/lib*/ld-linux-*.so.[0-9]")
    lld = _one(root, "usr/lib/llvm-*/bin/lld")

    def script(name: str, program: str, *, argv0: str = '"$0"', up: str = "..", **more: str) -> None:
        blanks = {"before": "", "words": ""} | more
        text = _SCRIPT.format(program=program, argv0=argv0, up=up, loader=loader, gnu=gnu, **blanks)
        files.write(root / name, text, mode=0o755)

    (root / _SCRIPTS).mkdir()
    # rustdoc runs documentation tests with the rustc of the sysroot, so that must be a script, too
    (root / "usr/bin/rustc").rename(root / "usr/bin/rustc.real")
    script("usr/bin/rustc", "usr/bin/rustc.real", up="../..")
    script("run/rustc", "usr/bin/rustc.real")
    script("run/rustdoc", _one(root, "usr/bin/rustdoc"))
    # a cargo that a loader runs doesn't know its own path, and reads CARGO
    script("run/cargo", _one(root, "usr/bin/cargo"), before='export CARGO="$0"\n')
    for name in ("rust-lld", "ld.lld"):
        script(f"run/{name}", lld, argv0=name)
    # -B tells cc to look for these programs here
    for name in ("cc1", "collect2"):
        script(f"run/{name}", _one(root, f"usr/libexec/gcc/{gnu}/*/{name}"))
    for name in ("as", "ar"):
        script(f"run/{name}", _one(root, f"usr/bin/{gnu}-{name}"))
    gcc = _one(root, f"usr/bin/{gnu}-gcc-[0-9]*")
    script("run/cc", gcc, argv0=f'"$root/{gcc}"', words=_CC_WORDS.format(loader=loader, gnu=gnu))


def _one(root: Path, pattern: str) -> str:
    paths = sorted(root.glob(pattern))
    if not paths:
        raise MachineError(f"the unpacked packages contain no {pattern}")
    return str(paths[-1].relative_to(root))
