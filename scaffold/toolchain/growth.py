"""Warn when a release is much larger than the last one that was built in the same way.

The last size is kept in the user's cache, where `cargo clean` leaves it. A dependency that brings a lot is
seen on the day it is added.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, records
from scaffold.core.events import Warned, emit
from scaffold.errors import ScaffoldError
from scaffold.project.crate import Project
from scaffold.toolchain import relink
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule

LIMIT = 0.10
_KEPT = 200  # records of projects and ways to build them; the oldest go
_WARNED = 20  # modules


@dataclass(frozen=True)
class _Last:
    """The last release; `warned` are the digests of modules that a warning was about."""

    size: int
    digest: str
    warned: tuple[str, ...] = ()


def watch(project: Project, module: WasmModule, options: BuildOptions) -> None:
    """Remember the size of a release, and warn once about a module that has grown by more than a tenth."""
    path = files.cache_dir() / "sizes" / f"{files.short_id(_way(project, module, options))}.json"
    last = _read(path)
    if last and last.digest == module.digest:
        return
    warned = last.warned if last else ()
    grew = last is not None and module.size > last.size * (1 + LIMIT) and module.digest not in warned
    if grew:
        warned = (*warned, module.digest)[-_WARNED:]
    try:
        records.write(path, _Last(module.size, module.digest, warned))
    except OSError:  # then it would be said each time
        return
    if last and grew:
        emit(Warned(_growth(project, module, last.size)))
    _prune(path.parent)


def _read(path: Path) -> _Last | None:
    with suppress(OSError, ScaffoldError):  # it is damaged, and the next one isn't
        return records.read(path, _Last)
    return None


def _way(project: Project, module: WasmModule, options: BuildOptions) -> str:
    """The project, and what makes its module smaller or larger without a change of its source."""
    settings, made = project.settings, relink.made(module.path)
    features = sorted({*settings.features, *options.features})
    defaults = settings.default_features and not options.no_default_features
    trim = settings.trim and not options.no_trim
    optimised = made is not None and made.optimised
    parts = [settings.triple, options.profile, features, defaults, trim, optimised]
    return json.dumps([str(project.root), project.name, *parts])


def _growth(project: Project, module: WasmModule, before: int) -> str:
    place = "." if project.root == Path.cwd() else shlex.quote(str(project.root))
    percent = 100 * module.size / before - 100
    return (
        f"{module.path.name} grew by {percent:.0f} % since the last release: {before:,} bytes became"
        f" {module.size:,}; `scaffold inspect --size {place}` shows where they are"
    )


def _prune(folder: Path) -> None:
    with suppress(OSError):
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
            old.unlink(missing_ok=True)
