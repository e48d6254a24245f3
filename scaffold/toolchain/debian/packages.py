"""Debian's packages, unpacked into folders that all the user's projects share, without root.

Nothing is installed into the system. A newer suite's programs need a newer glibc than the machine's, so shell
scripts run each by the loader and with the libraries that were unpacked with it. The scripts find everything
relative to themselves, and start no other process.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, locks
from scaffold.core.events import Noted, ask, emit, step
from scaffold.core.text import human
from scaffold.errors import MachineError
from scaffold.toolchain.debian.apt import Apt, Plan, mirror
from scaffold.toolchain.rustc import programs

SUITE = "trixie"  # the first stable Debian with the std of wasm32-wasip1
MIRROR = "SCAFFOLD_DEBIAN_MIRROR"
_KEYRINGS = Path("/usr/share/keyrings")
_MACHINES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "aarch64"), "arm64": ("arm64", "aarch64")}
_SPARE = 64_000_000  # bytes that a disk should keep free
_SCRIPTS = "run"
_MERGED_USR = {"lib": "usr/lib", "lib64": "usr/lib64", "bin": "usr/bin", "sbin": "usr/sbin"}
_SCRIPT = """#!/bin/sh
root="${{0%/*}}/{up}"
{before}exec "$root/{loader}" --library-path "$root/usr/lib/{gnu}" --argv0 {argv0} \\
    "$root/{program}" {words}"$@"
"""


@dataclass(frozen=True)
class Bundle:
    """Packages that are unpacked together: what people call them, and the command that installs them.

    `part` is the end of the folder's name.
    """

    title: str
    packages: tuple[str, ...]
    command: str
    part: str = ""

    @property
    def folder(self) -> Path:
        """Where they are, or would be."""
        arch = _MACHINES.get(platform.machine(), ("unknown",))[0]
        return files.data_dir() / "toolchains" / f"debian-{SUITE}-{arch}{self.part}"

    def program(self, name: str) -> Path:
        """The script that runs one of their programs."""
        return self.folder / _SCRIPTS / name

    def install(self, origin: Origin, finish: Callable[[Path], None], *, yes: bool) -> None:
        """Download and unpack them, unless they are there.

        `finish` writes the scripts into the folder, and tries them. The user is asked first (`events.ask`),
        and told the size, unless `yes`. Raises `MachineError`, and then leaves nothing.
        """
        root = self.folder
        with _lock():
            if root.is_dir():  # another process installed it while we waited
                return
            for stale in _leftovers(root.parent):
                shutil.rmtree(stale, ignore_errors=True)
            with step(f"Asking Debian {SUITE} for {self.title}"):
                apt, plan = origin.plan(self.packages)
            self._ask_permission(apt, plan, yes)
            with step(title := f"Downloading {self.title}"):
                apt.download(self.packages, plan, title)
            staging = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
            try:
                staging.chmod(0o755)
                with step(title := f"Unpacking {self.title}"):
                    _link_folders(staging)
                    apt.unpack(plan, staging, title)
                    (staging / _SCRIPTS).mkdir()
                with step(f"Trying out {self.title}"):
                    finish(staging)
                staging.rename(root)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(_downloads(), ignore_errors=True)

    def _ask_permission(self, apt: Apt, plan: Plan, yes: bool) -> None:
        """Ask the user, and tell the size. Raises `MachineError` when the disk has no room, or on a no."""
        rest = apt.missing(plan)
        for place, needed in ((apt.folder, rest), (self.folder.parent, rest + plan.unpacked)):
            free = shutil.disk_usage(place).free
            if free < needed + _SPARE:
                raise MachineError(
                    f"{human(needed)} don't fit into {place}: only {human(free)} are free", hint="make room"
                )
        size = f"download {human(rest)}, {human(plan.unpacked)} on disk"
        if yes:
            emit(Noted(f"a private {self.title} from Debian {SUITE}: {size} in {self.folder}"))
        elif not ask(f"Install a private {self.title} from Debian {SUITE} in {self.folder}: {size}?"):
            raise MachineError("declined", hint=self.command)


@dataclass(frozen=True)
class Origin:
    """Where packages come from: the mirror, Debian's name for the architecture, and the keyring."""

    uri: str
    arch: str
    keyring: Path

    @classmethod
    def find(cls) -> Origin:
        """The machine's. Raises `MachineError` where there is none."""
        if sys.platform != "linux" or platform.machine() not in _MACHINES:
            here = f"{sys.platform} on {platform.machine()}"
            raise MachineError(f"only for Linux on x86-64 and arm64, not {here}")
        for tool in ("apt-get", "dpkg-deb"):
            if not any(programs(tool)):
                raise MachineError(f"{tool} is not on PATH: only Debian and its derivatives have it")
        names = (_KEYRINGS / f"debian-archive-keyring.{suffix}" for suffix in ("pgp", "gpg"))
        keyring = next((path for path in names if path.is_file()), None)
        if keyring is None:
            hint = "`sudo apt install debian-archive-keyring`"
            raise MachineError("Debian's keyring is missing", hint=hint)
        uri = os.environ.get(MIRROR) or mirror()
        if uri is None:
            hint = f"set {MIRROR} to the URI of one"
            raise MachineError("apt's source files name no Debian mirror", hint=hint)
        return cls(uri, _MACHINES[platform.machine()][0], keyring)

    def plan(self, packages: tuple[str, ...]) -> tuple[Apt, Plan]:
        """What installing packages needs, by the current lists of the suite."""
        apt = Apt.prepare(_downloads(), mirror=self.uri, suite=SUITE, arch=self.arch, keyring=self.keyring)
        try:
            apt.update()
        except MachineError as error:
            hint = f"set {MIRROR} to the URI of a Debian mirror that answers"
            raise MachineError(error.message, hint=hint) from error
        return apt, apt.plan(packages)


def remove() -> None:
    """Remove what was unpacked and all downloads for it, and announce how much that frees."""
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


def gnu() -> str:
    """The name of the machine's library folder, as x86_64-linux-gnu."""
    return f"{_MACHINES[platform.machine()][1]}-linux-gnu"


def write_script(
    root: Path, name: str, program: str, *, argv0: str = '"$0"', up: str = "..", **more: str
) -> None:
    """Write the script `name` that runs an unpacked program; `up` leads from its folder to the root.

    `more` may have the line `before`, and the first `words` of the program.
    """
    blanks = {"before": "", "words": ""} | more
    text = _SCRIPT.format(program=program, argv0=argv0, up=up, loader=loader(root), gnu=gnu(), **blanks)
    files.write(root / name, text, mode=0o755)


def loader(root: Path) -> str:
    """The loader that was unpacked into a folder."""
    return one(root, "usr/lib*/ld-linux-*.so.[0-9]")


def one(root: Path, pattern: str) -> str:
    """The last path in `root` that fits a pattern, relative to it. Raises `MachineError` if there is none."""
    paths = sorted(root.glob(pattern))
    if not paths:
        raise MachineError(f"the unpacked packages contain no {pattern}")
    return str(paths[-1].relative_to(root))


def _downloads() -> Path:
    return files.cache_dir() / "toolchains"


def _lock() -> contextlib.AbstractContextManager[None]:
    return locks.lock(files.data_dir() / "toolchains" / ".lock", doing="installing a Rust toolchain")


def _leftovers(home: Path) -> Iterator[Path]:
    """What a kill -9 left partly unpacked or partly removed. Call it only under the lock."""
    yield from home.glob(".debian-*")
    yield from home.glob(".removed-*")


def _link_folders(root: Path) -> None:
    """Make the links of a merged /usr, so that packages of either layout end up in the same place."""
    for link, target in _MERGED_USR.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)
